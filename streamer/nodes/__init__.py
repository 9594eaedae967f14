"""Audio from other machines: the link between a capture node and the gateway in the daemon."""
