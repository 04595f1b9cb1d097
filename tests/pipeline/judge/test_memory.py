"""Too little memory: smaller batches, images alone, and the same scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.bundle.writer import make_bundle
from pipeline.judge.chunks import TOO_LARGE, BatchSize, predict_images, read_images
from pipeline.judge.command import predict
from pipeline.judge.images import LoadedImage
from pipeline.judge.options import Options
from pipeline.project.faults import out_of_memory
from pipeline.project.params import load_params
from stages.download.config import DataConfig
from stages.types import ScoreMap, UserError
from tests.pipeline.judge.helpers import PCA, messages, rows_by_name


class SmallMemory:
    """Models that have memory for `capacity` images at once."""

    def __init__(self, capacity: int, fault: Exception) -> None:
        self.capacity, self.fault = capacity, fault
        self.tried, self.limits = list[int](), list[int]()

    def limit_batch(self, images: int) -> None:
        self.limits.append(images)

    def predict(self, ids: Sequence[str], images: dict[int, NDArray[np.uint8]]) -> list[dict[str, ScoreMap]]:
        assert len(images[2]) == len(ids)
        self.tried.append(len(ids))
        if len(ids) > self.capacity:
            raise self.fault
        return [{"pca": ScoreMap(np.zeros((2, 2), np.float32), float(image.sum()))} for image in images[2]]


class OutOfMemoryError(RuntimeError):
    """As torch.cuda.OutOfMemoryError is called."""


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError("1 TiB"),
        OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_halves_the_batch_and_goes_on(fault: Exception) -> None:
    chunks = [
        [LoadedImage(f"{c}{i}", identity=f"{c}{i}", squares={2: np.full((2, 2, 3), i, np.uint8)}) for i in range(8)]
        for c in "xy"
    ]
    chunks[0][3] = LoadedImage("x3", fault="broken")
    models, sizes = SmallMemory(3, fault), list[int]()
    found = list(predict_images(models, chunks, BatchSize(8, sizes.append)))
    assert [image.path for image, _ in found] == [f"{c}{i}" for c in "xy" for i in range(8)]
    assert [None if maps is None else maps["pca"].image_score for _, maps in found] == [
        *(0.0, 12.0, 24.0, None, 48.0, 60.0, 72.0, 84.0),
        *(12.0 * i for i in range(8)),
    ]
    assert sizes == models.limits == [4, 2]
    assert models.tried == [7, 4, 2, 2, 2, 1, 2, 2, 2, 2]


def test_memory_for_not_even_one_image_is_one_line() -> None:
    chunk = [LoadedImage("x", squares={2: np.zeros((2, 2, 3), np.uint8)})]
    with pytest.raises(UserError, match=r"out of memory even with one image at a time \(1 TiB\)"):
        list(predict_images(SmallMemory(0, MemoryError("1 TiB")), [chunk], BatchSize(2, lambda size: None)))
    assert not out_of_memory(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(
            predict_images(
                SmallMemory(0, RuntimeError("shapes do not match")), [chunk], BatchSize(2, lambda size: None)
            )
        )


def test_where_memory_is_short_predict_says_so_and_the_scores_stay(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.judge.models import Models

    options = Options(out=tmp_path / "plenty", detectors=PCA, batch=4)
    assert predict(["data/raw/images"], options) == 0
    predict_batch = Models.predict

    def little(self: Models, ids: Sequence[str], images: dict[int, NDArray[np.uint8]]) -> list[dict[str, ScoreMap]]:
        if len(ids) > 1:
            raise MemoryError("1 TiB")
        return predict_batch(self, ids, images)

    monkeypatch.setattr(Models, "predict", little)
    capsys.readouterr()
    assert predict(["data/raw/images"], replace(options, out=tmp_path / "little")) == 0
    stderr = capsys.readouterr().err
    assert messages(stderr) == [
        f"burnish: out of memory: continuing with {count} at a time" for count in ("2 images", "1 image")
    ]
    assert "predict: 100%" in stderr and "8/8" in stderr
    assert rows_by_name(tmp_path / "little") == rows_by_name(tmp_path / "plenty")


def test_images_that_do_not_fit_into_memory_together_are_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`b` does not fit together with other images, `c` does not even fit alone."""
    tries = Counter[str]()

    def little(path: str, sides: Sequence[int], data: DataConfig, white: int) -> LoadedImage:
        tries[path] += 1
        if path == "c" or (path == "b" and tries[path] == 1):
            raise MemoryError
        return LoadedImage(path)

    monkeypatch.setattr("pipeline.judge.chunks.load_image", little)
    found = list(read_images("abcdef", [2], DataConfig(), BatchSize(4, lambda size: None)))
    assert [[image.path for image in chunk] for chunk in found] == [list("abcd"), list("ef")]
    assert {image.path: image.fault for chunk in found for image in chunk if image.fault} == {"c": TOO_LARGE}


def test_fewer_images_go_through_each_network_where_memory_is_short(finished: Path, tmp_path: Path) -> None:
    """The code path for GPUs, run on the CPU under another device name."""
    from pipeline.bundle.reader import open_bundle
    from pipeline.judge.models import Models

    make_bundle(load_params(finished / "params.yaml"), finished, tmp_path / "bundle")
    models = Models(open_bundle(tmp_path / "bundle"), "tile", ("knn",), "cpu:0")
    assert models._features is not None
    backbone, seen = models._features.backbone, list[int]()
    backbone.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    images = np.full((3, backbone.image_side, backbone.image_side, 3), 99, np.uint8)
    before = models._features.extract(images)["raw"]
    models.limit_batch(2)
    np.testing.assert_allclose(models._features.extract(images)["raw"], before, rtol=0.02, atol=0.01)
    assert seen == [64, 2, 2]
