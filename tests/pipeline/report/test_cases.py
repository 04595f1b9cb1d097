from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.report.cases import KINDS, MOST_CASES, PER_KIND, SMALL, Room, _verdict, chosen, gallery, room
from pipeline.report.pictures import SIDE, heat, marked, picture, stored, thumbnail


def table(scores: list[float], labels: list[int], splits: list[str] | None = None) -> pd.DataFrame:
    names = [f"{i}.png" for i in range(len(scores))]
    return pd.DataFrame(
        {"path": names, "split": splits or ["test"] * len(scores), "label": labels, "image_score": scores}
    )


def test_most_telling_first_by_hand() -> None:
    found = chosen(table([5, 1, 9, 3, 2, 8, 4, 0], [1, 1, 1, 1, 0, 0, 0, 0]), 1)
    assert list(found.values()) == [[1], [5], [2], [7]]


def test_other_splits_are_left_out_and_ties_go_by_name() -> None:
    found = chosen(table([1, 1, 1], [1, 1, 0], ["test", "test", "validation"]), 3)
    assert list(found.values()) == [[0, 1], [], [], []]


def test_no_image_is_best_and_worst() -> None:
    found = chosen(table([1, 2, 3, 4, 5], [1, 1, 1, 0, 0]), 2)
    rows = [row for some in found.values() for row in some]
    assert len(rows) == len(set(rows)) == 5
    assert found[KINDS[0][0]] == [0, 1]
    assert found[KINDS[2][0]] == [2]


def test_many_galleries_get_fewer_and_at_last_smaller_cases() -> None:
    assert room(1) == Room(PER_KIND, SIDE)
    assert room(30) == Room(2, SIDE)
    assert room(1000) == Room(1, SMALL)
    assert all(room(n).per_kind * len(KINDS) * n <= MOST_CASES for n in range(1, 200) if room(n).side == SIDE)


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


def test_pictures_of_a_detector_with_restoration(made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made("whole"))
    predictions = {name: pd.read_parquet(f"data/predictions/plate-{name}.parquet") for name in ("ear", "pca")}
    bad, good = (
        [one.caption for one in kind.cases[0].pictures]
        for kind in gallery("plate", "ear", predictions["ear"], Room(1, 256))[:2]
    )
    assert bad == ["image", "anomaly map", "true mask", "drawn mask", "restoration"]
    assert good == ["image", "anomaly map", "drawn mask", "restoration"]
    case = gallery("plate", "pca", predictions["pca"], Room(1, 32))[0].cases[0]
    assert [one.alt for one in case.pictures] == [case.name, f"anomaly map of {case.name}", f"true mask of {case.name}"]


def decoded(address: str) -> Image.Image:
    return Image.open(io.BytesIO(b64decode(address.removeprefix("data:image/webp;base64,"))))


def test_a_picture_is_small_and_keeps_its_proportions(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500), "red").save(tmp_path / "wide.png")
    one = picture(thumbnail(tmp_path / "wide.png"), "", "")
    assert (one.width, one.height) == decoded(one.address).size == (256, 128)


def test_heat_is_brightest_where_the_map_is_highest() -> None:
    plane = np.zeros((4, 4), np.float32)
    plane[0, 3] = 1
    pixels = np.asarray(heat(Image.new("RGB", (64, 64), "grey"), plane, (0.0, 1.0))).astype(int)
    assert pixels.shape == (128, 128, 3)
    assert pixels[5, -5, 0] > pixels[-5, 5, 0] + 50


def test_the_mask_is_coloured_and_the_rest_is_grey(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    pixels = np.asarray(marked(Image.new("RGB", (16, 16), (90, 90, 90)), tmp_path / "mask.png"))
    assert (pixels[8:] == 90).all()
    assert (pixels[:8, :, 0] > pixels[:8, :, 1] + 50).all()


def test_a_detectors_picture_takes_the_images_proportions() -> None:
    like = Image.new("RGB", (200, 100))
    assert stored(np.zeros((64, 64, 3), np.uint8), like).size == (64, 32)
    assert np.asarray(stored(np.full((8, 8), 0.5, np.float16), like)).max() == 128
