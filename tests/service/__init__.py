"""The unit and the command that installs it."""
