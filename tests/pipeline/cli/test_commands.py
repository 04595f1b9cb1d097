"""The command line: errors of `burnish stage`, imports, help and usage."""

from __future__ import annotations

import errno
import subprocess
import sys
import urllib.error
from email.message import Message
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from pipeline.cli.stage import run_stage
from pipeline.project import exit_codes
from stages.types import UserError
from tests.pipeline import toy_project as toy


class AtLeast16(BaseModel):
    side: int = Field(ge=16)


def validation_error() -> Exception:
    try:
        AtLeast16(side=3)
    except ValueError as error:
        return error
    raise AssertionError


def http_error(code: int) -> Exception:
    return urllib.error.HTTPError("http://host/x.zip", code, "no", Message(), None)


def caused_by(cause: Exception) -> Exception:
    error = RuntimeError("while saving")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("a.png:\nbad"), 1, ["a.png: bad"]),
        (OSError(errno.ENOSPC, "No space left", "data/x.npy"), 1, ["data/x.npy", "disk is full", "MiB free"]),
        (caused_by(OSError(errno.ENOSPC, "No space left")), 1, ["data", "disk is full"]),
        (MemoryError("Unable to allocate 9 TiB"), 1, ["9 TiB", "MiB available", "batch size"]),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 1, ["out of memory"]),
        (PermissionError(errno.EACCES, "Permission denied", "data/y"), 1, ["data/y: Permission denied"]),
        (validation_error(), 1, ["side", "16", "got 3"]),
        (caused_by(validation_error()), 1, ["side", "16"]),
        (urllib.error.URLError("name not known"), 75, ["download failed", "name not known"]),
        (caused_by(ConnectionResetError("reset")), 75, ["download failed"]),
        (http_error(503), 75, ["download failed", "503"]),
        (http_error(404), 1, ["404"]),
        (KeyError("colour"), 1, ["stage train stopped on a bug", "KeyError", "colour"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
    ],
)
def test_the_last_line_of_a_stage_that_fails(
    error: BaseException,
    code: int,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(name: str, category: str | None, detector: str | None) -> None:
        raise error

    monkeypatch.setattr("pipeline.stage_io.run_stage.run", fail)
    assert run_stage("train", "mono", "pca") == code
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("burnish: error: ")
    assert [word for word in words if word not in err[-1]] == []
    # Only a bug has a traceback. An error that the user can correct is this one line.
    assert len(err) == 1 or "bug" in err[-1]


def test_arguments_reach_the_stage_in_any_order(fresh: Path) -> None:
    script = (
        "import pipeline.stage_io.run_stage as s, os\n"
        "s.run = lambda *a: print(a, os.getcwd())\n"
        "from pipeline.cli.app import app\n"
        "app(['stage', '--detector', 'ear', 'train', '--category', 'mono'])"
    )
    (fresh / "deep").mkdir()
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=fresh / "deep", env=toy.environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"('train', 'mono', 'ear') {fresh.resolve()}", done.stderr


def test_importing_the_command_imports_nothing_heavy() -> None:
    script = (
        "import sys, pipeline.cli; print(sorted({'torch', 'prefect', 'dvc', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=toy.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_and_usage(tmp_path: Path) -> None:
    code, out, _ = toy.burnish(tmp_path, "--help", COLUMNS="100")
    assert code == 0
    for words in ("Exit codes", "Examples", "data/logs/STAGE.log", "run", "doctor", "graph"):
        assert words in out
    assert toy.burnish(tmp_path, "run", "--jobs", "0")[0] == exit_codes.USAGE
    code, _, err = toy.burnish(tmp_path, "run")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("burnish: error: no dvc.yaml in ")
