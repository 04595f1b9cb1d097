"""Modules that several detectors use."""
