"""Scheduled retraining: new images in, a challenger, a gate, and at most one champion after another."""
