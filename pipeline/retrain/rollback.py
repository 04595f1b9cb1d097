"""Let an earlier champion serve again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.bundle import champion
from pipeline.project.params import load_params
from pipeline.retrain import records, tags
from pipeline.retrain.notify import notify
from pipeline.retrain.promotion import Say, carry_out, carry_out_interrupted, only_retraining, restore
from stages.types import UserError


def rollback(root: Path, tag: str | None, say: Say = print) -> str:
    """Let a version serve, by default the one before the present champion; its name.

    Args:
        tag: `v0.2.0` or `burnish@v0.2.0`.

    Raises:
        UserError: no such version, none before, or its models are in no cache any more.
    """
    with only_retraining(root):
        carry_out_interrupted(root, say)
        params = load_params()
        model, serves = params.retrain.model, champion.version(root)
        chosen = _before(root, model, serves) if tag is None else tag.removeprefix(f"{model}@")
        commit = tags.commit_of(root, model, chosen)
        if chosen == serves:
            raise UserError(f"{model}@{chosen} serves already")
        if chosen not in champion.versions(root):
            say(f"making the bundle of {chosen} anew from commit {commit[:12]}")
            restore(root, params, chosen)
        reason = f"from {serves or 'no champion'} to {chosen}"
        run = records.Run(records.run_id(root, datetime.now(UTC)), "rolled back", reason, champion=chosen)
        run = replace(run, commit=commit, ended=datetime.now(UTC).isoformat(timespec="seconds"))
        decision = records.Decision(run, {}, "", model, f"Roll back {reason}")
        records.write_journal(root, decision)
        carry_out(root, decision)
        notify(root, run)
        return chosen


def _before(root: Path, model: str, serves: str | None) -> str:
    """The newest version older than the one that serves."""
    known = tags.versions(root, model)
    older = [one for one in known if serves is None or champion.order(one) < champion.order(serves)]
    if not older:
        raise UserError(f"there is no version before {serves or 'the first'}; there are: {', '.join(known) or 'none'}")
    return older[-1]
