"""The `pillion` command, one file per subcommand. Only this part of the package prints."""
