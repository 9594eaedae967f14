"""Sound event detection: a microphone, an Audio Spectrogram Transformer, events on MQTT."""

__version__ = "0.1.0"
