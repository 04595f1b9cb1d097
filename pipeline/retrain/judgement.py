"""Whether a challenger may replace the champion: the gate on the champion's test images, and drift."""

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
class Judgement:
    """What became of a challenger."""

    promote: bool
    reason: str
    gate: tuple[str, ...] = ()


def judge_challenger(folder: Path, champion: str, params: Params, out: Path) -> Judgement:
    """Compare the worktree's results with those of the commit `champion`, on the test images that both have.

    `out` gets diff.html and diff.md.
    """
    from pipeline.compare.diff import compare
    from pipeline.compare.gate import judge
    from pipeline.compare.markdown import markdown
    from pipeline.compare.page import page
    from pipeline.compare.sides import read_side
    from pipeline.project.gate_rules import Rule

    score, gate = params.score, params.retrain.gate
    old, new = read_side(folder, champion), read_side(folder, None)
    diff = compare(old, new, resamples=score.resamples, confidence=score.confidence, seed=params.seed, common=True)
    breaches, judgement = None, Judgement(True, f"no breach of {gate}")
    try:
        breaches = judge(diff, Rule.parse(gate), detectors=params.retrain.detectors)
    except UserError as fault:
        judgement = Judgement(False, str(fault))
    if breaches:
        judgement = Judgement(False, f"the gate holds it: {breaches[0]}", tuple(map(str, breaches)))
    titles = {"title": f"champion ({champion[:7]})"}, {"title": "challenger", "changed": ()}
    diff = replace(diff, a={**diff.a, **titles[0]}, b={**diff.b, **titles[1]})
    out.mkdir(parents=True, exist_ok=True)
    (out / "diff.md").write_text(markdown(diff, breaches=breaches), "utf-8")
    (out / "diff.html").write_text(page(diff, old, new, breaches=breaches), "utf-8")
    return judgement


def held_for_drift(drift: Mapping[str, Drift], params: Params) -> str | None:
    """Why a challenger is held though the gate lets it pass."""
    changed = [category for category, one in drift.items() if one.drifted]
    if not changed or params.retrain.on_drift != "hold":
        return None
    return f"the new images of {', '.join(changed)} differ from the training images (retrain.on_drift: hold)"
