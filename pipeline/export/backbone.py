"""Backbone and denoiser as one ONNX file, compared with our own features before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.export.files import compared_rows, describe_graph, remove_export, write_export
from pipeline.project import paths
from pipeline.project.params import Params
from stages.types import Fitted, UserError

if TYPE_CHECKING:
    from pipeline.stage_io.rows import ImageFiles


def export_backbone(params: Params, category: str, folder: Path, tolerance: float) -> str | None:
    """Write backbone.onnx and backbone.json.

    Args:
        category: whose images are compared.
        tolerance: largest difference, as a share of the spread of a feature.

    Returns:
        why the file is not written; None if it is.

    Raises:
        FileNotFoundError: a stage has not run.
    """
    from pipeline.stage_io.rows import ImageFiles, read_manifest
    from pipeline.stage_io.saving import load_fitted
    from stages.onnx_graphs.backbone import graph as graph_of
    from stages.onnx_graphs.convert import arrays_runner, to_onnx
    from stages.onnx_graphs.interface import FEATURES, ROUNDED
    from stages.onnx_graphs.parity import differences

    distilled = params.distill.epochs > 0
    denoiser = paths.DENOISER / "distilled" if distilled else paths.DENOISER
    models = {"backbone": load_fitted(paths.BACKBONE), "denoiser": load_fitted(denoiser)}
    model = folder / "backbone.onnx"
    graph = graph_of(models["backbone"][0], models["denoiser"][0], distilled)
    try:
        content = to_onnx(graph)
    except UserError as fault:
        remove_export(model)
        return f"backbone: not exported: {fault}"

    images = ImageFiles.from_manifest(read_manifest(), compared_rows(category), graph.inputs[0].shape[1])
    run = arrays_runner(content)
    ours = _own_features(images, {name: fitted for name, (fitted, _) in models.items()}, distilled)
    exported = [run({"image": image[None]}) for image in images[:]]
    parity = differences(ours, exported)
    if not all(difference <= tolerance for difference in parity.values()):
        remove_export(model)
        values = ", ".join(f"{name} by {difference:.2g}" for name, difference in parity.items())
        return f"backbone: not exported: its outputs differ, {values} of their spread; the tolerance is {tolerance:g}"
    outputs = {name: (list(exported[0][name].shape), f"{FEATURES[name]}, {ROUNDED}") for name in graph.outputs}
    description = {
        **describe_graph(graph, outputs),
        "tolerance": tolerance,
        "weights": {name: digest for name, (_, digest) in models.items()},
        "parity": {"images": len(ours), **parity},
    }
    write_export(model, content, description)
    values = ", ".join(f"{name} {difference:.1g}" for name, difference in parity.items())
    print(
        f"{model}: {len(content) / 1e6:.2f} MB; largest mean difference over {len(ours)} images: {values} of their"
        " spread",
        flush=True,
    )
    return None


def _own_features(
    images: ImageFiles, models: Mapping[str, Fitted], distilled: bool
) -> list[dict[str, NDArray[np.float16]]]:
    """The features of each image by our own code.

    Args:
        models: `backbone` and `denoiser`; if `distilled`, the latter is the distilled backbone.
    """
    from pipeline.judge.features import FeatureExtractor

    def fitted(part: str) -> Fitted:
        return models[part.partition("/")[0]]

    extractor = FeatureExtractor(fitted, clean=True, distilled=distilled, device="cpu")
    return [extractor.extract(image[None]) for image in images[:]]
