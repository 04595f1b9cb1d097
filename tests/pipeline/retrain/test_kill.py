"""kill -9 at any moment: the champion is the old or the new one, complete, and the next run completes the decision."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest

from pipeline.bundle import champion
from pipeline.bundle.layout import INDEX
from pipeline.project import paths
from pipeline.retrain import inbox, journal, promotion, records, tags
from tests.pipeline.retrain.conftest import Retrain, copy_of, drop
from tests.pipeline.retrain.toy import git

pytestmark = pytest.mark.long

POINTS = 4
STEPS = (
    "advance_branch",
    "tags.register_version",
    "champion.set_current",
    "tags.assign_champion",
    "inbox.move_out",
    "record_run",
    "journal.clear_journal",
)


def check_champion(project: Path) -> str:
    """The version of the champion, after a check of every file of its bundle against bundle.json."""
    folder = champion.current_bundle(project)
    assert folder is not None
    index = json.loads((folder / INDEX).read_text())
    for name, digest in index["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    return folder.name


def killed(project: Path, settings: dict[str, str], after_s: float) -> bool:
    """Start a run and kill it after so many seconds; returns whether it was still running."""
    command = [sys.executable, "-m", "pipeline", "retrain", "--once"]
    with subprocess.Popen(
        command, cwd=project, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            process.wait(after_s)
        except subprocess.TimeoutExpired:
            children = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, signal.SIGKILL)
            psutil.wait_procs(children, timeout=60)  # its supervisor ends the processes of the pipeline
            assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
            return True
    return False


@pytest.mark.timeout(3000)
def test_kill_at_random_points(served: Path, tmp_path: Path, retrain: Retrain, settings: dict[str, str]) -> None:
    project = copy_of(served, tmp_path / "project")
    drop(project, 2, seed=9_000)
    start = time.monotonic()
    assert retrain(project).returncode == 0
    length = time.monotonic() - start
    assert check_champion(project) == "v0.2.0"
    points = random.Random(6)  # fixed, so that a failure can be reproduced
    hits, runs = 0, 0
    while hits < POINTS:
        assert runs < 2 * POINTS, f"only {hits} of {runs} runs were still running when they were to be killed"
        before = check_champion(project)
        images = drop(project, 2, seed=10_000 + 10 * runs)
        start = time.monotonic()
        if killed(project, settings, length * (hits + points.random()) / POINTS):
            hits += 1
        else:  # the machine was busier during the timed run
            length = min(length, time.monotonic() - start)
        runs += 1
        assert check_champion(project) in (before, _next(before))
        done = retrain(project)
        assert done.returncode == 0, done.stdout + done.stderr
        assert check_champion(project) == _next(before)
        assert not any(image.exists() for image in images)
        assert journal.read_journal(project) is None
    assert git(project, "status", "--short") == ""
    assert len(tags.versions(project, "burnish")) == runs + 2
    assert tags.champion_version(project, "burnish") == check_champion(project)


def _next(version: str) -> str:
    return f"v0.{int(version.split('.')[1]) + 1}.0"


class Killed(BaseException):
    """Stands for kill -9 between two steps."""


@pytest.mark.parametrize("step", ["champion.set_current", "tags.assign_champion", "record_run"])
def test_an_interrupted_rollback_is_completed(served: Path, tmp_path: Path, step: str) -> None:
    project = copy_of(served, tmp_path / "project")
    bundle = champion.current_bundle(project)
    assert bundle is not None
    older = git(project, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "older")
    tags.register_version(project, "burnish", "v0.0.9", older, "older")
    champion.install_version(
        project, "v0.0.9", lambda folder: (folder / INDEX).write_bytes((bundle / INDEX).read_bytes())
    )
    run = records.Run("20260101T000000Z", "rolled back", "from v0.1.0 to v0.0.9", champion="v0.0.9")
    journal.write_journal(project, journal.JournalEntry(run, {}, "", "burnish", "back"))
    module, _, name = step.rpartition(".")
    target = {"": promotion, "tags": tags, "champion": champion}[module]
    with patch.object(target, name, side_effect=Killed), pytest.raises(Killed):
        promotion.complete_interrupted(project, print)
    promotion.complete_interrupted(project, print)
    assert champion.current_version(project) == "v0.0.9"
    assert journal.read_journal(project) is None
    assert [run["result"] for run in records.history(project)].count("rolled back") == 1


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_step_of_a_promotion_may_be_the_last(served: Path, tmp_path: Path, step: str, after: bool) -> None:
    project = copy_of(served, tmp_path / "project")
    image = drop(project, 1)[0]
    commit = git(project, "commit-tree", "HEAD^{tree}", "-p", "burnish@v0.1.0^{commit}", "-m", "challenger")
    bundle = champion.current_bundle(project)
    assert bundle is not None
    champion.install_version(
        project, "v0.2.0", lambda folder: (folder / INDEX).write_bytes((bundle / INDEX).read_bytes())
    )
    run = records.Run(
        "20260101T000000Z", "promoted", "better", new=1, champion="v0.2.0", commit=commit, branch="retrain/day"
    )
    files = {"normal/" + image.name: hashlib.sha256(image.read_bytes()).hexdigest()}
    entry = journal.JournalEntry(run, files, str(project / "data/inbox"), "burnish", "why")
    journal.write_journal(project, entry)
    module, _, name = step.rpartition(".")
    modules = {"": promotion, "tags": tags, "champion": champion, "inbox": inbox, "journal": journal}
    target = modules[module]
    real = getattr(target, name)

    def dies(*arguments: object) -> None:
        if after:
            real(*arguments)
        raise Killed

    with patch.object(target, name, dies), pytest.raises(Killed):
        promotion.complete_interrupted(project, print)
    assert champion.current_version(project) in ("v0.1.0", "v0.2.0")
    promotion.complete_interrupted(project, print)
    assert champion.current_version(project) == tags.champion_version(project, "burnish") == "v0.2.0"
    assert git(project, "rev-parse", "retrain/day") == commit
    assert not image.exists()
    assert (project / paths.RETRAIN / "taken" / run.id / "normal" / image.name).is_file()
    assert [entry["id"] for entry in records.history(project)].count(run.id) == 1
    assert journal.read_journal(project) is None
    assert git(project, "tag", "--list", "burnish#champion#*").split() == ["burnish#champion#1", "burnish#champion#2"]
