"""Drift: whether new images look like the images that the detectors learned from (`stages.drift.drift.compare`).

No stage of `dvc.yaml` uses it; retraining does.
"""
