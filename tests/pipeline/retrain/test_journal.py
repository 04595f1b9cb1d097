"""The journal: read as it was written, in the layout of earlier versions."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.project import paths
from pipeline.retrain import journal
from pipeline.retrain.journal import JournalEntry
from pipeline.retrain.records import Run


def test_the_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert journal.read_journal(tmp_path) is None
    run = Run("20260101T000000Z", "promoted", skipped_files={"a": "b"}, gate=("x",), champion="v0.1.0", commit="c")
    entry = JournalEntry(run, {"normal/a.png": "00"}, "/in", "burnish", "why")
    journal.write_journal(tmp_path, entry)
    found = journal.read_journal(tmp_path)
    assert found is not None
    assert json.dumps(found.run.to_json(), sort_keys=True) == json.dumps(run.to_json(), sort_keys=True)
    assert (found.files, found.inbox, found.model, found.message) == (entry.files, "/in", "burnish", "why")
    assert json.loads((tmp_path / paths.RETRAIN / "journal.json").read_text())["run"]["left"] == {"a": "b"}
    journal.clear_journal(tmp_path)
    journal.clear_journal(tmp_path)
    assert journal.read_journal(tmp_path) is None
