"""Stage `download`: the usable images of the source, and the manifest that all other stages read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from pipeline.compute.executors import cores
from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.progress import progress_bar
from pipeline.stage_io.rows import good_digests
from pipeline.stage_io.saving import output, write_json
from stages.download.archive import locate
from stages.download.found import Rejected
from stages.download.index import StatIndex
from stages.download.manifest import ImageRecord, collect
from stages.types import UserError

DOWNLOADS = paths.CACHE / "downloads"
"""Unpacked archives, and the rendered images of source `synthetic`."""
INDEX = paths.CACHE / "index.sqlite"
"""Facts about files that have not changed since an earlier run."""


def download(params: Params) -> None:
    """data/raw: images/, masks/, manifest.parquet, rejected.csv."""
    with _bytes_bar() as progress:
        root = locate(params.data, DOWNLOADS, progress, _say)
    with output(paths.RAW) as folder:
        bar, set_done = progress_bar("download", 0)

        def count_up(done: int, count: int) -> None:
            bar.total = count
            set_done(done)

        index = StatIndex(INDEX)
        try:
            with bar:
                records, rejected = collect(params.data, folder, count_up, root=root, index=index, threads=cores())
        except UserError as fault:
            raise UserError(f"{fault}{_in_an_experiment(params)}") from fault
        finally:
            index.close()
        columns = [field.name for field in fields(ImageRecord)]
        manifest = pd.DataFrame({name: [getattr(record, name) for record in records] for name in columns})
        manifest.to_parquet(folder / paths.MANIFEST.name, index=False)
        write_json(folder / paths.NORMALS.name, good_digests(manifest))
        columns = [field.name for field in fields(Rejected)]
        pd.DataFrame([asdict(file) for file in rejected], columns=columns).to_csv(
            folder / paths.REJECTED.name, index=False
        )
    _summary(manifest, len(rejected))


def _in_an_experiment(params: Params) -> str:
    """What to know where DVC runs an experiment outside the workspace; empty elsewhere."""
    if "/.dvc/tmp/exps/" not in f"{Path.cwd().as_posix()}/":
        return ""
    return (
        ". DVC runs this experiment in a folder that has only what git or DVC tracks. Track the images (`dvc add`, not "
        f"for data/own), or name each folder of {params.data.folder} behind -C: pipeline/README.md, Experiments"
    )


@contextmanager
def _bytes_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress function for `locate`, with one bar for the download and one for unpacking; each ends with a line."""
    bars: dict[str, tqdm] = {}

    def progress(what: str, done: int, total: int | None) -> None:
        if what not in bars:
            for open_bar in bars.values():
                open_bar.close()
            bars[what] = tqdm(total=total, desc=what, unit="B", unit_scale=True, mininterval=0.5, ncols=90)
        bars[what].update(done - bars[what].n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()


def _say(line: str) -> None:
    print(f"download: {line}")


def _summary(manifest: pd.DataFrame, rejected: int) -> None:
    for (category, split, label), part in manifest.groupby(["category", "split", "label"]):
        print(f"download: {category} {split} {'defect' if label else 'normal'}: {len(part)} images")
    if rejected:
        print(f"download: {rejected} images rejected; the reasons are in {paths.REJECTED}")
