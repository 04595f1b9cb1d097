"""What a flow run shows on its page in Prefect: the stages, the metrics, how they differ from HEAD's, pictures.

All of it is Markdown: Prefect's page draws Mermaid charts, tables and pictures in `data:` addresses (its image artifact
would print the whole address below the picture, and needs a web server of our own for any other).
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from pipeline.orchestration.board import duration
from pipeline.orchestration.graph import mermaid
from pipeline.orchestration.work import Work
from pipeline.project.paths import METRICS, PLOTS
from pipeline.project.root import log_path
from pipeline.show.tables import metrics_markdown
from stages.types import UserError

SCORE = "score"
"""The stage that writes the metrics and the pictures."""
LOG = "artifacts"
"""Faults go to data/logs/artifacts.log."""


def publish(work: Work) -> None:
    """Show a run's results on its page; call it inside the flow. It never fails: a fault is one line in the log."""
    makers: list[Callable[[Work], Iterator[tuple[str, str, str]]]] = [_stages]
    if work.finished and SCORE in work.graph.order:
        makers += [_metrics, _difference, _pictures]
    for make in makers:
        if work.stopped:
            return
        try:
            from prefect.artifacts import create_markdown_artifact

            for key, what, text in make(work):
                create_markdown_artifact(text, key=_key(key), description=what)
        except Exception as error:  # whatever it is: the stages are done, and that is what counts
            note(work.root, f"{make.__name__.strip('_')} not shown in Prefect: {error!r}")
            if isinstance(error, httpx.TransportError):
                return


def note(root: Path, words: str) -> None:
    """One line in the log of this module, if that can be written."""
    path = log_path(root, LOG)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(" ".join(words.split()) + "\n")


def _stages(work: Work) -> Iterator[tuple[str, str, str]]:
    """The graph, and how each stage ended."""
    chart = f"```mermaid\n{mermaid(work.graph)}```"
    lines = ["| stage | state | time | |", "| --- | --- | ---: | --- |"]
    for stage, row in work.board.rows.items():
        lines.append(f"| {_cell(stage)} | {row.state} | {duration(row)} | {_cell(row.note)} |")
    yield "burnish-stages", "Stages, and how each ended", "\n".join([chart, "", *lines]) + "\n"


def _metrics(work: Work) -> Iterator[tuple[str, str, str]]:
    """The table that `burnish run` prints."""
    metrics = _read(work.root)
    if metrics:
        yield "burnish-metrics", "Metrics", metrics_markdown(metrics)


def _difference(work: Work) -> Iterator[tuple[str, str, str]]:
    """What `burnish diff` says of HEAD and the workspace."""
    from pipeline.compare.diff import compare
    from pipeline.compare.markdown import markdown
    from pipeline.compare.sides import read_side

    try:
        text = markdown(compare(read_side(work.root, "HEAD"), read_side(work.root, None)))
    except UserError as error:
        text = f"No comparison with HEAD: {error}\n"
    yield "burnish-diff", "Against HEAD", text


def _pictures(work: Work) -> Iterator[tuple[str, str, str]]:
    """The ROC picture of each category."""
    for category in _read(work.root):
        path = work.root / PLOTS / f"{category}-roc.png"
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            yield f"burnish-roc-{category}", f"ROC curves of {category}", f"![ROC](data:image/png;base64,{data})\n"


def _read(root: Path) -> dict[str, Any]:
    """metrics.json; empty where there is none."""
    path = root / METRICS
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _key(name: str) -> str:
    """Prefect takes lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _cell(text: str) -> str:
    """Plain text in a table of Markdown that may hold HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("`", "\\`").replace("*", "\\*")
