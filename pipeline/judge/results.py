"""The files that `burnish predict` writes: two tables with the same rows, and the overlays."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.judge.prediction import Prediction, column_types
from stages.types import UserError

TABLES = ("predictions.parquet", "predictions.csv")
OVERLAYS = "overlays"
FLUSH = 10_000
"""Rows held in memory."""


class ResultWriter:
    """A context that takes predictions and overlays.

    The files appear in the output folder when the block ends without an exception, else nothing appears.

    Raises:
        UserError: the output folder holds a folder `overlays` that is not from an earlier run.
    """

    def __init__(self, out: Path, detectors: Sequence[str]) -> None:
        if (out / OVERLAYS).exists() and not (out / TABLES[0]).is_file():
            raise UserError(f"{out / OVERLAYS} exists and is not from an earlier run: choose another folder with --out")
        self._out, self._columns = out, column_types(detectors)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._out.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(prefix=".judging-", dir=self._out))
        self._schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in self._columns.items()])
        self._parquet = pq.ParquetWriter(self._scratch / TABLES[0], self._schema)
        self._text = (self._scratch / TABLES[1]).open("w", encoding="utf-8", newline="")
        self._csv = csv.DictWriter(self._text, list(self._columns), lineterminator="\n")
        self._csv.writeheader()
        return self

    def add(self, prediction: Prediction) -> None:
        """Add a row to both tables."""
        self._rows.append(prediction.to_row())
        if len(self._rows) >= FLUSH:
            self._flush()

    def overlay_path(self, name: str) -> Path:
        """Where to write an overlay."""
        folder = self._scratch / OVERLAYS
        folder.mkdir(exist_ok=True)
        return folder / name

    def _flush(self) -> None:
        import pyarrow as pa

        self._parquet.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._csv.writerows(self._rows)
        self._rows = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._parquet.close()
            self._text.close()
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _publish(self) -> None:
        shutil.rmtree(
            self._out / OVERLAYS, ignore_errors=True
        )  # overlays of an earlier run do not belong to this table
        for name in TABLES:
            (self._scratch / name).replace(self._out / name)
        if (self._scratch / OVERLAYS).is_dir():
            (self._scratch / OVERLAYS).rename(self._out / OVERLAYS)
