"""The order of the entries in dvc.lock, which DVC appends as stages end.

Plain `dvc repro` ends stages in the order of its plan. Stages that run side by side end in any order, so afterwards we
put the entries that a run added into that order; entries that were there before keep their places, as with `dvc repro`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.orchestration.graph import open_repo

BASELINE = Path(".dvc/tmp/burnish-baseline.json")
"""Names that dvc.lock held before a run that has not ended well yet: so a run in two halves orders like one."""


def _read(lock: Path) -> Any:
    from dvc.utils.serialize import parse_yaml_for_update

    return parse_yaml_for_update(lock.read_text("utf-8"), str(lock)) if lock.exists() else {}


def remember_entries(root: Path) -> None:
    """Before a run: note which entries dvc.lock holds, unless an unfinished run noted it already."""
    path = root / BASELINE
    if not path.exists():
        with open_repo(root):
            names = list(_read(root / "dvc.lock").get("stages", {}))
        _replace(path, json.dumps(names), path.parent)


def order_entries(root: Path, plan: Sequence[str], *, finished: bool) -> bool:
    """After a run: order the entries that it added as `dvc repro` would have, and say whether that changed the file.

    Args:
        root: the project's root.
        plan: the stages in the order of `dvc repro`.
        finished: whether every stage of the plan is done, so that the next run starts a new account.
    """
    baseline = root / BASELINE
    lock = root / "dvc.lock"
    before: list[str] = json.loads(baseline.read_text("utf-8")) if baseline.exists() else []
    with open_repo(root):  # nobody else writes dvc.lock meanwhile
        data = _read(lock)
        names = list(data.get("stages", {}))
        wanted = wanted_order(names, before, plan)
        if wanted != names:
            from dvc.utils.serialize import dumps_yaml

            for name in wanted:
                data["stages"].move_to_end(name)
            _replace(lock, dumps_yaml(data), baseline.parent)
    if finished:
        baseline.unlink(missing_ok=True)
    return wanted != names


def wanted_order(names: Sequence[str], before: Sequence[str], plan: Sequence[str]) -> list[str]:
    """`names` with those not in `before` moved behind the others and sorted by their place in `plan` (stable)."""
    place = {stage: i for i, stage in enumerate(plan)}
    old = [name for name in names if name in set(before)]
    new = [name for name in names if name not in set(before)]
    return old + sorted(new, key=lambda name: place.get(name, len(place)))


def _replace(path: Path, text: str, scratch: Path) -> None:
    """Write a file so that a reader sees the old or the new text, never a half; it is written in `scratch` first."""
    temporary = scratch / f"{path.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
