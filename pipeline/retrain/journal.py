"""The journal: a decision that is being carried out. If a run is killed meanwhile, the next run completes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.project import paths
from pipeline.retrain.records import Run


@dataclass(frozen=True)
class JournalEntry:
    """What has to happen after a decision. Each step may be repeated."""

    run: Run
    files: Mapping[str, str]
    """Files that leave the inbox: path below the inbox -> sha256."""
    inbox: str
    """Folder of the inbox."""
    model: str
    """Name of the model in tags."""
    message: str = ""
    """Of the tags."""


def write_journal(root: Path, entry: JournalEntry) -> None:
    from pipeline.stage_io.saving import write_json

    write_json(_journal_file(root), {**asdict(entry), "run": entry.run.to_json()})


def read_journal(root: Path) -> JournalEntry | None:
    """The decision that is not carried out completely; None if there is none."""
    try:
        content = json.loads(_journal_file(root).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return JournalEntry(**{**content, "run": Run.from_json(content["run"])})


def clear_journal(root: Path) -> None:
    _journal_file(root).unlink(missing_ok=True)


def _journal_file(root: Path) -> Path:
    return root / paths.RETRAIN / "journal.json"
