"""What a detector does not need is not loaded: imports are most of the time of judging one image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

HEAVY = ("torch", "lightning", "timm", "torchvision", "zarr", "prefect", "dvc", "sklearn")
SCRIPT = """
import json, sys
from pipeline.cli.app import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([name for name in {heavy!r} if name in sys.modules]))
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("predict", "new/a.png", "--detector", "pca"), set()),
        pytest.param(
            ("predict", "new/a.png", "--detector", "knn"),
            {"torch", "lightning", "timm", "torchvision", "zarr"},
            marks=pytest.mark.long,
        ),
        (("params", "show", "ear"), set()),
        (("retrain", "--history"), set()),
    ],
)
def test_what_is_loaded(
    arguments: tuple[str, ...], allowed: set[str], project: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), *arguments]
    environment = {**environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) <= allowed
