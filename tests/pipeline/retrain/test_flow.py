"""The scheduled flow: its state after each way in which a run may end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import change_params

pytestmark = pytest.mark.long

SCRIPT = """
import sys
from pipeline.retrain import flow, promotion, records
from stages.types import UserError

outcomes, calls = sys.argv[1].split(","), []

def fake_retrain(root):
    calls.append(root)
    how = outcomes[len(calls) - 1]
    if how == "fails":
        raise UserError("the disk is full")
    if how == "busy":
        raise promotion.AlreadyRunning("another retraining is running")
    return records.Run("20260101T000000Z", "nothing new", "the inbox is empty")

flow.retrain_once, flow.RETRY_DELAY_S = fake_retrain, 0
if outcomes == ["late"]:
    flow.is_superseded = lambda *_: True
state = flow.retrain_flow(return_state=True)
print("|".join([state.type.value, state.message, str(len(calls))]))
"""


@pytest.mark.parametrize(
    ("outcomes", "retries", "expected"),
    [
        ("works", 1, "COMPLETED|nothing new: the inbox is empty|1"),
        ("fails,works", 1, "COMPLETED|nothing new: the inbox is empty|2"),
        ("fails,works", 0, "FAILED|the disk is full|1"),
        ("busy", 0, "CANCELLED|another retraining is running|1"),
        ("late", 1, "COMPLETED|skipped: this run is late, and another run has started since|0"),
    ],
)
def test_states(
    served: Path, settings: dict[str, str], tmp_path: Path, outcomes: str, retries: int, expected: str
) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "params.yaml").write_bytes((served / "params.yaml").read_bytes())
    change_params(tmp_path, {"retrain": {"retries": retries}})
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, outcomes],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == expected
