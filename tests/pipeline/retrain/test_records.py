"""History and journal: nothing is lost, nothing is told twice, and other files stay where they are."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from pipeline.project import paths
from pipeline.retrain import records
from pipeline.retrain.records import Decision, Run


def history_file(root: Path) -> Path:
    return root / paths.RETRAIN / "history.jsonl"


def test_the_history_holds_every_run_once_in_order(tmp_path: Path) -> None:
    first, second = Run("20260101T000000Z", "promoted", new=3, champion="v0.1.0"), Run("20260102T000000Z", "held")
    for run in (first, first, second, second):
        records.remember(tmp_path, run)
    assert [one["id"] for one in records.history(tmp_path)] == [first.id, second.id]
    assert records.history(tmp_path)[0]["new"] == 3
    assert records.summary(records.history(tmp_path)[0]).split()[:3] == [first.id, "promoted", "v0.1.0"]


def test_a_run_in_words() -> None:
    run = Run("20260101T000000Z", "held", "worse", left={"a.png": "broken"}, champion="v0.1.0", gate=("AUROC fell",))
    text = records.markdown({**run.to_json(), "drift": {"tile": {"lines": ["no drift shown"]}}})
    assert text.startswith("**held**: worse\n\nv0.1.0 serves.\n")
    assert text.endswith("- AUROC fell\n- no drift shown\n- left in the inbox: `a.png`: broken\n")


def test_a_line_that_a_kill_cut_short_costs_only_itself(tmp_path: Path) -> None:
    records.remember(tmp_path, Run("20260101T000000Z", "held"))
    with history_file(tmp_path).open("a") as file:
        file.write('{"id": "20260102T00')
    records.remember(tmp_path, Run("20260103T000000Z", "promoted"))
    assert [one["id"] for one in records.history(tmp_path)] == ["20260101T000000Z", "20260103T000000Z"]


def test_a_run_has_a_name_of_its_own_though_the_clock_went_back(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, 12, 30, 5, tzinfo=UTC)
    assert records.run_id(tmp_path, now) == "20260101T123005Z"
    records.remember(tmp_path, Run("20260101T123005Z", "nothing new"))
    records.folder_of(tmp_path, "20260101T123005Z-2").mkdir(parents=True)
    assert records.run_id(tmp_path, now) == "20260101T123005Z-3"


def test_the_journal_comes_back_as_it_was(tmp_path: Path) -> None:
    assert records.read_journal(tmp_path) is None
    run = Run("20260101T000000Z", "promoted", left={"a": "b"}, gate=("x",), champion="v0.1.0", commit="c", branch="d")
    decision = Decision(run, {"normal/a.png": "00"}, "/in", "burnish", "why")
    records.write_journal(tmp_path, decision)
    found = records.read_journal(tmp_path)
    assert found is not None
    assert json.dumps(found.run.to_json(), sort_keys=True) == json.dumps(run.to_json(), sort_keys=True)
    assert (found.files, found.inbox, found.model, found.message) == (decision.files, "/in", "burnish", "why")
    records.clear_journal(tmp_path)
    records.clear_journal(tmp_path)
    assert records.read_journal(tmp_path) is None


def test_files_are_moved_aside_once_and_a_newer_one_of_the_name_stays(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "normal").mkdir(parents=True)
    files = {}
    for name in ("normal/a.png", "normal/b.png"):
        (inbox / name).write_text(name)
        files[name] = hashlib.sha256(name.encode()).hexdigest()
    (inbox / "normal/b.png").write_text("written anew since")
    for _ in range(2):
        records.move_aside(tmp_path, "taken", "run", inbox, files)
    assert [path.name for path in inbox.rglob("*.png")] == ["b.png"]
    assert (tmp_path / paths.RETRAIN / "taken/run/normal/a.png").read_text() == "normal/a.png"
