"""One run of retraining, from the inbox to the champion, readable top to bottom."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.bundle import champion
from pipeline.project import paths
from pipeline.project.git import git, is_ancestor
from pipeline.project.params import Params, load_params
from pipeline.retrain import records, tags
from pipeline.retrain.inbox import Inbox, holds_files, look, others, pause
from pipeline.retrain.notify import notify
from pipeline.retrain.promotion import Say, carry_out, carry_out_interrupted, finish, only_retraining, restore
from pipeline.retrain.records import Decision, Run
from pipeline.retrain.worktree import Worktree, absolute
from pipeline.show.text import counted
from stages.types import UserError

FIRST = "the first champion"


def retrain_once(root: Path, *, force: bool = False, say: Say = print) -> Run:
    """Take in what is new, train a challenger, and let it serve if the gate lets it pass.

    Args:
        root: the project's root, also the working directory.
        force: train though nothing is new, for example because code or parameters have changed.

    Raises:
        UserError: it failed, which is in the history; the champion serves on. Or another one is at work.
    """
    with only_retraining(root):
        carry_out_interrupted(root, say)
        params = load_params()
        run = _one(root, params, force, say)
        if run.reason == FIRST and holds_files(absolute(root, params.retrain.inbox)):
            run = _one(root, params, force, say)
        return run


def _one(root: Path, params: Params, force: bool, say: Say) -> Run:
    """One attempt, which the history remembers however it ends."""
    run = Run(records.run_id(root, datetime.now(UTC)), "failed", champion=champion.version(root))
    try:
        run = _attempt(root, params, run, force, say)
    except BaseException as fault:
        if records.read_journal(root) is None:  # else it is decided, and the next run carries it out
            why = " ".join(str(fault).split()) if isinstance(fault, Exception) else "stopped by a signal"
            records.remember(root, ended := replace(run, reason=why or type(fault).__name__, ended=_now()))
            notify(root, ended)
        raise
    finally:
        champion.prune(root, params.retrain.keep)
    say(f"{run.result}: {run.reason}; {run.champion or 'nothing'} serves")
    if run.branch:
        say(f"to take it up in this checkout: {records.take_up(run.branch)}")
    notify(root, run)
    return run


def _attempt(root: Path, params: Params, run: Run, force: bool, say: Say) -> Run:
    champion_commit = _champion_commit(root, params, say)
    inbox = absolute(root, params.retrain.inbox)
    if champion_commit and not force and not holds_files(inbox):
        return _nothing(root, run, Inbox(), inbox)
    tree = Worktree(root)
    base, notes = _base(root, champion_commit)
    say(f"preparing {paths.WORKTREE} at {base[:12]}")
    tree.prepare(base)
    found = _look(tree, inbox, params) if champion_commit else Inbox()  # the first champion is the commit as it is
    for name, why in found.left.items():
        say(f"left in the inbox: {name}: {why}")
    if found.known:
        records.move_aside(root, "known", run.id, inbox, {drop.path: drop.sha256 for drop in found.known})
        say(f"there already, moved to {paths.RETRAIN}/known/: {', '.join(drop.path for drop in found.known)}")
    run = replace(run, known=len(found.known), left=found.left, notes=notes)
    if champion_commit and not force and not found.new:
        return _nothing(root, run, found, inbox)
    run = replace(run, new=len(found.new))
    what = (
        f"{counted(run.new, 'new file')}: training a challenger"
        if champion_commit
        else "no champion yet: making the first"
    )
    say(f"{what} (log: {_log(root, run).relative_to(root)})")
    _train(tree, inbox, found, _log(root, run), params, say)
    out = records.folder_of(root, run.id)
    run, promote = _judge(tree, run, champion_commit, found, params, out)
    _keep_report(tree, out)
    for line in (*run.gate, *(line for one in run.drift.values() for line in one["lines"])):
        say(line)
    return _decide(root, tree, run, found, promote, params)


def _champion_commit(root: Path, params: Params, say: Say) -> str | None:
    """The commit of the champion that serves; one that only its tag knows (a fresh clone) is made anew first."""
    if folder := champion.current(root):
        return champion.commit_of(folder)
    if known := tags.champion(root, params.retrain.model):
        say(f"making the bundle of the champion {known} anew")
        restore(root, params, known)
        champion.switch(root, known)
        return tags.commit_of(root, params.retrain.model, known)
    return None


def _base(root: Path, champion_commit: str | None) -> tuple[str, tuple[str, ...]]:
    """What the challenger is made from: the checkout's commit where that holds the champion's, else the champion's."""
    head = git(root, "rev-parse", "HEAD")
    if champion_commit is None or is_ancestor(root, champion_commit, head):
        return head, ()
    if is_ancestor(root, head, champion_commit):
        return champion_commit, ()
    count = git(root, "rev-list", "--count", f"{champion_commit}..{head}")
    note = (
        f"the checkout has {count} commits that the champion lacks and the champion commits that the checkout lacks; "
        "the challenger goes on from the champion: merge the champion's branch to take up both"
    )
    return champion_commit, (note,)


