"""The metrics of one category as tables, and in words where there is nothing to put into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.words import (
    Line,
    Table,
    Values,
    interval,
    number,
    percent,
    percents,
    with_interval,
    without_empty,
)
from pipeline.show import tables
from pipeline.show.text import counted
from stages.detectors.registry import BASELINES
from stages.fusion.members import FUSION

Metrics = Mapping[str, Values]
"""Detector -> figure -> value."""
UNNAMED_FIGURES = {
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "image_auroc": "AUROC",
    "image_auroc_ci": "interval of the AUROC",
    "threshold": "threshold",
    "escape_rate": "escape",
    "overkill_rate": "overkill",
}
"""Figures whose absence the page explains, as the tables call them."""


@dataclass(frozen=True)
class Headline:
    """What to know of a category first."""

    detector: str
    auroc: str
    interval: str
    escaped: str
    """Share of defects passed, or a dash."""
    escaped_words: str
    killed: str
    """Share of good parts rejected, or a dash."""
    killed_words: str
    others: str
    """What the best of the other detectors and of the floors reach, in words."""


def ranked(metrics: Metrics) -> list[str]:
    """Detectors by AUROC, floors last, as in the table."""
    return [cells[1].removesuffix(" floor") for _, cells in tables.rows({"": metrics})]


def headline(metrics: Metrics, decides: str) -> Headline:
    """Figures of the detector whose verdict counts, which is no choice made on the test images."""
    values = metrics[decides]
    bad, good = values["n_test_defect"], values["n_test_normal"]
    others = [name for name in ranked(metrics) if name != decides]
    return Headline(
        detector=decides,
        auroc=number(values["image_auroc"]),
        interval=interval(values["image_auroc_ci"]) or values["reasons"].get("image_auroc_ci", ""),
        escaped=percent(values["escape_rate"]),
        escaped_words=_of(values, "escape_rate", counted(bad, "defect"), "defects"),
        killed=percent(values["overkill_rate"]),
        killed_words=_of(values, "overkill_rate", counted(good, "good part"), "good parts"),
        others=_others(others, metrics),
    )


def _others(order: Sequence[str], metrics: Metrics) -> str:
    best = [next((name for name in order if (name in BASELINES) == floor), None) for floor in (False, True)]
    said = []
    for name, what in zip(best, ("the best other detector", "the best floor"), strict=True):
        if name is not None and (area := metrics[name]["image_auroc"]) is not None:
            said.append(f"{name}, {what}, reaches {with_interval(area, metrics[name]['image_auroc_ci'])}")
    return "; ".join(said)


def _of(values: Values, name: str, all_of: str, plural: str) -> str:
    """`12 of 170 good parts, 4.1% to 11.9%`, or why not."""
    rate = values[name]
    if rate is None:
        return str(values["reasons"].get(name, f"no {plural}"))
    total = values["n_test_defect" if name == "escape_rate" else "n_test_normal"]
    return f"{round(rate * total)} of {all_of}, {percents(values[f'{name}_ci'])}"


def results(metrics: Metrics) -> Table:
    """The table of the terminal, less the category."""
    found = [Line(cells[1:], floor) for floor, cells in tables.rows({"": metrics})]
    head, lines = without_empty(tables.COLUMNS[1:], found, kept=1)
    return Table(head, lines, notes=_missing(metrics))


def _missing(metrics: Metrics) -> list[str]:
    """Why figures are not defined, each reason once."""
    reasons: dict[str, list[str]] = {}
    for values in metrics.values():
        for figure, reason in values["reasons"].items():
            if figure in UNNAMED_FIGURES and UNNAMED_FIGURES[figure] not in reasons.setdefault(reason, []):
                reasons[reason].append(UNNAMED_FIGURES[figure])
    return [f"No {', no '.join(figures)}: {reason}." for reason, figures in reasons.items() if figures]


def thresholds(metrics: Metrics) -> Table:
    """Each detector's threshold, and what it does to the test images."""
    lines = []
    for name in ranked(metrics):
        values = metrics[name]
        cells = [
            name,
            tables.DASH if values["threshold"] is None else f"{values['threshold']:.4g}",
            _rejected(values, "overkill_rate", values["n_test_normal"]),
            percents(values["overkill_rate_ci"]),
            _rejected(values, "escape_rate", values["n_test_defect"]),
            percents(values["escape_rate_ci"]),
            percent(values["fpr_at_95tpr"]),
        ]
        lines.append(Line(cells, name in BASELINES))
    head = ("detector", "threshold", "good parts rejected", "interval", "defects passed", "interval", "FPR@95")
    kept, lines = without_empty(head, lines, kept=2)
    return Table(kept, lines, notes=[_promise(metrics)])


