"""Which project is meant, and the environment in which its commands run."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from pipeline.project.paths import LOGS, project_root
from stages.types import UserError


def find_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: the working directory) that holds a dvc.yaml.

    Raises:
        UserError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    root = project_root(here)
    if root is None:
        raise UserError(f"no dvc.yaml in {here} or above it: call burnish inside a project")
    return root


def enter() -> Path:
    """Change into the project's root, which DVC's and Git's relative paths start from, and return it."""
    root = find_root()
    os.chdir(root)
    return root


def log_path(root: Path, stage: str) -> Path:
    """Where the output of a stage goes: its name, with all but letters, digits and `_ . @ -` made `_`."""
    safe = re.sub(r"[^\w.@-]", "_", stage, flags=re.ASCII)
    return root / LOGS / f"{safe}.log"


def command_environment() -> dict[str, str]:
    """The environment of commands that we start.

    The folder of this Python goes first in PATH, so that `python` and `dvc` in dvc.yaml are those of the same
    environment even where it is not activated. Python's output is unbuffered, so that progress shows in the log as it
    happens. DVC's usage reports are off: they leave a process of their own behind.
    """
    environment = dict(os.environ)
    here = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([here, environment.get("PATH", os.defpath)])
    environment["PYTHONUNBUFFERED"] = "1"
    environment["DVC_NO_ANALYTICS"] = "true"
    return environment
