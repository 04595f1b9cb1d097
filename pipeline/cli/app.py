"""The whole `burnish` application.

DVC, Prefect and torch take long to import, so only the commands that need them import them.
"""

from __future__ import annotations

# Each module registers its commands, so this order is the order in `burnish --help`.
# isort: off
from pipeline.cli.manual import app
from pipeline.cli import running, judging, comparing, retraining, parameters  # noqa: F401

__all__ = ["app"]
