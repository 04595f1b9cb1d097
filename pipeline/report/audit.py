"""What the stages `audit` and `probe` found: near-duplicates and suspects with pictures, and what denoising did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.project import paths
from pipeline.report.pictures import Picture, drawn, picture, thumbnail
from pipeline.report.words import Line, Table, Values, number, percent
from pipeline.show.tables import DASH
from pipeline.show.text import counted
from stages.download.phash import BITS

SHOWN = 6
"""Pairs, and suspects, shown of each category."""


@dataclass(frozen=True)
class Pair:
    """Two images that are nearly the same."""

    words: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Audit:
    """Of one category."""

    table: Table
    words: Sequence[str]
    pairs: Sequence[Pair]
    suspects: Sequence[Picture]
    where: Picture | None
    """The suspects with maps of where they are strange, as the stage drew them."""


def audit(category: str, found: Values) -> Audit:
    """Figures of audit.json, and the closest pairs and strangest images of the two lists."""
    pairs = _own(paths.AUDIT / "pairs.csv", category)
    suspects = _own(paths.AUDIT / "suspects.csv", category)
    chosen = suspects[suspects["suspect"]] if len(suspects) else suspects
    where = paths.AUDIT / f"suspects-{category}.png"
    return Audit(
        table=_table(found),
        words=_words(found),
        pairs=[_pair(row) for row in pairs[:SHOWN].to_dict("records")],
        suspects=[_suspect(row) for row in chosen[:SHOWN].to_dict("records")],
        where=drawn(where, f"{category}: good images to learn from that look most like defects, with maps of where")
        if where.exists() and len(chosen)
        else None,
    )


def _own(path: Path, category: str) -> pd.DataFrame:
    table = pd.read_csv(path, dtype={"category": str, "path": str, "other_path": str}, keep_default_na=False)
    return table[table["category"] == category]


def _table(found: Values) -> Table:
    lines = []
    for split, name in (("validation", "calibration"), ("test", "test")):
        cells = [str(found["images"][split]), str(found["with_a_near_duplicate"][split])]
        lines.append(Line([name, *cells, percent(found["share_with_a_near_duplicate"][split])]))
    return Table(["split", "good images", "with a near-duplicate in an earlier split", "share"], lines)


def _words(found: Values) -> list[str]:
    limit = percent(found["max_leak_fraction"])
    leaks: bool | None = found["leaks"]
    said = {
        None: "Whether the split leaks cannot be told: there are no good test images.",
        True: f"That is more than data.max_leak_fraction = {limit} allows: the figures above flatter.",
        False: f"data.max_leak_fraction allows {limit} of the good test images.",
    }[leaks]
    same = counted(found["identical_across_splits"], "good image is", "good images are")
    alike, equal = found["defects_like_a_good_image"], found["defects_identical_to_a_good_image"]
    return [
        said,
        f"{same} the same file as one of an earlier split. "
        f"{counted(alike, 'defect')} of the test look like a good image of an earlier split, {equal} of them are "
        "the same file: these may be mislabelled, or hard.",
    ]


def _pair(row: Mapping[Any, Any]) -> Pair:
    alike = "" if row["similarity"] == "" else f", {float(row['similarity']):.1f} deviations alike"
    bits = counted(int(row["different_bits"]), "bit differs", "bits differ")
    shown = []
    for path, split, label in ((row["path"], row["split"], row["label"]), (row["other_path"], row["other_split"], 0)):
        name = Path(path).name
        kind = "calibration" if split == "validation" else "training" if split == "train" else "test"
        caption = f"{kind}{', defect' if label else ''}: {name}"
        shown.append(picture(thumbnail(paths.RAW / path), caption, name))
    words = "the same file" if row["identical"] else f"{bits} of {BITS}{alike}"
    return Pair(words, shown)


def _suspect(row: Mapping[Any, Any]) -> Picture:
    name = Path(row["path"]).name
    return picture(thumbnail(paths.RAW / row["path"]), f"{name}: {float(row['deviation']):.1f} deviations", name)


def denoising(found: Values) -> Table:
    """What is left of a patch's place in its feature, and what that does to nearest neighbours, by kind of feature."""
    leakage, errors = found["positional_leakage"], found["error_to_stage_1"]
    kinds = ("raw", "mean_artifact", "stage_1", "denoiser")
    lines, notes = [], []
    if leakage is None:
        notes.append("Positional leakage is not known: it takes training and validation images that stage 1 ran on.")
    else:
        lines.append(Line(["R² of reading a patch's place from its feature", *(number(leakage[k]) for k in kinds)]))
    if errors is not None:
        cells = [number(errors.get(kind)) for kind in kinds]
        lines.append(Line(["squared distance to stage 1, over its variance", *cells]))
    for category, values in found["nearest_neighbour"].items():
        if values is None:
            notes.append(f"{category}: no figure of nearest neighbours without test images of both kinds.")
            continue
        shown = [number(values[kind]["value"]) for kind in ("raw", "mean_artifact")]
        lines.append(Line([f"{category}: AUROC of nearest neighbours", *shown, DASH, number(values["clean"]["value"])]))
        one = values["difference"]
        notes.append(
            f"{category}: nearest neighbours among denoised less among raw features: {one['value']:+.3f} "
            f"[{one['ci'][0]:+.3f} to {one['ci'][1]:+.3f}], paired."
        )
    return Table(["", "raw tokens", "less the mean artifact", "stage 1", "after the denoiser"], lines, notes=notes)


def labelled(found: Values) -> list[str]:
    """What plain classifiers reach where labels may be learned, for the record."""
    said = []
    for category, probes in found["labelled"].items():
        known = {name: one["image_auroc"] for name, one in probes.items() if one["image_auroc"] is not None}
        if known:
            said.append(f"{category}: " + ", ".join(f"{name} {number(value)}" for name, value in known.items()))
        else:
            said.append(f"{category}: {next(iter(probes.values()))['reason']}")
    return said
