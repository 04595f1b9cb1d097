"""The `burnish` command. Heavy imports (DVC, Prefect, torch) happen inside the commands that need them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pipeline import compare_options as comparing
from pipeline import exit_codes
from pipeline import judging_options as judging
from pipeline import retrain_options as retraining
from pipeline.faults import faults_in_one_line
from pipeline.params_cli import params_app

MANUAL = """
Reproducible visual inspection: good images in; a calibrated detector and an honest score out.

The stages stand in [cyan]dvc.yaml[/cyan], their parameters in [cyan]params.yaml[/cyan]. [bold]burnish run[/bold] runs
what is out of date, in the order that DVC gives, and leaves the same [cyan]dvc.lock[/cyan] as plain
[bold]dvc repro[/bold]. It may be stopped at any time; the next run goes on from what was done.

Each command works in the project around the working directory: the nearest folder that holds a dvc.yaml.
"""

EPILOG = """
[bold]Examples[/bold]

[green]burnish run[/green]                        bring everything up to date

[green]burnish run --jobs 2[/green]               two stages side by side where the graph allows

[green]burnish run train@mono-pca[/green]         one stage and what it needs

[green]burnish run --force score[/green]          run a stage though nothing changed

[green]burnish predict photos/[/green]            judge new images

[green]burnish diff HEAD~1 HEAD[/green]           is this commit better than the last one?

[green]burnish retrain --every 30m[/green]        take in new images, train, promote what is no worse

[green]burnish doctor[/green]                     what is wrong with this machine or this set-up, and how to mend it

[bold]Exit codes[/bold]

0 all went well;  1 a fault, in one line on stderr;  2 wrong usage;  3 defects (predict), a broken gate (diff);  130
Ctrl-C;  143 SIGTERM (0 for ui and a retraining schedule, which end so)

[bold]Files[/bold]

data/logs/STAGE.log: output of a stage's latest run;  data/metrics/metrics.json: the figures;  .prefect/: Prefect's own

data/report/index.html: all of a run as one page;  data/bundle/: what judging new images needs;  data/judged/: what it
said;  data/champion/, data/retrain/: what retraining promoted, and how each of its runs went
"""


def _paragraphs(text: str) -> str:
    """One line a paragraph: typer keeps line breaks inside a paragraph, at whatever width the terminal has."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


app = typer.Typer(
    name="burnish",
    help=_paragraphs(MANUAL),
    epilog=EPILOG,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DAILY = "Every day"
LOOK = "Look"
INNER = "For dvc.yaml"


def _command(panel: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command, with its docstring as its help."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        return app.command(rich_help_panel=panel, help=_paragraphs(function.__doc__ or ""))(function)

    return register


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"burnish {version('burnish')}")
        raise typer.Exit(exit_codes.OK)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@_command(DAILY)
def run(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="TARGETS", help="Stages to bring up to date, with all they need. None: all."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="How many stages may run at once.")] = 1,
    force: Annotated[
        list[str] | None,
        typer.Option("--force", "-f", metavar="STAGE", help="Run this stage though nothing changed. May be repeated."),
    ] = None,
) -> None:
    """Run the stages that are out of date, then print the metrics.

    A stage is out of date when its code, its parameters or its inputs changed since it last ran; DVC knows. The name of
    a matrix stage ([cyan]train[/cyan]) means all its members ([cyan]train@mono-pca[/cyan], ...).

    States: [cyan]cached[/cyan] nothing to do, or taken from DVC's cache; [yellow]running[/yellow]; [green]done[/green];
    [red]failed[/red]; skipped, because it needs one that failed. When a stage fails, those that do not need it still
    run.

    A stage is tried again only when another DVC process holds its files, or when a download failed in a way that may
    pass. With nothing out of date, Prefect is not even started.
    """
    with faults_in_one_line():
        from pipeline.project import enter
        from pipeline.run import run as run_pipeline

        code = run_pipeline(enter(), targets or [], force or [], jobs)
    raise typer.Exit(code)


