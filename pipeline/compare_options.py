"""The arguments and options of `burnish diff`, which would hide the command among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
