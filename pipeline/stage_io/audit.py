"""Stage `audit`: near-duplicates across splits, and suspects among the good training and validation images."""

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
from stages.audit.same_picture import SIDE
from stages.audit.suspects import Suspicion, suspicion
from stages.audit.twins import Looks, looks, twins
from stages.types import Subset

EARLIER_SPLITS = (("validation", ("train",)), ("test", ("train", "validation")))
"""Splits whose images should be new, and the splits before each of them."""
FITTED_SPLITS = ("train", "validation")
"""Splits whose good images detectors learn from."""
SHOWN, SHOWN_SIDE = 8, 192
"""Rows of a picture, and the side of its images in pixels."""


def audit(params: Params) -> None:
    """data/audit: audit.json, pairs.csv, suspects.csv, twins-CATEGORY.png, suspects-CATEGORY.png."""
    manifest, summaries = read_manifest(), {}
    pair_tables, suspect_tables = [], []
    with output(paths.AUDIT) as folder:
        for category in params.data.categories:
            pairs = _pairs(params, manifest, category)
            good = rows_of(manifest, category, *FITTED_SPLITS, label=0)
            tokens = Subset(StoredRows(paths.FEATURES / "tokens.zarr"), good)
            groups = manifest["group"].to_numpy()[good].tolist()
            suspicions = suspicion(tokens, groups, params.audit, params.seed)
            suspects = _suspects(manifest, good, suspicions, params.audit.suspect)
            summaries[category] = _summary(params, manifest, category, pairs, suspects)
            _draw_pairs(folder / f"twins-{category}.png", manifest, pairs, category)
            if suspicions is not None:
                _draw_suspects(folder / f"suspects-{category}.png", manifest, good, suspicions, category)
            pair_tables.append(pairs)
            suspect_tables.append(suspects)
            print(f"audit: {category}: {_sentence(summaries[category])}")
        _save(folder / "pairs.csv", pair_tables, manifest, "path", "other_path")
        _save(folder / "suspects.csv", suspect_tables, manifest, "path")
        write_json(folder / "audit.json", summaries)


def _pairs(params: Params, manifest: pd.DataFrame, category: str) -> pd.DataFrame:
    """One row per image with a near-duplicate in an earlier split: both rows in the manifest, and the similarity."""
    rows = rows_of(manifest, category, "train", "validation", "test")
    appearance: Looks = looks(
        manifest["phash"].to_numpy()[rows].tolist(),
        Subset(StoredRows(paths.FEATURES / "tokens.zarr"), rows),
        ImageFiles.from_manifest(manifest, rows, SIDE),
        params.audit,
    )
    index_of_row = {row: i for i, row in enumerate(rows.tolist())}
    tables = []
    for split, earlier in EARLIER_SPLITS:
        new, old = rows_of(manifest, category, split), rows_of(manifest, category, *earlier, label=0)
        among = np.array([index_of_row[row] for row in old.tolist()], np.int64)
        close = twins(appearance, np.array([index_of_row[row] for row in new.tolist()], np.int64), among, params.audit)
        columns = {
            "row": new[close.has_partner],
            "other": old[close.partner[close.has_partner]],
            "near_duplicates": close.count[close.has_partner],
            "different_bits": close.bits[close.has_partner],
            "similarity": close.similarity[close.has_partner].round(3),
        }
        tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    for name, column in (("category", "category"), ("split", "split"), ("label", "label")):
        table[name] = manifest[column].to_numpy()[table["row"]]
    table["other_split"] = manifest["split"].to_numpy()[table["other"]]
    table["identical"] = manifest["sha256"].to_numpy()[table["row"]] == manifest["sha256"].to_numpy()[table["other"]]
    return table.sort_values(["different_bits", "similarity", "row"], ascending=[True, False, True], ignore_index=True)


def _suspects(
    manifest: pd.DataFrame, good: NDArray[np.int64], suspicions: Suspicion | None, limit: float
) -> pd.DataFrame:
    """One row per good training or validation image, the highest score first."""
    if suspicions is None:
        return pd.DataFrame(columns=["row", "category", "group", "split", "score", "deviation", "suspect"])
    table = pd.DataFrame(
        {
            "row": good,
            "category": manifest["category"].to_numpy()[good],
            "group": manifest["group"].to_numpy()[good],
            "split": manifest["split"].to_numpy()[good],
            "score": suspicions.scores.round(4),
            "deviation": suspicions.deviation.round(3),
            "suspect": suspicions.deviation > limit,
        }
    )
    return table.sort_values(["deviation", "row"], ascending=[False, True], ignore_index=True)


