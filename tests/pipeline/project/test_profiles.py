"""Profiles: what is written, what stays; params.yaml explained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.project.params import defaults, load_params
from pipeline.project.profiles import PROFILES, explain, use
from stages.types import UserError
from tests.conftest import ROOT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))


def comments(path: Path) -> list[str]:
    return [line.partition("#")[2].strip() for line in path.read_text().splitlines() if "#" in line]


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_loads_and_changes_what_it_says_and_no_more(name: str, file: Path) -> None:
    told = comments(file)
    said = use(name, file)
    assert comments(file) == told
    found, plain = load_params(file).model_dump(mode="json"), defaults()
    for section, values in PROFILES[name].items():
        for key, value in values.items():
            if not isinstance(value, dict):
                assert found[section][key] == value
                assert any(line.startswith(f"{section}.{key}: ") for line in said) == (plain[section][key] != value)
                plain[section][key] = value
            for inner, deep in value.items() if isinstance(value, dict) else ():
                assert found[section][key][inner] == deep
                plain[section][key][inner] = deep
    assert found == plain  # every other key has its default still


def test_back_to_cpu_gives_the_same_values_and_own_keys_stay(file: Path) -> None:
    content = file.read_text().replace("seed: 0", "seed: 7").replace("  fold: 0", "  fold: 3")
    assert content != file.read_text()
    file.write_text(content)
    before = yaml.safe_load(content)
    assert use("paper", file) and use("gpu", file) and use("cpu", file)
    assert yaml.safe_load(file.read_text()) == before
    assert use("cpu", file) == []


def test_missing_keys_are_added(file: Path) -> None:
    file.write_text("seed: 3  # mine\near:\n  lr: 0.5\n")
    use("gpu", file)
    assert load_params(file).model_dump()["intra"]["width"] == 256
    assert "# mine" in file.read_text()
    file.write_text("")
    use("gpu", file)
    assert load_params(file).model_dump()["intra"]["width"] == 256


def test_what_cannot_be_is_refused_and_the_file_stays(file: Path) -> None:
    with pytest.raises(UserError, match="no profile 'tpu'; there are cpu, gpu, paper"):
        use("tpu", file)
    file.write_text(file.read_text().replace("  mosaic_scales: [2, 4, 8, 16]", "  mosaic_scales: [200]"))
    before = file.read_text()
    with pytest.raises(UserError, match="mosaic"):
        use("gpu", file)
    assert file.read_text() == before
    assert [path.name for path in file.parent.iterdir()] == ["params.yaml"]


def test_every_key_is_explained_with_value_default_and_range(file: Path) -> None:
    file.write_text(file.read_text().replace("  mask_fraction: 0.15", "  mask_fraction: 0.2"))
    params = load_params(file)
    lines = explain(params, "ear.mask_fraction")
    assert lines[0] == "ear.mask_fraction = 0.2   (default 0.15)   [> 0.0, < 1.0]"
    assert "Share of the image's pixels that is cut out." in lines[1]
    assert explain(params, "ear.hint")[0] == "ear.hint = mosaic   [mosaic | none]"
    assert explain(params, "denoise.solver")[0].endswith("[least_squares | neural_field]")
    whole = [line.split(" = ")[0] for line in explain(params) if not line.startswith(" ")]

    def names(values: object, above: str = "") -> list[str]:
        if not isinstance(values, dict):
            return [above]
        return [name for key, value in values.items() for name in names(value, f"{above}.{key}" if above else key)]

    assert whole == names(params.model_dump(mode="json"))
    assert all(
        line.startswith("denoise.neural_field.") for line in explain(params, "denoise.neural_field") if line[0] != " "
    )
    with pytest.raises(UserError, match=r"no key 'ea'"):
        explain(params, "ea")
