"""Profiles: the keys that `burnish params use` writes, and the keys that it leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.project.params import defaults, load_params
from pipeline.project.profiles import PROFILES, apply_profile
from stages.types import UserError
from tests.conftest import ROOT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of the repository's params.yaml."""
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))


def comments(path: Path) -> list[str]:
    return [line.partition("#")[2].strip() for line in path.read_text().splitlines() if "#" in line]


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_changes_exactly_the_keys_that_it_reports(name: str, file: Path) -> None:
    comments_before = comments(file)
    changed = apply_profile(name, file)
    assert comments(file) == comments_before
    written, expected = load_params(file).model_dump(mode="json"), defaults()
    for section, values in PROFILES[name].items():
        for key, value in values.items():
            if not isinstance(value, dict):
                assert written[section][key] == value
                is_reported = any(line.startswith(f"{section}.{key}: ") for line in changed)
                assert is_reported == (expected[section][key] != value)
                expected[section][key] = value
            for inner, inner_value in value.items() if isinstance(value, dict) else ():
                assert written[section][key][inner] == inner_value
                expected[section][key][inner] = inner_value
    assert written == expected  # every other key still has its default


def test_back_to_cpu_gives_the_same_values_and_keeps_other_keys(file: Path) -> None:
    content = file.read_text().replace("seed: 0", "seed: 7").replace("  fold: 0", "  fold: 3")
    assert content != file.read_text()
    file.write_text(content)
    before = yaml.safe_load(content)
    assert apply_profile("paper", file) and apply_profile("gpu", file) and apply_profile("cpu", file)
    assert yaml.safe_load(file.read_text()) == before
    assert apply_profile("cpu", file) == []


def test_missing_keys_are_added(file: Path) -> None:
    file.write_text("seed: 3  # mine\near:\n  lr: 0.5\n")
    apply_profile("gpu", file)
    assert load_params(file).model_dump()["intra"]["width"] == 256
    assert "# mine" in file.read_text()
    file.write_text("")
    apply_profile("gpu", file)
    assert load_params(file).model_dump()["intra"]["width"] == 256


def test_an_error_leaves_the_file_as_it_is(file: Path) -> None:
    with pytest.raises(UserError, match="no profile 'tpu'; there are cpu, gpu, paper"):
        apply_profile("tpu", file)
    file.write_text(file.read_text().replace("  mosaic_scales: [2, 4, 8, 16]", "  mosaic_scales: [200]"))
    before = file.read_text()
    with pytest.raises(UserError, match="mosaic"):
        apply_profile("gpu", file)
    assert file.read_text() == before
    assert [path.name for path in file.parent.iterdir()] == ["params.yaml"]
