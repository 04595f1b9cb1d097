"""Detectors and their fusion as ONNX files, compared with our own scores before they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.export.files import compared_rows, describe_graph, remove_export, sample_rows, write_export
from pipeline.project import paths
from pipeline.project.params import Params
from stages.fusion.members import FUSION
from stages.types import Samples, ScoreMap, UserError

if TYPE_CHECKING:
    from stages.onnx_graphs.interface import ExportGraph
    from stages.onnx_graphs.parity import Parity


@dataclass(frozen=True)
class Outcome:
    """What became of an export."""

    error: str | None
    """Why the file is not written; None if it is."""
    reads_features: bool
    """Whether the graph takes features of the backbone."""


@dataclass(frozen=True)
class _Candidate:
    """A graph, and what our own code gives for some images."""

    graph: ExportGraph
    weights: str
    """Digest of the fitted model."""
    upstream: Mapping[str, str]
    """Digests of the models that compute the features it reads."""
    config: dict[str, Any]
    feeds: Sequence[Mapping[str, NDArray[Any]]]
    """Inputs of the graph for each image."""
    ours: Sequence[ScoreMap]
    """Our own result for each image."""


def export_detector(params: Params, category: str, name: str, folder: Path, tolerance: float) -> Outcome:
    """Write NAME.onnx and NAME.json of a detector, if the graph agrees with our own code.

    Args:
        tolerance: largest difference, as a share of the spread of scores and maps.

    Raises:
        FileNotFoundError: a stage has not run.
    """
    from stages.onnx_graphs.convert import runner, to_onnx
    from stages.onnx_graphs.interface import FEATURES
    from stages.onnx_graphs.parity import compare

    model, threshold = folder / f"{name}.onnx", _threshold(category, name)
    candidate = _fusion(category) if name == FUSION else _detector(params, category, name)
    reads_features = any(tensor.name in FEATURES for tensor in candidate.graph.inputs)
    try:
        content = to_onnx(candidate.graph)
    except UserError as fault:
        remove_export(model)
        return Outcome(f"{category} {name}: not exported: {fault}", reads_features)
    run = runner(content)
    parity = compare(candidate.ours, [run(feed) for feed in candidate.feeds], threshold, tolerance)
    if not parity.within(tolerance):
        remove_export(model)
        error = (
            f"{category} {name}: not exported: over {parity.images} images the scores differ by {parity.scores:.2g}"
            f" and the maps by {parity.maps:.2g} of their spread (tolerance {tolerance:g}, --tolerance), and"
            f" {parity.decisions} decisions differ (tolerance 0)"
        )
        return Outcome(error, reads_features)
    write_export(model, content, _describe(candidate, category, name, threshold, tolerance, parity))
    print(
        f"{model}: {len(content) / 1e6:.2f} MB; largest difference over {parity.images} images: scores"
        f" {parity.scores:.1g}, maps {parity.maps:.1g} of their spread;"
        f" {'no threshold' if threshold is None else 'same decisions'}",
        flush=True,
    )
    return Outcome(None, reads_features)


def _describe(
    candidate: _Candidate, category: str, name: str, threshold: float | None, tolerance: float, parity: Parity
) -> dict[str, Any]:
    """The content of NAME.json."""
    from stages.onnx_graphs.interface import OUTPUTS

    shapes = (list(candidate.ours[0].anomaly_map.shape), list[int]())
    outputs = {output: (shape, OUTPUTS[output]) for output, shape in zip(OUTPUTS, shapes, strict=True)}
    return {
        "category": category,
        "detector": name,
        **describe_graph(candidate.graph, outputs),
        "threshold": threshold,
        "tolerance": tolerance,
        "weights": candidate.weights,
        "upstream": dict(candidate.upstream),
        "parameters": candidate.config,
        "parity": asdict(parity),
    }


def _detector(params: Params, category: str, name: str) -> _Candidate:
    from pipeline.stage_io.rows import read_manifest
    from pipeline.stage_io.samples import samples_of, upstream
    from pipeline.stage_io.saving import load_fitted
    from stages.detectors.interface import ImageNetConfig
    from stages.detectors.registry import detector as detector_named
    from stages.onnx_graphs.interface import graph_of

    detector, config = detector_named(name), params.detector(name)
    fitted, digest = load_fitted(paths.model(category, name))
    _check_parameters_unchanged(category, name)
    needs, manifest = detector.needs(config), read_manifest()
    samples = samples_of(manifest, compared_rows(category), config, needs, "cpu")
    cnn = None
    if "imagenet" in needs and isinstance(config, ImageNetConfig):
        from stages.backbone.imagenet import network_of

        cnn = network_of(config.network, config.patch)
    graph = graph_of(name)(fitted, config, samples, cnn)
    inputs = [tensor.name for tensor in graph.inputs]
    feature_models = ("backbone", "denoiser") if "clean" in inputs else ("backbone",)
    return _Candidate(
        graph=graph,
        weights=digest,
        upstream=dict(zip(feature_models, upstream(frozenset(inputs)), strict=False)),
        config=config.model_dump(mode="json"),
        feeds=[graph_inputs(graph, samples, i) for i in range(len(samples))],
        ours=list(detector.score(fitted, samples, config, "cpu")),
    )


def _fusion(category: str) -> _Candidate:
    """The fusion is computed both ways from the members' scores and maps in data/maps."""
    import pandas as pd

    from pipeline.stage_io.saving import load_fitted
    from stages.array_store import StoredRows
    from stages.fusion.fusion import fuse
    from stages.onnx_graphs.fused import graph

    fitted, digest = load_fitted(paths.model(category, FUSION))
    members = fitted.info["detectors"]
    maps = {name: StoredRows(paths.maps(category, name) / "maps.zarr") for name in members}
    scores = {name: pd.read_parquet(paths.maps(category, name) / "scores.parquet")["image_score"] for name in members}
    rows = sample_rows(np.arange(len(maps[members[0]])))
    results = [{name: ScoreMap(maps[name][int(i)], float(scores[name].iloc[i])) for name in members} for i in rows]
    return _Candidate(
        graph=graph(fitted, {name: maps[name].shape[1] for name in members}),
        weights=digest,
        upstream={},
        config={"detectors": list(members)},
        feeds=[_fusion_inputs(by_member) for by_member in results],
        ours=[fuse(fitted, by_member) for by_member in results],
    )