@_command(DAILY)
def predict(
    images: judging.Images,
    bundle: judging.Bundle = None,
    out: judging.Out = None,
    category: judging.Category = None,
    detector: judging.Detector = None,
    as_json: judging.Json = False,
    overlays: judging.Overlays = None,
    fail_on_defect: judging.FailOnDefect = False,
    batch: judging.Batch = None,
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


@_command(DAILY)
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
        from pipeline.bundle import bundle_finished
        from pipeline.project import enter

        out = None if out is None else out.resolve()
        print(f"bundle: {bundle_finished(enter(), out)}")


@_command(DAILY)
def diff(
    a: comparing.A = None,
    b: comparing.B = None,
    gate: comparing.Gate = None,
    detector: comparing.Detector = None,
    category: comparing.Category = None,
    common: comparing.Common = False,
    as_markdown: comparing.Markdown = False,
    as_json: comparing.Json = False,
    html: comparing.Html = None,
    limit: comparing.Limit = 20,
    resamples: comparing.Resamples = 2000,
    confidence: comparing.Confidence = 0.95,
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
        from pipeline.project import enter

        html = None if html is None else html.resolve()
        chosen = tuple(detector or ()), tuple(category or ())
        options = Options(*chosen, gate, common, as_markdown, as_json, html, limit, resamples, confidence)
        code = run_diff(enter(), a, b, options)
    raise typer.Exit(code)


@_command(DAILY)
def retrain(
    once: retraining.Once = False,
    every: retraining.Every = None,
    cron: retraining.Cron = None,
    force: retraining.Force = False,
    history: retraining.History = False,
) -> None:
    """Take in new images, train a challenger, and let it replace the champion if the gate lets it pass.

    New images are dropped into the inbox ([cyan]retrain.inbox[/cyan], data/inbox), laid out as data.folder:
    normal/, defect/<type>/, masks/. Each run works in a git worktree of its own; your checkout is never touched. The
    challenger is compared with the champion on the champion's test images. If [cyan]retrain.gate[/cyan] holds it, or
    anything fails, the champion serves on and the images go to data/retrain/held/ or stay in the inbox.

    A promotion is a commit on the branch retrain/DATE, a tag [cyan]burnish@v0.2.0[/cyan] (GTO), and a bundle that
    [bold]burnish predict[/bold] uses from the next moment on. What became of each run: --history, and
    data/retrain/runs/RUN/ (run.md, diff.html, report.html). BURNISH_WEBHOOK_URL, where it is set, is told too.

    Run once with --once, or serve a schedule with --every or --cron: then a Prefect server shows the runs, two are
    never at work at once, and schedules missed are made up for by one run.
    """
    if sum((once, every is not None, cron is not None, history)) != 1:
        raise typer.BadParameter("choose one of --once, --every TIME, --cron LINE, --history")
    if force and not once:
        raise typer.BadParameter("--force goes with --once")
    with faults_in_one_line():
        from pipeline.project import enter

        root = enter()
        if history:
            from pipeline.retrain.records import history as runs
            from pipeline.retrain.records import summary

            print("\n".join(map(summary, runs(root))) or "no run yet")
        elif once:
            from pipeline.retrain.once import retrain_once

            retrain_once(root, force=force)
        else:
            from pipeline.retrain.schedule import parse_interval, serve

            serve(root, parse_interval(every) if every else None, cron)


@_command(DAILY)
def rollback(tag: retraining.Tag = None) -> None:
    """Let an earlier champion serve again, from one moment to the next.

    Images that were taken in since lie in data/retrain/taken/: the next challenger is made without them, so put what is
    good of them back into the inbox.
    """
    with faults_in_one_line():
        from pipeline.project import enter
        from pipeline.retrain.rollback import rollback as roll_back

        print(f"{roll_back(enter(), tag)} serves")


@_command(LOOK)
def graph() -> None:
    """Print the graph of the stages, as DVC reads it, as a Mermaid chart."""
    with faults_in_one_line():
        from pipeline.graph import mermaid, read_graph
        from pipeline.project import enter

        print(mermaid(read_graph(enter(), check=False)), end="")


@_command(LOOK)
def doctor() -> None:
    """Check versions, device, memory, disk, DVC, Prefect, Git and data; say how to mend each fault.

    Each line is [green]ok[/green], [yellow]warn[/yellow] (it works, but) or [red]fault[/red]; exit code 1 if there is a
    fault. Nothing is changed but that Prefect may set up its folder; no server is started.
    """
    with faults_in_one_line():
        from pipeline.doctor import run_doctor
        from pipeline.project import enter

        code = run_doctor(enter())
    raise typer.Exit(code)


@_command(LOOK)
def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: any that is free.")] = 4200,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. There is no password: whoever reaches it may change everything."),
    ] = "127.0.0.1",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
) -> None:
    """Serve the runs of this project as a web page, until Ctrl-C.

    [bold]burnish run[/bold] and [bold]burnish retrain[/bold] started meanwhile use this server. Where one of them has
    a server of its own already, only its address is printed. Nothing is loaded from elsewhere.
    """
    with faults_in_one_line():
        from pipeline.project import enter
        from pipeline.ui import run_ui

        code = run_ui(enter(), host, port, open_page)
    raise typer.Exit(code)


app.add_typer(params_app, name="params", rich_help_panel=LOOK)


@_command(DAILY)
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
        from pipeline.params import load_params
        from pipeline.project import enter

        folder = None if out is None else out.resolve()
        enter()
        export_models(load_params(), category or (), detector or (), folder, tolerance)


@_command(INNER)
def stage(
    name: Annotated[str, typer.Argument(help="The stage, without the part from @ on.")],
    category: Annotated[str | None, typer.Option(help="Category of a train or infer stage.")] = None,
    detector: Annotated[str | None, typer.Option(help="Detector of a train or infer stage.")] = None,
) -> None:
    """Run one stage here and now, without asking whether it is out of date. [bold]dvc.yaml[/bold] calls this.

    Exit codes beside those of every command: 75 when a download failed in a way that may pass.
    """
    with faults_in_one_line():
        from pipeline.project import enter
        from pipeline.stage_command import run_stage

        enter()
        code = run_stage(name, category, detector)
    raise typer.Exit(code)


def main() -> None:
    """Entry point of the console command."""
    app(prog_name="burnish")
