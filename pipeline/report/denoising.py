"""Results of the stage `probe`: what denoising did to the features."""

from __future__ import annotations

from pipeline.report.tables import Line, Table, Values, format_number
from pipeline.show.tables import DASH

KINDS = ("raw", "mean_artifact", "stage_1", "denoiser")
"""Kinds of features, as keys of probe.json; `stage_1` is DVT's step 1."""


def denoising_table(results: Values) -> Table:
    """Positional leakage, distance to DVT's step 1, and accuracy of nearest neighbours, by kind of feature."""
    leakage, errors = results["positional_leakage"], results["error_to_stage_1"]
    lines, notes = [], []
    if leakage is None:
        notes.append("Positional leakage is not known: it needs training and validation images that step 1 ran on.")
    else:
        cells = [format_number(leakage[kind]) for kind in KINDS]
        lines.append(Line(["positional leakage (R² of a patch's position from its feature)", *cells]))
    if errors is not None:
        cells = [format_number(errors.get(kind)) for kind in KINDS]
        lines.append(Line(["squared distance to step 1, relative to its variance", *cells]))
    for category, values in results["nearest_neighbour"].items():
        if values is None:
            notes.append(f"{category}: no AUROC of nearest neighbours, because one class has no test images.")
            continue
        raw, less_artifact, clean = (format_number(values[kind]["value"]) for kind in ("raw", "mean_artifact", "clean"))
        lines.append(Line([f"{category}: AUROC of nearest neighbours", raw, less_artifact, DASH, clean]))
        difference = values["difference"]
        ends = difference["ci"]
        interval = "" if ends is None else f" [{ends[0]:+.3f} to {ends[1]:+.3f}]"
        notes.append(
            f"{category}: AUROC of nearest neighbours with denoised features minus AUROC with raw features: "
            f"{difference['value']:+.3f}{interval}, paired."
        )
    return Table(["", "raw tokens", "minus the mean artifact", "step 1", "after the denoiser"], lines, notes=notes)


def classifiers_on_labels(results: Values) -> list[str]:
    """AUROC of simple classifiers that learn from labels, one text per category."""
    texts = []
    for category, probes in results["labelled"].items():
        auroc = {name: probe["image_auroc"] for name, probe in probes.items() if probe["image_auroc"] is not None}
        if auroc:
            texts.append(f"{category}: " + ", ".join(f"{name} {format_number(value)}" for name, value in auroc.items()))
        else:
            texts.append(f"{category}: {next(iter(probes.values()))['reason']}")
    return texts
