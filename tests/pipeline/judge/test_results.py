"""Tables and overlays: what is in them, and when they appear."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.judge.command import predict
from pipeline.judge.options import Options
from pipeline.judge.prediction import Prediction, column_types
from pipeline.judge.results import ResultWriter
from pipeline.show.overlay import overlay
from stages.types import UserError
from tests.pipeline.judge.helpers import PCA, rows_by_name


def prediction(**changes: Any) -> Prediction:
    fields = {field.name: None for field in dataclasses.fields(Prediction)}
    return Prediction(**{**fields, "scores": {}, **changes})


def test_rows_have_the_columns_of_the_table() -> None:
    """In the same order."""
    row = prediction(scores={"ear": 0.5, "pca": None}).to_row()
    assert list(row) == list(column_types(["ear", "pca"]))
    assert (row["score_ear"], row["score_pca"]) == (0.5, None)


def test_rows_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.judge.results.FLUSH", 3)
    with ResultWriter(tmp_path, PCA) as results:
        for number in range(8):
            results.add(prediction(path=f"{number}.png", scores={"pca": number / 3}))
            assert len(results._rows) < 3
    assert [row["score_pca"] for row in rows_by_name(tmp_path).values()] == [number / 3 for number in range(8)]


def test_overlays_of_rejected_images_of_all_or_of_none(here: Path, tmp_path: Path) -> None:
    for wanted, names in ((True, ["000001-a.png", "000002-c.png"]), (None, ["000002-c.png"]), (False, [])):
        predict(["new/a.png", "new/c.png"], Options(out=tmp_path, detectors=PCA, overlays=wanted))
        assert sorted(path.name for path in tmp_path.glob("overlays/*")) == names  # those of the previous run are gone
        shown = [row["overlay"] for row in rows_by_name(tmp_path).values() if row["overlay"]]
        assert shown == [f"overlays/{name}" for name in names]


def test_the_brightest_spot_of_an_overlay_is_the_defects() -> None:
    plane = np.zeros((8, 8), np.float32)
    plane[2, 5] = 4.0
    image = Image.fromarray(np.full((60, 120), 100, np.uint8)).convert("RGB")
    shown = overlay(image, plane, (0.0, 1.0))
    assert shown.size == (256, 128)
    bright = np.asarray(shown, np.float32).sum(axis=-1)
    row, column = np.unravel_index(int(bright.argmax()), bright.shape)
    assert (row * 8 // 128, column * 8 // 256) == (2, 5)
    assert np.array_equal(np.asarray(overlay(image, plane, (0.0, 4.0))), np.asarray(overlay(image, plane, None)))
    assert overlay(Image.new("RGB", (3000, 2)), plane, None).size == (1024, 1)


def test_a_folder_of_other_files_is_left_alone(here: Path, tmp_path: Path) -> None:
    (tmp_path / "overlays").mkdir()
    (tmp_path / "overlays" / "mine.png").write_bytes(b"")
    with pytest.raises(UserError, match="overlays exists and is not from an earlier run"):
        predict(["new/c.png"], Options(out=tmp_path, detectors=PCA))
    assert (tmp_path / "overlays" / "mine.png").exists()


def test_an_interrupted_run_leaves_the_earlier_result(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(["new/c.png"], Options(out=tmp_path, detectors=PCA))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ResultWriter, "_flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(["new/a.png"], Options(out=tmp_path, detectors=PCA))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
