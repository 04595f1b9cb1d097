"""Steps that may be repeated without harm: carrying out a decision, and rebuilding a bundle; and the lock for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from pipeline.bundle import champion
from pipeline.project import paths
from pipeline.project.git import advance_branch
from pipeline.project.params import Params
from pipeline.project.process_lock import process_lock
from pipeline.retrain import inbox, journal, records, tags
from pipeline.retrain.journal import JournalEntry
from pipeline.retrain.records import Run
from pipeline.retrain.worktree import Worktree
from stages.types import UserError

Say = Callable[[str], None]
"""Prints a line of progress."""


class AlreadyRunning(UserError):
    """Another retraining or rollback of this project is running."""


def exclusive_retraining(root: Path) -> AbstractContextManager[None]:
    """Allow one retraining or rollback of a project at a time.

    Raises:
        AlreadyRunning: another retraining or rollback is running.
    """

    def when_held(holder: str) -> AlreadyRunning:
        return AlreadyRunning(f"another retraining (process {holder}) is running in {root}: wait until it ends")

    return process_lock(root / paths.RETRAIN / "lock", when_held)


def complete_interrupted(root: Path, say: Say) -> None:
    """Complete the decision of a run that was killed. A run killed before its decision starts over, with its caches."""
    if entry := journal.read_journal(root):
        say(f"completing the decision of run {entry.run.id}: {entry.run.result}")
        carry_out(root, entry)


def carry_out(root: Path, entry: JournalEntry) -> Run:
    """Carry out a decision. A step that was done before does nothing."""
    run = entry.run
    if run.result == "promoted":
        assert run.commit and run.branch and run.champion
        run = replace(run, branch=advance_branch(root, run.branch, run.commit))
        tags.register_version(root, entry.model, str(run.champion), str(run.commit), entry.message)
    if run.result in ("promoted", "rolled back"):
        champion.set_current(root, str(run.champion))
        tags.assign_champion(root, entry.model, str(run.champion), entry.message)
    kind = "taken" if run.result == "promoted" else "held"
    inbox.move_out(root, kind, run.id, Path(entry.inbox), entry.files)
    record_run(root, run)
    journal.clear_journal(root)
    return run


def record_run(root: Path, run: Run) -> None:
    """Add a run to the history, and write run.json and run.md unless nothing was new."""
    records.append_to_history(root, run)
    if run.result != "nothing new":
        from pipeline.stage_io.saving import write_json

        folder = records.run_folder(root, run.id)
        write_json(folder / "run.json", run.to_json())
        (folder / "run.md").write_text(records.markdown(run.to_json()), "utf-8")


def rebuild_bundle(root: Path, params: Params, version: str) -> None:
    """Make a version's bundle again, from its commit and DVC's cache or remote. The champion stays the same.

    Raises:
        UserError: neither the cache nor the remote has the results of the commit.
    """
    from pipeline.bundle.writer import make_bundle

    tree = Worktree(root)
    tree.prepare(tags.commit_of(root, params.retrain.model, version))
    tree.fetch_outputs()
    champion.install_version(root, version, lambda folder: make_bundle(tree.params, tree.folder, folder))
