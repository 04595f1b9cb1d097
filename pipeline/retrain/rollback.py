"""Make an earlier version the champion again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.bundle import champion
from pipeline.project.params import load_params
from pipeline.retrain import journal, records, tags
from pipeline.retrain.notify import notify
from pipeline.retrain.promotion import Say, carry_out, complete_interrupted, exclusive_retraining, rebuild_bundle
from stages.types import UserError


def rollback(root: Path, tag: str | None, say: Say = print) -> str:
    """Make a version the champion; returns its name.

    Args:
        tag: `v0.2.0` or `burnish@v0.2.0`; None: the version before the champion.

    Raises:
        UserError: there is no such version, or no version before the champion, or its models are in no cache any more.
    """
    with exclusive_retraining(root):
        complete_interrupted(root, say)
        params = load_params()
        model, current = params.retrain.model, champion.current_version(root)
        version = _version_before(root, model, current) if tag is None else tag.removeprefix(f"{model}@")
        commit = tags.commit_of(root, model, version)
        if version == current:
            raise UserError(f"{model}@{version} is the champion already")
        if version not in champion.stored_versions(root):
            say(f"making the bundle of {version} again from commit {commit[:12]}")
            rebuild_bundle(root, params, version)
        reason = f"from {current or 'no champion'} to {version}"
        run = records.Run(records.make_run_id(root, datetime.now(UTC)), "rolled back", reason, champion=version)
        run = replace(run, commit=commit, ended=datetime.now(UTC).isoformat(timespec="seconds"))
        entry = journal.JournalEntry(run, files={}, inbox="", model=model, message=f"Roll back {reason}")
        journal.write_journal(root, entry)
        carry_out(root, entry)
        notify(root, run)
        return version


def _version_before(root: Path, model: str, current: str | None) -> str:
    """The newest version older than the champion."""
    known = tags.versions(root, model)
    older = [
        version
        for version in known
        if current is None or champion.version_numbers(version) < champion.version_numbers(current)
    ]
    if not older:
        raise UserError(f"there is no version before {current or 'the first'}; there are: {', '.join(known) or 'none'}")
    return older[-1]
