"""The metrics of one category as tables, and as text if there is nothing to tabulate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.tables import (
    Line,
    Table,
    Values,
    drop_empty_columns,
    format_interval,
    format_number,
    format_percent,
    format_percent_interval,
    format_with_interval,
)
from pipeline.show import tables
from pipeline.show.promise import promise
from pipeline.show.text import counted
from stages.detectors.registry import BASELINES
from stages.fusion.members import FUSION
from stages.score.config import ScoreConfig

Metrics = Mapping[str, Values]
"""Detector -> metric -> value."""
EXPLAINED_METRICS = {
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "image_auroc": "AUROC",
    "image_auroc_ci": "interval of the AUROC",
    "threshold": "threshold",
    "escape_rate": "escape",
    "overkill_rate": "overkill",
}
"""Metrics whose absence the page explains -> their names in the tables."""


@dataclass(frozen=True)
class Headline:
    """The most important results of a category."""

    detector: str
    auroc: str
    interval: str
    escape: str
    """Share of defects passed, or a dash."""
    escape_details: str
    overkill: str
    """Share of good parts rejected, or a dash."""
    overkill_details: str
    alternatives: str
    """AUROC of the best other detector and of the best baseline, in words."""


def ranked(metrics: Metrics) -> list[str]:
    """Detectors by AUROC, baselines last, as in the table."""
    return [cells[1].removesuffix(tables.BASELINE_MARK) for _, cells in tables.metric_rows({"": metrics})]


def headline(metrics: Metrics, detector: str) -> Headline:
    """Results of the detector that decides. It is not chosen by its results on the test images."""
    values = metrics[detector]
    defects, good = values["n_test_defect"], values["n_test_normal"]
    return Headline(
        detector=detector,
        auroc=format_number(values["image_auroc"]),
        interval=format_interval(values["image_auroc_ci"]) or values["reasons"].get("image_auroc_ci", ""),
        escape=format_percent(values["escape_rate"]),
        escape_details=_rate_details(values, "escape_rate", defects, counted(defects, "defect"), "defects"),
        overkill=format_percent(values["overkill_rate"]),
        overkill_details=_rate_details(values, "overkill_rate", good, counted(good, "good part"), "good parts"),
        alternatives=_alternatives([name for name in ranked(metrics) if name != detector], metrics),
    )


def _alternatives(names: Sequence[str], metrics: Metrics) -> str:
    """
    Args:
        names: of the detectors that do not decide, best first.
    """
    texts = []
    for is_baseline, description in ((False, "the best other detector"), (True, "the best baseline")):
        best = next((name for name in names if (name in BASELINES) == is_baseline), None)
        if best is not None and (auroc := metrics[best]["image_auroc"]) is not None:
            value = format_with_interval(auroc, metrics[best]["image_auroc_ci"])
            texts.append(f"{best}, {description}, reaches {value}")
    return "; ".join(texts)


def _rate_details(values: Values, metric: str, total: int, total_text: str, plural: str) -> str:
    """`12 of 170 good parts, 4.1% to 11.9%`, or why there is no rate."""
    rate = values[metric]
    if rate is None:
        return str(values["reasons"].get(metric, f"no {plural}"))
    return f"{round(rate * total)} of {total_text}, {format_percent_interval(values[f'{metric}_ci'])}"


def results_table(metrics: Metrics) -> Table:
    """The table of the terminal, without the category."""
    all_lines = [Line(cells[1:], is_baseline) for is_baseline, cells in tables.metric_rows({"": metrics})]
    head, lines = drop_empty_columns(tables.COLUMNS[1:], all_lines, always_kept=1)
    return Table(head, lines, notes=_missing_metrics(metrics))


def _missing_metrics(metrics: Metrics) -> list[str]:
    """Why metrics are not defined: one line per reason."""
    names_by_reason: dict[str, list[str]] = {}
    for values in metrics.values():
        for metric, reason in values["reasons"].items():
            if metric in EXPLAINED_METRICS and EXPLAINED_METRICS[metric] not in names_by_reason.setdefault(reason, []):
                names_by_reason[reason].append(EXPLAINED_METRICS[metric])
    return [f"No {', no '.join(names)}: {reason}." for reason, names in names_by_reason.items() if names]


def thresholds_table(metrics: Metrics, score: ScoreConfig) -> Table:
    """Each detector's threshold, and its effect on the test images.

    Args:
        score: section `score` of params.yaml.
    """
    lines = []
    for name in ranked(metrics):
        values = metrics[name]
        cells = [
            name,
            tables.DASH if values["threshold"] is None else f"{values['threshold']:.4g}",
            _count_and_share(values["overkill_rate"], values["n_test_normal"]),
            format_percent_interval(values["overkill_rate_ci"]),
            _count_and_share(values["escape_rate"], values["n_test_defect"]),
            format_percent_interval(values["escape_rate_ci"]),
            format_percent(values["fpr_at_95tpr"]),
        ]
        lines.append(Line(cells, name in BASELINES))
    head = ("detector", "threshold", "good parts rejected", "interval", "defects passed", "interval", "FPR@95")
    kept, lines = drop_empty_columns(head, lines, always_kept=2)
    return Table(kept, lines, notes=[_guarantee(metrics, score)])


def _guarantee(metrics: Metrics, score: ScoreConfig) -> str:
    """What the thresholds promise. All detectors of a category use the same good images."""
    values = next(iter(metrics.values()))
    if values["threshold"] is None:
        return f"There are no thresholds: {values['threshold_note']}."
    return (
        f"Thresholds are set on {counted(values['n_validation'], 'good validation image')}, scored by a model that was "
        f"not fitted on them. {promise(values, score)} This holds for parts like these images, judged by the "
        "model that scored them."
    )


def _count_and_share(rate: float | None, total: int) -> str:
    return tables.DASH if rate is None else f"{round(rate * total)} of {total}: {format_percent(rate)}"


def defect_types_table(metrics: Metrics) -> Table | str:
    """AUROC and escape rate by type of defect; a text if there are not several types."""
    order = ranked(metrics)
    types = sorted({defect_type for values in metrics.values() for defect_type in values["per_type"]})
    if not types:
        return "There are no defects among the test images."
    if len(types) == 1:
        count = metrics[order[0]]["per_type"][types[0]]["n"]
        return f"There is one type, {types[0]} ({counted(count, 'image')}): the results above are about it."
    lines = []
    for defect_type in types:
        by_detector = [metrics[name]["per_type"][defect_type] for name in order]
        cells = [
            f"{format_number(result['image_auroc'])} · {format_percent(result['escape_rate'])}"
            for result in by_detector
        ]
        lines.append(Line([defect_type, str(by_detector[0]["n"]), *cells]))
    return Table(["type of defect", "images", *order], lines)


def contributions_table(details: Values, members: Sequence[str]) -> Table | str:
    """What each member adds to the fusion; a text if that is not known."""
    if not members:
        return "The detectors are not fused: fewer than two of those under `fused.detectors` run."
    added_by = details.get(FUSION, {}).get("added_by")
    if not added_by:
        return "The contribution of each member is not known: it needs two test images of each class."
    lines = []
    for name in sorted(added_by, key=lambda name: -added_by[name]["image_auroc"]):
        low, high = added_by[name]["ci"]
        effect = "improves" if low > 0 else "worsens" if high < 0 else "no difference shown"
        lines.append(Line([name, effect, f"{added_by[name]['image_auroc']:+.3f}", f"{low:+.3f} to {high:+.3f}"]))
    return Table(["member", "effect", "AUROC added", "interval"], lines, text_columns=2)


def variants_table(metrics: Metrics, details: Values) -> Table | None:
    """Image AUROC of further scores that detectors report beside the score that decides."""
    lines = []
    for name in ranked(metrics):
        variants: Mapping[str, float] = details.get(name, {}).get("image_auroc_of", {}) if name != FUSION else {}
        own = metrics[name]["image_auroc"]
        for variant, auroc in sorted(variants.items(), key=lambda item: (-item[1], item[0])):
            cells = [name, variant.replace("_", " "), format_number(auroc), f"{auroc - own:+.3f}"]
            lines.append(Line(cells, name in BASELINES))
    return Table(["detector", "variant", "AUROC", "minus its own"], lines, text_columns=2) if lines else None


def mask_coverage(details: Values) -> Table | str | None:
    """Share of the true defect pixels under each kind of mask that a detector computed; or why it is not known."""
    lines, reason = [], None
    for name, results in details.items():
        if isinstance(results.get("mask_coverage"), Mapping):
            for kind, share in results["mask_coverage"].items():
                lines.append(Line([name, kind.replace("_", " "), format_percent(share)]))
        reason = results.get("mask_coverage_reason") or reason
    if lines:
        return Table(["detector", "kind of mask", "defect pixels under it"], lines, text_columns=2)
    return f"The share of defect pixels under the computed masks is not known: {reason}." if reason else None


def warnings(metrics: Metrics) -> list[str]:
    """What a reader must not miss."""
    keys = ("threshold_note", "groups_note", "leak_note")
    return sorted({note for values in metrics.values() for key in keys if (note := values.get(key)) is not None})


def threshold_point(values: Values) -> tuple[float, float] | None:
    """(fpr, tpr) of a detector at its threshold; None if it has no threshold or a class is missing."""
    rates: list[Any] = [values["overkill_rate"], values["escape_rate"]]
    return None if None in rates else (rates[0], 1 - rates[1])
