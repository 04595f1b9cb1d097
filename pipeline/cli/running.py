"""`burnish run`, `graph`, `doctor`, `ui`, and `stage`, which dvc.yaml calls."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.cli.manual import INSPECT, INTERNAL, MAIN, command


@command(MAIN)
def run(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGETS", help="Stages to bring up to date, with the stages that they need. Default: all stages."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="How many stages may run at once.")] = 1,
    force: Annotated[
        list[str] | None,
        typer.Option("--force", "-f", metavar="STAGE", help="Run this stage even if nothing changed. May be repeated."),
    ] = None,
) -> None:
    """Run the stages that are out of date, then print the metrics.

    A stage is out of date if its code, its parameters or its inputs have changed since it last ran. The name of a
    matrix ([cyan]train[/cyan]) means all its stages ([cyan]train@mono-pca[/cyan], ...).

    The states of a stage are [cyan]cached[/cyan] (it was up to date, or its outputs came from DVC's cache),
    [yellow]running[/yellow], [green]done[/green], [red]failed[/red], and [red]skipped[/red] (because a
    stage that it needs has failed). If a stage fails, all stages that do not need it still run.

    A stage is retried if another DVC process holds its files, or if a download failed for a reason that may pass. If
    all stages are up to date, Prefect does not start.
    """
    with faults_in_one_line():
        from pipeline.orchestration.run import run as run_pipeline
        from pipeline.project.root import chdir_to_project_root

        code = run_pipeline(chdir_to_project_root(), targets or [], force or [], jobs)
    raise typer.Exit(code)


@command(INSPECT)
def graph() -> None:
    """Print the graph of the stages in dvc.yaml as a Mermaid flow chart."""
    with faults_in_one_line():
        from pipeline.orchestration.graph import read_graph
        from pipeline.orchestration.mermaid import mermaid
        from pipeline.project.root import chdir_to_project_root

        print(mermaid(read_graph(chdir_to_project_root(), check=False)), end="")


@command(INSPECT)
def doctor() -> None:
    """Look for faults of the machine, the installation and the project, and say how to fix each.

    Checks versions, device, memory, disk, data packages, git, DVC, params.yaml, locks and Prefect. Each result is
    [green]ok[/green], [yellow]warn[/yellow] (Burnish works, but something may surprise you) or [red]fault[/red]. The
    exit code is 1 if there is a fault.

    Read-only, except that Prefect may create its settings folder. Does not start a server.
    """
    with faults_in_one_line():
        from pipeline.doctor.command import run_doctor
        from pipeline.project.root import chdir_to_project_root

        code = run_doctor(chdir_to_project_root())
    raise typer.Exit(code)


@command(INSPECT)
def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on. 0: any free port.")] = 4200,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. There is no password: everybody who can reach it can change everything."
        ),
    ] = "127.0.0.1",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
) -> None:
    """Serve the runs of this project as a web page, until Ctrl-C.

    While it runs, [bold]burnish run[/bold] and [bold]burnish retrain[/bold] use this server. If one of them already has
    a server, this command only prints its address. The page loads nothing from the network.
    """
    with faults_in_one_line():
        from pipeline.orchestration.ui import run_ui
        from pipeline.project.root import chdir_to_project_root

        code = run_ui(chdir_to_project_root(), host, port, open_page)
    raise typer.Exit(code)


@command(INTERNAL)
def stage(
    name: Annotated[str, typer.Argument(help="Name of the stage, without its category and detector.")],
    category: Annotated[str | None, typer.Option(help="Category, for train and infer.")] = None,
    detector: Annotated[str | None, typer.Option(help="Detector, for train and infer.")] = None,
) -> None:
    """Run one stage in this process, whether it is out of date or not. [bold]dvc.yaml[/bold] calls this command.

    One more exit code: 75 if a download failed for a reason that may pass.
    """
    with faults_in_one_line():
        from pipeline.cli.stage import run_stage
        from pipeline.project.root import chdir_to_project_root

        chdir_to_project_root()
        code = run_stage(name, category, detector)
    raise typer.Exit(code)
