"""Sums and simulations for many microphones."""
