"""Retraining: new images in, a challenger trained, a gate, and promotion to champion.

`once` is one run, readable from top to bottom. `flow` and `schedule` repeat it.
"""
