"""A Ray cluster that scores windows: replicas of the model and the driver that sends them."""
