"""A comparison in Markdown, for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from pipeline.compare import formatting
from pipeline.compare.comparison import UNPAIRED_METRICS, MetricComparison
from pipeline.compare.diff import Diff
from pipeline.compare.flips import Flip
from pipeline.compare.gate import Breach
from pipeline.compare.sides import Key
from pipeline.project.gate_rules import PAIRED
from stages.detectors.registry import BASELINES

PARAMS_OPEN = 5
"""Up to this many changed parameters are visible; a longer list is collapsed."""


def diff_as_markdown(
    diff: Diff,
    *,
    detectors: Collection[str] = (),
    categories: Collection[str] = (),
    limit: int = 20,
    breaches: Sequence[Breach] | None = None,
) -> str:
    """A comparison in GitHub's Markdown.

    Args:
        detectors, categories: include only these; none: all.
        limit: largest number of flips.
        breaches: of the gate; None: no gate was given.
    """
    rows = formatting.select_rows(diff, detectors, categories)
    flips = formatting.select_flips(diff, detectors, categories)
    notes = [*formatting.describe_sides(diff), *formatting.describe_reasons(rows)]
    lines = [f"### burnish diff: {_code(diff.a['title'])} → {_code(diff.b['title'])}", ""]
    lines += _gate(breaches)
    lines += [f"> {_escape(line)}  " for line in notes] + [""]
    lines += [*_metrics_table(rows), ""]
    lines += [*_params(diff), ""]
    lines += [f"**Data:** {_escape(formatting.describe_data(diff.data))}", ""]
    lines += _flips(diff, flips, limit)
    lines.append(
        f"<sub>A → B, then B - A with its {diff.confidence:.0%} interval, paired on the test images "
        f"({diff.resamples} resamples; rates: Agresti-Min). **Bold**: the interval excludes zero. pp: percentage "
        "points.</sub>"
    )
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _gate(breaches: Sequence[Breach] | None) -> list[str]:
    if breaches is None:
        return []
    if not breaches:
        return ["**Gate:** passed, no rule is violated", ""]
    return ["**Gate: violated**", "", *(f"- {_escape(str(breach))}" for breach in breaches), ""]


def _metrics_table(rows: Sequence[MetricComparison]) -> Iterator[str]:
    """One line per detector, one column per metric; the names of identical detectors below."""
    by_detector: dict[Key, dict[str, MetricComparison]] = {}
    for row in formatting.rows_to_show(rows):
        by_detector.setdefault(row.key, {})[row.metric] = row
    if by_detector:
        metrics = [
            metric
            for metric in (*PAIRED, *UNPAIRED_METRICS)
            if any(metric in by_metric for by_metric in by_detector.values())
        ]
        yield "| | " + " | ".join(formatting.METRIC_NAMES[metric] for metric in metrics) + " |"
        yield "| --- |" + " --- |" * len(metrics)
        for key, by_metric in by_detector.items():
            name = f"{key}{' *baseline*' if key.detector in BASELINES else ''}"
            cells = [_cell(by_metric[metric]) if metric in by_metric else formatting.DASH for metric in metrics]
            yield f"| {name} | {' | '.join(cells)} |"
    if identical := formatting.identical_detectors(rows):
        yield ""
        yield f"The same on both sides: {', '.join(map(str, identical))}."


def _cell(row: MetricComparison) -> str:
    values = f"{formatting.format_value(row.metric, row.a)} → {formatting.format_value(row.metric, row.b)}"
    if row.difference is None:
        return f"{values}<br>*{row.verdict}*"
    change = formatting.format_change(row.metric, row.difference)
    if row.interval is None:
        return f"{values}<br>{change}, *{row.verdict}*"
    interval = formatting.format_interval(row.metric, row.interval)
    if row.verdict in ("better", "worse"):
        return f"{values}<br>**{change}** {interval}<br>**{row.verdict}**"
    return f"{values}<br>{change} {interval}"


def _params(diff: Diff) -> list[str]:
    if not diff.params:
        return ["**Parameters:** the same"]
    lines = []
    for change in diff.params:
        old, new = formatting.format_parameter(change.a), formatting.format_parameter(change.b)
        lines.append(f"- `{change.key}`: {_code(old)} → {_code(new)}")
    title = f"Parameters: {len(lines)} changed"
    if len(lines) <= PARAMS_OPEN:
        return [f"**{title}**", "", *lines]
    return [f"<details><summary><b>{title}</b></summary>", "", *lines, "", "</details>"]


def _flips(diff: Diff, flips: Sequence[Flip], limit: int) -> list[str]:
    summary = formatting.describe_flips(diff, flips)
    if not flips:
        return [f"**Flips:** {summary}", ""]
    lines = [
        f"<details><summary><b>Flips:</b> {summary}</summary>",
        "",
        "| | detector | image | A: score (cut) | B: score (cut) |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for flip in flips[:limit]:
        kind = f"**{flip.kind}**" if flip.worse else flip.kind
        old, new = f"{flip.score_a:.4g} ({flip.threshold_a:.4g})", f"{flip.score_b:.4g} ({flip.threshold_b:.4g})"
        lines.append(f"| {kind} | {flip.category}/{flip.detector} | {_code(flip.path)} | {old} | {new} |")
    more = [f"and {len(flips) - limit} more", ""] if len(flips) > limit else []
    return [*lines, "", *more, "</details>", ""]


def _code(text: str) -> str:
    """Inline code, also if the text contains backticks or table separators."""
    plain = text.replace("|", "\\|").replace("\n", " ")
    return f"``{plain}``" if "`" in plain else f"`{plain}`"


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
