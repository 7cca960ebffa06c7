"""The command line: `ftcore COMMAND`. Each command has a module of its own, imported when it is used."""
