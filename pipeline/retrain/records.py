"""The history of runs of retraining."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.project import paths

Result = Literal["nothing new", "promoted", "held", "failed", "rolled back"]
"""`held`: the challenger was not promoted."""


@dataclass(frozen=True)
class Run:
    """One run of retraining."""

    id: str
    """When it started, in UTC: `20261122T031500Z`. Its folder has the same name."""
    result: Result
    reason: str = ""
    """Why, in one line."""
    new: int = 0
    """Number of files that were taken in."""
    known: int = 0
    """Number of files in the inbox that were known already."""
    skipped_files: Mapping[str, str] = field(default_factory=dict)
    """Path -> why the file stays in the inbox."""
    champion: str | None = None
    """Version of the champion when the run ended."""
    commit: str | None = None
    """Commit of the challenger, if it was promoted."""
    branch: str | None = None
    """Branch of that commit."""
    gate: Sequence[str] = ()
    """Violations of the gate."""
    drift: Mapping[str, Any] = field(default_factory=dict)
    """By category."""
    notes: Sequence[str] = ()
    ended: str = ""
    """When it ended, in UTC."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; `skipped_files` has the key `left` in all files."""
        content = asdict(self)
        content["left"] = content.pop("skipped_files")
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Run:
        return cls(**{"skipped_files" if name == "left" else name: value for name, value in content.items()})


def summary(run: Mapping[str, Any]) -> str:
    """A run as one line for the terminal."""
    return f"{run['id']}  {run['result']:<11}  {run['champion'] or '-':<7}  {run['reason']}"


def markdown(run: Mapping[str, Any]) -> str:
    """A run for people to read: the result, and why."""
    drift = [line for category in run["drift"].values() for line in category["lines"]]
    skipped = [f"stays in the inbox: `{name}`: {why}" for name, why in run["left"].items()]
    lines = [f"**{run['result']}**: {run['reason']}", "", f"Champion: {run['champion'] or 'none'}.", ""]
    if run["branch"]:
        lines += [f"To merge it into a checkout: `{merge_command(run['branch'])}`", ""]
    lines += [f"- {line}" for line in (*run["notes"], *run["gate"], *drift, *skipped)]
    return "\n".join(lines).rstrip() + "\n"


def merge_command(branch: str) -> str:
    """How a developer merges a promotion. Without the second command, DVC would report the old images as a change."""
    return f"git merge {branch} && dvc checkout"


def make_run_id(root: Path, now: datetime) -> str:
    """An id that no run has yet, even if the clock was set back."""
    name, number = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ"), 1
    taken = {run["id"] for run in history(root)}
    while (run_id := name if number == 1 else f"{name}-{number}") in taken or run_folder(root, run_id).exists():
        number += 1
    return run_id


def run_folder(root: Path, run_id: str) -> Path:
    """Folder with log, comparison and report of a run."""
    return root / paths.RETRAIN / "runs" / run_id


def history(root: Path) -> list[dict[str, Any]]:
    """All runs as JSON, oldest first. A line that was cut off by a kill is left out."""
    runs = []
    try:
        text = _history_file(root).read_text("utf-8")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            runs.append(json.loads(line))
        except ValueError:
            continue
    return runs


def append_to_history(root: Path, run: Run) -> None:
    """Add a run to the history, unless it is the last entry already."""
    if any(entry["id"] == run.id for entry in history(root)[-1:]):
        return
    path = _history_file(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        cut_off = file.tell() and not path.read_bytes().endswith(b"\n")
        file.write(("\n" if cut_off else "") + json.dumps(run.to_json(), sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def is_superseded(history: Sequence[dict[str, Any]], scheduled: datetime, now: datetime) -> bool:
    """Whether another run has started since the time at which this run was scheduled, so that it is not needed.

    Failed runs and rollbacks do not count, nor do runs in the future (after the clock was set back).
    """
    return any(scheduled < _started(run) <= now for run in history if run["result"] not in ("failed", "rolled back"))


def _started(run: dict[str, Any]) -> datetime:
    return datetime.strptime(run["id"][:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _history_file(root: Path) -> Path:
    return root / paths.RETRAIN / "history.jsonl"
