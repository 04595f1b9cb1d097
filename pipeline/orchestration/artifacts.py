"""The artifacts of a flow run on its page in Prefect: stages, metrics, comparison with HEAD, ROC curves.

Every artifact is Markdown. Prefect's page renders Mermaid charts, tables, and pictures with a `data:` URL in it. The
image artifact of Prefect would not do: it prints the whole `data:` URL below the picture, and any other URL would need
a web server of our own.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from pipeline.orchestration.board import duration
from pipeline.orchestration.mermaid import mermaid
from pipeline.orchestration.run_state import RunState
from pipeline.project.paths import METRICS, PLOTS
from pipeline.project.root import log_path
from pipeline.project.stage_warnings import read_warnings
from pipeline.show.tables import metrics_markdown
from stages.types import UserError

SCORE = "score"
"""The stage that writes the metrics and the plots."""
LOG = "artifacts"
"""The log is data/logs/artifacts.log."""


class Artifact(NamedTuple):
    """One artifact of a flow run."""

    name: str
    description: str
    markdown: str


def publish(run: RunState) -> None:
    """Create the artifacts of a run. Call it inside the flow.

    It raises no exception: the stages are done, so a fault is only written to the log.
    """
    makers: list[Callable[[RunState], Iterator[Artifact]]] = [_stages]
    if run.finished and SCORE in run.graph.order:
        makers += [_metrics, _difference, _pictures]
    for make in makers:
        if run.stopped:
            return
        try:
            from prefect.artifacts import create_markdown_artifact

            for artifact in make(run):
                create_markdown_artifact(
                    artifact.markdown, key=_artifact_key(artifact.name), description=artifact.description
                )
        except Exception as error:
            log_fault(run.root, f"{make.__name__.strip('_')} not shown in Prefect: {error!r}")
            if isinstance(error, httpx.TransportError):
                return


def log_fault(root: Path, message: str) -> None:
    """Append one line to data/logs/artifacts.log, if that is possible."""
    path = log_path(root, LOG)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(" ".join(message.split()) + "\n")


def _stages(run: RunState) -> Iterator[Artifact]:
    """The graph, a table of how each stage ended, and what the stages warn about."""
    chart = f"```mermaid\n{mermaid(run.graph)}```"
    lines = ["| stage | state | time | |", "| --- | --- | ---: | --- |"]
    for stage, row in run.board.rows.items():
        lines.append(f"| {_escape_cell(stage)} | {row.state} | {duration(row)} | {_escape_cell(row.note)} |")
    warnings = [
        f"- {_escape_cell(stage)}: {_escape_cell(line)}" for stage, line in read_warnings(run.root, run.succeeded())
    ]
    if warnings:
        lines += ["", "Warnings:", "", *warnings]
    yield Artifact("burnish-stages", "Stages, and how each ended", "\n".join([chart, "", *lines]) + "\n")


def _metrics(run: RunState) -> Iterator[Artifact]:
    """The table that `burnish run` prints."""
    metrics = _read_metrics(run.root)
    if metrics:
        yield Artifact("burnish-metrics", "Metrics", metrics_markdown(metrics))


def _difference(run: RunState) -> Iterator[Artifact]:
    """The comparison of HEAD and the workspace by `burnish diff`."""
    from pipeline.compare.diff import compare_sides
    from pipeline.compare.markdown import diff_as_markdown
    from pipeline.compare.read_side import read_side

    try:
        text = diff_as_markdown(compare_sides(read_side(run.root, "HEAD"), read_side(run.root, None)))
    except UserError as error:
        text = f"No comparison with HEAD: {error}\n"
    yield Artifact("burnish-diff", "Against HEAD", text)


def _pictures(run: RunState) -> Iterator[Artifact]:
    """The plot of the ROC curves of each category."""
    for category in _read_metrics(run.root):
        path = run.root / PLOTS / f"{category}-roc.png"
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            markdown = f"![ROC](data:image/png;base64,{data})\n"
            yield Artifact(f"burnish-roc-{category}", f"ROC curves of {category}", markdown)


def _read_metrics(root: Path) -> dict[str, Any]:
    """The content of metrics.json; empty if there is no such file."""
    path = root / METRICS
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _artifact_key(name: str) -> str:
    """A key for Prefect: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _escape_cell(text: str) -> str:
    """Plain text as a cell of a Markdown table, without effect as Markdown or HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("`", "\\`").replace("*", "\\*")
