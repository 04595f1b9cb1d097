"""The images and parameters of a run, as tables and text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import yaml

from pipeline.project import paths
from pipeline.project.params import Params, defaults
from pipeline.report.tables import Line, Table, join_names
from pipeline.show.text import counted
from stages.fusion.members import FUSION

SPLITS = {"official": "the publisher's if there is one, else by groups", "grouped": "by groups"}
HIDDEN_SECTIONS = frozenset({"compute", "retrain"})
"""Sections that change no result, so that the stage does not depend on them."""


def image_table(manifest: pd.DataFrame, categories: tuple[str, ...]) -> Table:
    """Number of images by category and split."""
    lines = []
    for category in categories:
        own = manifest[manifest["category"] == category]
        test, defects = own[own["split"] == "test"], own[own["label"] == 1]
        good_counts = [
            str(int(((own["split"] == split) & (own["label"] == 0)).sum())) for split in ("train", "validation", "test")
        ]
        masks = int((defects["mask_path"] != "").sum())
        types = sorted(set(defects["defect_type"]) - {""})
        defect_cells = [str(int(test["label"].sum())), str(masks), ", ".join(types) or "none"]
        lines.append(Line([category, *good_counts, *defect_cells]))
    head = ("category", "good: training", "validation", "test", "defective: test", "with a mask", "types of defect")
    return Table(head, lines)


def describe_rejected(table: pd.DataFrame) -> str:
    """How many images could not be used, and the most frequent reasons."""
    if table.empty:
        return "No image was rejected."
    counts = table["reason"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    reasons = [f"{reason} ({count})" for reason, count in counts[:3].items()]
    more = f" and {counted(len(counts) - 3, 'other reason')}" if len(counts) > 3 else ""
    return f"{counted(len(table), 'image')} could not be used: {'; '.join(reasons)}{more}. See {paths.REJECTED}."


def run_settings(params: Params) -> list[tuple[str, str]]:
    """Data, models and goals of the run, as (term, text)."""
    data = params.data
    source: str = data.source
    if data.archive.url:
        source += f", from {data.archive.url}"
    elif data.source not in ("elpv", "synthetic"):
        source += f", in {data.folder}"
    groups = f", groups by {data.group_pattern}" if data.group_pattern else ""
    fusion = f"; {FUSION} is the mean of {join_names(params.fused_detectors)}" if params.fused_detectors else ""
    return [
        ("Data", f"{source}: {join_names(data.categories)}"),
        ("Split", f"{SPLITS[data.split]}, fold {data.fold}{groups}"),
        ("Manifest", "sha256 " + hashlib.sha256(paths.MANIFEST.read_bytes()).hexdigest()),
        ("Backbone", f"{params.backbone.model}, {params.backbone.image_side} pixels"),
        ("Detectors", join_names(params.detectors) + fusion),
        ("Target", f"at most {100 * params.score.target_overkill:g}% of good parts rejected (overkill)"),
        ("Intervals", f"{100 * params.score.confidence:g}%, {params.score.resamples:,} resamples of the test images"),
        ("Seed", str(params.seed)),
    ]


def changed_params(params: Params) -> list[tuple[str, str]]:
    """Parameters that do not have their default value, as (dotted key, value)."""
    own, default = (dict(_dotted(_without_hidden(content))) for content in (params.model_dump(mode="json"), defaults()))
    return [(key, _format_value(value)) for key, value in own.items() if value != default.get(key)]


def all_params(params: Params) -> str:
    """All parameters as YAML."""
    content = _without_hidden(params.model_dump(mode="json"))
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))


def _without_hidden(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in HIDDEN_SECTIONS}


def _dotted(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{name}.")
        else:
            yield above + name, value


def _format_value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "null" if value is None else str(value)
