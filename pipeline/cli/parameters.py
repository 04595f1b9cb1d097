"""`burnish params`: explains params.yaml, or writes a profile of sizes into it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.cli.manual import INSPECT, app, command

params_app = typer.Typer(
    help="Explain params.yaml, or set the sizes of all stages at once.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@command(application=params_app, name="show")
def show_params(
    key: Annotated[
        str, typer.Argument(help="Section or key, such as [cyan]ear[/cyan] or [cyan]ear.lr[/cyan]. Default: all keys.")
    ] = "",
) -> None:
    """Explain the keys of params.yaml: value, default (if it differs), range or choices, and meaning."""
    with faults_in_one_line():
        from pipeline.project.explain import explain_parameters
        from pipeline.project.params import load_params
        from pipeline.project.root import chdir_to_project_root

        chdir_to_project_root()
        print(*explain_parameters(load_params(), key), sep="\n")


@command(application=params_app, name="use")
def use_profile(
    profile: Annotated[str, typer.Argument(help="[cyan]cpu[/cyan], [cyan]gpu[/cyan] or [cyan]paper[/cyan].")],
) -> None:
    """Write the sizes of a profile into params.yaml. Comments and all other keys stay.

    [cyan]cpu[/cyan]: the defaults; a run takes about a quarter of an hour on two cores. [cyan]gpu[/cyan]: larger sizes
    of the same networks, not tuned. [cyan]paper[/cyan]: the sizes of the papers on EAR, InTra and DVT; a run needs a
    GPU, days, and a download of DINOv2. Neither [cyan]gpu[/cyan] nor [cyan]paper[/cyan] has been run as a whole yet.
    """
    with faults_in_one_line():
        from pipeline.project.profiles import apply_profile
        from pipeline.project.root import chdir_to_project_root

        chdir_to_project_root()
        changed = apply_profile(profile)
        print(*changed, f"{len(changed)} keys of params.yaml changed", sep="\n")


app.add_typer(params_app, name="params", rich_help_panel=INSPECT)
