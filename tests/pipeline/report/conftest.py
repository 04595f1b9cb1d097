from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from pipeline.stage_io.report import report
from tests.browser import browser
from tests.pipeline.report.toy import SHAPES, make_run

__all__ = ["browser"]


@pytest.fixture(scope="session")
def project_of_shape(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the project of a shape in SHAPES, with its report. Do not change the project: copy it."""

    @cache
    def project(name: str) -> Path:
        folder = tmp_path_factory.mktemp("report")
        params = make_run(folder, SHAPES[name])
        with contextlib.chdir(folder):
            report(params)
        return folder

    return project
