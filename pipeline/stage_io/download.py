"""Stage `download`: the source's usable images, and the manifest that all other stages read."""

from __future__ import annotations

from dataclasses import asdict, fields

import pandas as pd

from pipeline import paths
from pipeline.params import Params
from pipeline.stage_io.inputs import normals
from pipeline.stage_io.saving import output, write_json
from pipeline.stage_io.session import bar
from stages.download.manifest import Rejected, collect


def download(params: Params) -> None:
    """data/raw: images/, masks/, manifest.parquet, rejected.csv."""
    with output(paths.RAW) as folder:
        shown, at = bar("download", 0)

        def progress(done: int, count: int) -> None:
            shown.total = count
            at(done)

        with shown:
            records, rejected = collect(params.data, folder, progress)
        manifest = pd.DataFrame([asdict(record) for record in records])
        manifest.to_parquet(folder / paths.MANIFEST.name, index=False)
        write_json(folder / paths.NORMALS.name, normals(manifest))
        columns = [field.name for field in fields(Rejected)]
        pd.DataFrame([asdict(one) for one in rejected], columns=columns).to_csv(
            folder / paths.REJECTED.name, index=False
        )
    _summary(manifest, len(rejected))


def _summary(manifest: pd.DataFrame, rejected: int) -> None:
    for (category, split, label), part in manifest.groupby(["category", "split", "label"]):
        print(f"download: {category} {split} {'defect' if label else 'normal'}: {len(part)} images")
    if rejected:
        print(f"download: {rejected} images rejected; the reasons are in {paths.REJECTED}")
