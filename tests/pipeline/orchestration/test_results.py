"""Below the table of a run: results only of stages that are up to date, and warnings of cached stages too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.orchestration import results
from pipeline.orchestration.run import run

VALUES: dict[str, Any] = {"image_auroc": 0.987, "threshold_note": "another run's note", "leak_note": None}


@pytest.fixture
def project(complete: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A toy project with results of all kinds. `score` stands for all stages that make them."""
    monkeypatch.chdir(complete)
    for name, text in {
        "data/metrics/metrics.json": json.dumps({"mono": {"pca": VALUES}}),
        "data/raw/rejected.csv": "path,category,reason\na.png,mono,broken\n",
        "data/plots/roc.png": "",
        "data/report/body.html": "results",
        "data/warnings/download.json": '["3 masks mark no pixel"]',
    }.items():
        (complete / name).parent.mkdir(parents=True, exist_ok=True)
        (complete / name).write_text(text)
    monkeypatch.setattr("pipeline.show.tables.metrics_table", lambda metrics: f"table of {list(metrics)}")
    return complete


def shown(project: Path, capsys: pytest.CaptureFixture[str], *targets: str) -> str:
    assert run(project, targets, [], 1) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("target", ["right", "train@mono-y"])
def test_without_score_up_to_date_no_figures_are_shown(
    project: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parameter x has changed, so the figures that lie there are those of another model."""
    (project / "params.yaml").write_text("a: 1\nx: 2\n'y': 1\n")
    text = shown(project, capsys, target)
    assert "another run's note" not in text
    assert "table of" not in text
    assert "plots:" not in text
    assert "git add" not in text
    assert "rejected images: 1" in text  # download is up to date
    assert "out of date: train@mono-x, score. Their results are not shown. `burnish run` runs them" in text


def test_nothing_of_a_source_that_changed_is_shown(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "step.py").write_text((project / "step.py").read_text() + "\n")
    graph = results.read_graph(project, ["download"], check=False)
    results.print_results(project, graph, whole=False)
    text = capsys.readouterr().out
    assert "rejected images" not in text
    assert "out of date: download, left, right and 3 more." in text


def test_a_report_of_another_run_is_not_given_the_commit_of_this_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(project, capsys, "score")
    assert "report:" not in text  # the toy has no stage `report`
    assert not (project / "data/report/index.html").exists()


@pytest.mark.parametrize("targets", [(), ("score",)])
def test_results_of_a_run_that_needs_nothing_are_shown(
    project: Path, targets: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(project, capsys, *targets)
    assert "table of ['mono']\nmono: another run's note\n" in text
    assert "plots:  data/plots/" in text
    assert "out of date" not in text
    assert "commit: git add params.yaml dvc.lock data/metrics && git commit" in text


def test_warnings_of_cached_stages_are_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data/warnings/train-mono-x.json").write_text('["the loss rises"]')
    (project / "data/warnings/left.json").write_text("damaged")
    text = shown(project, capsys)
    assert "warning: download: 3 masks mark no pixel\nwarning: train@mono-x: the loss rises\n" in text
    assert text.count("warning: ") == 2
    assert "the loss rises" not in shown(project, capsys, "right")
