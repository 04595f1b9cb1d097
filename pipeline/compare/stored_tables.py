"""The tables of a side that DVC stores: predictions and the manifest."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pandas as pd

from pipeline.compare.outputs import Outputs, OutputUnavailable
from pipeline.compare.sides import Key, Problem
from pipeline.project import paths

PREDICTION_COLUMNS = (
    *("path", "sha256", "split", "label", "defect_type", "group", "image_score"),
    *("category", "detector", "threshold", "decision"),
)
"""Columns that are read; older files lack some of them."""
REQUIRED_COLUMNS = frozenset({"path", "sha256", "split", "label", "image_score", "category", "detector"})
MANIFEST_COLUMNS = ("path", "sha256", "category", "split", "label", "defect_type")


def read_predictions(outputs: Outputs) -> dict[Key, pd.DataFrame] | Problem:
    """The tables of data/predictions."""
    predictions: dict[Key, pd.DataFrame] = {}
    try:
        for name in outputs.names(paths.PREDICTIONS):
            if not name.endswith(".parquet"):
                continue
            table = _read_table(outputs.read(paths.PREDICTIONS / name), PREDICTION_COLUMNS)
            if missing := REQUIRED_COLUMNS - set(table.columns):
                return _different_layout(name, missing)
            if len(table):
                predictions[Key(table["category"].iloc[0], table["detector"].iloc[0])] = table
    except OutputUnavailable as error:
        return Problem(str(error))
    if not predictions:
        return Problem(f"{paths.PREDICTIONS} is not in DVC's cache or is empty")
    return predictions


def read_manifest(outputs: Outputs) -> pd.DataFrame | Problem:
    """The table of all images."""
    try:
        table = _read_table(outputs.read(paths.MANIFEST), MANIFEST_COLUMNS)
    except OutputUnavailable as error:
        return Problem(str(error))
    if missing := set(MANIFEST_COLUMNS) - set(table.columns):
        return _different_layout(str(paths.MANIFEST), missing)
    return table


def _different_layout(name: str, missing: set[str] | frozenset[str]) -> Problem:
    return Problem(f"{name} is of another layout: no column {', '.join(sorted(missing))}")


def _read_table(data: bytes, columns: Sequence[str]) -> pd.DataFrame:
    """Those of the columns that a Parquet file has.

    Raises:
        OutputUnavailable: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        present = set(pq.read_schema(io.BytesIO(data)).names)
        return pd.read_parquet(io.BytesIO(data), columns=[name for name in columns if name in present])
    except pa.ArrowInvalid as error:
        raise OutputUnavailable(f"a table is damaged ({' '.join(str(error).split())[:100]})") from error
