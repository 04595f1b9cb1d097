"""`burnish predict`, `bundle` and `export`: what happens with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.cli.manual import MAIN, command

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


@command(MAIN)
def predict(
    images: Images,
    bundle: Bundle = None,
    out: Out = None,
    category: Category = None,
    detector: Detector = None,
    as_json: Json = False,
    overlays: Overlays = None,
    fail_on_defect: FailOnDefect = False,
    batch: Batch = None,
) -> None:
    """Judge new images: score, verdict, and a picture of where.

    Writes predictions.parquet and predictions.csv, a row an image, and overlays/. The verdict is [cyan]good[/cyan],
    [cyan]defect[/cyan] (the score is above the threshold that good validation images set) or [cyan]unreadable[/cyan].
    What the project's test images get here is, to the byte, what the stages gave them.

    Images of another size, mode or bit depth than in training are treated as in training, and the row says so. Files
    that cannot be read are reported; the rest is done. The exit code is 0 even if defects are found.

    The bundle is one folder, made by [bold]burnish run[/bold] or [bold]burnish bundle[/bold]. It may be copied to
    another machine; no project is needed there.
    """
    with faults_in_one_line():
        from pipeline.judge.command import Options, predict

        options = Options(bundle, out, category, tuple(detector or ()), as_json, overlays, fail_on_defect, batch)
        code = predict(images, options)
    raise typer.Exit(code)


@command(MAIN)
def bundle(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it goes. Default: data/bundle of the project.")
    ] = None,
) -> None:
    """Gather what [bold]burnish predict[/bold] needs into one folder: models, thresholds, parameters, provenance.

    [bold]burnish run[/bold] does this when something changed; after plain [bold]dvc repro[/bold] it is up to you. All
    stages must be up to date, so that thresholds belong to models.
    """
    with faults_in_one_line():
        from pipeline.orchestration.bundling import bundle_finished
        from pipeline.project.root import enter

        out = None if out is None else out.resolve()
        print(f"bundle: {bundle_finished(enter(), out)}")


@command(MAIN)
def export(
    onnx: Annotated[bool, typer.Option("--onnx", help="The format; there is no other yet.")] = False,
    category: Annotated[
        list[str] | None, typer.Option("--category", "-c", help="One category. May be repeated; none: all.")
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", "-d", help="One detector, or [cyan]fused[/cyan]. May be repeated; none: all."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where the files go. Default: data/export.")
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=1e-9, max=1.0, help="Largest difference, as a share of how far the values spread."),
    ] = 1e-3,
) -> None:
    """Write trained detectors as ONNX files, for a line that has no Python.

    DIR/CATEGORY/NAME.onnx takes one image and gives [cyan]anomaly_map[/cyan] and [cyan]image_score[/cyan], all in
    between included. A detector that reads features of the backbone takes those, and DIR/backbone.onnx makes them of
    the image; [cyan]fused[/cyan] takes the outputs of its members. NAME.json beside a file says how to make its inputs,
    the threshold, and which weights, parameters and commit it comes from.

    Before a file is written, up to 16 test images are computed both by ONNX Runtime and by our own code. Scores, maps
    and features must agree within [cyan]--tolerance[/cyan], and no decision may differ; else no file is left and the
    exit code is 1.

    [green]burnish export --onnx -d ear -d fused -o /srv/line[/green]
    """
    if not onnx:
        raise typer.BadParameter("name the format: burnish export --onnx", param_hint="--onnx")
    with faults_in_one_line():
        from pipeline.export.command import export as export_models
        from pipeline.project.params import load_params
        from pipeline.project.root import enter

        folder = None if out is None else out.resolve()
        enter()
        export_models(load_params(), category or (), detector or (), folder, tolerance)
