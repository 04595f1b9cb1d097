"""`burnish diff`: commits against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.cli.manual import MAIN, command

A = Annotated[
    str | None,
    typer.Argument(metavar="A", help="A git revision: branch, tag, commit, HEAD~1. Default: HEAD.", show_default=False),
]
B = Annotated[
    str | None,
    typer.Argument(
        metavar="B", help="Another; none or [cyan]workspace[/cyan]: the files as they lie.", show_default=False
    ),
]
Detector = Annotated[
    list[str] | None,
    typer.Option("--detector", "-d", metavar="NAME", help="Show and judge this one. May be repeated; none: all."),
]
Category = Annotated[
    list[str] | None,
    typer.Option("--category", "-c", metavar="NAME", help="Show and judge this one. May be repeated; none: all."),
]
Gate = Annotated[
    str | None,
    typer.Option(
        metavar="RULES",
        help="Limits on B - A, as in [cyan]image_auroc>=-0.005, escape_rate<=+0.01[/cyan]: exit code 3 where the whole "
        "interval lies beyond one. About the fusion (else the first detector), those of [cyan]--detector[/cyan], or "
        "the ones that a rule names: [cyan]*/knn:image_auroc>=0[/cyan].",
    ),
]
Common = Annotated[
    bool,
    typer.Option("--common", help="Where test sets differ: compare on the images that both have with the same label."),
]
Markdown = Annotated[bool, typer.Option("--md", help="Markdown for a pull request on stdout, in place of the table.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, in place of the table.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page with the flipped images as pictures, besides."),
]
Limit = Annotated[int, typer.Option(min=0, help="How many flips are shown, worst first.")]
Resamples = Annotated[int, typer.Option(min=100, max=1_000_000, help="Of the bootstrap.")]
Confidence = Annotated[float, typer.Option(min=0.5, max=0.9999, help="Coverage of the intervals.")]


@command(MAIN)
def diff(
    a: A = None,
    b: B = None,
    gate: Gate = None,
    detector: Detector = None,
    category: Category = None,
    common: Common = False,
    as_markdown: Markdown = False,
    as_json: Json = False,
    html: Html = None,
    limit: Limit = 20,
    resamples: Resamples = 2000,
    confidence: Confidence = 0.95,
) -> None:
    """Say whether one commit is better than another, and for which images.

    Compares two git revisions, or one (HEAD) with the files as they lie: metrics with paired intervals and DeLong's
    test, a verdict a row, parameters and images that changed, and the test images whose decision changed, worst first.

    Nothing is checked out: metrics come from git, predictions from DVC's cache, else its remote. Where neither has
    them, the metrics are compared without intervals, and that is said.

    [green]burnish diff main HEAD --md --gate 'image_auroc>=-0.005,escape_rate<=+0.01'[/green]
    """
    with faults_in_one_line():
        from pipeline.compare.command import Options, run_diff
        from pipeline.project.root import enter

        html = None if html is None else html.resolve()
        chosen = tuple(detector or ()), tuple(category or ())
        options = Options(*chosen, gate, common, as_markdown, as_json, html, limit, resamples, confidence)
        code = run_diff(enter(), a, b, options)
    raise typer.Exit(code)
