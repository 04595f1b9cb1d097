"""The root folder of the project, and the environment in which its commands run."""

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
        UserError: there is no such folder.
    """
    folder = (start or Path.cwd()).resolve()
    root = project_root(folder)
    if root is None:
        raise UserError(f"no dvc.yaml in {folder} or above it: call burnish inside a project")
    return root


def chdir_to_project_root() -> Path:
    """Change the working directory to the root of the project, and return it.

    Paths of DVC, of git and of `pipeline.project.paths` are relative to the root.

    Raises:
        UserError: the working directory is not inside a project.
    """
    root = find_root()
    os.chdir(root)
    return root


def log_path(root: Path, stage: str) -> Path:
    """Path of the log of a stage. Characters of its name other than letters, digits and `_ . @ -` become `_`."""
    safe_name = re.sub(r"[^\w.@-]", "_", stage, flags=re.ASCII)
    return root / LOGS / f"{safe_name}.log"


def command_environment() -> dict[str, str]:
    """The environment variables of commands that we start.

    - PATH starts with the folder of this Python, so that `python` and `dvc` in dvc.yaml are those of the same virtual
      environment even if it is not activated.
    - Python's output is unbuffered, so that the log shows progress as it happens.
    - DVC's usage reports are off, because they leave a process behind.
    """
    environment = dict(os.environ)
    python_folder = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([python_folder, environment.get("PATH", os.defpath)])
    environment["PYTHONUNBUFFERED"] = "1"
    environment["DVC_NO_ANALYTICS"] = "true"
    return environment
