"""The stage graph as DVC reads it from dvc.yaml: order, parents, and what is out of date. Nothing is declared here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.types import UserError

LOCK_TRIES = 5
"""How often to ask for DVC's global lock; DVC waits 3 s each time."""


@dataclass(frozen=True)
class StageGraph:
    """Stages by the names that `dvc repro` takes."""

    order: tuple[str, ...]
    """All stages that the targets need, in the order in which plain `dvc repro` runs them: parents before children."""
    parents: Mapping[str, tuple[str, ...]]
    """For each stage in `order`, the stages whose outputs it reads."""
    stale: frozenset[str] = frozenset()
    """Stages that DVC finds changed as things stand now (`dvc status`)."""
    forced: frozenset[str] = frozenset()
    """Stages that the user wants run though nothing changed."""
    changed_data: Mapping[str, str] = field(default_factory=dict)
    """By the pointer (`data/own.dvc`) whose data are not what it says: DVC's digest of what lies there. They are stale,
    and a run would make the pointer say so."""

    def may_run(self) -> tuple[str, ...]:
        """Stale and forced stages and all that lies downstream of them, in order.

        `dvc status` does not foresee that a stage becomes stale once its parent has run, so this is an upper bound:
        whether a child really runs is seen when its parents are done.
        """
        found: set[str] = set()
        for stage in self.order:
            if stage in self.stale or stage in self.forced or found.intersection(self.parents[stage]):
                found.add(stage)
        return tuple(stage for stage in self.order if stage in found)

    def descendants(self, stage: str) -> frozenset[str]:
        """All stages downstream of `stage`, without it."""
        found = {stage}
        for other in self.order:
            if found.intersection(self.parents[other]):
                found.add(other)
        return frozenset(found - {stage})


@contextmanager
def open_repo(root: Path) -> Iterator[Any]:
    """DVC's repository object, with its lock taken; DVC's faults become one-line `UserError`s."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
        try:
            _lock(repo)
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
            f"another DVC command is at work in {root}: wait for it to end, or end it, then run again"
        ) from error
    except DvcException as error:
        raise UserError(_one_line(error)) from error


def _lock(repo: Any) -> None:
    """Take DVC's global lock. Others hold it for moments, or for seconds while they take in large outputs."""
    from dvc.lock import LockError

    for tries_left in reversed(range(LOCK_TRIES)):
        try:
            repo.lock.lock()
            return
        except LockError:
            if not tries_left:
                raise


def _is_stale(stage: Any) -> bool:
    """Whether DVC finds a stage changed. One that another process is running may be: its own turn will tell."""
    from dvc.lock import LockError

    try:
        return bool(stage.status(check_updates=False))
    except LockError:
        return True


def _one_line(error: Exception) -> str:
    """DVC's message, which may be long and hold line breaks, with its causes."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split())
        if text and not any(text in part for part in parts):
            parts.append(text)
        cause = cause.__cause__
    text = ": ".join(parts)
    return text if len(text) <= 600 else text[:600] + " ..."


def _check_names(wanted: Sequence[str], stages: Sequence[str]) -> None:
    """Raise UserError for a plain name that is no stage's; whatever else DVC takes for a target is its own matter."""
    boxes = list(dict.fromkeys(stage.partition("@")[0] for stage in stages))
    for name in wanted:
        if re.fullmatch(r"[\w-]+(@[\w-]+)?", name) and name not in stages and name not in boxes:
            members = [stage for stage in stages if stage.startswith(f"{name.partition('@')[0]}@")]
            raise UserError(f"there is no stage {name!r} in dvc.yaml; there are {', '.join(sorted(members or boxes))}")


def read_graph(root: Path, targets: Sequence[str] = (), force: Sequence[str] = (), *, check: bool = True) -> StageGraph:
    """Read dvc.yaml through DVC.

    Args:
        root: the project's root, also the working directory.
        targets: stage names, also those of a whole matrix; none means the whole dvc.yaml.
        force: stages to mark as forced, named likewise.
        check: whether to find out what is stale, which reads (the digests of) all dependencies and outputs.

    Raises:
        UserError: no DVC project, dvc.yaml is at fault, a name is unknown, or another DVC command holds the lock.
    """
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    with open_repo(root) as repo:
        graph = get_active_graph(repo.index.graph)
        _check_names((*targets, *force), [stage.addressing for stage in repo.index.graph])
        # The same three steps as `dvc repro`, so that the order is the same, ties included.
        steps = plan_repro(graph, collect_stages(repo, list(targets) or ["dvc.yaml"]))
        forced = {stage.addressing for stage in collect_stages(repo, list(force))} if force else set()
        order = tuple(stage.addressing for stage in steps)
        if outside := sorted(forced.difference(order)):
            raise UserError(f"--force {outside[0]}: the chosen targets do not need this stage; add it to the targets")
        stale = [stage for stage in steps if check and _is_stale(stage)]
        return StageGraph(
            order=order,
            parents={stage.addressing: tuple(sorted(p.addressing for p in graph.successors(stage))) for stage in steps},
            stale=frozenset(stage.addressing for stage in stale),
            forced=frozenset(forced),
            changed_data={
                stage.addressing: str(stage.outs[0].get_hash().value)
                for stage in stale
                if stage.is_data_source and stage.outs[0].exists
            },
        )


def mermaid(graph: StageGraph) -> str:
    """The graph as a Mermaid flow chart, stages of one matrix drawn as one box `train@{...}`, an edge once."""

    def box(stage: str) -> str:
        return stage.split("@")[0]

    members: dict[str, list[str]] = {}
    for stage in graph.order:
        members.setdefault(box(stage), []).append(stage)
    lines = ["flowchart LR"]
    for name, stages in members.items():
        label = stages[0] if stages == [name] else f"{name} x {len(stages)}"
        lines.append(f'    {_identifier(name)}["{label}"]')
    edges = dict.fromkeys((box(p), box(s)) for s in graph.order for p in graph.parents[s])
    lines += [f"    {_identifier(a)} --> {_identifier(b)}" for a, b in _reduced(list(edges))]
    return "\n".join(lines) + "\n"


def _identifier(name: str) -> str:
    """Mermaid takes letters, digits and `_`; `end` alone is one of its key words."""
    return "s_" + "".join(c if c.isalnum() else "_" for c in name)


def _reduced(edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Edges without those that a longer way implies, which only clutter the picture."""
    children: dict[str, set[str]] = {}
    for a, b in edges:
        if a != b:
            children.setdefault(a, set()).add(b)

    def reaches(start: Collection[str], goal: str) -> bool:
        seen: set[str] = set()
        todo = list(start)
        while todo:
            node = todo.pop()
            if node == goal:
                return True
            if node not in seen:
                seen.add(node)
                todo += children.get(node, ())
        return False

    return [(a, b) for a, b in edges if a != b and not reaches(children[a] - {b}, b)]
