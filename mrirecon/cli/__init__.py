"""The command line: one thin file per command. Nobody imports this package."""
