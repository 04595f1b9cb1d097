"""params.yaml: what is in it, and what is said of what should not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.project.params import Params, _WholeParams, load_params
from stages.types import UserError
from tests.conftest import ROOT


def keys(value: Any, prefix: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {prefix}
    return set().union(*(keys(inner, f"{prefix}.{name}" if prefix else name) for name, inner in value.items()))


def test_the_file_names_every_key_with_its_default() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    defaults = _WholeParams().model_dump(mode="json")
    assert keys(content) == keys(defaults)
    assert load_params(ROOT / "params.yaml").model_dump(mode="json") == defaults


def test_every_key_is_explained() -> None:
    def walk(model: Any, prefix: str = "") -> list[str]:
        silent = []
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                silent += walk(field.annotation, f"{prefix}{name}.")
            elif not field.description:
                silent.append(prefix + name)
        return silent

    assert walk(_WholeParams) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ear: {epoch: 3}", r"unknown key 'ear\.epoch'; did you mean 'epochs'\?"),
        ("eary: {}", r"unknown key 'eary'; did you mean 'ear'\?"),
        ("seed: -1", r"seed = -1: .*greater than or equal to 0"),
        ("seed: many", r"seed = 'many': .*integer"),
        ("data: {categories: []}", r"data\.categories = \[\]: .*at least 1"),
        ("detectors: [ear, foo]", r"detectors = .*unknown detector 'foo'; there are ear, intra"),
        ("data: 3", r"data = 3: "),
        ("- a\n- b", "holds a list"),
        ("a: [", "not valid YAML"),
    ],
)
def test_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing; restore it"):
        load_params(tmp_path / "params.yaml")


def test_parameters_are_frozen() -> None:
    params = Params()
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # type: ignore[misc]
