"""Each detector's graph, run by ONNX Runtime, against the detector's own `score`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from pipeline.export.detectors import graph_inputs
from stages.backbone.imagenet import extractor, network_of
from stages.detectors.ear.mask import mask_of
from stages.detectors.interface import DetectorConfig
from stages.detectors.registry import CONFIGS, detector
from stages.detectors.shared import surroundings
from stages.fusion import fusion
from stages.onnx_graphs import ear, fused, parts
from stages.onnx_graphs.convert import runner, to_onnx
from stages.onnx_graphs.interface import ExportGraph, Input, graph_of
from stages.onnx_graphs.parity import Parity, compare
from stages.training import Session
from stages.types import Fitted, Samples, ScoreMap, UserError
from tests.conftest import ROOT
from tests.stages.detectors.ear import tiny

pytestmark = pytest.mark.long

TOLERANCE = 1e-4
"""A tenth of what `burnish export` tolerates."""

SMALL: dict[str, dict[str, Any]] = {
    "context": {"image_side": 64, "surroundings": 1},
    "ear": {
        "token_side": 64,
        "epochs": 1,
        "width": 4,
        "depth": 1,
        "memory_size": 50,
        "mask_fraction": 0.2,
        "channels": 5,
    }
    | {"mosaic_scales": (2, 4)},
    "intra": {"token_side": 64, "patch_cells": 2, "window_side": 3, "epochs": 1, "windows_per_image": 2, "blocks": 1}
    | {"width": 8, "heads": 2, "channels": 5},
    "knn": {"features": "clean", "image_side": 64, "memory_size": 40, "neighbours": 3},
    "subspace": {"image_side": 64, "explained": 0.8},
    "padim": {"image_side": 64},
    "pca": {"image_side": 32, "components": 4},
    "gabor": {"image_side": 64, "grid": 8},
}

PIXELS = {"space": "pixels", "image_side": 15, "patch_side": 3, "smoothing_side": 3, "compare": "msgms"}
"""InTra as in its paper."""


def samples(count: int, seed: int, side: int) -> Samples:
    """Coloured blocks with noise, and tokens on a grid of 4 x 4."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((count, 6, 6, 3)).repeat(-(-side // 6), 1).repeat(-(-side // 6), 2)
    images = coarse[:, :side, :side] * 200 + generator.normal(20, 8, (count, side, side, 3))
    return replace(tiny.samples(count, seed), images=images.clip(0, 255).astype(np.uint8))


def fitted_on(name: str, config: DetectorConfig, **more: Any) -> Fitted:
    train, validation = (replace(samples(count, count, config.input_side), **more) for count in (8, 3))
    return detector(name).fit(train, validation, config, 0, Session())


def parity(name: str, fitted: Fitted, config: Any, images: Samples, cnn: nn.Module | None = None) -> Parity:
    made = graph_of(name)(fitted, config, images, cnn)
    run = runner(to_onnx(made), threads=1)
    ours = list(detector(name).score(fitted, images, config, "cpu"))
    return compare(ours, [run(graph_inputs(made, images, i)) for i in range(len(images))], None, TOLERANCE)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("context", {"features": "clean"}),
        ("ear", {"features": "raw", "compare_masks": False}),
        ("ear", {"features": "raw", "mask": "rarity_clean", "hint": "none"}),
        ("intra", {"features": "raw", "patch_cells": 1}),
        ("intra", {"features": "clean", "patch_cells": 1, "restore": "mean"}),
        ("intra", PIXELS),
        ("intra", PIXELS | {"compare": "ssim"}),
        ("knn", {"compare_features": False}),
        ("knn", {"compare_features": False, "features": "raw"}),
        ("knn", {"compare_features": False, "features": "raw", "metric": "cosine", "top_share": 0.3}),
        ("knn", {"compare_features": False, "features": "raw", "metric": "euclidean", "memory_size": None}),
        ("subspace", {"compare_features": False}),
        ("padim", {"compare_features": False, "features": "raw"}),
        ("pca", {}),
        ("gabor", {}),
    ],
)
def test_the_graph_scores_as_the_detector(name: str, changes: dict[str, Any]) -> None:
    config = CONFIGS[name](**{**SMALL[name], **changes})
    result = parity(name, fitted_on(name, config), config, samples(3, 99, config.input_side))
    assert result.within(TOLERANCE)
    assert result.pixel <= TOLERANCE


def with_network(name: str, **changes: Any) -> None:
    """A detector that reads the features of the ImageNet CNN."""
    config: Any = CONFIGS[name](**{**SMALL[name], **changes})
    extract = extractor(config.network, config.patch, "cpu")
    fitted = fitted_on(name, config, imagenet=extract)
    images = replace(samples(4, 99, config.input_side), imagenet=extract)
    result = parity(name, fitted, config, images, network_of(config.network, config.patch))
    assert result.within(TOLERANCE)
    assert result.pixel <= TOLERANCE


