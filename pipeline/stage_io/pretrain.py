"""Stage `pretrain`: the frozen backbone."""

from __future__ import annotations

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.dependencies import code_of_stage
from pipeline.stage_io.rows import ImageFiles, read_manifest, rows_of
from pipeline.stage_io.saving import output, save_fitted
from pipeline.stage_io.session import digest_of, training


def pretrain(params: Params) -> None:
    """data/backbone: model.safetensors, model.json, curves/."""
    from stages.backbone.build import build
    from stages.torch_setup import device_named

    manifest = read_manifest()
    train, validation = rows_of(manifest, None, "train"), rows_of(manifest, None, "validation")
    config, side = params.backbone, params.backbone.image_side
    key = digest_of(
        manifest["sha256"].to_numpy()[train].tolist(),
        manifest["sha256"].to_numpy()[validation].tolist(),
        config.model_dump(mode="json"),
        params.seed,
        code_of_stage("pretrain"),
    )
    device = device_named(params.compute.device)
    with output(paths.BACKBONE) as folder, training("pretrain", folder / "curves", device, key) as session:
        fitted = build(
            config,
            ImageFiles.from_manifest(manifest, train, side),
            ImageFiles.from_manifest(manifest, validation, side),
            params.seed,
            session,
        )
        save_fitted(folder, fitted)
