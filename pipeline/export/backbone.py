"""Backbone and denoiser as one ONNX file, held against our own features before it is written."""

from __future__ import annotations

from pathlib import Path

from pipeline.export.files import compared_rows, of_graph, remove, write
from pipeline.project import paths
from pipeline.project.params import Params
from stages.types import Fitted, UserError


def export_backbone(params: Params, category: str, folder: Path, tolerance: float) -> str | None:
    """Write it, or say why not. `category`: whose images are compared.

    Raises:
        FileNotFoundError: a stage has not run.
    """
    from pipeline.judge.features import Extractor
    from pipeline.stage_io.rows import ImageFiles, read_manifest
    from pipeline.stage_io.saving import load_fitted
    from stages.onnx_graphs.backbone import graph as graph_of
    from stages.onnx_graphs.convert import arrays_runner, to_onnx
    from stages.onnx_graphs.interface import FEATURES, ROUNDED
    from stages.onnx_graphs.parity import differences

    distilled = params.distill.epochs > 0
    cleaner = paths.DENOISER / "distilled" if distilled else paths.DENOISER
    models = {"backbone": load_fitted(paths.BACKBONE), "denoiser": load_fitted(cleaner)}
    model = folder / "backbone.onnx"
    graph = graph_of(models["backbone"][0], models["denoiser"][0], distilled)
    try:
        content = to_onnx(graph)
    except UserError as fault:
        remove(model)
        return f"backbone: not exported: {fault}"

    def fitted(part: str) -> Fitted:
        return models[part.partition("/")[0]][0]

    images = ImageFiles.of(read_manifest(), compared_rows(category), graph.inputs[0].shape[1])
    ours, run = Extractor(fitted, clean=True, distilled=distilled, device="cpu"), arrays_runner(content)
    pairs = [(ours.of(image[None]), run({"image": image[None]})) for image in images[:]]
    found = differences([one for one, _ in pairs], [other for _, other in pairs])
    if not all(value <= tolerance for value in found.values()):
        remove(model)
        shown = ", ".join(f"{name} by {value:.2g}" for name, value in found.items())
        return f"backbone: not exported: its outputs differ, {shown} of their spread; tolerated is {tolerance:g}"
    shapes = {name: list(pairs[0][1][name].shape) for name in graph.outputs}
    about = {
        **of_graph(graph, {name: (of, f"{FEATURES[name]}, {ROUNDED}") for name, of in shapes.items()}),
        "tolerance": tolerance,
        "weights": {name: digest for name, (_, digest) in models.items()},
        "parity": {"images": len(pairs), **found},
    }
    write(model, content, about)
    shown = ", ".join(f"{name} {value:.1g}" for name, value in found.items())
    print(
        f"{model}: {len(content) / 1e6:.2f} MB; largest mean difference over {len(pairs)} images: {shown} of their"
        " spread",
        flush=True,
    )
    return None
