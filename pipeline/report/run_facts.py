"""Facts about a run that are not results: commit, machine, times, cache counts. They are added to index.html only.

The output of a stage must depend on its dependencies only; otherwise the same commit would not give the same bytes. So
the stage `report` writes body.html without these facts, and index.html is made from it outside DVC.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.project import paths
from pipeline.project.git import git_output_or_none, git_problem
from pipeline.project.stage_table import stage_names
from pipeline.project.stage_warnings import read_warnings
from pipeline.report.machine import describe_machine, describe_software
from pipeline.report.stage_times import last_finished, read_logs, times_table
from pipeline.report.tables import Table
from pipeline.show.text import counted

HEAD, TAIL = "<!-- burnish: commit -->", "<!-- burnish: time and machine -->"
"""Placeholders in the body. No name that a user chooses can contain them, because `<` is escaped."""
RESULTS = ("dvc.lock", f"{paths.METRICS_DIR}/")
"""Files in git that a run itself changes."""


@dataclass(frozen=True)
class RunFacts:
    commit: str
    finished: str
    """When the last stage finished; empty if no time is known."""
    facts: list[tuple[str, str]]
    """(term, text)."""
    stages: Table | str
    warnings: list[tuple[str, str]]
    """(stage, what it warns about)."""


def write_index(root: Path) -> Path | None:
    """Bring data/report/index.html up to date with the body and today's facts; None if there is no body.

    The file is replaced in one step, and only if its content changes.
    """
    from pipeline.report.page import template_environment

    if not (root / paths.REPORT_BODY).is_file():
        return None
    template: Any = template_environment().get_template("run_facts.html.j2").module
    facts = collect_run_facts(root)
    text = (root / paths.REPORT_BODY).read_text("utf-8")
    text = text.replace(HEAD, template.head(facts), 1).replace(TAIL, template.tail(facts), 1)
    index = root / paths.REPORT_INDEX
    if not index.is_file() or index.read_text("utf-8") != text:
        replace_file(index, text)
    return index


def replace_file(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old or the new content, always complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def collect_run_facts(root: Path) -> RunFacts:
    times, counts = read_logs(root, "time"), read_logs(root, "counts")
    commit, scored = _commit(root), _scored(root)
    return RunFacts(
        commit=commit,
        finished=last_finished(times),
        facts=[("Commit", commit), ("Machine", describe_machine()), ("Software", describe_software())],
        stages=times_table(times, counts, scored),
        warnings=read_warnings(root, stage_names(scored)),
    )


def _scored(root: Path) -> set[str]:
    """CATEGORY-DETECTOR of each entry of the metrics."""
    file = root / paths.METRICS
    metrics = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return {f"{category}-{name}" for category, detectors in metrics.items() for name in detectors}


def _commit(root: Path) -> str:
    """The commit, and whether files differ from it."""
    commit = git_output_or_none(root, "log", "-1", "--format=%h (%cd)", "--date=format:%Y-%m-%d")
    if not commit:
        return f"not known: {git_problem(root) or 'git log gave none'}"
    status = git_output_or_none(root, "status", "--porcelain", "--untracked-files=no") or ""
    changed = [line[3:].strip('"') for line in status.splitlines()]
    inputs = [name for name in changed if not name.startswith(RESULTS)]
    if inputs:
        more = f" and {counted(len(inputs) - 3, 'other')}" if len(inputs) > 3 else ""
        return f"{commit.strip()} with uncommitted changes in {', '.join(inputs[:3])}{more}"
    return commit.strip() + ("; its results are not committed yet" if changed else "")
