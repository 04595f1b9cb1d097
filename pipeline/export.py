"""`burnish export --onnx`: detectors as ONNX files, each held against our own scoring before it is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline import paths
from pipeline.params import Params
from stages.types import Samples, ScoreMap, UserError

if TYPE_CHECKING:
    from stages.onnx_graphs.interface import ExportGraph

IMAGES = 16
"""At most so many test images (validation images where there are none), evenly spread, are scored both ways."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-3
"""Largest difference, as a share of how far scores (maps) spread over those images."""


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


def export(
    params: Params,
    categories: Sequence[str] = (),
    detectors: Sequence[str] = (),
    out: Path | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """OUT/CATEGORY/NAME.onnx and NAME.json of the chosen categories and detectors; none chosen: all, `fused` too.

    `out`: None for data/export.

    One whose scores or maps differ by more than the tolerance leaves no file, an older one of its name neither.

    Raises:
        UserError: an unknown name, a stage that has not run, or, once all are done, those beyond the tolerance.
    """
    categories = _chosen("category", categories, params.data.categories)
    detectors = _chosen("detector", detectors, params.scored)
    out, faults = out or paths.DATA / "export", []
    for category in categories:
        for name in detectors:
            if fault := _export(params, category, name, out / category, tolerance):
                faults.append(fault)
    if faults:
        raise UserError("; ".join(faults))


def _chosen(what: str, given: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    for name in given:
        if name not in known:
            raise UserError(f"unknown {what} {name!r}; params.yaml has {', '.join(known)}")
    return given or known


def _export(params: Params, category: str, name: str, folder: Path, tolerance: float) -> str | None:
    """Write one, or say why not."""
    from pipeline.stage_io.saving import write_json
    from stages.onnx_graphs.convert import runner, to_onnx
    from stages.onnx_graphs.parity import compare

    threshold = _threshold(category, name)
    try:
        job = _fused(category) if name == paths.FUSION else _detector(params, category, name)
    except FileNotFoundError as fault:
        raise UserError(f"{category} {name}: {fault.filename or fault} is missing; run `burnish run` first") from fault
    try:
        content = to_onnx(job.graph)
    except UserError as fault:
        return f"{category} {name}: not exported: {fault}"
    run = runner(content)
    parity = compare(job.ours, [run(feed) for feed in job.feeds], threshold, tolerance)
    model, about = folder / f"{name}.onnx", folder / f"{name}.json"
    about.unlink(missing_ok=True)
    if not parity.within(tolerance):
        model.unlink(missing_ok=True)
        return (
            f"{category} {name}: not exported: over {parity.images} images the scores differ by {parity.scores:.2g}"
            f" and the maps by {parity.maps:.2g} of their spread, and {parity.decisions} decisions; tolerated are"
            f" {tolerance:g} (--tolerance) and none"
        )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = model.with_name(f".{model.name}.part")
    temporary.write_bytes(content)
    temporary.replace(model)
    write_json(
        about,
        _about(job, category, name, threshold, tolerance)
        | {"parity": asdict(parity), "sha256": hashlib.sha256(content).hexdigest()},
    )
    print(
        f"{model}: {len(content) / 1e6:.2f} MB; largest difference over {parity.images} images: scores"
        f" {parity.scores:.1g}, maps {parity.maps:.1g} of their spread;"
        f" {'no threshold' if threshold is None else 'same decisions'}",
        flush=True,
    )
    return None


def _detector(params: Params, category: str, name: str) -> _Job:
    from pipeline.stage_io.detectors import samples_of, upstream
    from pipeline.stage_io.rows import read_manifest, rows_of
    from pipeline.stage_io.saving import load_fitted
    from stages.detectors.interface import ImageNetConfig
    from stages.detectors.registry import detector as detector_named
    from stages.onnx_graphs.interface import graph_of

    detector, config = detector_named(name), params.detector(name)
    fitted, digest = load_fitted(paths.model(category, name))
    _check_trained_so(category, name)
    needs, manifest = detector.needs(config), read_manifest()
    test = rows_of(manifest, category, "test")
    rows = _some(test if len(test) else rows_of(manifest, category, "validation"))
    samples = samples_of(manifest, rows, config, needs, "cpu")
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

    fitted, digest = load_fitted(paths.model(category, paths.FUSION))
    names = fitted.info["detectors"]
    maps = {name: StoredRows(paths.maps(category, name) / "maps.zarr") for name in names}
    scores = {name: pd.read_parquet(paths.maps(category, name) / "scores.parquet")["image_score"] for name in names}
    rows = _some(np.arange(len(maps[names[0]])))
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


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(rows):
        raise UserError("there are no validation or test images to compare scores on")
    return rows[np.unique(np.linspace(0, len(rows) - 1, IMAGES).astype(np.int64))]


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


def _about(job: _Job, category: str, name: str, threshold: float | None, tolerance: float) -> dict[str, Any]:
    """What stands in NAME.json beside the parity and the file's digest."""
    from importlib.metadata import version

    from pipeline.bundle import provenance
    from stages.onnx_graphs.convert import OPSET
    from stages.onnx_graphs.interface import OUTPUTS

    return {
        "category": category,
        "detector": name,
        "inputs": [
            {"name": one.name, "shape": list(one.shape), "type": one.dtype, "meaning": one.meaning}
            for one in job.graph.inputs
        ],
        "outputs": [
            {"name": one, "shape": shape, "type": "float32", "meaning": meaning}
            for (one, meaning), shape in zip(OUTPUTS.items(), (list(job.ours[0].anomaly_map.shape), []), strict=True)
        ],
        "threshold": threshold,
        "tolerance": tolerance,
        "opset": OPSET,
        "weights": job.weights,
        "upstream": dict(job.upstream),
        "parameters": job.config,
        "provenance": provenance(Path()) | {"onnx": {one: version(one) for one in PACKAGES}},
    }
