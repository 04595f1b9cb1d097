"""The options of `burnish predict`, which would hide the command among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="PATHS",
        help="Image files; folders, searched at any depth; globs, quoted or not; [cyan]-[/cyan] for a list of "
        "these on standard input, one a line or separated by NUL.",
    ),
]
Bundle = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="What to judge with. Default: the project's champion (data/champion), else data/bundle."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where results go. Default: data/judged of the project, else ./judged."),
]
Category = Annotated[str | None, typer.Option(help="Kind of part; needed where the bundle has several.")]
Detector = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Whose score decides; may be repeated: the first decides, all are reported. Default: "
        "[cyan]fused[/cyan], or the first of all where there is no fusion.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object an image on stdout, as soon as it is judged; nothing else.")
]
Overlays = Annotated[
    bool | None,
    typer.Option(
        "--overlays/--no-overlays",
        help="Draw the anomaly map over every image, or over none. Default: over rejected ones.",
        show_default=False,
    ),
]
FailOnDefect = Annotated[
    bool, typer.Option("--fail-on-defect", help="Exit code 3 if an image is rejected or gets no verdict.")
]
Batch = Annotated[int | None, typer.Option(min=1, help="Images at once. Default: 64, fewer where they are large.")]
