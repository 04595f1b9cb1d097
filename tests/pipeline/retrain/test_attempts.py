"""What the history records about an attempt that failed or was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.project.params import Params, load_params
from pipeline.retrain import journal, once, records
from pipeline.retrain.journal import JournalEntry
from pipeline.retrain.records import Run
from stages.types import UserError
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (UserError("the disk\nis full"), "the disk is full"),
        (KeyboardInterrupt(), "stopped by a signal"),
        (SystemExit(143), "stopped by a signal"),
        (ValueError(), "ValueError"),
    ],
)
def test_it_failed_and_why(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch, fault: BaseException, reason: str
) -> None:
    def fails(*_: object) -> Run:
        raise fault

    monkeypatch.setattr(once, "_attempt", fails)
    with pytest.raises(type(fault)):
        once._run_recorded(tmp_path, params, False, print)
    assert [(run["result"], run["reason"]) for run in records.history(tmp_path)] == [("failed", reason)]


def test_an_attempt_stopped_after_its_decision_has_not_failed(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decides(root: Path, _: Params, run: Run, *__: object) -> Run:
        journal.write_journal(root, JournalEntry(run, {}, "", "burnish"))
        raise KeyboardInterrupt

    monkeypatch.setattr(once, "_attempt", decides)
    with pytest.raises(KeyboardInterrupt):
        once._run_recorded(tmp_path, params, False, print)
    assert records.history(tmp_path) == []
    assert journal.read_journal(tmp_path) is not None
