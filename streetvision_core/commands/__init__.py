"""The commands of the command line, but for those of the store, which `cli` has."""
