"""Tests of runs, on a toy project."""