def _summary(
    params: Params, manifest: pd.DataFrame, category: str, pairs: pd.DataFrame, suspects: pd.DataFrame
) -> dict[str, Any]:
    good = pairs[pairs["label"] == 0]
    counts = {split: len(rows_of(manifest, category, split, label=0)) for split in ("train", "validation", "test")}
    affected = {split: int((good["split"] == split).sum()) for split, _ in EARLIER_SPLITS}
    share = {split: round(number / counts[split], 6) if counts[split] else None for split, number in affected.items()}
    test_share = share["test"]
    return {
        "images": counts,
        "with_a_near_duplicate": affected,
        "share_with_a_near_duplicate": share,
        "max_leak_fraction": params.data.max_leak_fraction,
        "leaks": None if test_share is None else test_share > params.data.max_leak_fraction,
        "identical_across_splits": int(good["identical"].sum()),
        "defects_like_a_good_image": int((pairs["label"] == 1).sum()),
        "defects_identical_to_a_good_image": int(pairs.loc[pairs["label"] == 1, "identical"].sum()),
        "suspects": int(suspects["suspect"].sum()) if len(suspects) else None,
    }


def _sentence(summary: dict[str, Any]) -> str:
    near, counts = summary["with_a_near_duplicate"], summary["images"]
    suspects = "no" if summary["suspects"] is None else summary["suspects"]
    return (
        f"{near['test']} of {counts['test']} good test images and {near['validation']} of {counts['validation']} "
        f"good validation images have a near-duplicate in an earlier split; "
        f"{suspects} of {sum(counts[split] for split in FITTED_SPLITS)} good training and validation images are "
        "suspects"
    )


def _save(path: Path, tables: list[pd.DataFrame], manifest: pd.DataFrame, *names: str) -> None:
    """One CSV file for all categories, with paths instead of manifest rows."""
    table = pd.concat(tables, ignore_index=True)
    for position, (name, column) in enumerate(zip(names, ("row", "other"), strict=False)):
        table.insert(position, name, manifest["path"].to_numpy()[table[column].to_numpy(np.int64)])
    table.drop(columns=["row", "other"], errors="ignore").to_csv(path, index=False)


def _image(manifest: pd.DataFrame, row: int) -> NDArray[np.uint8]:
    return ImageFiles([paths.RAW / manifest["path"].to_numpy()[row]], SHOWN_SIDE)[0]


def _draw_pairs(path: Path, manifest: pd.DataFrame, pairs: pd.DataFrame, category: str) -> None:
    names = manifest["path"].map(lambda path: path.rpartition("/")[2]).to_numpy()
    cases = [
        galleries.Pair(
            left=_image(manifest, case["row"]),
            right=_image(manifest, case["other"]),
            caption=f"{case['split']}{' defect' if case['label'] else ''}: {names[case['row']]}\n"
            f"{case['other_split']}: {names[case['other']]}\n{case['different_bits']} different bits\n"
            + (f"{case['similarity']:.1f} deviations alike" if pd.notna(case["similarity"]) else ""),
        )
        for case in pairs[:SHOWN].to_dict("records")
    ]
    galleries.render_pairs(cases, f"{category}: the closest near-duplicates across splits", path)


def _draw_suspects(
    path: Path, manifest: pd.DataFrame, good: NDArray[np.int64], suspicions: Suspicion, category: str
) -> None:
    cases = []
    for i in np.argsort(-suspicions.deviation, kind="stable")[:SHOWN].tolist():
        name = manifest["path"].to_numpy()[good[i]].rpartition("/")[2]
        caption = f"{name}\n{suspicions.deviation[i]:.1f} deviations\nfrom the median"
        cases.append(galleries.Case(_image(manifest, good[i]), suspicions.maps[i], caption))
    galleries.render_gallery(cases, f"{category}: good images to learn from that look most like defects", path)
