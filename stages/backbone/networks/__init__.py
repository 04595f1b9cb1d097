"""The networks that features are read from, frozen."""
