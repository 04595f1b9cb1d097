"""Which images there were, with which parameters: as tables and in words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import yaml

from pipeline.project import paths
from pipeline.project.params import Params, defaults
from pipeline.report.words import Line, Table, listed
from pipeline.show.text import counted
from stages.fusion.members import FUSION

SPLITS = {"official": "the publisher's where there is one, else by groups", "grouped": "by groups"}
UNTOLD = frozenset({"compute", "retrain"})
"""Sections that change no result, so the stage does not depend on them."""


def images(manifest: pd.DataFrame, categories: tuple[str, ...]) -> Table:
    """Images by category and split."""
    lines = []
    for category in categories:
        own = manifest[manifest["category"] == category]
        test, bad = own[own["split"] == "test"], own[own["label"] == 1]
        cells = [
            str(int(((own["split"] == split) & (own["label"] == 0)).sum())) for split in ("train", "validation", "test")
        ]
        masks = int((bad["mask_path"] != "").sum())
        kinds = sorted(set(bad["defect_type"]) - {""})
        lines.append(Line([category, *cells, str(int(test["label"].sum())), str(masks), ", ".join(kinds) or "none"]))
    head = ("category", "good: training", "calibration", "test", "defective: test", "with a mask", "types of defect")
    return Table(head, lines)


def rejected(table: pd.DataFrame) -> str:
    """How many images could not be used, and the commonest reasons."""
    if table.empty:
        return "No image was rejected."
    counts = table["reason"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    reasons = [f"{reason} ({count})" for reason, count in counts[:3].items()]
    more = f" and {counted(len(counts) - 3, 'other reason')}" if len(counts) > 3 else ""
    return f"{counted(len(table), 'image')} could not be used: {'; '.join(reasons)}{more}. See {paths.REJECTED}."


def facts(params: Params) -> list[tuple[str, str]]:
    """What was run on what, as (term, words)."""
    data = params.data
    source: str = data.source
    if data.archive.url:
        source += f", from {data.archive.url}"
    elif data.source not in ("elpv", "synthetic"):
        source += f", in {data.folder}"
    groups = f", groups by {data.group_pattern}" if data.group_pattern else ""
    fused = f"; {FUSION} is the mean of {listed(params.fused_detectors)}" if params.fused_detectors else ""
    return [
        ("Data", f"{source}: {listed(data.categories)}"),
        ("Split", f"{SPLITS[data.split]}, fold {data.fold}{groups}"),
        ("Manifest", "sha256 " + hashlib.sha256(paths.MANIFEST.read_bytes()).hexdigest()),
        ("Backbone", f"{params.backbone.model}, {params.backbone.image_side} pixels"),
        ("Detectors", listed(params.detectors) + fused),
        ("Aim", f"at most {100 * params.score.target_overkill:g}% of good parts rejected (overkill)"),
        ("Intervals", f"{100 * params.score.confidence:g}%, {params.score.resamples:,} resamples of the test images"),
        ("Seed", str(params.seed)),
    ]


def changed(params: Params) -> list[tuple[str, str]]:
    """Parameters that are not at their default, as (name, value)."""
    own, plain = dict(_flat(_told(params.model_dump(mode="json")))), dict(_flat(_told(defaults())))
    return [(name, _shown(value)) for name, value in own.items() if value != plain.get(name)]


def everything(params: Params) -> str:
    """All parameters as YAML."""
    return str(yaml.safe_dump(_told(params.model_dump(mode="json")), sort_keys=False, allow_unicode=True, width=100))


def _told(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in UNTOLD}


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "null" if value is None else str(value)
