"""What `burnish predict` says of each image: rows, their files, and a few lines for whoever reads along."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stages.types import UserError

DEFECT, GOOD, UNREADABLE = "defect", "good", "unreadable"
TABLES = ("predictions.parquet", "predictions.csv")
OVERLAYS = "overlays"
FLUSH = 10_000
"""Rows held in memory."""
SHOWN = 20
"""Images that are named on the terminal."""

Row = dict[str, Any]


def columns(names: Sequence[str]) -> dict[str, str]:
    """Columns and their types; `score_<detector>` for each of `names`."""
    return {
        "path": "string",
        "sha256": "string",
        "width": "int64",
        "height": "int64",
        "mode": "string",
        "category": "string",
        "verdict": "string",
        "score": "float64",
        "threshold": "float64",
        "detector": "string",
        **{f"score_{name}": "float64" for name in names},
        "note": "string",
        "overlay": "string",
    }


class Results:
    """Takes rows and overlays; the files appear in `out` when the block ends well, and nothing does when it does not.

    Raises:
        UserError: `out` holds a folder `overlays` that is not of an earlier run.
    """

    def __init__(self, out: Path, names: Sequence[str]) -> None:
        if (out / OVERLAYS).exists() and not (out / TABLES[0]).is_file():
            raise UserError(f"{out / OVERLAYS} is there and not of an earlier run: name another folder with --out")
        self._out, self._columns = out, columns(names)
        self._rows: list[Row] = []

    def __enter__(self) -> Self:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._out.mkdir(parents=True, exist_ok=True)
        self._part = Path(tempfile.mkdtemp(prefix=".judging-", dir=self._out))
        self._schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in self._columns.items()])
        self._parquet = pq.ParquetWriter(self._part / TABLES[0], self._schema)
        self._text = (self._part / TABLES[1]).open("w", encoding="utf-8", newline="")
        self._csv = csv.DictWriter(self._text, list(self._columns), lineterminator="\n")
        self._csv.writeheader()
        return self

    def add(self, row: Row) -> None:
        """A row; it has all columns."""
        self._rows.append(row)
        if len(self._rows) >= FLUSH:
            self._flush()

    def overlay_path(self, name: str) -> Path:
        """Where to write an overlay."""
        folder = self._part / OVERLAYS
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
            shutil.rmtree(self._part, ignore_errors=True)

    def _publish(self) -> None:
        shutil.rmtree(self._out / OVERLAYS, ignore_errors=True)  # of an earlier run: it would not be of this table
        for name in TABLES:
            (self._part / name).replace(self._out / name)
        if (self._part / OVERLAYS).is_dir():
            (self._part / OVERLAYS).rename(self._out / OVERLAYS)


def shown_path(path: str) -> str:
    """A path as text, also where its bytes are no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


class Summary:
    """Counts, and the images to name."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys((GOOD, DEFECT, UNREADABLE, ""), 0)
        self._rejected: list[Row] = []
        self._unreadable: list[Row] = []
        self._first: list[Row] = []

    def add(self, row: Row) -> None:
        """Count a row, and remember it where it may be named."""
        self.counts[row["verdict"] or ""] += 1
        for kept, wanted in (
            (self._first, True),
            (self._unreadable, row["verdict"] == UNREADABLE),
            (self._rejected, row["verdict"] == DEFECT),
        ):
            if wanted and len(kept) <= SHOWN:
                kept.append(row)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """Each of a few images, or the first rejected ones of many; then how many there are of each kind."""
        few = self.total <= SHOWN
        named = self._first if few else self._rejected[:SHOWN]
        found = [f"{row['verdict'] or 'no verdict':<10}  {_figure(row):>9}  {_what(row)}" for row in named]
        if not few and (more := self.counts[DEFECT] - len(named)) > 0:
            found.append(f"... and {more} more rejected")
        words = {GOOD: "good", DEFECT: "rejected", "": "without a verdict", UNREADABLE: "unreadable"}
        counts = ", ".join(f"{self.counts[kind]} {word}" for kind, word in words.items() if self.counts[kind])
        return [*found, f"{self.total} image{'s' * (self.total > 1)}: {counts}"]

    def faults(self) -> str | None:
        """Which files could not be read, in one line."""
        if not self.counts[UNREADABLE]:
            return None
        named = "; ".join(f"{row['path']} ({row['note']})" for row in self._unreadable[:3])
        more = self.counts[UNREADABLE] - 3
        return f"{self.counts[UNREADABLE]} of {self.total} images could not be read: {named}" + (
            f"; and {more} more" if more > 0 else ""
        )


def _figure(row: Mapping[str, Any]) -> str:
    return "" if row["score"] is None else f"{row['score']:.4g}"


def _what(row: Mapping[str, Any]) -> str:
    return row["path"] + (f"  ({row['note']})" if row["note"] else "")
