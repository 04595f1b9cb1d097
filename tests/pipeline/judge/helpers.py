"""What the tests of `burnish predict` share."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PCA = ("pca",)


def burnish(
    folder: Path, environment: dict[str, str], *arguments: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    environment = {**environment, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, check=False
    )


def messages(stderr: str) -> list[str]:
    """Lines on stderr, without those of the progress bar."""
    return [line for line in stderr.replace("\r", "\n").splitlines() if line.startswith("burnish")]


def rows_by_name(out: Path) -> dict[str, dict[str, Any]]:
    """Rows of predictions.parquet by file name, after a check that predictions.csv holds the same rows."""
    rows = pq.read_table(out / "predictions.parquet").to_pylist()
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        from_csv = list(csv.DictReader(file))
    assert from_csv == [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    return {Path(row["path"]).name: row for row in rows}
