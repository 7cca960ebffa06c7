"""A run, from its directory to what is left to do when it is over."""
