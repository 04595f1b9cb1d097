"""The command `burnish`: one module for each group of commands, with their options and help texts."""

from __future__ import annotations

import io
import sys


def print_what_the_terminal_cannot() -> None:
    """Let standard output and standard error take every character: as an escape where their encoding has none.

    Otherwise a command fails on a terminal that is not UTF-8, after its work is done.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Entry point of the console command `burnish`."""
    from pipeline.cli.app import app

    print_what_the_terminal_cannot()
    app(prog_name="burnish")
