"""params.yaml: its keys and defaults, and the errors of wrong ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.project.params import Params, _WholeParams, load_params
from stages.detectors.registry import CONFIGS
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


def test_every_key_has_a_docstring() -> None:
    def walk(model: Any, prefix: str = "") -> list[str]:
        without_meaning = []
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                without_meaning += walk(field.annotation, f"{prefix}{name}.")
            elif not field.description:
                without_meaning.append(prefix + name)
        return without_meaning

    assert walk(_WholeParams) == []


def explained(lines: list[str]) -> dict[str, str]:
    """Comment of every key and section: the lines above it and the text beside it; `*.KEY` for shared keys."""
    found: dict[str, str] = {}
    above: list[str] = []
    parts: list[str] = []
    for line in lines:
        text, _, beside = line.partition("#")
        if shared := re.match(r"#   (\w+): (.*)", line):
            parts, above = [], []
            found[f"*.{shared[1]}"] = shared[2]
        elif line.startswith("#     "):
            found[list(found)[-1]] += f" {line[6:]}"
        elif not text.strip():
            above = [*above, beside.strip()] if beside else []
        else:
            depth = (len(text) - len(text.lstrip())) // 2
            parts = [*parts[:depth], text.strip().partition(":")[0]]
            found[".".join(parts)] = " ".join([*above, beside.strip()]).strip()
            above = []
    return found


def described(model: Any, prefix: str = "") -> dict[str, str]:
    """First paragraph of the description of every key and section."""
    found = {}
    for name, field in model.model_fields.items():
        text = field.description
        if hasattr(field.annotation, "model_fields"):
            found |= described(field.annotation, f"{prefix}{name}.")
            text = text or field.annotation.__doc__
        found[prefix + name] = " ".join(text.partition("\n\n")[0].split())
    return found


def test_comments_say_what_the_descriptions_say() -> None:
    comments = explained((ROOT / "params.yaml").read_text().splitlines())
    shared = {name[2:]: comments.pop(name) for name in list(comments) if name.startswith("*.")}
    for name, text in described(_WholeParams).items():
        section, _, key = name.partition(".")
        if section in CONFIGS and key in shared:
            assert text == shared[key], name
            assert comments.pop(name).startswith("See above."), name
        else:
            assert text == comments.pop(name), name
    assert not comments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ear: {epoch: 3}", r"unknown key 'ear\.epoch'; did you mean 'epochs'\?"),
        ("eary: {}", r"unknown key 'eary'; did you mean 'ear'\?"),
        ("seed: -1", r"seed = -1: .*greater than or equal to 0"),
        ("seed: many", r"seed = 'many': .*integer"),
        ("data: {categories: []}", r"data\.categories = \[\]: .*at least 1"),
        ("detectors: [ear, foo]", r"detectors = .*unknown detector 'foo'; there are context, ear"),
        ("data: 3", r"data = 3: "),
        ("- a\n- b", "holds a list"),
        ("a: [", "not valid YAML"),
    ],
)
def test_an_error_is_one_line_that_names_key_and_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing; restore it"):
        load_params(tmp_path / "params.yaml")


def test_parameters_are_frozen() -> None:
    params = Params()
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # type: ignore[misc]
