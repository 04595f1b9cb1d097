"""All that the page shows, gathered from the outputs of earlier stages. The same outputs give the same text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
from markupsafe import Markup

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.report import audit, cases, charts, data, denoising, figures
from pipeline.report.page import render
from pipeline.report.pictures import load_rendered
from pipeline.report.run_facts import HEAD, TAIL
from pipeline.report.tables import format_with_interval
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
NO_MASKS = "No defect has a mask that can be used."


def render_body(params: Params) -> str:
    """The page, with the placeholders `HEAD` and `TAIL` instead of the facts about the run."""
    manifest = pd.read_parquet(paths.MANIFEST)
    metrics, details = (json.loads(path.read_text("utf-8")) for path in (paths.METRICS, paths.DETAILS))
    picture = paths.PROBE / "denoising.png"
    return render(
        "page.html.j2",
        title=f"Inspection report: {', '.join(params.data.categories)}",
        placeholders={"head": Markup(HEAD), "tail": Markup(TAIL)},
        confidence=f"{100 * params.score.confidence:g}%",
        settings=data.run_settings(params),
        images=data.image_table(manifest, params.data.categories),
        rejected=data.describe_rejected(pd.read_csv(paths.REJECTED, dtype=str, keep_default_na=False)),
        changed_params=data.changed_params(params),
        all_params=data.all_params(params),
        categories=_categories(params, metrics, details),
        denoising=denoising.denoising_table(details["denoising"]),
        denoising_picture=load_rendered(picture, "what denoising removed, image by image")
        if picture.exists()
        else None,
        classifiers=denoising.classifiers_on_labels(details["denoising"]),
    )


def _categories(params: Params, metrics: dict[str, Any], details: dict[str, Any]) -> list[dict[str, Any]]:
    limits = cases.gallery_limits(len(params.data.categories) * len(params.scored_detectors))
    return [
        _category(params, f"c{number}", name, metrics[name], details, limits)
        for number, name in enumerate(params.data.categories)
    ]


def _category(
    params: Params,
    identifier: str,
    name: str,
    metrics: dict[str, Any],
    details: dict[str, Any],
    limits: cases.GalleryLimits,
) -> dict[str, Any]:
    detectors, own_details = figures.ranked(metrics), details[name]
    audited = audit.audit(name, details["audit"][name])
    return {
        "id": identifier,
        "name": name,
        "sections": SECTIONS,
        "headline": figures.headline(metrics, params.deciding_detector),
        "warnings": figures.warnings(metrics),
        "results": figures.results_table(metrics),
        "thresholds": figures.thresholds_table(metrics, params.score),
        "roc": charts.roc_chart([_roc_data(name, detector, metrics[detector]) for detector in detectors]),
        "why_no_roc": next(iter(metrics.values()))["reasons"].get("image_auroc", ""),
        "scores": list(_histograms(name, detectors, metrics)),
        "types": figures.defect_types_table(metrics),
        "contributions": figures.contributions_table(own_details, params.fused_detectors),
        "variants": figures.variants_table(metrics, own_details),
        "coverage": figures.mask_coverage(own_details),
        "cases_intro": _cases_intro(name, limits.per_kind),
        "galleries": [(detector, *_gallery(name, detector, metrics, limits)) for detector in detectors],
        "audit": audited,
        "suspects_intro": _suspects_intro(details["audit"][name], len(audited.suspects)),
    }


def _roc_data(category: str, detector: str, values: dict[str, Any]) -> charts.RocData:
    return charts.RocData(
        detector=detector,
        is_baseline=detector in BASELINES,
        points=json.loads((paths.PLOTS / "roc" / f"{category}-{detector}.json").read_text("utf-8")),
        threshold_point=figures.threshold_point(values),
        auroc=format_with_interval(values["image_auroc"], values["image_auroc_ci"]),
    )


def _histograms(category: str, detectors: list[str], metrics: dict[str, Any]) -> Iterator[charts.ScoreChart]:
    for detector in detectors:
        rows = json.loads((paths.PLOTS / "scores" / f"{category}-{detector}.json").read_text("utf-8"))
        chart = charts.score_chart(detector, detector in BASELINES, rows, metrics[detector]["threshold"])
        if chart is not None:
            yield chart


def _gallery(
    category: str, detector: str, metrics: dict[str, Any], limits: cases.GalleryLimits
) -> tuple[list[cases.Kind], str]:
    """Cases by kind, and the threshold as text."""
    predictions = pd.read_parquet(paths.PREDICTIONS / f"{category}-{detector}.parquet")
    threshold = metrics[detector]["threshold"]
    kinds = cases.gallery(category, detector, predictions, limits)
    return kinds, "" if threshold is None else f"{threshold:.4g}"


def _cases_intro(category: str, count: int) -> str:
    manifest = pd.read_parquet(paths.MANIFEST, columns=["category", "label", "mask_path"])
    defects = manifest[(manifest["category"] == category) & (manifest["label"] == 1)]
    masks = int((defects["mask_path"] != "").sum())
    having = f"{masks} of {counted(len(defects), 'defect')} {'has a mask' if masks == 1 else 'have masks'}"
    known = f"{having}, which are shown; pixel figures are about these defects." if masks else NO_MASKS
    return (
        f"For each detector at most {counted(count, 'test image')} of each kind, most extreme first. Maps of the same "
        f"detector share a colour scale. {known}"
    )


def _suspects_intro(audit_results: dict[str, Any], shown: int) -> str:
    suspects = audit_results["suspects"]
    if suspects is None:
        return (
            "Suspects are not known: each image needs a model that has not seen it, and so at least two groups of good "
            "images."
        )
    text = f"{counted(suspects, 'good image is', 'good images are')} suspect"
    return f"{text}; the {shown} most unusual are shown." if 0 < shown < suspects else f"{text}."
