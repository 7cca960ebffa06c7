"""Writing the package of a new plugin (`ftcore plugins new`), from the files in `templates`."""
