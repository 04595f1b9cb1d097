"""What retraining remembers: the history of runs, and the journal of a decision that is being carried out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pipeline.project import paths

Result = Literal["nothing new", "promoted", "held", "failed", "rolled back"]


@dataclass(frozen=True)
class Run:
    """One run of retraining, as the history tells it."""

    id: str
    """When it started, UTC: `20261122T031500Z`, which also names its folder."""
    result: Result
    reason: str = ""
    """In one line, why."""
    new: int = 0
    """Files that were taken in."""
    known: int = 0
    """Files of the inbox that were there already."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Why, by path, files stay in the inbox."""
    champion: str | None = None
    """Version that serves when the run has ended."""
    commit: str | None = None
    """The challenger's, where it was promoted."""
    branch: str | None = None
    gate: Sequence[str] = ()
    """What the gate said, a line a rule and detector."""
    drift: Mapping[str, Any] = field(default_factory=dict)
    """By category."""
    notes: Sequence[str] = ()
    ended: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summary(run: Mapping[str, Any]) -> str:
    """A line of the history, for a terminal."""
    return f"{run['id']}  {run['result']:<11}  {run['champion'] or '-':<7}  {run['reason']}"


def markdown(run: Mapping[str, Any]) -> str:
    """A run for people to read: what became of it, and why."""
    drift = [line for one in run["drift"].values() for line in one["lines"]]
    left = [f"left in the inbox: `{name}`: {why}" for name, why in run["left"].items()]
    lines = [f"**{run['result']}**: {run['reason']}", "", f"{run['champion'] or 'No champion'} serves.", ""]
    if run["branch"]:
        lines += [f"To take it up in a checkout: `{take_up(run['branch'])}`", ""]
    lines += [f"- {line}" for line in (*run["notes"], *run["gate"], *drift, *left)]
    return "\n".join(lines).rstrip() + "\n"


def take_up(branch: str) -> str:
    """How a developer gets a promotion; without the second command, DVC would take the old images for a change."""
    return f"git merge {branch} && dvc checkout"


def run_id(root: Path, now: datetime) -> str:
    """A name that no run has yet, also where the clock was set back."""
    name, number = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ"), 1
    taken = {one["id"] for one in history(root)}
    while (wanted := name if number == 1 else f"{name}-{number}") in taken or folder_of(root, wanted).exists():
        number += 1
    return wanted


def folder_of(root: Path, run: str) -> Path:
    """Log, comparison and report of a run."""
    return root / paths.RETRAIN / "runs" / run


def history(root: Path) -> list[dict[str, Any]]:
    """All runs, the oldest first; a last line that a kill cut short is passed over."""
    found = []
    try:
        text = _history(root).read_text("utf-8")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def remember(root: Path, run: Run) -> None:
    """Add a run to the history, once."""
    if any(one["id"] == run.id for one in history(root)[-1:]):
        return
    path = _history(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        broken = file.tell() and not path.read_bytes().endswith(b"\n")
        file.write(("\n" if broken else "") + json.dumps(run.to_json(), sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def made_up_for(history: Sequence[dict[str, Any]], expected: datetime, now: datetime) -> bool:
    """Whether a run that should have started at `expected` is late, and one has started since: it need not run then.

    Runs of the future, after the clock was set back, and failed ones do not count.
    """
    return any(expected < _started(one) <= now for one in history if one["result"] not in ("failed", "rolled back"))


def _started(run: dict[str, Any]) -> datetime:
    return datetime.strptime(run["id"][:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@dataclass(frozen=True)
class Decision:
    """What has to happen once a challenger is judged: each step may be repeated, so that a kill costs nothing."""

    run: Run
    files: Mapping[str, str]
    """sha256, by path below the inbox, of what leaves the inbox."""
    inbox: str
    model: str
    message: str = ""


def write_journal(root: Path, decision: Decision) -> None:
    from pipeline.stage_io.saving import write_json

    write_json(_journal(root), asdict(decision))


def read_journal(root: Path) -> Decision | None:
    """The decision that was not carried out to its end; None where there is none."""
    try:
        content = json.loads(_journal(root).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return Decision(**{**content, "run": Run(**content["run"])})


def clear_journal(root: Path) -> None:
    _journal(root).unlink(missing_ok=True)


def move_aside(root: Path, kind: str, run: str, inbox: Path, files: Mapping[str, str]) -> None:
    """Move files out of the inbox, to data/retrain/KIND/RUN; what has other bytes by now is another file, and stays."""
    import hashlib

    for name, sha256 in files.items():
        source, target = inbox / name, root / paths.RETRAIN / kind / run / name
        if not source.is_file() or hashlib.sha256(source.read_bytes()).hexdigest() != sha256:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)


def _history(root: Path) -> Path:
    return root / paths.RETRAIN / "history.jsonl"


def _journal(root: Path) -> Path:
    return root / paths.RETRAIN / "journal.json"
