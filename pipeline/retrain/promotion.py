"""What may be done again and costs nothing then: carrying out a decision, making a bundle anew; and who may do it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.bundle import champion
from pipeline.project import paths
from pipeline.project.git import advance
from pipeline.project.params import Params
from pipeline.retrain import records, tags
from pipeline.retrain.records import Decision, Run
from pipeline.retrain.worktree import Worktree
from stages.types import UserError

Say = Callable[[str], None]


class Busy(UserError):
    """Another retraining or rollback of this project is at work."""


@contextmanager
def only_retraining(root: Path) -> Iterator[None]:
    """One retraining or rollback of a project at a time, scheduled or by hand; the lock goes with the process.

    Raises:
        Busy: another one is at work.
    """
    path = root / paths.RETRAIN / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Busy(f"a retraining (process {holder}) is at work in {root}: wait for it to end") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def carry_out_interrupted(root: Path, say: Say) -> None:
    """Carry out a decision that a kill interrupted. What was not decided yet leaves nothing behind but its log."""
    if decision := records.read_journal(root):
        say(f"carrying out what run {decision.run.id} had decided: {decision.run.result}")
        carry_out(root, decision)


def carry_out(root: Path, decision: Decision) -> Run:
    """Every step does nothing where it was done before."""
    run = decision.run
    if run.result == "promoted":
        assert run.commit and run.branch and run.champion
        run = replace(run, branch=advance(root, run.branch, run.commit))
        tags.register(root, decision.model, str(run.champion), str(run.commit), decision.message)
    if run.result in ("promoted", "rolled back"):
        champion.switch(root, str(run.champion))
        tags.assign(root, decision.model, str(run.champion), decision.message)
    kind = "taken" if run.result == "promoted" else "held"
    records.move_aside(root, kind, run.id, Path(decision.inbox), decision.files)
    finish(root, run)
    records.clear_journal(root)
    return run


def finish(root: Path, run: Run) -> None:
    records.remember(root, run)
    if run.result != "nothing new":
        from pipeline.stage_io.saving import write_json

        folder = records.folder_of(root, run.id)
        write_json(folder / "run.json", run.to_json())
        (folder / "run.md").write_text(records.markdown(run.to_json()), "utf-8")


def restore(root: Path, params: Params, version: str) -> None:
    """Make a version's bundle anew from its commit and DVC's cache (or remote); it does not serve yet.

    Raises:
        UserError: its results are in neither.
    """
    from pipeline.bundle.writer import make_bundle

    tree = Worktree(root)
    tree.prepare(tags.commit_of(root, params.retrain.model, version))
    tree.fetch_outputs()
    champion.install(root, version, lambda folder: make_bundle(tree.params, tree.folder, folder))
