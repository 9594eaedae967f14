"""What it means: the Audio Spectrogram Transformer, its features, its files."""
