"""Runs all checks of `burnish doctor` and prints their findings. It repairs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from rich.table import Table
from rich.text import Text

from pipeline.doctor import checks, project
from pipeline.doctor.checks import Finding, Level
from pipeline.project import exit_codes
from pipeline.show.console import stdout_console

STYLES: dict[Level, str] = {"ok": "green", "warn": "yellow", "fault": "bold red"}

CHECKS: tuple[tuple[str, Callable[[Path], Iterable[Finding]]], ...] = (
    ("python", checks.check_python),
    ("packages", checks.check_packages),
    ("torch", checks.check_torch_device),
    ("machine", checks.check_machine),
    ("disk", checks.check_disk),
    ("weights and images", checks.check_data_packages),
    ("git", project.check_git),
    ("dvc", project.check_dvc),
    ("parameters", project.check_parameters),
    ("project folder", project.check_writable),
    ("locks", project.check_locks),
    ("proxy", project.check_proxies),
    ("prefect", project.check_prefect),
)


def run_checks(root: Path) -> list[Finding]:
    """The findings of all checks. A check that raises an exception gives a fault, and the next checks still run."""
    findings: list[Finding] = []
    for name, check in CHECKS:
        try:
            findings += check(root)
        except Exception as error:
            message = " ".join(str(error).split())[:300]
            fix = "see the other rows; if none explains it, please report it"
            findings.append(Finding(name, "fault", f"the check itself failed: {type(error).__name__}: {message}", fix))
    return findings


def run_doctor(root: Path) -> int:
    """Print all findings, and return the exit code: 1 if one of them is a fault, else 0."""
    findings = run_checks(root)
    table = Table(box=None, pad_edge=False)
    for column in ("check", "", "found"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        details = Text(finding.details)
        if finding.fix:
            details.append(f"\nfix: {finding.fix}", style=STYLES[finding.level])
        table.add_row(finding.check, Text(finding.level, style=STYLES[finding.level]), details)
    stdout_console().print(table)
    faults = sum(finding.level == "fault" for finding in findings)
    warnings = sum(finding.level == "warn" for finding in findings)
    print(f"\nfaults: {faults}, warnings: {warnings}")
    return exit_codes.FAILED if faults else exit_codes.OK
