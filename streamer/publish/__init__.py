"""Who is told: MQTT, the terminal, the log."""
