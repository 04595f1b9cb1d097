"""The terminal that results go to."""

from __future__ import annotations

import sys

from rich.console import Console


def stdout_console() -> Console:
    """Standard output; 120 columns wide where it is no terminal, so that tables in logs are not squeezed into 80."""
    if sys.stdout.isatty():
        return Console()
    return Console(width=120, force_terminal=False, color_system=None)
