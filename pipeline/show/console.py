"""The console that prints results to standard output."""

from __future__ import annotations

import sys

from rich.console import Console


def stdout_console() -> Console:
    """A console for standard output.

    If standard output is not a terminal, the console is 120 columns wide, so that tables in logs have enough space.
    """
    if sys.stdout.isatty():
        return Console()
    return Console(width=120, force_terminal=False, color_system=None)
