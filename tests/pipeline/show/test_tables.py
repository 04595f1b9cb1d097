"""The table of metrics: Markdown by hand, and the same cells on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from pipeline.show.tables import metrics_markdown, metrics_table


def metrics_of(auroc: float | None, **changes: Any) -> dict[str, Any]:
    values = {
        "image_auroc": auroc,
        "image_auroc_ci": None if auroc is None else [auroc - 0.02, auroc + 0.02],
        "image_aupr": 0.9,
        "f1_max": 0.8,
        "fpr_at_95tpr": 0.5,
        "threshold": 1.23456,
        "escape_rate": 0.125,
        "overkill_rate": 0.0333,
        "pixel_auroc": None,
        "aupro": None,
        "n_test_normal": 30,
        "n_test_defect": 40,
    }
    return {**values, **changes}


METRICS = {
    "mono": {"ear": metrics_of(0.91), "gabor": metrics_of(0.95), "intra": metrics_of(0.93), "pca": metrics_of(None)}
}


def shown(metrics: Any, width: int = 160) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(metrics_table(metrics))
    return capture.get()


def test_markdown_by_hand() -> None:
    assert metrics_markdown(METRICS).splitlines() == [
        "| category | detector | AUROC | interval | AUPR | F1 | FPR@95 | escape | overkill | cut at | images |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| mono | intra | 0.930 | 0.91-0.95 | 0.900 | 0.800 | 50.0% | 12.5% | 3.3% | 1.235 | 30+40 |",
        "| mono | ear | 0.910 | 0.89-0.93 | 0.900 | 0.800 | 50.0% | 12.5% | 3.3% | 1.235 | 30+40 |",
        "| mono | *gabor (baseline)* | 0.950 | 0.93-0.97 | 0.900 | 0.800 | 50.0% | 12.5% | 3.3% | 1.235 | 30+40 |",
        "| mono | *pca (baseline)* | – | – | 0.900 | 0.800 | 50.0% | 12.5% | 3.3% | 1.235 | 30+40 |",
    ]


def test_the_terminal_shows_the_same_cells() -> None:
    lines = [line.split() for line in shown(METRICS).splitlines() if line.strip()]
    assert [line[1] for line in lines[1:]] == ["intra", "ear", "gabor", "pca"]
    assert lines[1] == ["mono", "intra", "0.930", "0.91-0.95", "0.900", "0.800", "12.5%", "3.3%", "1.235", "30+40"]
    assert [line[2] for line in lines[3:]] == ["(baseline)", "(baseline)"]
    assert lines[4][3:5] == ["–", "–"]


def test_it_fits_into_80_columns() -> None:
    counts = {"n_test_normal": 190, "n_test_defect": 280}
    text = shown({"mono": {"intra": metrics_of(0.95, **counts), "gabor": metrics_of(0.95, **counts)}}, width=80)
    lines = [line.split() for line in text.splitlines()]
    assert len(lines) == 4
    assert lines[1][1:3] == ["intra", "0.950"] and lines[1][-1] == "190+280"
    assert lines[2][1:3] == ["gabor", "0.950"] and lines[2][-1] == "190+280"
    assert lines[3] == ["(baseline)"]  # the mark alone goes to a second line
    assert "…" not in text


def test_pixel_columns_come_with_masks() -> None:
    assert "AUPRO" not in shown(METRICS)
    masked = {**METRICS, "tile": {"ear": metrics_of(0.8, pixel_auroc=0.88, aupro=0.5)}}
    text = metrics_markdown(masked)
    assert "| pixel AUROC | AUPRO |" in text.splitlines()[0]
    assert "| 0.880 | 0.500 |" in text
    assert "| – | – |" in text


def test_too_many_near_duplicates_are_marked() -> None:
    metrics = {
        "mono": {"ear": metrics_of(0.9, leak_fraction=0.489, leak_note="x"), "pca": metrics_of(0.8, leak_fraction=0.05)}
    }
    text = metrics_markdown(metrics)
    assert "| leak | images |" in text and "| 48.9%! |" in text and "| 5.0% |" in text


def test_a_table_without_values_and_one_without_rows() -> None:
    no_values = dict.fromkeys(metrics_of(None))
    assert "ear" in shown({"mono": {"ear": {**no_values, "n_test_normal": 0, "n_test_defect": 0}}})
    assert metrics_markdown({}).count("\n") == 2
    assert "category" in shown({})


def test_groups_are_shown_where_images_share_them() -> None:
    groups = {"n_groups_normal": 6, "n_groups_defect": 20, "groups_note": "few"}
    lines = metrics_markdown({"mono": {"ear": metrics_of(0.91, **groups)}}).splitlines()
    assert lines[0].endswith("| images | groups |") and lines[2].endswith("| 30+40 | 6+20! |")
    own = {"n_groups_normal": 30, "n_groups_defect": 40, "groups_note": None}
    assert "groups" not in metrics_markdown({"mono": {"ear": metrics_of(0.91, **own)}})
