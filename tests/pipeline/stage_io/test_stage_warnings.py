"""What a stage warns about is kept as an output of the stage."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.project.stage_table import MATRIX, STAGES
from pipeline.project.stage_warnings import read_warnings, warnings_path
from pipeline.stage_io.run_stage import run as run_stage
from pipeline.stage_io.stage_warnings import kept_warnings
from tests.conftest import ROOT


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def test_a_mask_that_marks_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(here / "data/own/masks/spot/bad0.png")
    run_stage("download")
    ((stage, line),) = read_warnings(here, STAGES)
    assert stage == "download"
    assert "mask" in line
    assert "bad0.png" in line
    assert f"download: warning: {line}\n" in capsys.readouterr().out
    (here / "data/own/masks/spot/bad0.png").unlink()
    run_stage("download")
    assert read_warnings(here, STAGES) == []
    assert (here / warnings_path("download")).read_text() == "[]\n"


def test_a_stage_of_a_category_and_detector(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: object) -> None:
        logging.getLogger("stages.detectors.ear.detector").warning("the loss\nrises")

    monkeypatch.setattr("pipeline.stage_io.train.train", train)
    run_stage("train", "tile", "ear")
    assert json.loads((here / "data/warnings/train-tile-ear.json").read_text()) == ["the loss rises"]
    assert read_warnings(here, ["train@tile-ear", "train@tile-pca"]) == [("train@tile-ear", "the loss rises")]


def test_the_same_bytes_whatever_the_order_and_only_from_what_decides_on_results(here: Path) -> None:
    texts = []
    for lines in (("b", "a", "b"), ("a", "b")):
        with kept_warnings("score"):
            for line in lines:
                logging.getLogger("stages.score.metrics").warning(line)
            logging.getLogger("pipeline.compute.dask_pool").warning("a worker was lost")
            logging.getLogger("stages.score.metrics").info("no warning")
        texts.append((here / warnings_path("score")).read_bytes())
    assert texts[0] == texts[1]
    assert json.loads(texts[0]) == ["a", "b"]
    logging.getLogger("stages.score.metrics").warning("after the stage")
    assert (here / warnings_path("score")).read_bytes() == texts[0]


def test_a_stage_that_fails_leaves_the_warnings_of_its_outputs(here: Path) -> None:
    with kept_warnings("score"):
        logging.getLogger("stages").warning("kept")
    with pytest.raises(ZeroDivisionError), kept_warnings("score"):
        logging.getLogger("stages").warning("lost with its outputs")
        _ = 1 / 0
    assert read_warnings(here, ["score"]) == [("score", "kept")]


def test_each_stage_of_dvc_yaml_has_its_file_of_warnings_as_an_output() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in STAGES:
        name = f"{stage}@${{item.category}}-${{item.detector}}" if stage in MATRIX else stage
        assert str(warnings_path(name)) in stages[stage]["outs"], stage