def test_the_graph_of_padim_holds_the_imagenet_network() -> None:
    with_network("padim", compare_features=False)


def test_the_graph_of_context_holds_the_imagenet_network() -> None:
    with_network("context", surroundings=3)


def test_the_graph_of_nearest_neighbours_holds_another_network() -> None:
    with_network("knn", compare_features=False, features="imagenet", network="lite1", patch=16)


@pytest.mark.parametrize("restore", ["network", "mean"])
def test_the_graph_of_intra_paints_the_tokens_of_the_imagenet_network(restore: str) -> None:
    with_network("intra", restore=restore)


@pytest.mark.parametrize(("mask", "restore"), [("rarity_raw", "network"), ("rarity_clean", "mean")])
def test_the_graph_of_ear_cuts_by_rarity(mask: str, restore: str) -> None:
    """In the last image nothing is rarer than the rest. The network is the default one."""
    config: Any = CONFIGS["ear"](**SMALL["ear"], mask=mask, restore=restore)
    extract = extractor(config.network, config.patch, "cpu")
    images = samples(3, 99, config.input_side)
    read = "raw" if mask == "rarity_raw" else "clean"
    tokens = getattr(images, read)[:]
    tokens[2] = 1
    fitted = fitted_on("ear", config, imagenet=extract)
    chosen = replace(images, **{read: tokens}, imagenet=extract)
    assert parity("ear", fitted, config, chosen, network_of(config.network, config.patch)).within(TOLERANCE)


@pytest.mark.parametrize(("compare_by", "sigma"), [("ssim", 0.0), ("msgms", 1.5)])
def test_the_graph_of_ear_cuts_pixels_by_attention_and_leaves_no_hint(compare_by: str, sigma: float) -> None:
    changes = {"mask": "attention", "hint": "none", "smooth_sigma": sigma, "compare": compare_by, "space": "pixels"}
    config = CONFIGS["ear"](**SMALL["ear"], **changes, image_side=32)
    result = parity("ear", fitted_on("ear", config), config, samples(3, 99, 32))
    # SSIM is a difference of nearly equal numbers where nothing varies
    assert result.within(10 * TOLERANCE if compare_by == "ssim" else TOLERANCE)


def test_the_graph_of_intra_paints_some_windows_at_a_time() -> None:
    config = CONFIGS["intra"](**{**SMALL["intra"], **PIXELS})
    fitted, images = fitted_on("intra", config), samples(1, 99, 15)
    whole, parts_of_ten = (
        graph_of("intra")(fitted, config.model_copy(update={"inference_windows": count}), images, None).module(
            torch.from_numpy(images.images[:])
        )[0]
        for count in (25, 10)
    )
    np.testing.assert_allclose(parts_of_ten.detach(), whole.detach(), rtol=1e-4, atol=1e-7)


def test_pca_of_a_single_image_has_no_components() -> None:
    config = CONFIGS["pca"](**{**SMALL["pca"], "fit_on": "train"})
    fitted = detector("pca").fit(samples(1, 0, 32), samples(1, 1, 32), config, 0, Session())
    assert fitted.info["components"] == 0
    images = samples(1, 2, 32)
    plane, score = graph_of("pca")(fitted, config, images, None).module(torch.from_numpy(images.images[:]))
    expected = next(detector("pca").score(fitted, images, config, "cpu"))
    np.testing.assert_allclose(plane, expected.anomaly_map, rtol=1e-3, atol=1e-5)
    assert float(score) == pytest.approx(expected.image_score, rel=1e-5)


