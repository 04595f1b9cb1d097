"""Explains params.yaml key by key: value, default, range or choices, and meaning."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pipeline.project import paths
from pipeline.project.params import Params
from stages.types import UserError

WIDTH = 100
"""Characters in a line of an explanation."""


class Parameter(NamedTuple):
    """One key of params.yaml that is not a section."""

    key: str
    """With its sections, such as `denoise.neural_field.steps`."""
    value: Any
    default: Any
    field: Any
    """pydantic's description: annotation, limits and docstring."""


def explain_parameters(params: Params, prefix: str = "") -> list[str]:
    """Lines that explain every key at or below `prefix` (`ear`, `denoise.neural_field`, `ear.lr`).

    Raises:
        UserError: there is no such key.
    """
    lines: list[str] = []
    for parameter in _parameters(params, type(params)(), ""):
        if prefix and parameter.key != prefix and not parameter.key.startswith(f"{prefix}."):
            continue
        default = "" if parameter.value == parameter.default else f"   (default {_format(parameter.default)})"
        lines += [f"{parameter.key} = {_format(parameter.value)}{default}{_allowed(parameter.field)}"]
        meaning = " ".join((parameter.field.description or "").split())
        lines += textwrap.wrap(meaning, WIDTH, initial_indent="    ", subsequent_indent="    ")
    if not lines:
        raise UserError(f"no key {prefix!r} in {paths.PARAMS}; `burnish params show` without a key lists all keys")
    return lines


def _parameters(section: Any, defaults: Any, prefix: str) -> Iterator[Parameter]:
    for name, field in type(section).model_fields.items():
        value, default = getattr(section, name), getattr(defaults, name)
        if hasattr(value, "model_fields"):
            yield from _parameters(value, default, f"{prefix}{name}.")
        else:
            yield Parameter(f"{prefix}{name}", value, default, field)


def _format(value: Any) -> str:
    return "null" if value is None else str(list(value) if isinstance(value, tuple) else value)


def _allowed(field: Any) -> str:
    """The limits and choices that the annotation states, in brackets; empty if it states none."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [
        f"{sign} {getattr(constraint, name)}"
        for constraint in field.metadata
        for name, sign in signs.items()
        if hasattr(constraint, name)
    ]
    if choices := _choices(field.annotation):
        limits.append(" | ".join(choices))
    return f"   [{', '.join(limits)}]" if limits else ""


def _choices(annotation: Any) -> list[str]:
    """The values of each Literal inside an annotation."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [str(value) for value in arguments]
    return [choice for argument in arguments for choice in _choices(argument)]
