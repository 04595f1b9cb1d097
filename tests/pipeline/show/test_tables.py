from __future__ import annotations

from typing import Any

from rich.console import Console

from pipeline.show.tables import metrics_markdown, metrics_table


def figures(auroc: float | None, **changes: Any) -> dict[str, Any]:
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


METRICS = {"mono": {"ear": figures(0.91), "gabor": figures(0.95), "intra": figures(0.93), "pca": figures(None)}}


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
        "| mono | *gabor floor* | 0.950 | 0.93-0.97 | 0.900 | 0.800 | 50.0% | 12.5% | 3.3% | 1.235 | 30+40 |",
        "| mono | *pca floor* | – | – | 0.900 | 0.800 | 50.0% | 12.5% | 3.3% | 1.235 | 30+40 |",
    ]


def test_the_terminal_shows_the_same_cells() -> None:
    lines = [line.split() for line in shown(METRICS).splitlines() if line.strip()]
    assert [line[1] for line in lines[1:]] == ["intra", "ear", "gabor", "pca"]
    assert lines[1] == ["mono", "intra", "0.930", "0.91-0.95", "0.900", "0.800", "12.5%", "3.3%", "1.235", "30+40"]
    assert lines[4][3:5] == ["–", "–"]


def test_it_fits_into_80_columns() -> None:
    metrics = {"mono": {"gabor": figures(0.95, n_test_normal=190, n_test_defect=280)}}
    text = shown(metrics, width=80)
    assert len(text.splitlines()) == 2
    assert "190+280" in text
    assert "…" not in text


def test_pixel_columns_come_with_masks() -> None:
    assert "AUPRO" not in shown(METRICS)
    masked = {**METRICS, "tile": {"ear": figures(0.8, pixel_auroc=0.88, aupro=0.5)}}
    text = metrics_markdown(masked)
    assert "| pixel AUROC | AUPRO |" in text.splitlines()[0]
    assert "| 0.880 | 0.500 |" in text
    assert "| – | – |" in text


def test_a_leak_is_marked() -> None:
    leaky = {"mono": {"ear": figures(0.9, leak_fraction=0.489, leak_note="x"), "pca": figures(0.8, leak_fraction=0.05)}}
    text = metrics_markdown(leaky)
    assert "| leak | images |" in text and "| 48.9%! |" in text and "| 5.0% |" in text


def test_all_null_and_empty() -> None:
    nothing = dict.fromkeys(figures(None))
    assert "ear" in shown({"mono": {"ear": {**nothing, "n_test_normal": 0, "n_test_defect": 0}}})
    assert metrics_markdown({}).count("\n") == 2
    assert "category" in shown({})