class MaskAlone(ear.Mask):
    def forward(self, saliency: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        mask = super().forward(saliency).float()
        return mask, mask.sum()


def test_equal_saliencies_are_cut_in_the_detectors_order() -> None:
    """Few values, so that most pixels tie in one key or in both; eighths, so that interpolation does not round."""
    run = runner(
        to_onnx(ExportGraph(MaskAlone((4, 4), 16, 0.3).eval(), (Input("saliency", (4, 4), "float32", ""),))), threads=1
    )
    generator = np.random.default_rng(0)
    for levels in (1, 2, 3, 50):
        for _ in range(20):
            saliency = (generator.integers(0, levels, (4, 4)) / 8).astype(np.float32)
            np.testing.assert_array_equal(run({"saliency": saliency}).anomaly_map > 0.5, mask_of(saliency, 16, 0.3))


@pytest.mark.parametrize("mode", ["reflect", "nearest"])
@pytest.mark.parametrize("sigma", [0.0, 0.8, 3.0])
def test_smoothing_is_scipys(mode: str, sigma: float) -> None:
    plane = np.random.default_rng(0).random((5, 9), np.float32)
    smoothed = parts.smooth((5, 9), sigma, mode)(torch.from_numpy(plane)).numpy()
    np.testing.assert_allclose(smoothed, gaussian_filter(plane.astype(np.float64), sigma, mode=mode), rtol=1e-5)


def test_the_residual_is_the_detectors() -> None:
    generator = np.random.default_rng(0)
    features = generator.random((20, 5, 9, 4), np.float32)
    for distance in (1, 4, 15):
        prediction = surroundings.fit(features, distance)
        residual = parts.Residual((5, 9), distance, prediction)(torch.from_numpy(features[0]))
        expected = surroundings.residual(features[0], prediction, distance)
        np.testing.assert_allclose(residual, expected, atol=1e-5)


def test_a_large_memory_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    memory = {
        "features": generator.random((23, 4)).astype(np.float16),
        "centre": np.full(4, 0.5, np.float32),
        "spread": np.array([1, 2, 3, 0], np.float32),
    }
    queries = torch.from_numpy(generator.random((6, 4), np.float32))
    scaled = (memory["features"].astype(np.float32) - queries.numpy()[:, None]) / np.array([1, 2, 3, 1])
    slow = np.sort(np.sqrt((scaled**2).sum(-1)), axis=1)  # (6, 23)
    for chunk, neighbours in ((100, 2), (5, 2), (5, 50)):
        monkeypatch.setattr(parts, "CHUNK", chunk)
        distances = parts.Nearest(memory, neighbours)(queries.view(2, 3, 4))
        np.testing.assert_allclose(distances.flatten(), slow[:, :neighbours].mean(1), rtol=1e-4)


SIDES = {"a": 4, "b": 6}


def outputs(generator: np.random.Generator, spread: float) -> dict[str, ScoreMap]:
    """`b` is always the same: its rank normalization has a single knot."""
    maps = {name: generator.normal(0, spread, (side, side)).astype(np.float32) for name, side in SIDES.items()}
    maps["b"] = np.ones_like(maps["b"])
    return {name: ScoreMap(plane, float(plane.max())) for name, plane in maps.items()}


def test_the_graph_of_the_fusion_fuses_alike() -> None:
    """On images that it is fitted to, where every value is a knot, and far outside."""
    generator = np.random.default_rng(0)
    validation = [outputs(generator, 1.0) for _ in range(30)]
    fitted = fusion.fit(
        {name: np.array([image[name].image_score for image in validation]) for name in SIDES},
        {name: [image[name].anomaly_map for image in validation] for name in SIDES},
        map_pixels=4096,
    )
    images = [*validation[:3], *(outputs(generator, 4.0) for _ in range(3)), outputs(generator, 1e3)]
    run = runner(to_onnx(fused.graph(fitted, SIDES)), threads=1)
    for image in images:
        inputs: dict[str, NDArray[Any]] = {f"{name}_map": member.anomaly_map for name, member in image.items()}
        inputs |= {f"{name}_score": np.array(member.image_score, np.float32) for name, member in image.items()}
        fused_by_graph, expected = run(inputs), fusion.fuse(fitted, image)
        np.testing.assert_allclose(fused_by_graph.anomaly_map, expected.anomaly_map, rtol=1e-5, atol=1e-5)
        assert fused_by_graph.image_score == pytest.approx(expected.image_score, rel=1e-5)


def pca_graph() -> ExportGraph:
    config = CONFIGS["pca"](**SMALL["pca"])
    return graph_of("pca")(fitted_on("pca", config), config, samples(1, 0, 32), None)


def test_a_file_has_the_same_bytes_each_time_and_no_paths_in_it() -> None:
    content = to_onnx(pca_graph())
    assert content == to_onnx(pca_graph())
    assert b".py" not in content


def test_weights_beyond_one_file_are_refused() -> None:
    huge = nn.Module()
    huge.register_buffer("memory", torch.empty(10**9, device="meta"))
    with pytest.raises(UserError, match=r"4\.0 GB.*2 GB at most"):
        to_onnx(ExportGraph(huge, ()))


def test_features_that_are_not_there_are_named() -> None:
    config = CONFIGS["knn"](**SMALL["knn"], compare_features=False)
    with pytest.raises(UserError, match="'clean'"):
        graph_of("knn")(fitted_on("knn", config), config, replace(samples(1, 0, 64), clean=None), None)


def test_every_graph_is_held_against_its_detector() -> None:
    graphs = {file.stem for file in (ROOT / "stages/onnx_graphs").glob("*.py")} & set(CONFIGS)
    assert graphs == set(SMALL)
    assert all(callable(graph_of(name)) for name in graphs)


def test_a_detector_without_a_graph_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^detector mine has no ONNX graph: .*stages/onnx_graphs/mine\.py"):
        graph_of("mine")
