from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from pipeline.stage_io.report import report
from tests.browser import browser
from tests.pipeline.report.made import SHAPES, draw

__all__ = ["browser"]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a project by the name of its shape, with its report. Do not change it: copy it."""

    @cache
    def project(name: str) -> Path:
        folder = tmp_path_factory.mktemp("made")
        params = draw(folder, SHAPES[name])
        with contextlib.chdir(folder):
            report(params)
        return folder

    return project
