"""Run DVC commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.orchestration.logs import text_lines
from pipeline.project.root import command_environment
from stages.types import UserError


def run_dvc(folder: Path, *arguments: str) -> str:
    """The standard output of a DVC command. Do not pass --quiet, which also hides error messages.

    Raises:
        UserError: the command failed; the message has DVC's own error.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = command_environment() | {"DVC_NO_ANALYTICS": "true"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = text_lines(done.stderr) or text_lines(done.stdout)
        lines = lines or [f"exit code {done.returncode}, without a message"]
        error = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        raise UserError(f"dvc {arguments[0]} in {folder}: {error.removeprefix('ERROR: ')}")
    return done.stdout.strip()
