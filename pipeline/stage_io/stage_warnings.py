"""Keeps what a stage warns about."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.project.stage_warnings import warnings_path
from pipeline.stage_io.saving import write_json

LOGGERS = ("stages", "pipeline.stage_io")
"""Their warnings are about data and results. Others, such as those of a Dask cluster, may differ from run to run."""


class _Keeper(logging.Handler):
    """Prints each warning once, and keeps it."""

    def __init__(self, stage: str) -> None:
        super().__init__(logging.WARNING)
        self.stage = stage
        self.lines: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if line not in self.lines:
            self.lines.add(line)
            print(f"{self.stage}: warning: {line}", flush=True)


@contextmanager
def kept_warnings(stage: str) -> Iterator[None]:
    """Write the warnings that are logged inside the block to the stage's file, sorted, if it ends without an error.

    The file is an output of the stage, so that DVC restores it together with the others. It is written even if there
    are no warnings.
    """
    keeper = _Keeper(stage)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(keeper)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(keeper)
    write_json(warnings_path(stage), sorted(keeper.lines))
