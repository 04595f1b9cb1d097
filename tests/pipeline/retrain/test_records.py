"""The history: no run is lost, and no run is recorded twice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pipeline.project import paths
from pipeline.retrain import records
from pipeline.retrain.records import Run


def history_file(root: Path) -> Path:
    return root / paths.RETRAIN / "history.jsonl"


def test_the_history_holds_every_run_once_in_order(tmp_path: Path) -> None:
    first, second = Run("20260101T000000Z", "promoted", new=3, champion="v0.1.0"), Run("20260102T000000Z", "held")
    for run in (first, first, second, second):
        records.append_to_history(tmp_path, run)
    assert [run["id"] for run in records.history(tmp_path)] == [first.id, second.id]
    assert records.history(tmp_path)[0]["new"] == 3
    assert records.history(tmp_path)[0]["left"] == {}  # the key of `skipped_files`
    assert records.summary(records.history(tmp_path)[0]).split()[:3] == [first.id, "promoted", "v0.1.0"]


def test_a_run_as_text() -> None:
    run = Run(
        "20260101T000000Z", "held", "worse", skipped_files={"a.png": "damaged"}, champion="v0.1.0", gate=("AUROC fell",)
    )
    text = records.markdown({**run.to_json(), "drift": {"tile": {"lines": ["no drift shown"]}}})
    assert text.startswith("**held**: worse\n\nChampion: v0.1.0.\n")
    assert text.endswith("- AUROC fell\n- no drift shown\n- stays in the inbox: `a.png`: damaged\n")


def test_a_line_that_a_kill_cut_off_is_ignored(tmp_path: Path) -> None:
    records.append_to_history(tmp_path, Run("20260101T000000Z", "held"))
    with history_file(tmp_path).open("a") as file:
        file.write('{"id": "20260102T00')
    records.append_to_history(tmp_path, Run("20260103T000000Z", "promoted"))
    assert [run["id"] for run in records.history(tmp_path)] == ["20260101T000000Z", "20260103T000000Z"]


def test_a_run_has_its_own_id_although_the_clock_was_set_back(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, 12, 30, 5, tzinfo=UTC)
    assert records.make_run_id(tmp_path, now) == "20260101T123005Z"
    records.append_to_history(tmp_path, Run("20260101T123005Z", "nothing new"))
    records.run_folder(tmp_path, "20260101T123005Z-2").mkdir(parents=True)
    assert records.make_run_id(tmp_path, now) == "20260101T123005Z-3"
