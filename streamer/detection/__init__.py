"""When it happened: scores become sounds, sounds become events."""
