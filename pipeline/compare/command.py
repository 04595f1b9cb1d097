"""`burnish diff`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.compare.diff import Diff, compare
from pipeline.compare.gate import BREACH, Breach, judge
from pipeline.compare.sides import Side, read_side
from pipeline.project import exit_codes
from pipeline.project.gate_rules import Rule
from stages.types import UserError


@dataclass(frozen=True)
class Options:
    """What `burnish diff` was told; `pipeline.compare_options` says what each means."""

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
    """Compare two revisions, or one (HEAD) with the workspace, and say what came of it on stdout.

    Returns:
        exit code: 0, or BREACH where the gate is broken.

    Raises:
        UserError: a side cannot be read, or the gate cannot be judged.
    """
    if options.markdown and options.json:
        raise UserError("--md and --json both write to standard output: choose one")
    rules = Rule.parse(options.gate) if options.gate is not None else None
    side_a, side_b = read_side(root, a or "HEAD"), read_side(root, b)
    diff = compare(side_a, side_b, resamples=options.resamples, confidence=options.confidence, common=options.common)
    _check_names(diff, options)
    breaches: list[Breach] | None = None
    unjudged: UserError | None = None
    if rules is not None:
        try:
            breaches = judge(diff, rules, detectors=options.detectors, categories=options.categories)
        except UserError as error:
            unjudged = error  # the comparison is worth seeing all the same
    _print(diff, breaches, options)
    if options.html is not None:
        _write_page(diff, side_a, side_b, breaches, options)
    if unjudged is not None:
        raise unjudged
    for breach in breaches or ():
        print(f"burnish: gate: {breach}", file=sys.stderr)
    return BREACH if breaches else exit_codes.OK


def _check_names(diff: Diff, options: Options) -> None:
    for option, wanted, known in (
        ("--detector", options.detectors, dict.fromkeys(row.detector for row in diff.rows)),
        ("--category", options.categories, dict.fromkeys(row.category for row in diff.rows)),
    ):
        for name in wanted:
            if name not in known:
                raise UserError(f"{option} {name}: neither side has it; there are {', '.join(known)}")


def _print(diff: Diff, breaches: list[Breach] | None, options: Options) -> None:
    chosen: dict[str, Any] = {"detectors": options.detectors, "categories": options.categories, "limit": options.limit}
    if options.json:
        gate = None if breaches is None else {"rule": options.gate, "breaches": [str(breach) for breach in breaches]}
        print(json.dumps(diff.to_json() | {"gate": gate}, indent=2, ensure_ascii=False, allow_nan=False))
    elif options.markdown:
        from pipeline.compare.markdown import markdown

        print(markdown(diff, **chosen, breaches=breaches), end="")
    else:
        from pipeline.compare.terminal import show
        from pipeline.show.console import stdout_console

        show(diff, stdout_console(), **chosen)
        if breaches == []:
            print("gate: no limit is shown to be broken")


def _write_page(diff: Diff, a: Side, b: Side, breaches: list[Breach] | None, options: Options) -> None:
    from pipeline.compare.page import page

    assert options.html is not None
    text = page(
        diff,
        a,
        b,
        detectors=options.detectors,
        categories=options.categories,
        limit=options.limit,
        breaches=breaches,
    )
    try:
        options.html.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"{options.html} cannot be written: {error.strerror}") from error
    print(f"page: {options.html}", file=sys.stderr)
