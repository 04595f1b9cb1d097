"""One run of retraining, from the inbox to the champion, readable from top to bottom."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.bundle import champion
from pipeline.project import paths
from pipeline.project.params import Params, load_params
from pipeline.project.stage_table import stage_names
from pipeline.project.stage_warnings import read_warnings
from pipeline.retrain import journal, records, tags
from pipeline.retrain.base_commit import choose_base_commit, find_champion_commit
from pipeline.retrain.inbox import (
    InboxScan,
    inbox_folder,
    make_wait,
    may_hold_images,
    move_out,
    scan_inbox,
    unsupported_files,
)
from pipeline.retrain.journal import JournalEntry
from pipeline.retrain.notify import notify
from pipeline.retrain.pipeline_run import run_pipeline
from pipeline.retrain.promotion import (
    Say,
    carry_out,
    complete_interrupted,
    exclusive_retraining,
    record_run,
)
from pipeline.retrain.records import Run
from pipeline.retrain.worktree import Worktree
from pipeline.show.text import counted
from stages.download.sources.files import unread_files
from stages.types import UserError

FIRST_CHAMPION = "the first champion"
"""Reason of the promotion of the checked-out commit."""


def retrain_once(root: Path, *, force: bool = False, say: Say = print) -> Run:
    """Take in new images, train a challenger, and promote it if the gate allows it.

    Args:
        root: root of the project, which is also the working directory.
        force: train although nothing is new, for example because code or parameters have changed.

    Raises:
        UserError: the run failed, which the history records, and the champion stays; or another run is in progress.
    """
    with exclusive_retraining(root):
        complete_interrupted(root, say)
        params = load_params()
        run = _run_recorded(root, params, force, say)
        if run.reason == FIRST_CHAMPION and may_hold_images(inbox_folder(root, params)):
            run = _run_recorded(root, params, force, say)
        return run


def _run_recorded(root: Path, params: Params, force: bool, say: Say) -> Run:
    """Make one attempt, and record its end in the history even if it fails."""
    run_id = records.make_run_id(root, datetime.now(UTC))
    run = Run(run_id, "failed", champion=champion.current_version(root))
    try:
        run = _attempt(root, params, run, force, say)
    except BaseException as fault:
        if journal.read_journal(root) is None:  # else there is a decision, and the next run completes it
            message = " ".join(str(fault).split()) if isinstance(fault, Exception) else "stopped by a signal"
            failed = replace(run, reason=message or type(fault).__name__, ended=_now())
            records.append_to_history(root, failed)
            notify(root, failed)
        raise
    finally:
        champion.prune_versions(root, params.retrain.keep)
    say(f"{run.result}: {run.reason}; champion: {run.champion or 'none'}")
    if run.branch:
        say(f"to merge it into this checkout: {records.merge_command(run.branch)}")
    notify(root, run)
    return run


def _attempt(root: Path, params: Params, run: Run, force: bool, say: Say) -> Run:
    champion_commit = find_champion_commit(root, params, say)
    inbox = inbox_folder(root, params)
    if champion_commit and not force and not may_hold_images(inbox):
        return _end_without_training(root, run, InboxScan(), inbox)
    tree = Worktree(root)
    base, notes = choose_base_commit(root, champion_commit)
    say(f"preparing {paths.WORKTREE} at {base[:12]}")
    tree.prepare(base)
    scan = _scan(tree, inbox, params) if champion_commit else InboxScan()  # the first champion takes in no images
    unread = dict.fromkeys(unread_files(inbox), "it is not an image that can be read")
    skipped_files = {**scan.skipped_files, **unread}
    for name, why in skipped_files.items():
        say(f"stays in the inbox: {name}: {why}")
    if scan.known:
        move_out(root, "known", run.id, inbox, {file.path: file.sha256 for file in scan.known})
        say(f"known already, moved to {paths.RETRAIN}/known/: {', '.join(file.path for file in scan.known)}")
    run = replace(run, known=len(scan.known), skipped_files=skipped_files, notes=notes)
    if champion_commit and not force and not scan.new:
        return _end_without_training(root, run, scan, inbox)
    run = replace(run, new=len(scan.new))
    task = f"{counted(run.new, 'new file')}: training a challenger"
    if not champion_commit:
        task = "there is no champion yet: making the first champion"
    say(f"{task} (log: {_log_path(root, run).relative_to(root)})")
    _train(tree, inbox, scan, _log_path(root, run), params, say)
    out = records.run_folder(root, run.id)
    warnings = [f"stage {stage} warns: {line}" for stage, line in read_warnings(tree.folder, _stages(tree.params))]
    run = replace(run, notes=(*run.notes, *warnings))
    run, promote = _evaluate(tree, run, champion_commit, scan, params, out)
    _copy_report(tree, out)
    for line in (*warnings, *run.gate, *(line for category in run.drift.values() for line in category["lines"])):
        say(line)
    return _carry_out_decision(root, tree, run, scan, promote, params)


def _stages(params: Params) -> Iterator[str]:
    return stage_names(f"{category}-{detector}" for category in params.data.categories for detector in params.detectors)


def _scan(tree: Worktree, inbox: Path, params: Params) -> InboxScan:
    """Scan the inbox.

    Raises:
        UserError: the inbox holds images, but new images cannot be added to this data source.
    """
    data = tree.params.data
    if not may_hold_images(inbox):
        return InboxScan()
    if data.source != "folder" or data.labels is not None:
        obstacle = f"data.source = {data.source!r}" if data.source != "folder" else f"data.labels = {data.labels!r}"
        raise UserError(
            f"{inbox} holds files, but new images cannot be added with {obstacle}: retraining needs data.source: "
            "folder, and globs"
        )
    import pandas as pd

    known = {}
    if (path := tree.folder / paths.MANIFEST).is_file():
        manifest = pd.read_parquet(path)
        digests = manifest.get("source_sha256", manifest["sha256"])  # earlier versions wrote one digest
        known = {sha: "defect" if label else "normal" for sha, label in zip(digests, manifest["label"], strict=True)}
    return scan_inbox(inbox, data, known, make_wait(params.retrain.settle_s))


def _train(tree: Worktree, inbox: Path, scan: InboxScan, log: Path, params: Params, say: Say) -> None:
    """Add the new images to the pool and run the pipeline.

    Raises:
        UserError: the pipeline failed, or stage `download` left out a new image.
    """
    added = tree.add_to_pool(inbox, scan.new)
    tree.track_pool()
    run_pipeline(tree.root, tree.folder, log, params.retrain.timeout_minutes * 60, say)
    if not added:
        return
    import pandas as pd

    in_manifest = set(pd.read_parquet(tree.folder / paths.MANIFEST, columns=["source_sha256"])["source_sha256"])
    for file in scan.new:
        if file.kind != "mask" and file.sha256 not in in_manifest:
            raise UserError(
                f"{file.path} was added as {tree.pool.name}/{added[file.path]}, but stage download left it out: see "
                f"{tree.folder / paths.REJECTED}, and lay out the inbox like data.folder"
            )


def _evaluate(
    tree: Worktree, run: Run, champion_commit: str | None, scan: InboxScan, params: Params, out: Path
) -> tuple[Run, bool]:
    """The run with reason, gate and drift, and whether to promote the challenger."""
    if champion_commit is None:
        return replace(run, reason=FIRST_CHAMPION), True
    from pipeline.retrain.decision import drift_objection, evaluate_challenger

    params_used = tree.params.model_copy(update={"retrain": params.retrain})  # section `retrain` of the checkout
    drift: dict[str, Any] = {}
    if new := {file.sha256 for file in scan.new}:
        from pipeline.retrain.drift import measure_drift

        drift = measure_drift(tree.folder, params_used, new)
    drift_record = {category: {**result.to_json(), "lines": result.lines()} for category, result in drift.items()}
    decision = evaluate_challenger(tree.folder, champion_commit, params_used, out)
    objection = drift_objection(drift, params)
    reason = objection if decision.promote and objection else decision.reason
    run = replace(run, reason=reason, gate=decision.breaches, drift=drift_record)
    return run, decision.promote and objection is None


def _carry_out_decision(root: Path, tree: Worktree, run: Run, scan: InboxScan, promote: bool, params: Params) -> Run:
    """Write the decision into the journal, then carry it out. After a kill, the next run completes it."""
    inbox, model = inbox_folder(root, params), params.retrain.model
    message = ""
    if promote:
        version = tags.next_version(root, model)
        about = f"{counted(run.new, 'new file')}; {run.reason}" if run.new else run.reason
        message = f"Retrain: {model} {version}\n\n{about}\n"
        commit = tree.commit(message)
        from pipeline.bundle.writer import make_bundle

        champion.install_version(root, version, lambda folder: make_bundle(tree.params, tree.folder, folder))
        branch = f"retrain/{run.id[:4]}-{run.id[4:6]}-{run.id[6:8]}"
        run = replace(run, result="promoted", champion=version, commit=commit, branch=branch)
    else:
        run = replace(run, result="held")
    run = replace(run, ended=_now())
    files = {file.path: file.sha256 for file in scan.new}
    entry = JournalEntry(run, files, str(inbox), model, message)
    journal.write_journal(root, entry)
    return carry_out(root, entry)


def _end_without_training(root: Path, run: Run, scan: InboxScan, inbox: Path) -> Run:
    reasons = [f"{counted(len(scan.known), 'file')} known already"] if scan.known else []
    reasons += [f"{counted(len(scan.skipped_files), 'file')} skipped"] if scan.skipped_files else []
    if unsupported := unsupported_files(inbox):
        more = ", ..." if len(unsupported) > 3 else ""
        reasons.append(f"not images, ignored: {', '.join(unsupported[:3])}{more}")
    run = replace(run, result="nothing new", reason="; ".join(reasons) or "the inbox is empty", ended=_now())
    record_run(root, run)
    return run


def _copy_report(tree: Worktree, out: Path) -> None:
    if (page := tree.folder / paths.REPORT_INDEX).is_file():
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, out / "report.html")


def _log_path(root: Path, run: Run) -> Path:
    return records.run_folder(root, run.id) / "pipeline.log"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
