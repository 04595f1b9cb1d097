"""The networks, frozen: what features are read from."""
