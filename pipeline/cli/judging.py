"""`burnish predict`, `bundle` and `export`: the commands that use trained models."""

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
        help="Image files, folders (searched recursively) and globs. [cyan]-[/cyan]: read a list of them from standard "
        "input, one per line or separated by NUL.",
    ),
]
Bundle = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the models to use. Default: the champion of the project (data/champion/current) if there is "
        "one, else data/bundle.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Folder for the results. Default: data/judged of the project; outside a project, ./judged.",
    ),
]
Category = Annotated[
    str | None,
    typer.Option("--category", "-c", help="Category of the parts. Required if the bundle has several categories."),
]
Detector = Annotated[
    list[str] | None,
    typer.Option(
        "--detector",
        "-d",
        metavar="NAME",
        help="Detector to run. May be repeated: the first one decides, and the scores of all are reported. Default: "
        "[cyan]fused[/cyan]; without a fusion, the first detector.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object per image, as soon as its verdict is known, and nothing else."),
]
Overlays = Annotated[
    bool | None,
    typer.Option(
        "--overlays/--no-overlays",
        help="Save the anomaly map over every image, or over no image. Default: over rejected images.",
        show_default=False,
    ),
]
FailOnDefect = Annotated[
    bool, typer.Option("--fail-on-defect", help="Exit with code 3 if an image is rejected or gets no verdict.")
]
Batch = Annotated[
    int | None, typer.Option(min=1, help="Number of images to process at once. Default: 64, fewer if images are large.")
]


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
    """Find defects in new images: each gets a score, a verdict, and a map that shows where the defect is.

    Writes predictions.parquet and predictions.csv with one row per image, and overlays/ with the anomaly maps of
    rejected images (see [cyan]--overlays[/cyan]). The verdict is [cyan]good[/cyan], [cyan]defect[/cyan] (the score is
    above the threshold, which comes from good validation images) or [cyan]unreadable[/cyan]. There is none without a
    threshold, or if the score is not a number. The exit code is 0 even if defects are found; see
    [cyan]--fail-on-defect[/cyan].

    An image with another size, mode or bit depth than the training images is processed in the same way, and its row
    says so. Files that cannot be read are listed at the end. Test images of the project get exactly the scores that the
    stages computed.

    [bold]burnish run[/bold] and [bold]burnish bundle[/bold] make the bundle. You can copy it to another machine, which
    needs Burnish of the same commit, but no project.
    """
    with faults_in_one_line():
        from pipeline.judge.command import predict
        from pipeline.judge.options import Options

        options = Options(bundle, out, category, tuple(detector or ()), as_json, overlays, fail_on_defect, batch)
        code = predict(images, options)
    raise typer.Exit(code)


@command(MAIN)
def bundle(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the bundle. Default: data/bundle of the project.")
    ] = None,
) -> None:
    """Write everything that [bold]burnish predict[/bold] needs into one folder.

    The folder holds models, thresholds, parameters and their provenance. [bold]burnish run[/bold] writes it when
    something changed; after [bold]dvc repro[/bold], use this command. All stages must be up to date; otherwise the
    bundle could combine models with thresholds from another run.
    """
    with faults_in_one_line():
        from pipeline.orchestration.bundling import bundle_finished_run
        from pipeline.project.root import chdir_to_project_root

        out = None if out is None else out.resolve()
        print(f"bundle: {bundle_finished_run(chdir_to_project_root(), out)}")


@command(MAIN)
def export(
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Format of the files. Required; there is no other format yet.")
    ] = False,
    category: Annotated[
        list[str] | None,
        typer.Option("--category", "-c", help="Export this category only. May be repeated. Default: all categories."),
    ] = None,
    detector: Annotated[
        list[str] | None,
        typer.Option(
            "--detector",
            "-d",
            help="Export this detector (or [cyan]fused[/cyan]) only. May be repeated. Default: all detectors.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder for the files. Default: data/export.")
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=1e-9,
            max=1.0,
            help="Largest accepted difference between ONNX Runtime and Burnish, relative to the spread of the values.",
        ),
    ] = 1e-3,
) -> None:
    """Write trained detectors as ONNX files, for a production line without Python.

    DIR/CATEGORY/NAME.onnx is a whole detector: it takes one image and returns [cyan]anomaly_map[/cyan] and
    [cyan]image_score[/cyan]. A detector that reads features of the backbone also takes the output of
    DIR/backbone.onnx, or takes it instead of the image. [cyan]fused[/cyan] takes the outputs of its members. NAME.json
    describes the inputs, and holds the threshold, the digest of the weights, the parameters and the commit.

    Before it writes a file, Burnish processes up to 16 test images with ONNX Runtime and with its own code. Scores,
    maps and features must agree within [cyan]--tolerance[/cyan], and no decision may differ. Otherwise no file is left,
    and the exit code is 1.

    [green]burnish export --onnx -d ear -d fused -o /srv/line[/green]
    """
    if not onnx:
        raise typer.BadParameter("name the format: burnish export --onnx", param_hint="--onnx")
    with faults_in_one_line():
        from pipeline.export.command import export as export_models
        from pipeline.project.params import load_params
        from pipeline.project.root import chdir_to_project_root

        folder = None if out is None else out.resolve()
        chdir_to_project_root()
        export_models(load_params(), category or (), detector or (), folder, tolerance)
