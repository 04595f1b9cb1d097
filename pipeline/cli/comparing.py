"""`burnish diff`: compares two commits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.cli.manual import MAIN, command

A = Annotated[
    str | None,
    typer.Argument(
        metavar="A", help="Git revision: a branch, tag or commit, such as HEAD~1. Default: HEAD.", show_default=False
    ),
]
B = Annotated[
    str | None,
    typer.Argument(
        metavar="B",
        help="Git revision to compare with A. Default, or [cyan]workspace[/cyan]: the files in your working tree.",
        show_default=False,
    ),
]
Detector = Annotated[
    list[str] | None,
    typer.Option(
        "--detector",
        "-d",
        metavar="NAME",
        help="Compare this detector only, and apply the gate to it. May be repeated. Default: all detectors.",
    ),
]
Category = Annotated[
    list[str] | None,
    typer.Option(
        "--category",
        "-c",
        metavar="NAME",
        help="Compare this category only, and apply the gate to it. May be repeated. Default: all categories.",
    ),
]
Gate = Annotated[
    str | None,
    typer.Option(
        metavar="RULES",
        help="Limits on the difference B - A, such as [cyan]image_auroc>=-0.005, escape_rate<=+0.01[/cyan]. The exit "
        "code is 3 if a whole confidence interval violates its limit, and 1 if a rule cannot be evaluated. A rule "
        "applies to the detectors that it names ([cyan]*/knn:image_auroc>=0[/cyan]), else to those of "
        "[cyan]--detector[/cyan], else to the fusion (without a fusion: to the first detector).",
    ),
]
Common = Annotated[
    bool,
    typer.Option("--common", help="If the test sets differ, compare on the images that both have with the same label."),
]
Markdown = Annotated[bool, typer.Option("--md", help="Print Markdown (for a pull request) instead of the table.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Also write a page that shows the images whose decision changed."),
]
Limit = Annotated[int, typer.Option(min=0, help="Number of images with a changed decision to show, worst first.")]
Resamples = Annotated[int, typer.Option(min=100, max=1_000_000, help="Number of bootstrap resamples.")]
Confidence = Annotated[float, typer.Option(min=0.5, max=0.9999, help="Coverage of the confidence intervals.")]


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
    """Check whether one commit is better than another, and for which images.

    Compares two git revisions, or one revision (default: HEAD) with the files in your working tree. Shows the metrics
    with paired confidence intervals, DeLong's test and a verdict for each, the parameters and images that changed, and
    the test images whose decision changed, worst first.

    Nothing is checked out: metrics come from git, and predictions from DVC's cache or its remote. If neither has the
    predictions, the metrics are compared without intervals, and the output says so.

    [green]burnish diff main HEAD --md --gate 'image_auroc>=-0.005,escape_rate<=+0.01'[/green]
    """
    with faults_in_one_line():
        from pipeline.compare.command import Options, run_diff
        from pipeline.project.root import chdir_to_project_root

        html = None if html is None else html.resolve()
        options = Options(
            tuple(detector or ()),
            tuple(category or ()),
            gate,
            common,
            as_markdown,
            as_json,
            html,
            limit,
            resamples,
            confidence,
        )
        code = run_diff(chdir_to_project_root(), a, b, options)
    raise typer.Exit(code)
