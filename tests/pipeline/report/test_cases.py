from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.report.cases import (
    KINDS,
    MAX_CASES,
    PER_KIND,
    SMALL,
    GalleryLimits,
    _verdict,
    gallery,
    gallery_limits,
    select_cases,
)
from pipeline.report.pictures import SIDE, detector_picture, embed, heat_map, mark_defect, thumbnail


def table(scores: list[float], labels: list[int], splits: list[str] | None = None) -> pd.DataFrame:
    names = [f"{i}.png" for i in range(len(scores))]
    return pd.DataFrame(
        {"path": names, "split": splits or ["test"] * len(scores), "label": labels, "image_score": scores}
    )


def test_most_extreme_first_by_hand() -> None:
    found = select_cases(table([5, 1, 9, 3, 2, 8, 4, 0], [1, 1, 1, 1, 0, 0, 0, 0]), 1)
    assert list(found.values()) == [[1], [5], [2], [7]]


def test_other_splits_are_left_out_and_ties_go_by_name() -> None:
    found = select_cases(table([1, 1, 1], [1, 1, 0], ["test", "test", "validation"]), 3)
    assert list(found.values()) == [[0, 1], [], [], []]


def test_no_image_is_best_and_worst() -> None:
    found = select_cases(table([1, 2, 3, 4, 5], [1, 1, 1, 0, 0]), 2)
    rows = [row for rows_of_kind in found.values() for row in rows_of_kind]
    assert len(rows) == len(set(rows)) == 5
    assert found[KINDS[0][0]] == [0, 1]
    assert found[KINDS[2][0]] == [2]


def test_with_more_galleries_cases_are_fewer_and_finally_smaller() -> None:
    assert gallery_limits(1) == GalleryLimits(PER_KIND, SIDE)
    assert gallery_limits(30) == GalleryLimits(2, SIDE)
    assert gallery_limits(1000) == GalleryLimits(1, SMALL)
    assert all(
        gallery_limits(n).per_kind * len(KINDS) * n <= MAX_CASES
        for n in range(1, 200)
        if gallery_limits(n).side == SIDE
    )


@pytest.mark.parametrize(
    ("label", "decision", "expected"),
    [
        (1, 0, ("missed defect", True)),
        (1, 1, ("found defect", False)),
        (0, 1, ("false alarm", True)),
        (0, 0, ("good, passed", False)),
        (1, pd.NA, ("defect", False)),
        (0, pd.NA, ("good", False)),
    ],
)
def test_verdicts(label: int, decision: object, expected: tuple[str, bool]) -> None:
    assert _verdict({"label": label, "decision": decision}) == expected


def test_pictures_of_a_detector_with_restoration(
    project_of_shape: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_of_shape("whole"))
    predictions = {name: pd.read_parquet(f"data/predictions/plate-{name}.parquet") for name in ("ear", "pca")}
    bad, good = (
        [picture.caption for picture in kind.cases[0].pictures]
        for kind in gallery("plate", "ear", predictions["ear"], GalleryLimits(1, 256))[:2]
    )
    assert bad == ["image", "anomaly map", "true mask", "computed mask", "restoration"]
    assert good == ["image", "anomaly map", "computed mask", "restoration"]
    case = gallery("plate", "pca", predictions["pca"], GalleryLimits(1, 32))[0].cases[0]
    assert [picture.alt for picture in case.pictures] == [
        case.name,
        f"anomaly map of {case.name}",
        f"true mask of {case.name}",
    ]


def decoded(data_url: str) -> Image.Image:
    return Image.open(io.BytesIO(b64decode(data_url.removeprefix("data:image/webp;base64,"))))


def test_a_picture_is_small_and_keeps_its_proportions(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500), "red").save(tmp_path / "wide.png")
    picture = embed(thumbnail(tmp_path / "wide.png"), "", "")
    assert (picture.width, picture.height) == decoded(picture.data_url).size == (256, 128)


def test_heat_is_brightest_where_the_map_is_highest() -> None:
    plane = np.zeros((4, 4), np.float32)
    plane[0, 3] = 1
    pixels = np.asarray(heat_map(Image.new("RGB", (64, 64), "grey"), plane, (0.0, 1.0))).astype(int)
    assert pixels.shape == (128, 128, 3)
    assert pixels[5, -5, 0] > pixels[-5, 5, 0] + 50


def test_the_mask_is_coloured_and_the_rest_is_grey(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    pixels = np.asarray(mark_defect(Image.new("RGB", (16, 16), (90, 90, 90)), tmp_path / "mask.png"))
    assert (pixels[8:] == 90).all()
    assert (pixels[:8, :, 0] > pixels[:8, :, 1] + 50).all()


def test_a_detectors_picture_takes_the_images_proportions() -> None:
    like = Image.new("RGB", (200, 100))
    assert detector_picture(np.zeros((64, 64, 3), np.uint8), like).size == (64, 32)
    assert np.asarray(detector_picture(np.full((8, 8), 0.5, np.float16), like)).max() == 128
