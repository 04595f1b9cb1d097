"""Detectors and their fusion as ONNX files, each held against our own scoring before it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.export.files import compared_rows, of_graph, remove, some, write
from pipeline.project import paths
from pipeline.project.params import Params
from stages.fusion.members import FUSION
from stages.types import Samples, ScoreMap, UserError

if TYPE_CHECKING:
    from stages.onnx_graphs.interface import ExportGraph


@dataclass(frozen=True)
class _Job:
    """A graph, and what our own scoring gives for some images."""

    graph: ExportGraph
    weights: str
    """Digest of the fitted model."""
    upstream: Mapping[str, str]
    """Digests of what makes the features that it reads."""
    config: dict[str, Any]
    feeds: Sequence[Mapping[str, NDArray[Any]]]
    ours: Sequence[ScoreMap]


def export_detector(
    params: Params, category: str, name: str, folder: Path, tolerance: float
) -> tuple[str | None, bool]:
    """Write one, or say why not; and whether it reads features of the backbone.

    Raises:
        FileNotFoundError: a stage has not run.
    """
    from stages.onnx_graphs.convert import runner, to_onnx
    from stages.onnx_graphs.interface import FEATURES, OUTPUTS
    from stages.onnx_graphs.parity import compare

    model, threshold = folder / f"{name}.onnx", _threshold(category, name)
    job = _fused(category) if name == FUSION else _detector(params, category, name)
    reads = any(one.name in FEATURES for one in job.graph.inputs)
    try:
        content = to_onnx(job.graph)
    except UserError as fault:
        remove(model)
        return f"{category} {name}: not exported: {fault}", reads
    run = runner(content)
    parity = compare(job.ours, [run(feed) for feed in job.feeds], threshold, tolerance)
    if not parity.within(tolerance):
        remove(model)
        apart = (
            f"{category} {name}: not exported: over {parity.images} images the scores differ by {parity.scores:.2g}"
            f" and the maps by {parity.maps:.2g} of their spread, and {parity.decisions} decisions; tolerated are"
            f" {tolerance:g} (--tolerance) and none"
        )
        return apart, reads
    shapes = (list(job.ours[0].anomaly_map.shape), list[int]())
    about = {
        "category": category,
        "detector": name,
        **of_graph(job.graph, {one: (of, OUTPUTS[one]) for one, of in zip(OUTPUTS, shapes, strict=True)}),
        "threshold": threshold,
        "tolerance": tolerance,
        "weights": job.weights,
        "upstream": dict(job.upstream),
        "parameters": job.config,
        "parity": asdict(parity),
    }
    write(model, content, about)
    print(
        f"{model}: {len(content) / 1e6:.2f} MB; largest difference over {parity.images} images: scores"
        f" {parity.scores:.1g}, maps {parity.maps:.1g} of their spread;"
        f" {'no threshold' if threshold is None else 'same decisions'}",
        flush=True,
    )
    return None, reads


def _detector(params: Params, category: str, name: str) -> _Job:
    from pipeline.stage_io.rows import read_manifest
    from pipeline.stage_io.samples import samples_of, upstream
    from pipeline.stage_io.saving import load_fitted
    from stages.detectors.interface import ImageNetConfig
    from stages.detectors.registry import detector as detector_named
    from stages.onnx_graphs.interface import graph_of

    detector, config = detector_named(name), params.detector(name)
    fitted, digest = load_fitted(paths.model(category, name))
    _check_trained_so(category, name)
    needs, manifest = detector.needs(config), read_manifest()
    samples = samples_of(manifest, compared_rows(category), config, needs, "cpu")
    cnn = None
    if "imagenet" in needs and isinstance(config, ImageNetConfig):
        from stages.backbone.imagenet import network_of

        cnn = network_of(config.network, config.patch)
    graph = graph_of(name)(fitted, config, samples, cnn)
    read = [one.name for one in graph.inputs]
    makers = ("backbone", "denoiser") if "clean" in read else ("backbone",)
    return _Job(
        graph=graph,
        weights=digest,
        upstream=dict(zip(makers, upstream(frozenset(read)), strict=False)),
        config=config.model_dump(mode="json"),
        feeds=[feed(graph, samples, i) for i in range(len(samples))],
        ours=list(detector.score(fitted, samples, config, "cpu")),
    )


def _fused(category: str) -> _Job:
    """The fusion is held against itself on the members' own scores and maps, as they lie in data/maps."""
    import pandas as pd

    from pipeline.stage_io.saving import load_fitted
    from stages.array_store import StoredRows
    from stages.fusion.fusion import fuse
    from stages.onnx_graphs.fused import graph

    fitted, digest = load_fitted(paths.model(category, FUSION))
    names = fitted.info["detectors"]
    maps = {name: StoredRows(paths.maps(category, name) / "maps.zarr") for name in names}
    scores = {name: pd.read_parquet(paths.maps(category, name) / "scores.parquet")["image_score"] for name in names}
    rows = some(np.arange(len(maps[names[0]])))
    images = [{name: ScoreMap(maps[name][int(i)], float(scores[name].iloc[i])) for name in names} for i in rows]
    return _Job(
        graph=graph(fitted, {name: maps[name].shape[1] for name in names}),
        weights=digest,
        upstream={},
        config={"detectors": list(names)},
        feeds=[_fused_feed(one) for one in images],
        ours=[fuse(fitted, one) for one in images],
    )


def _fused_feed(outputs: Mapping[str, ScoreMap]) -> dict[str, NDArray[Any]]:
    maps = {f"{name}_map": one.anomaly_map for name, one in outputs.items()}
    return maps | {f"{name}_score": np.array(one.image_score, np.float32) for name, one in outputs.items()}


def feed(graph: ExportGraph, samples: Samples, i: int) -> dict[str, NDArray[Any]]:
    """The i-th image as inputs of a detector's graph, by name."""
    rows = {"image": samples.images, "raw": samples.raw, "clean": samples.clean, "attention": samples.attention}
    found = {}
    for one in graph.inputs:
        source = rows[one.name]
        assert source is not None  # the graph was made for these samples
        found[one.name] = source[i : i + 1].astype(one.dtype)
    return found


def _threshold(category: str, name: str) -> float | None:
    """The deployed one; None where there were no good validation images."""
    try:
        value: float | None = json.loads(paths.METRICS.read_text())[category][name]["threshold"]
    except (OSError, ValueError, KeyError) as fault:
        raise UserError(f"{paths.METRICS} has no threshold of {category} {name}; run `burnish run` first") from fault
    return value


def _check_trained_so(category: str, name: str) -> None:
    """The parameters are still those that dvc.lock says the model was trained with."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text())["stages"] if lock.is_file() else {}
    trained = stages.get(f"train@{category}-{name}", {}).get("params", {}).get(str(paths.PARAMS), {}).get(name)
    if trained is not None and trained != yaml.safe_load(paths.PARAMS.read_text()).get(name):
        raise UserError(f"section {name} of {paths.PARAMS} changed since {category} {name} was trained: burnish run")
