"""`burnish doctor`: what this machine and this set-up look like, and how to mend what is wrong (it mends nothing)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from rich.table import Table
from rich.text import Text

from pipeline.doctor import checks as checks
from pipeline.doctor import project as project
from pipeline.doctor.checks import Level, Row
from pipeline.project import exit_codes
from pipeline.show.console import stdout_console

STYLES: dict[Level, str] = {"ok": "green", "warn": "yellow", "fault": "bold red"}

CHECKS: tuple[tuple[str, Callable[[Path], Iterable[Row]]], ...] = (
    ("python", checks.python),
    ("packages", checks.packages),
    ("torch", checks.torch_device),
    ("machine", checks.machine),
    ("disk", checks.disk),
    ("weights and images", checks.data_packages),
    ("git", project.git),
    ("dvc", project.dvc),
    ("parameters", project.parameters),
    ("locks", project.locks),
    ("prefect", project.prefect),
)


def examine(root: Path) -> list[Row]:
    """All rows. A check that itself breaks is a fault like any other: no traceback, and the others still run."""
    rows: list[Row] = []
    for name, check in CHECKS:
        try:
            rows += check(root)
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            rows.append(Row(name, "fault", f"{type(error).__name__}: {said}", "install anew: make clean setup"))
    return rows


def run_doctor(root: Path) -> int:
    """Print the rows; return the exit code, 1 where one of them is a fault."""
    rows = examine(root)
    table = Table(box=None, pad_edge=False)
    for column in ("check", "", "found"):
        table.add_column(column, overflow="fold")
    for row in rows:
        found = Text(row.found)
        if row.fix:
            found.append(f"\nfix: {row.fix}", style=STYLES[row.level])
        table.add_row(row.check, Text(row.level, style=STYLES[row.level]), found)
    stdout_console().print(table)
    faults = sum(row.level == "fault" for row in rows)
    warnings = sum(row.level == "warn" for row in rows)
    print(f"\nfaults: {faults}, warnings: {warnings}")
    return exit_codes.FAILED if faults else exit_codes.OK
