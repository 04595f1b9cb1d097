"""Drift: whether new images look like those that the detectors learned from. See `stages.drift.drift.compare`."""
