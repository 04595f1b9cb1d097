"""`burnish params show`: every key with value, default, range and meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.project.explain import explain_parameters
from pipeline.project.params import Params, load_params
from stages.types import UserError
from tests.conftest import ROOT


@pytest.fixture
def params(tmp_path: Path) -> Params:
    """The default parameters with another `ear.mask_fraction`."""
    text = (ROOT / "params.yaml").read_text().replace("  mask_fraction: 0.15", "  mask_fraction: 0.2")
    file = tmp_path / "params.yaml"
    file.write_text(text)
    return load_params(file)


def test_a_key_has_value_default_range_and_meaning(params: Params) -> None:
    lines = explain_parameters(params, "ear.mask_fraction")
    assert lines[0] == "ear.mask_fraction = 0.2   (default 0.15)   [> 0.0, < 1.0]"
    field = type(params.detector("ear")).model_fields["mask_fraction"]
    assert " ".join(" ".join(lines[1:]).split()) == " ".join((field.description or "none").split())


def test_choices_are_listed(params: Params) -> None:
    assert explain_parameters(params, "ear.hint")[0] == "ear.hint = mosaic   [mosaic | none]"
    assert explain_parameters(params, "denoise.solver")[0].endswith("[least_squares | neural_field]")


def test_every_key_is_explained_in_the_order_of_the_sections(params: Params) -> None:
    def keys(values: object, prefix: str = "") -> list[str]:
        if not isinstance(values, dict):
            return [prefix]
        return [name for key, value in values.items() for name in keys(value, f"{prefix}.{key}" if prefix else key)]

    explained = [line.split(" = ")[0] for line in explain_parameters(params) if not line.startswith(" ")]
    assert explained == keys(params.model_dump(mode="json"))


def test_a_section_gives_its_own_keys_only(params: Params) -> None:
    lines = [line for line in explain_parameters(params, "denoise.neural_field") if not line.startswith(" ")]
    assert lines and all(line.startswith("denoise.neural_field.") for line in lines)


def test_an_unknown_key_is_an_error(params: Params) -> None:
    with pytest.raises(UserError, match=r"no key 'ea'"):
        explain_parameters(params, "ea")
