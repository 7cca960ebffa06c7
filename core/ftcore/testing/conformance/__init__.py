"""The rules that a plugin is held against, one small function each."""
