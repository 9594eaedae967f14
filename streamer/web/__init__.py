"""What others may ask the running daemon."""
