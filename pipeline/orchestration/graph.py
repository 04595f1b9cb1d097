"""The stage graph as DVC reads it from dvc.yaml: order, parents, and which stages are out of date.

This module declares no stage. dvc.yaml is the only place that does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.types import UserError

LOCK_ATTEMPTS = 5
"""Number of attempts to take DVC's global lock. DVC waits 3 s in each."""


@dataclass(frozen=True)
class StageGraph:
    """The stages that the targets of a run need. Each has the name that `dvc repro` takes."""

    order: tuple[str, ...]
    """The stages in the order in which plain `dvc repro` runs them: parents before children."""
    parents: Mapping[str, tuple[str, ...]]
    """For each stage in `order`, the stages whose outputs it reads."""
    stale: frozenset[str] = frozenset()
    """Stages that `dvc status` reports as changed."""
    forced: frozenset[str] = frozenset()
    """Stages that run even if nothing changed (`--force`)."""
    changed_data: Mapping[str, str] = field(default_factory=dict)
    """Pointer (`data/own.dvc`) -> DVC's digest of the data that its folder holds now, for each folder that no longer
    holds the data of its pointer. The pointer is stale, and a run would update it."""

    def may_run(self) -> tuple[str, ...]:
        """Stale and forced stages and all their descendants, in order.

        This is an upper bound. `dvc status` cannot foresee whether a stage becomes stale when its parent runs; that is
        known only when all its parents are done.
        """
        candidates: set[str] = set()
        for stage in self.order:
            if stage in self.stale or stage in self.forced or candidates.intersection(self.parents[stage]):
                candidates.add(stage)
        return tuple(stage for stage in self.order if stage in candidates)

    def descendants(self, stage: str) -> frozenset[str]:
        """All stages downstream of `stage`, without `stage` itself."""
        reached = {stage}
        for candidate in self.order:
            if reached.intersection(self.parents[candidate]):
                reached.add(candidate)
        return frozenset(reached - {stage})


@contextmanager
def open_repo(root: Path) -> Iterator[Any]:
    """DVC's repository object, with its global lock held.

    Raises:
        UserError: `root` is not a DVC project, another DVC command holds the lock, or any other error of DVC (in one
            line).
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
        try:
            _take_lock(repo)
            try:
                yield repo
            finally:
                repo.lock.unlock()
        finally:
            repo.close()
    except NotDvcRepoError as error:
        raise UserError(f"{root} is not a DVC project: run `git init` and `dvc init` in it") from error
    except LockError as error:
        raise UserError(
            f"another DVC command is running in {root}: wait until it ends, or end it, then run again"
        ) from error
    except DvcException as error:
        raise UserError(_error_line(error)) from error


def _take_lock(repo: Any) -> None:
    """Take DVC's global lock. Other DVC processes hold it for seconds at most, while they store large outputs."""
    from dvc.lock import LockError

    for attempts_left in reversed(range(LOCK_ATTEMPTS)):
        try:
            repo.lock.lock()
            return
        except LockError:
            if not attempts_left:
                raise


def _is_stale(stage: Any) -> bool:
    """Whether DVC reports a stage as changed. True if another process holds it, so that DVC is asked again later."""
    from dvc.lock import LockError

    try:
        return bool(stage.status(check_updates=False))
    except LockError:
        return True


def _error_line(error: Exception) -> str:
    """The messages of an error of DVC and of its causes, in one line of about 600 characters at most."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split())
        if text and not any(text in part for part in parts):
            parts.append(text)
        cause = cause.__cause__
    text = ": ".join(parts)
    return text if len(text) <= 600 else text[:600] + " ..."


def _check_names(names: Sequence[str], stages: Sequence[str]) -> None:
    """Check that each name is a stage or a matrix of stages. DVC checks other forms of targets, such as paths.

    Raises:
        UserError: a name is unknown.
    """
    groups = list(dict.fromkeys(stage.partition("@")[0] for stage in stages))
    for name in names:
        if re.fullmatch(r"[\w-]+(@[\w-]+)?", name) and name not in stages and name not in groups:
            members = [stage for stage in stages if stage.startswith(f"{name.partition('@')[0]}@")]
            raise UserError(f"there is no stage {name!r} in dvc.yaml; there are {', '.join(sorted(members or groups))}")


def read_graph(root: Path, targets: Sequence[str] = (), force: Sequence[str] = (), *, check: bool = True) -> StageGraph:
    """Read dvc.yaml through DVC.

    Args:
        root: root of the project. It must be the working directory.
        targets: names of stages, or of whole matrices. Empty: all stages of dvc.yaml.
        force: names of stages to mark as forced.
        check: whether to look for stale stages. This compares all dependencies and outputs with dvc.lock.

    Raises:
        UserError: `root` is not a DVC project, dvc.yaml is not valid, a name is unknown, or another DVC command holds
            the lock.
    """
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    with open_repo(root) as repo:
        graph = get_active_graph(repo.index.graph)
        _check_names((*targets, *force), [stage.addressing for stage in repo.index.graph])
        # `dvc repro` calls the same three functions, so the order is the same, ties included.
        plan = plan_repro(graph, collect_stages(repo, list(targets) or ["dvc.yaml"]))
        forced = {stage.addressing for stage in collect_stages(repo, list(force))} if force else set()
        order = tuple(stage.addressing for stage in plan)
        if not_needed := sorted(forced.difference(order)):
            raise UserError(f"--force {not_needed[0]}: the targets do not need this stage; add it to the targets")
        stale = [stage for stage in plan if check and _is_stale(stage)]
        return StageGraph(
            order=order,
            parents={
                stage.addressing: tuple(sorted(parent.addressing for parent in graph.successors(stage)))
                for stage in plan
            },
            stale=frozenset(stage.addressing for stage in stale),
            forced=frozenset(forced),
            changed_data={
                stage.addressing: str(stage.outs[0].get_hash().value)
                for stage in stale
                if stage.is_data_source and stage.outs[0].exists
            },
        )
