"""The `pillion` command, one file per subcommand. The only part of the package that prints."""
