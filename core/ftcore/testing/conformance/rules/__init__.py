"""The rules of each kind of plugin; `plugin`, `settings` and `listening` are for all kinds."""