def _fusion_inputs(by_member: Mapping[str, ScoreMap]) -> dict[str, NDArray[Any]]:
    maps = {f"{name}_map": result.anomaly_map for name, result in by_member.items()}
    return maps | {f"{name}_score": np.array(result.image_score, np.float32) for name, result in by_member.items()}


def graph_inputs(graph: ExportGraph, samples: Samples, i: int) -> dict[str, NDArray[Any]]:
    """The inputs of a detector's graph for the i-th image, by name."""
    sources = {"image": samples.images, "raw": samples.raw, "clean": samples.clean, "attention": samples.attention}
    inputs = {}
    for tensor in graph.inputs:
        source = sources[tensor.name]
        assert source is not None  # because the graph was made for these samples
        inputs[tensor.name] = source[i : i + 1].astype(tensor.dtype)
    return inputs


def _threshold(category: str, name: str) -> float | None:
    """The deployed threshold; None if there were no good validation images.

    Raises:
        UserError: the metrics have no entry for this detector.
    """
    try:
        value: float | None = json.loads(paths.METRICS.read_text())[category][name]["threshold"]
    except (OSError, ValueError, KeyError) as fault:
        raise UserError(f"{paths.METRICS} has no threshold of {category} {name}; run `burnish run` first") from fault
    return value


def _check_parameters_unchanged(category: str, name: str) -> None:
    """Raises UserError if the detector's parameters are not those in dvc.lock that the model was trained with."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text())["stages"] if lock.is_file() else {}
    trained = stages.get(f"train@{category}-{name}", {}).get("params", {}).get(str(paths.PARAMS), {}).get(name)
    if trained is not None and trained != yaml.safe_load(paths.PARAMS.read_text()).get(name):
        raise UserError(
            f"section {name} of {paths.PARAMS} changed since {category} {name} was trained: run `burnish run`"
        )
