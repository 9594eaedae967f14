"""What goes wrong with a daemon that runs for months: each fault is made, noticed, and survived."""
