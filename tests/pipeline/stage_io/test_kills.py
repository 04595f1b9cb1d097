"""A stage that is killed goes on from what was done, and ends with the same bytes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import digests

pytestmark = pytest.mark.long


def command(project: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    line = (sys.executable, *arguments)
    return subprocess.run(line, cwd=project, env=environment, capture_output=True, text=True, check=False)


DIES = """
import os, signal, sys
from pathlib import Path
from stages.item_cache import ItemCache
from pipeline.stage_io.run_stage import run as run_stage

put, done = ItemCache.put, []

def put_and_die(self, key, item):
    put(self, key, item)
    done.append(key)
    if len(done) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

ItemCache.put = put_and_die
run_stage(sys.argv[2], *sys.argv[3:])
"""


@pytest.mark.parametrize(
    ("stage", "options", "items"),
    [
        ("features", (), 8),
        ("denoise", (), 4),
        ("clean_features", (), 8),
        ("infer", ("tile", "ear"), 3),
    ],
)
def test_a_killed_stage_goes_on_and_the_cache_may_vanish(
    finished: Path,
    environment: dict[str, str],
    tmp_path: Path,
    stage: str,
    options: tuple[str, ...],
    items: int,
) -> None:
    project = tmp_path / "copy"
    shutil.copytree(finished, project, symlinks=True)
    shutil.rmtree(project / "data/cache")
    before = digests(project)
    result = command(project, environment, "-c", textwrap.dedent(DIES), "2", stage, *options)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert digests(project) == before  # nothing half-written
    again = command(project, environment, "-c", textwrap.dedent(DIES), "1000", stage, *options)
    assert again.returncode == 0, again.stderr
    counts = json.loads((project / "data/logs" / f"{'-'.join((stage, *options))}.counts.json").read_text())
    assert counts == {"cached": 2, "computed": items - 2}
    assert digests(project) == before
    assert not list((project / "data").rglob("*.part"))


DIES_IN_TRAINING = """
import os, signal, sys
from pathlib import Path
from stages import lightning_loop
from pipeline.stage_io.run_stage import run as run_stage

steps, keep = [], lightning_loop.Record.on_train_epoch_end
step = lightning_loop._Module.training_step

def counted(self, *arguments):
    steps.append(1)
    return step(self, *arguments)

def end_of_epoch(self, *arguments):
    keep(self, *arguments)
    if len(self.history) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

lightning_loop._Module.training_step = counted
lightning_loop.Record.on_train_epoch_end = end_of_epoch
run_stage(*sys.argv[2:])
print("steps", len(steps))
"""


def test_a_killed_training_goes_on_after_its_last_whole_epoch(
    finished: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    project = tmp_path / "copy"
    shutil.copytree(finished, project, symlinks=True)
    before = digests(project)

    def train(dies_after: int) -> subprocess.CompletedProcess[str]:
        driver = ("-c", DIES_IN_TRAINING, str(dies_after))
        return command(project, environment, *driver, "train", "tile", "ear")

    whole = train(1000)
    assert whole.returncode == 0, whole.stderr
    killed = train(2)  # in its second and last epoch, before that is in the checkpoint
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert digests(project) == before
    resumed = train(1000)
    assert resumed.returncode == 0, resumed.stderr
    assert _steps(resumed) == _steps(whole) / 2
    assert digests(project) == before


def _steps(result: subprocess.CompletedProcess[str]) -> int:
    return int(result.stdout.split("steps")[-1])
