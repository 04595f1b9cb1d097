"""Whether a challenger may replace the champion: the gate on the test images that both have, and drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stages.types import UserError

if TYPE_CHECKING:
    from pipeline.project.params import Params
    from stages.drift.drift import Drift


@dataclass(frozen=True)
class Decision:
    """Whether a challenger is promoted, and why."""

    promote: bool
    reason: str
    breaches: tuple[str, ...] = ()
    """Rules of the gate that it violates, in words."""


def evaluate_challenger(folder: Path, champion: str, params: Params, out: Path) -> Decision:
    """Compare the challenger with the champion on the test images that both have, and evaluate the gate.

    Writes diff.html and diff.md.

    Args:
        folder: the worktree, whose files are the challenger's results.
        champion: commit of the champion.
        out: folder for diff.html and diff.md.
    """
    from pipeline.compare.diff import compare_sides
    from pipeline.compare.gate import find_breaches
    from pipeline.compare.markdown import diff_as_markdown
    from pipeline.compare.page import diff_as_html
    from pipeline.compare.read_side import read_side
    from pipeline.project.gate_rules import Rule

    score, gate = params.score, params.retrain.gate
    old, new = read_side(folder, champion), read_side(folder, None)
    diff = compare_sides(
        old, new, resamples=score.resamples, confidence=score.confidence, seed=params.seed, common=True
    )
    breaches, decision = None, Decision(True, f"no violation of {gate}")
    try:
        breaches = find_breaches(diff, Rule.parse(gate), detectors=params.retrain.detectors)
    except UserError as fault:
        decision = Decision(False, str(fault))
    if breaches:
        decision = Decision(False, f"the gate is violated: {breaches[0]}", tuple(map(str, breaches)))
    diff = replace(
        diff,
        a={**diff.a, "title": f"champion ({champion[:7]})"},
        b={**diff.b, "title": "challenger", "changed": ()},
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "diff.md").write_text(diff_as_markdown(diff, breaches=breaches), "utf-8")
    (out / "diff.html").write_text(diff_as_html(diff, old, new, breaches=breaches), "utf-8")
    return decision


def drift_objection(drift: Mapping[str, Drift], params: Params) -> str | None:
    """Why drift of new images prevents promotion; None if it does not.

    Args:
        drift: by category.
    """
    drifted = [category for category, result in drift.items() if result.drifted]
    if not drifted or params.retrain.on_drift != "hold":
        return None
    return f"the new images of {', '.join(drifted)} differ from the training images (retrain.on_drift: hold)"