def _promise(metrics: Metrics) -> str:
    """What thresholds rest on: the same good images for each detector of a category."""
    values = next(iter(metrics.values()))
    if values["threshold"] is None:
        return f"There are no thresholds: {values['threshold_note']}."
    return (
        f"Thresholds are set on {counted(values['n_validation'], 'good calibration image')}. They promise that at most "
        f"{percent(values['overkill_bound'])} of good parts are rejected, if these come from the same lots and the "
        "model does not know the calibration images; one that has learnt from them since rejects fewer, as a rule."
    )


def _rejected(values: Values, name: str, total: int) -> str:
    return tables.DASH if values[name] is None else f"{round(values[name] * total)} of {total}: {percent(values[name])}"


def types(metrics: Metrics) -> Table | str:
    """AUROC and escape rate by type of defect; in words where one table says it already."""
    order = ranked(metrics)
    names = sorted({kind for values in metrics.values() for kind in values["per_type"]})
    if not names:
        return "There are no defects among the test images."
    if len(names) == 1:
        count = metrics[order[0]]["per_type"][names[0]]["n"]
        return f"There is one type, {names[0]} ({counted(count, 'image')}): the results above are about it."
    lines = []
    for kind in names:
        found = [metrics[name]["per_type"][kind] for name in order]
        cells = [f"{number(one['image_auroc'])} · {percent(one['escape_rate'])}" for one in found]
        lines.append(Line([kind, str(found[0]["n"]), *cells]))
    return Table(["type of defect", "images", *order], lines)


def added(details: Values, members: Sequence[str]) -> Table | str:
    """What each member adds to the fusion."""
    if not members:
        return "The detectors are not fused: fewer than two of those under `fused.detectors` run."
    found = details.get(FUSION, {}).get("added_by")
    if not found:
        return "What each member adds cannot be told: it takes two test images of each class."
    lines = []
    for name in sorted(found, key=lambda name: -found[name]["image_auroc"]):
        low, high = found[name]["ci"]
        verdict = "adds" if low > 0 else "takes away" if high < 0 else "no difference shown"
        lines.append(Line([name, verdict, f"{found[name]['image_auroc']:+.3f}", f"{low:+.3f} to {high:+.3f}"]))
    return Table(["member", "what it does", "AUROC added", "interval"], lines, words=2)


def variants(metrics: Metrics, details: Values) -> Table | None:
    """Image AUROC of other scores that detectors report beside the one that counts."""
    lines = []
    for name in ranked(metrics):
        others: Mapping[str, float] = details.get(name, {}).get("image_auroc_of", {}) if name != FUSION else {}
        own = metrics[name]["image_auroc"]
        for other, value in sorted(others.items(), key=lambda one: (-one[1], one[0])):
            lines.append(Line([name, other.replace("_", " "), number(value), f"{value - own:+.3f}"], name in BASELINES))
    return Table(["detector", "variant", "AUROC", "less its own"], lines, words=2) if lines else None


def coverage(details: Values) -> Table | str | None:
    """Share of the true defect pixels under each kind of mask that a detector drew."""
    lines, missing = [], None
    for name, found in details.items():
        if isinstance(found.get("mask_coverage"), Mapping):
            for kind, share in found["mask_coverage"].items():
                lines.append(Line([name, kind.replace("_", " "), percent(share)]))
        missing = found.get("mask_coverage_reason") or missing
    if lines:
        return Table(["detector", "kind of mask", "defect pixels under it"], lines, words=2)
    return f"How much of the defects lies under the masks that are drawn is not known: {missing}." if missing else None


def warnings(metrics: Metrics) -> list[str]:
    """What a reader must not miss."""
    notes = {values[key] for values in metrics.values() for key in ("threshold_note", "leak_note")}
    return sorted(notes - {None})


def chart_rows(metrics: Metrics, name: str) -> tuple[tuple[float, float] | None, str]:
    """Where the threshold puts a detector on the ROC chart, and its AUROC in words."""
    values: Values = metrics[name]
    rates: list[Any] = [values["overkill_rate"], values["escape_rate"]]
    at = None if None in rates else (rates[0], 1 - rates[1])
    return at, with_interval(values["image_auroc"], values["image_auroc_ci"])
