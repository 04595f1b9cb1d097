from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.project.params import Params, load_params
from pipeline.report import data
from tests.conftest import ROOT


def params(folder: Path, text: str) -> Params:
    (folder / "params.yaml").write_text(text)
    return load_params(folder / "params.yaml")


def test_images_by_hand() -> None:
    kinds = [("train", 0), ("train", 0), ("validation", 0), ("test", 0), ("test", 1), ("test", 1), ("test", 1)]
    own = pd.DataFrame(kinds, columns=["split", "label"])
    own = own.assign(defect_type=["", "", "", "", "b", "a", ""], mask_path=["", "", "", "", "m", "", ""])
    table = data.image_table(pd.concat([own.assign(category="x"), own[:5].assign(category="y")]), ("x", "y", "z"))
    assert [tuple(line.cells) for line in table.lines] == [
        ("x", "2", "1", "1", "3", "1", "a, b"),
        ("y", "2", "1", "1", "1", "1", "b"),
        ("z", "0", "0", "0", "0", "0", "none"),
    ]


def test_rejected_images_and_why() -> None:
    assert data.describe_rejected(pd.DataFrame({"reason": []})) == "No image was rejected."
    text = data.describe_rejected(pd.DataFrame({"reason": ["b", "a", "a", "c", "d"]}))
    assert text.startswith("5 images could not be used: a (2); b (1); c (1) and 1 other reason.")


def test_what_differs_from_the_defaults(tmp_path: Path) -> None:
    assert data.changed_params(params(tmp_path, "")) == []
    found = data.changed_params(
        params(tmp_path, "seed: 3\ndata: {categories: [poly, mono]}\ncompute: {executor: serial}")
    )
    assert found == [("seed", "3"), ("data.categories", "poly, mono")]


def test_all_parameters_but_those_that_change_no_result(tmp_path: Path) -> None:
    shown = yaml.safe_load(data.all_params(params(tmp_path, "seed: 3")))
    assert shown["seed"] == 3
    assert not data.HIDDEN_SECTIONS & set(shown)
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["report"]
    assert sorted(stage["params"]) == sorted(shown), "the stage has to run again when a parameter that it shows changes"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "elpv: mono"),
        ("data: {source: folder, folder: data/x, categories: [a, b]}", "folder, in data/x: a and b"),
        (
            "data: {source: visa, categories: [a], archive: {url: 'https://x.org/a.zip'}}",
            "visa, from https://x.org/a.zip: a",
        ),
    ],
)
def test_where_the_data_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/manifest.parquet").write_bytes(b"abc")
    settings = dict(data.run_settings(params(tmp_path, text)))
    assert settings["Data"] == expected
    assert settings["Manifest"] == "sha256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
