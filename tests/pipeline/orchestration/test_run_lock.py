"""Only one `burnish run` of a project at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.orchestration.run_lock import exclusive_run
from stages.types import UserError


def test_a_second_run_is_an_error_that_names_the_first(tmp_path: Path) -> None:
    with exclusive_run(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()}"), exclusive_run(tmp_path):
        pass
    with exclusive_run(tmp_path):
        pass
