"""Stage `audit`: near-duplicates across the splits, and good images to learn from that look like defects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.show import galleries
from pipeline.stage_io.rows import ImageFiles, read_manifest, rows_of
from pipeline.stage_io.saving import output, write_json
from stages.array_store import StoredRows
from stages.audit.suspects import Suspicion, suspicion
from stages.audit.twins import Looks, looks, twins
from stages.types import Subset

ACROSS = (("validation", ("train",)), ("test", ("train", "validation")))
"""Images of a split that ought to be new, and the splits that came before it."""
LEARNT = ("train", "validation")
"""Splits from whose good images detectors learn."""
SHOWN, SHOWN_SIDE = 8, 192
"""Rows of a picture, and the side of its images in pixels."""


def audit(params: Params) -> None:
    """data/audit: audit.json, pairs.csv, suspects.csv, twins-CATEGORY.png, suspects-CATEGORY.png."""
    manifest, found = read_manifest(), {}
    pairs, suspects = [], []
    with output(paths.AUDIT) as folder:
        for category in params.data.categories:
            close = _pairs(params, manifest, category)
            good = rows_of(manifest, category, *LEARNT, label=0)
            tokens = Subset(StoredRows(paths.FEATURES / "tokens.zarr"), good)
            groups = manifest["group"].to_numpy()[good].tolist()
            strange = suspicion(tokens, groups, params.audit, params.seed)
            listed = _suspects(manifest, good, strange, params.audit.suspect)
            found[category] = _summary(params, manifest, category, close, listed)
            _draw_pairs(folder / f"twins-{category}.png", manifest, close, category)
            if strange is not None:
                _draw_suspects(folder / f"suspects-{category}.png", manifest, good, strange, category)
            pairs.append(close)
            suspects.append(listed)
            print(f"audit: {category}: {_in_words(found[category])}")
        _save(folder / "pairs.csv", pairs, manifest, "path", "other_path")
        _save(folder / "suspects.csv", suspects, manifest, "path")
        write_json(folder / "audit.json", found)


def _pairs(params: Params, manifest: pd.DataFrame, category: str) -> pd.DataFrame:
    """One row an image with a near-duplicate in an earlier split: places in the manifest, and how alike both are."""
    rows = rows_of(manifest, category, "train", "validation", "test")
    seen: Looks = looks(
        manifest["phash"].to_numpy()[rows].tolist(),
        Subset(StoredRows(paths.FEATURES / "tokens.zarr"), rows),
        params.audit,
    )
    place = {row: i for i, row in enumerate(rows.tolist())}
    tables = []
    for split, earlier in ACROSS:
        new, old = rows_of(manifest, category, split), rows_of(manifest, category, *earlier, label=0)
        among = np.array([place[row] for row in old.tolist()], np.int64)
        close = twins(seen, np.array([place[row] for row in new.tolist()], np.int64), among, params.audit)
        columns = {
            "row": new[close.found],
            "other": old[close.partner[close.found]],
            "near_duplicates": close.count[close.found],
            "different_bits": close.bits[close.found],
            "similarity": close.similarity[close.found].round(3),
        }
        tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    for name, column in (("category", "category"), ("split", "split"), ("label", "label")):
        table[name] = manifest[column].to_numpy()[table["row"]]
    table["other_split"] = manifest["split"].to_numpy()[table["other"]]
    table["identical"] = manifest["sha256"].to_numpy()[table["row"]] == manifest["sha256"].to_numpy()[table["other"]]
    return table.sort_values(["different_bits", "similarity", "row"], ascending=[True, False, True], ignore_index=True)


def _suspects(manifest: pd.DataFrame, good: NDArray[np.int64], strange: Suspicion | None, limit: float) -> pd.DataFrame:
    """One row a good image to learn from, the strangest first."""
    if strange is None:
        return pd.DataFrame(columns=["row", "category", "group", "split", "score", "deviation", "suspect"])
    table = pd.DataFrame(
        {
            "row": good,
            "category": manifest["category"].to_numpy()[good],
            "group": manifest["group"].to_numpy()[good],
            "split": manifest["split"].to_numpy()[good],
            "score": strange.scores.round(4),
            "deviation": strange.deviation.round(3),
            "suspect": strange.deviation > limit,
        }
    )
    return table.sort_values(["deviation", "row"], ascending=[False, True], ignore_index=True)


def _summary(
    params: Params, manifest: pd.DataFrame, category: str, pairs: pd.DataFrame, suspects: pd.DataFrame
) -> dict[str, Any]:
    good = pairs[pairs["label"] == 0]
    counts = {split: len(rows_of(manifest, category, split, label=0)) for split in ("train", "validation", "test")}
    twins_of = {split: int((good["split"] == split).sum()) for split, _ in ACROSS}
    share = {split: round(number / counts[split], 6) if counts[split] else None for split, number in twins_of.items()}
    leak = share["test"]
    return {
        "images": counts,
        "with_a_near_duplicate": twins_of,
        "share_with_a_near_duplicate": share,
        "max_leak_fraction": params.data.max_leak_fraction,
        "leaks": None if leak is None else leak > params.data.max_leak_fraction,
        "identical_across_splits": int(good["identical"].sum()),
        "defects_like_a_good_image": int((pairs["label"] == 1).sum()),
        "defects_identical_to_a_good_image": int(pairs.loc[pairs["label"] == 1, "identical"].sum()),
        "suspects": int(suspects["suspect"].sum()) if len(suspects) else None,
    }


def _in_words(found: dict[str, Any]) -> str:
    near, counts = found["with_a_near_duplicate"], found["images"]
    return (
        f"{near['test']} of {counts['test']} good test images and {near['validation']} of {counts['validation']} "
        f"for calibration have a near-duplicate in an earlier split; "
        f"{found['suspects'] if found['suspects'] is not None else 'no'} of {sum(counts[split] for split in LEARNT)} "
        "good images to learn from are suspect"
    )


def _save(path: Path, tables: list[pd.DataFrame], manifest: pd.DataFrame, *names: str) -> None:
    """One CSV of all categories, with paths in place of the places in the manifest."""
    table = pd.concat(tables, ignore_index=True)
    for position, (name, column) in enumerate(zip(names, ("row", "other"), strict=False)):
        table.insert(position, name, manifest["path"].to_numpy()[table[column].to_numpy(np.int64)])
    table.drop(columns=["row", "other"], errors="ignore").to_csv(path, index=False)


def _image(manifest: pd.DataFrame, row: int) -> NDArray[np.uint8]:
    return ImageFiles([paths.RAW / manifest["path"].to_numpy()[row]], SHOWN_SIDE)[0]


def _draw_pairs(path: Path, manifest: pd.DataFrame, pairs: pd.DataFrame, category: str) -> None:
    names = manifest["path"].map(lambda one: one.rpartition("/")[2]).to_numpy()
    cases = [
        galleries.Pair(
            left=_image(manifest, one["row"]),
            right=_image(manifest, one["other"]),
            caption=f"{one['split']}{' defect' if one['label'] else ''}: {names[one['row']]}\n"
            f"{one['other_split']}: {names[one['other']]}\n{one['different_bits']} different bits\n"
            + (f"{one['similarity']:.1f} deviations alike" if pd.notna(one["similarity"]) else ""),
        )
        for one in pairs[:SHOWN].to_dict("records")
    ]
    galleries.draw_pairs(cases, f"{category}: the closest near-duplicates across splits", path)


def _draw_suspects(
    path: Path, manifest: pd.DataFrame, good: NDArray[np.int64], strange: Suspicion, category: str
) -> None:
    cases = []
    for i in np.argsort(-strange.deviation, kind="stable")[:SHOWN].tolist():
        name = manifest["path"].to_numpy()[good[i]].rpartition("/")[2]
        caption = f"{name}\n{strange.deviation[i]:.1f} deviations\nfrom the median"
        cases.append(galleries.Case(_image(manifest, good[i]), strange.maps[i], caption))
    galleries.draw_gallery(cases, f"{category}: good images to learn from that look most like defects", path)
