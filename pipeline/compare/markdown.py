"""A comparison as a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from pipeline.compare import words
from pipeline.compare.diff import Diff
from pipeline.compare.flips import Flip
from pipeline.compare.gate import Breach
from pipeline.compare.rows import PLAIN, Row
from pipeline.project.gate_rules import PAIRED
from stages.detectors.registry import BASELINES

PARAMS_OPEN = 5
"""So many changed parameters are listed in the open; more are folded in."""


def markdown(
    diff: Diff,
    *,
    detectors: Collection[str] = (),
    categories: Collection[str] = (),
    limit: int = 20,
    breaches: Sequence[Breach] | None = None,
) -> str:
    """GitHub's Markdown. `breaches`: of the gate, None where there is none."""
    rows = words.selected(diff, detectors, categories)
    flips = words.selected_flips(diff, detectors, categories)
    lines = [f"### burnish diff: {_code(diff.a['title'])} → {_code(diff.b['title'])}", ""]
    lines += _gate(breaches)
    lines += [f"> {_escape(line)}  " for line in [*words.notes(diff), *words.reasons(rows)]] + [""]
    lines += [*_figures(rows), ""]
    lines += [*_params(diff), ""]
    lines += [f"**Data:** {_escape(words.data(diff.data))}", ""]
    lines += _flips(diff, flips, limit)
    lines.append(
        f"<sub>A → B, then B - A with its {diff.confidence:.0%} interval, paired on the test images "
        f"({diff.resamples} resamples; rates: Agresti-Min). **Bold**: shown to differ. pp: percentage points.</sub>"
    )
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _gate(breaches: Sequence[Breach] | None) -> list[str]:
    if breaches is None:
        return []
    if not breaches:
        return ["**Gate:** no limit is shown to be broken", ""]
    return ["**Gate: broken**", "", *(f"- {_escape(str(breach))}" for breach in breaches), ""]


def _figures(rows: Sequence[Row]) -> Iterator[str]:
    """A line a detector, a column a figure; those that did not move in one line below."""
    same = words.unchanged(rows)
    moved: dict[tuple[str, str], dict[str, Row]] = {}
    for row in words.compared(rows):
        moved.setdefault((row.category, row.detector), {})[row.metric] = row
    if moved:
        metrics = [metric for metric in (*PAIRED, *PLAIN) if any(metric in found for found in moved.values())]
        yield "| | " + " | ".join(words.NAMES[metric] for metric in metrics) + " |"
        yield "| --- |" + " --- |" * len(metrics)
        for (category, detector), found in moved.items():
            name = f"{category}/{detector}{' *floor*' if detector in BASELINES else ''}"
            cells = [_cell(found[metric]) if metric in found else words.DASH for metric in metrics]
            yield f"| {name} | {' | '.join(cells)} |"
    if same:
        yield ""
        yield f"The same on both sides: {', '.join('/'.join(key) for key in same)}."


def _cell(row: Row) -> str:
    text = f"{words.value(row.metric, row.a)} → {words.value(row.metric, row.b)}"
    if row.difference is None:
        return f"{text}<br>*{row.verdict}*"
    change = words.change(row.metric, row.difference)
    if row.interval is None:
        return f"{text}<br>{change}, *{row.verdict}*"
    moved = row.verdict in ("better", "worse")
    change = (
        f"**{change}** {words.interval(row.metric, row.interval)}"
        if moved
        else f"{change} {words.interval(row.metric, row.interval)}"
    )
    return f"{text}<br>{change}{f'<br>**{row.verdict}**' if moved else ''}"


def _params(diff: Diff) -> list[str]:
    if not diff.params:
        return ["**Parameters:** the same"]
    lines = [
        f"- `{one.key}`: {_code(words.json_value(one.a))} → {_code(words.json_value(one.b))}" for one in diff.params
    ]
    title = f"Parameters: {len(lines)} changed"
    if len(lines) <= PARAMS_OPEN:
        return [f"**{title}**", "", *lines]
    return [f"<details><summary><b>{title}</b></summary>", "", *lines, "", "</details>"]


def _flips(diff: Diff, flips: Sequence[Flip], limit: int) -> list[str]:
    if not flips:
        return [f"**Flips:** {words.flips_line(diff, flips)}", ""]
    lines = [
        f"<details><summary><b>Flips:</b> {words.flips_line(diff, flips)}</summary>",
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
    """As code, whatever it holds."""
    plain = text.replace("|", "\\|").replace("\n", " ")
    return f"``{plain}``" if "`" in plain else f"`{plain}`"


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
