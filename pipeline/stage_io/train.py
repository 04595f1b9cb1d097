"""Stage `train`: once per category and detector."""

from __future__ import annotations

import json
from typing import Any

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.dependencies import code_of_stage
from pipeline.stage_io.items.scores import item_of
from pipeline.stage_io.rows import read_manifest, rows_of
from pipeline.stage_io.samples import samples_of
from pipeline.stage_io.saving import output, save_fitted
from pipeline.stage_io.session import digest_of, training
from pipeline.stage_io.validation_results import RESULTS_FILE, save_results
from stages.detectors.registry import detector as detector_named


def train(params: Params, category: str, name: str) -> None:
    """data/models/detectors/CATEGORY/NAME: model.safetensors, model.json, curves/. If the model is also fitted on
    validation images, also held_out.safetensors, the results of the training-only model on them."""
    from stages.torch_setup import device_named

    detector, config, manifest = detector_named(name), params.detector(name), read_manifest()
    needs, device = detector.needs(config), device_named(params.compute.device)
    parts = [
        samples_of(manifest, rows_of(manifest, category, split, label=0), config, needs, device)
        for split in ("train", "validation")
    ]
    key = digest_of(
        _inputs(category, name, "train"), config.model_dump(mode="json"), params.seed, code_of_stage("train", name)
    )
    curves = f"train-{category}-{name}"
    with output(paths.model(category, name)) as folder, training(curves, folder / "curves", device, key) as session:
        fitted = detector.fit(parts[0], parts[1], config, params.seed, session)
        save_fitted(folder, fitted)
        if fitted.held_out:
            save_results(folder / RESULTS_FILE, parts[1].ids, [item_of(scored) for scored in fitted.held_out])


def _inputs(category: str, name: str, stage: str) -> Any:
    """The digests that stage `inputs` wrote for this stage."""
    return json.loads((paths.INPUTS / category / name / f"{stage}.json").read_text())
