"""Results of the stage `audit`: near-duplicates and suspects, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.project import paths
from pipeline.report.pictures import Picture, embed, load_rendered, thumbnail
from pipeline.report.tables import Line, Table, Values, format_percent
from pipeline.show.text import counted
from stages.download.phash import BITS

SHOWN = 6
"""Pairs, and suspects, that are shown of each category."""


@dataclass(frozen=True)
class Pair:
    """Two images that are nearly the same."""

    description: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Audit:
    """Of one category."""

    table: Table
    paragraphs: Sequence[str]
    pairs: Sequence[Pair]
    suspects: Sequence[Picture]
    suspect_maps: Picture | None
    """The suspects with their anomaly maps, as the stage rendered them."""


def audit(category: str, results: Values) -> Audit:
    """What the report says about the audit of a category.

    Args:
        results: of this category in audit.json. The closest pairs and the most unusual images are read from the lists
            beside it.
    """
    pairs = _read_list(paths.AUDIT / "pairs.csv", category)
    candidates = _read_list(paths.AUDIT / "suspects.csv", category)
    suspects = candidates[candidates["suspect"]] if len(candidates) else candidates
    maps = paths.AUDIT / f"suspects-{category}.png"
    caption = f"{category}: good training and validation images that look most like defects, with anomaly maps"
    return Audit(
        table=_table(results),
        paragraphs=_paragraphs(results),
        pairs=[_pair(row) for row in pairs[:SHOWN].to_dict("records")],
        suspects=[_suspect(row) for row in suspects[:SHOWN].to_dict("records")],
        suspect_maps=load_rendered(maps, caption) if maps.exists() and len(suspects) else None,
    )


def _read_list(path: Path, category: str) -> pd.DataFrame:
    table = pd.read_csv(path, dtype={"category": str, "path": str, "other_path": str}, keep_default_na=False)
    return table[table["category"] == category]


def _table(results: Values) -> Table:
    lines = []
    for split in ("validation", "test"):
        counts = [str(results["images"][split]), str(results["with_a_near_duplicate"][split])]
        lines.append(Line([split, *counts, format_percent(results["share_with_a_near_duplicate"][split])]))
    return Table(["split", "good images", "with a near-duplicate in an earlier split", "share"], lines)


def _paragraphs(results: Values) -> list[str]:
    limit = format_percent(results["max_leak_fraction"])
    above_limit: bool | None = results["leaks"]
    if above_limit is None:
        verdict = "The share of near-duplicates is not known, because there are no good test images."
    elif above_limit:
        verdict = f"That is more than data.max_leak_fraction = {limit} allows, so the results above are too optimistic."
    else:
        verdict = f"data.max_leak_fraction allows {limit} of the good test images."
    identical = counted(results["identical_across_splits"], "good image is", "good images are")
    similar = counted(results["defects_like_a_good_image"], "defect", "defects")
    return [
        verdict,
        f"{identical} the same file as an image of an earlier split. "
        f"{similar} of the test split look like a good image of an earlier split, and "
        f"{results['defects_identical_to_a_good_image']} of these are the same file. They may be mislabelled, or hard "
        "to tell from good images.",
    ]


def _pair(row: Mapping[Any, Any]) -> Pair:
    bits = counted(int(row["different_bits"]), "bit differs", "bits differ")
    similarity = "" if row["similarity"] == "" else f", similarity {float(row['similarity']):.1f} standard deviations"
    pictures = []
    for path, split, label in ((row["path"], row["split"], row["label"]), (row["other_path"], row["other_split"], 0)):
        name = Path(path).name
        caption = f"{'training' if split == 'train' else split}{', defect' if label else ''}: {name}"
        pictures.append(embed(thumbnail(paths.RAW / path), caption, name))
    return Pair("the same file" if row["identical"] else f"{bits} of {BITS}{similarity}", pictures)


def _suspect(row: Mapping[Any, Any]) -> Picture:
    name = Path(row["path"]).name
    caption = f"{name}: {float(row['deviation']):.1f} deviations"
    return embed(thumbnail(paths.RAW / row["path"]), caption, name)
