"""`burnish diff`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.compare.diff import Diff, compare_sides
from pipeline.compare.gate import BREACH, Breach, find_breaches
from pipeline.compare.read_side import read_side
from pipeline.compare.sides import Side
from pipeline.project import exit_codes
from pipeline.project.gate_rules import Rule
from stages.types import UserError


@dataclass(frozen=True)
class Options:
    """The options of `burnish diff`; `pipeline.cli.comparing` explains each."""

    detectors: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    gate: str | None = None
    common: bool = False
    markdown: bool = False
    json: bool = False
    html: Path | None = None
    limit: int = 20
    resamples: int = 2000
    confidence: float = 0.95


def run_diff(root: Path, a: str | None = None, b: str | None = None, options: Options = Options()) -> int:
    """Compare two revisions and print the result to stdout.

    Args:
        root: of the project.
        a: revision; None: HEAD.
        b: revision; None: the workspace.

    Returns:
        exit code: 0, or BREACH if a rule of the gate is violated.

    Raises:
        UserError: a side cannot be read, or the gate cannot be evaluated.
    """
    if options.markdown and options.json:
        raise UserError("--md and --json both write to standard output: choose one")
    rules = Rule.parse(options.gate) if options.gate is not None else None
    side_a, side_b = read_side(root, a or "HEAD"), read_side(root, b)
    diff = compare_sides(
        side_a, side_b, resamples=options.resamples, confidence=options.confidence, common=options.common
    )
    _check_names(diff, options)
    breaches: list[Breach] | None = None
    gate_error: UserError | None = None
    if rules is not None:
        try:
            breaches = find_breaches(diff, rules, detectors=options.detectors, categories=options.categories)
        except UserError as error:
            gate_error = error  # raised below, once the comparison is printed
    _print(diff, breaches, options)
    if options.html is not None:
        _write_page(options.html, diff, side_a, side_b, breaches, options)
    if gate_error is not None:
        raise gate_error
    for breach in breaches or ():
        print(f"burnish: gate: {breach}", file=sys.stderr)
    return BREACH if breaches else exit_codes.OK


def _check_names(diff: Diff, options: Options) -> None:
    """Raises UserError if a chosen detector or category does not exist."""
    for option, chosen, known in (
        ("--detector", options.detectors, dict.fromkeys(row.detector for row in diff.rows)),
        ("--category", options.categories, dict.fromkeys(row.category for row in diff.rows)),
    ):
        for name in chosen:
            if name not in known:
                raise UserError(f"{option} {name}: neither side has it; available: {', '.join(known)}")


def _print(diff: Diff, breaches: list[Breach] | None, options: Options) -> None:
    selection: dict[str, Any] = {
        "detectors": options.detectors,
        "categories": options.categories,
        "limit": options.limit,
    }
    if options.json:
        gate = None if breaches is None else {"rule": options.gate, "breaches": [str(breach) for breach in breaches]}
        print(json.dumps(diff.to_json() | {"gate": gate}, indent=2, ensure_ascii=False, allow_nan=False))
    elif options.markdown:
        from pipeline.compare.markdown import diff_as_markdown

        print(diff_as_markdown(diff, **selection, breaches=breaches), end="")
    else:
        from pipeline.compare.terminal import print_diff
        from pipeline.show.console import stdout_console

        print_diff(diff, stdout_console(), **selection)
        if breaches == []:
            print("gate: passed, no rule is violated")


def _write_page(path: Path, diff: Diff, a: Side, b: Side, breaches: list[Breach] | None, options: Options) -> None:
    from pipeline.compare.page import diff_as_html

    text = diff_as_html(
        diff,
        a,
        b,
        detectors=options.detectors,
        categories=options.categories,
        limit=options.limit,
        breaches=breaches,
    )
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    print(f"page: {path}", file=sys.stderr)
