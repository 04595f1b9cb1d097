"""Gives dvc.lock the order of entries that plain `dvc repro` would have given it.

DVC appends an entry when a stage ends. With `dvc repro`, stages end in the order of its plan. With
`burnish run --jobs 2`, they end in any order, so after a run we sort the entries that it added. Earlier entries keep
their places, as with `dvc repro`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.orchestration.graph import open_repo

ENTRIES_BEFORE_RUN = Path(".dvc/tmp/burnish-baseline.json")
"""Names of the entries of dvc.lock before the run. The file stays until every stage is done, so that a run that was
interrupted and continued gives the same order as one whole run."""


def _read(lock: Path) -> Any:
    from dvc.utils.serialize import parse_yaml_for_update

    return parse_yaml_for_update(lock.read_text("utf-8"), str(lock)) if lock.exists() else {}


def remember_entries(root: Path) -> None:
    """Before a run: save the names of the entries of dvc.lock, unless an unfinished run saved them already."""
    path = root / ENTRIES_BEFORE_RUN
    if not path.exists():
        with open_repo(root):
            names = list(_read(root / "dvc.lock").get("stages", {}))
        _replace(path, json.dumps(names), path.parent)


def order_entries(root: Path, plan: Sequence[str], *, finished: bool) -> bool:
    """After a run: sort the entries that it added, and return whether that changed dvc.lock.

    Args:
        root: root of the project.
        plan: the stages in the order of `dvc repro`.
        finished: whether every stage of the plan is done. The next run then saves the names of the entries anew.
    """
    saved_names = root / ENTRIES_BEFORE_RUN
    lock = root / "dvc.lock"
    before: list[str] = json.loads(saved_names.read_text("utf-8")) if saved_names.exists() else []
    with open_repo(root):  # holds DVC's lock, so no other process writes dvc.lock
        data = _read(lock)
        names = list(data.get("stages", {}))
        wanted = wanted_order(names, before, plan)
        if wanted != names:
            from dvc.utils.serialize import dumps_yaml

            for name in wanted:
                data["stages"].move_to_end(name)
            _replace(lock, dumps_yaml(data), saved_names.parent)
    if finished:
        saved_names.unlink(missing_ok=True)
    return wanted != names


def wanted_order(names: Sequence[str], before: Sequence[str], plan: Sequence[str]) -> list[str]:
    """The names in `before` in their present order, then all other names in the order of `plan` (stable)."""
    position = {stage: i for i, stage in enumerate(plan)}
    old = [name for name in names if name in set(before)]
    new = [name for name in names if name not in set(before)]
    return old + sorted(new, key=lambda name: position.get(name, len(position)))


def _replace(path: Path, text: str, scratch: Path) -> None:
    """Replace a file by one rename, so that a reader sees the whole old or the whole new text.

    The new text is first written into the folder `scratch`, which must be on the same disk.
    """
    temporary = scratch / f"{path.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
