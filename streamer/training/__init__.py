"""How the shipped model was made, and how to make another."""
