"""The `burnish` command, whole. Heavy imports (DVC, Prefect, torch) happen inside the commands that need them."""

from __future__ import annotations

# each registers its commands, in the order of `burnish --help`
from pipeline.cli import comparing, judging, parameters, retraining, running  # noqa: F401
from pipeline.cli.manual import app

__all__ = ["app"]
