"""Sound event detection: a microphone, an Audio Spectrogram Transformer, events on MQTT."""

import os

# Before numpy is loaded: more threads gain nothing for features, and spin. The engines have their own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.2.0"
