"""All that the page shows, gathered from the outputs of the stages before it. Same outputs, same text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
from markupsafe import Markup

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.report import audit, cases, charts, data, figures
from pipeline.report.circumstances import HEAD, TAIL
from pipeline.report.page import render
from pipeline.report.pictures import drawn
from pipeline.show.text import counted
from stages.detectors.registry import BASELINES

SECTIONS = (
    ("results", "Results"),
    ("thresholds", "Thresholds"),
    ("curves", "Curves"),
    ("types", "Types of defect"),
    ("fusion", "Fusion"),
    ("variants", "Variants"),
    ("cases", "Best and worst cases"),
    ("audit", "Near-duplicates, suspects"),
)
"""Of each category: id, name."""


def body(params: Params) -> str:
    """The page, with `HEAD` and `TAIL` in place of the circumstances."""
    manifest = pd.read_parquet(paths.MANIFEST)
    metrics, details = (json.loads(path.read_text("utf-8")) for path in (paths.METRICS, paths.DETAILS))
    picture = paths.PROBE / "denoising.png"
    return render(
        "page.html.j2",
        title=f"Inspection report: {', '.join(params.data.categories)}",
        marks={"head": Markup(HEAD), "tail": Markup(TAIL)},
        confidence=f"{100 * params.score.confidence:g}%",
        facts=data.facts(params),
        images=data.images(manifest, params.data.categories),
        rejected=data.rejected(pd.read_csv(paths.REJECTED, dtype=str, keep_default_na=False)),
        changed=data.changed(params),
        everything=data.everything(params),
        categories=_categories(params, metrics, details),
        denoising=audit.denoising(details["denoising"]),
        denoised=drawn(picture, "what denoising took off, image by image") if picture.exists() else None,
        labelled=audit.labelled(details["denoising"]),
    )


def _categories(params: Params, metrics: dict[str, Any], details: dict[str, Any]) -> list[dict[str, Any]]:
    space = cases.room(len(params.data.categories) * len(params.scored_detectors))
    return [
        _category(params, f"c{place}", name, metrics[name], details, space)
        for place, name in enumerate(params.data.categories)
    ]


def _category(
    params: Params, identifier: str, name: str, metrics: dict[str, Any], details: dict[str, Any], space: cases.Room
) -> dict[str, Any]:
    order, own = figures.ranked(metrics), details[name]
    found = audit.audit(name, details["audit"][name])
    return {
        "id": identifier,
        "name": name,
        "sections": SECTIONS,
        "headline": figures.headline(metrics, params.deciding_detector),
        "warnings": figures.warnings(metrics),
        "results": figures.results(metrics),
        "thresholds": figures.thresholds(metrics),
        "roc": charts.roc_chart([_curve(name, one, metrics) for one in order]),
        "one_class": next(iter(metrics.values()))["reasons"].get("image_auroc", ""),
        "scores": list(_histograms(name, order, metrics)),
        "types": figures.types(metrics),
        "added": figures.added(own, params.fused_detectors),
        "variants": figures.variants(metrics, own),
        "coverage": figures.coverage(own),
        "cases_words": _cases_words(name, space.per_kind),
        "galleries": [(one, *_gallery(name, one, metrics, space)) for one in order],
        "audit": found,
        "suspects_words": _suspects_words(details["audit"][name], len(found.suspects)),
    }


def _curve(category: str, name: str, metrics: dict[str, Any]) -> tuple[Any, ...]:
    points = json.loads((paths.PLOTS / "roc" / f"{category}-{name}.json").read_text("utf-8"))
    at, area = figures.chart_rows(metrics, name)
    return name, name in BASELINES, points, at, area


def _histograms(category: str, order: list[str], metrics: dict[str, Any]) -> Iterator[charts.ScoreChart]:
    for name in order:
        rows = json.loads((paths.PLOTS / "scores" / f"{category}-{name}.json").read_text("utf-8"))
        chart = charts.score_chart(name, name in BASELINES, rows, metrics[name]["threshold"])
        if chart is not None:
            yield chart


def _gallery(category: str, name: str, metrics: dict[str, Any], space: cases.Room) -> tuple[list[cases.Kind], str]:
    table = pd.read_parquet(paths.PREDICTIONS / f"{category}-{name}.parquet")
    threshold = metrics[name]["threshold"]
    return cases.gallery(category, name, table, space), "" if threshold is None else f"{threshold:.4g}"


def _cases_words(category: str, count: int) -> str:
    masks = pd.read_parquet(paths.MANIFEST, columns=["category", "mask_path"])
    known = (masks.loc[masks["category"] == category, "mask_path"] != "").any()
    return (
        f"Of each detector at most {counted(count, 'test image')} of each kind, most telling first. Maps of one "
        "detector share one colour scale. "
        + (
            "The true mask is shown where the data has one."
            if known
            else "The data has no masks: where the defects lie is not marked."
        )
    )


def _suspects_words(found: dict[str, Any], shown: int) -> str:
    if found["suspects"] is None:
        return "No image can be judged without a model that has not seen it: that takes two groups of good images."
    said = f"{counted(found['suspects'], 'good image to learn from is', 'good images to learn from are')} suspect"
    return f"{said}; the strangest {shown} are shown." if 0 < shown < found["suspects"] else f"{said}."