def _look(tree: Worktree, inbox: Path, params: Params) -> Inbox:
    data = tree.params.data
    if not holds_files(inbox):
        return Inbox()
    if data.source != "folder" or data.labels is not None:
        what = f"data.source = {data.source!r}" if data.source != "folder" else f"data.labels = {data.labels!r}"
        raise UserError(f"{inbox} holds files, but {what} takes none in: new images need data.source: folder, by globs")
    import pandas as pd

    known = {}
    if (path := tree.folder / paths.MANIFEST).is_file():
        manifest = pd.read_parquet(path, columns=["sha256", "label"])
        known = {sha: "defect" if label else "normal" for sha, label in manifest.itertuples(index=False)}
    return look(inbox, data, known, pause(params.retrain.settle_s))


def _train(tree: Worktree, inbox: Path, found: Inbox, log: Path, params: Params, say: Say) -> None:
    went = tree.take(inbox, found.new)
    tree.track_pool()
    tree.run(log, params.retrain.timeout_minutes * 60, say)
    if not went:
        return
    import pandas as pd

    seen = set(pd.read_parquet(tree.folder / paths.MANIFEST, columns=["sha256"])["sha256"])
    for drop in found.new:
        if drop.kind != "mask" and drop.sha256 not in seen:
            raise UserError(
                f"{drop.path} went to {tree.pool.name}/{went[drop.path]}, but stage download passed it over: see "
                f"{tree.folder / paths.REJECTED}, and lay the inbox out as data.folder"
            )


def _judge(
    tree: Worktree, run: Run, champion_commit: str | None, found: Inbox, params: Params, out: Path
) -> tuple[Run, bool]:
    """The run with what was found, and whether the challenger is to serve."""
    if champion_commit is None:
        return replace(run, reason=FIRST), True
    chosen = tree.params.model_copy(update={"retrain": params.retrain})  # the checkout's, as for the inbox
    from pipeline.retrain.judgement import held_for_drift, judge_challenger

    drift: dict[str, Any] = {}
    if new := {drop.sha256 for drop in found.new}:
        from pipeline.retrain.drift import drift_of

        drift = drift_of(tree.folder, chosen, new)
    told = {name: {**one.to_json(), "lines": one.lines()} for name, one in drift.items()}
    judgement = judge_challenger(tree.folder, champion_commit, chosen, out)
    why = held_for_drift(drift, params)
    reason = why if judgement.promote and why else judgement.reason
    return replace(run, reason=reason, gate=judgement.gate, drift=told), judgement.promote and why is None


def _decide(root: Path, tree: Worktree, run: Run, found: Inbox, promote: bool, params: Params) -> Run:
    """Write down what is to happen, then let it happen: from here on a kill is made good by the next run."""
    inbox, model = absolute(root, params.retrain.inbox), params.retrain.model
    message = ""
    if promote:
        version = tags.next_version(root, model)
        about = f"{counted(run.new, 'new file')}; {run.reason}" if run.new else run.reason
        message = f"Retrain: {model} {version}\n\n{about}\n"
        commit = tree.commit(message)
        from pipeline.bundle.writer import make_bundle

        champion.install(root, version, lambda folder: make_bundle(tree.params, tree.folder, folder))
        branch = f"retrain/{run.id[:4]}-{run.id[4:6]}-{run.id[6:8]}"
        run = replace(run, result="promoted", champion=version, commit=commit, branch=branch)
    else:
        run = replace(run, result="held")
    run = replace(run, ended=_now())
    files = {drop.path: drop.sha256 for drop in found.new}
    decision = Decision(run, files, str(inbox), model, message)
    records.write_journal(root, decision)
    return carry_out(root, decision)


def _nothing(root: Path, run: Run, found: Inbox, inbox: Path) -> Run:
    reasons = [f"{counted(len(found.known), 'file')} known already"] if found.known else []
    reasons += [f"{counted(len(found.left), 'file')} left in the inbox"] if found.left else []
    if passed := others(inbox):
        reasons.append(f"no images, passed over: {', '.join(passed[:3])}{', ...' if len(passed) > 3 else ''}")
    run = replace(run, result="nothing new", reason="; ".join(reasons) or "the inbox is empty", ended=_now())
    finish(root, run)
    return run


def _keep_report(tree: Worktree, out: Path) -> None:
    if (page := tree.folder / paths.REPORT_INDEX).is_file():
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, out / "report.html")


def _log(root: Path, run: Run) -> Path:
    return records.folder_of(root, run.id) / "pipeline.log"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
