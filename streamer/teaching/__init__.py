"""Sounds that people teach: from a few clips to a head over the model's embeddings."""
