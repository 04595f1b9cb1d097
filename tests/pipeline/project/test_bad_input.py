"""Errors of a user give one line and exit code 1, and leave the old outputs whole."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import change_params


def burnish(project: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One `burnish: error:` line that holds all words, exit code 1, no traceback."""
    errors = [line for line in result.stderr.splitlines() if line.startswith("burnish: error: ")]
    assert result.returncode == 1, result.stdout + result.stderr
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in errors[0]


def outputs(project: Path) -> dict[str, str]:
    """Path -> digest of the files below data/, except the cache, on which no result depends."""
    return {
        str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((project / "data").rglob("*"))
        if path.is_file() and project / "data/cache" not in path.parents
    }


def test_a_wrong_parameter_stops_the_run_at_once(project: Path, environment: dict[str, str]) -> None:
    change_params(project, {"ear": {"epoch": 3}})
    assert_refused(burnish(project, environment, "run"), "params.yaml", "unknown key 'ear.epoch'", "'epochs'")
    assert not (project / ".prefect").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "elpv", "categories": ["multi"]}, ("data.categories", "'multi'", "mono and poly")),
        (
            {"categories": ["a", "b"]},
            ("no good images of category 'a'", "data/own/a: no image file there matches data.normal"),
        ),
        ({"folder": "data/none"}, ("data/none is not a folder",)),
        ({"group_pattern": "(normal)"}, ("too few good images of 'tile' to split", "1 groups")),
        ({"max_pixels": 1599}, ("data.max_rejected_fraction = 0.05", "data.max_pixels = 1599")),
    ],
)
def test_data_that_cannot_be_used(
    project: Path, environment: dict[str, str], changes: dict, words: tuple[str, ...]
) -> None:
    before = outputs(project)
    change_params(project, {"data": changes})
    assert_refused(burnish(project, environment, "stage", "download"), *words)
    assert outputs(project) == before


def test_rejected_images_are_listed(project: Path, environment: dict[str, str]) -> None:
    (project / "data/own/normal/n5.png").write_bytes(b"not an image")
    change_params(project, {"data": {"max_rejected_fraction": 0.2}})
    result = burnish(project, environment, "stage", "download")
    assert result.returncode == 0, result.stderr
    assert "1 images rejected" in result.stdout
    listed = (project / "data/raw/rejected.csv").read_text().splitlines()
    assert listed == ["path,category,reason", "data/own/normal/n5.png,tile,not an image in a known format"]


FAILING = """
import errno, sys
from pathlib import Path
import pandas as pd
from pipeline.cli.stage import run_stage

def fail(*_, **__):
    raise {fault}

pd.DataFrame.to_parquet = fail
sys.exit(run_stage("download", None, None))
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ('OSError(errno.ENOSPC, "No space left on device", "data/x")', 1, "disk is full"),
        ("MemoryError('8 GiB')", 1, "out of memory"),
        ("KeyboardInterrupt", 130, "interrupted"),
    ],
)
def test_faults_of_the_machine_leave_the_old_output(
    project: Path, environment: dict[str, str], fault: str, code: int, words: str
) -> None:
    assert burnish(project, environment, "stage", "download").returncode == 0
    before = outputs(project)
    result = subprocess.run(
        [sys.executable, "-c", FAILING.format(fault=fault)],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert outputs(project) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("stage", "nonsense"), ("no stage 'nonsense'", "download")),
        (("stage", "train"), ("needs --category", "tile")),
        (("stage", "train", "--category", "tile", "--detector", "magic"), ("needs --detector", "magic")),
        (("stage", "score", "--category", "tile"), ("takes no --category",)),
    ],
)
def test_wrong_arguments_of_a_stage(
    project: Path, environment: dict[str, str], arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(burnish(project, environment, *arguments), *words)
