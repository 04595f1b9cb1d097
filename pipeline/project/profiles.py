"""Profiles: sizes of everything at once, written into params.yaml; and params.yaml explained key by key."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pipeline.project import paths
from pipeline.project.params import Params, defaults, load_params
from stages.types import UserError

Changes = Mapping[str, Any]
"""Keys to values, sections nested."""

PROFILES: dict[str, Changes] = {
    "cpu": {},
    "gpu": {
        "backbone": {"steps": 2000, "crops": 8192, "batch": 128},
        "denoise": {"images": 1000, "probe_images": 64, "views": 32},
        "denoiser": {"batch": 32},
        "ear": {"image_side": 128, "width": 32, "depth": 4, "epochs": 200, "patience": 30, "batch": 32, "lr": 0.001},
        "intra": {
            "image_side": 128,
            "window_side": 7,
            "blocks": 8,
            "width": 256,
            "heads": 8,
            "windows_per_image": 100,
            "epochs": 200,
            "patience": 30,
            "batch": 256,
            "lr": 0.0005,
            "warmup_steps": 500,
            "smoothing_side": 11,
        },
    },
    "paper": {
        "backbone": {"model": "timm:vit_base_patch14_dinov2.lvd142m", "image_side": 518},
        "denoise": {
            "images": 10_000,
            "probe_images": 64,
            "views": 769,
            "crop_area": [0.1, 0.5],
            "solver": "neural_field",
            "neural_field": {
                "steps": 25_000,
                "weight_decay": 1e-5,
                "levels": 16,
                "coarsest": 0.43,
                "finest": 28.0,
                "table_log2": 20,
                "hidden": 0.5,
            },
        },
        "denoiser": {"batch": 256, "learning_rate": 2e-4},
        "ear": {
            "image_side": 256,
            "width": 64,
            "depth": 5,
            "mask": "attention",
            "epochs": 500,
            "patience": 50,
            "compare": "msgms",
        },
        "intra": {
            "image_side": 256,
            "patch_side": 16,
            "window_side": 7,
            "blocks": 13,
            "width": 512,
            "heads": 8,
            "windows_per_image": 600,
            "epochs": 1000,
            "patience": 50,
            "batch": 256,
            "lr": 1e-4,
            "warmup_steps": 0,
            "schedule": "constant",
            "rotations": True,
            "smoothing_side": 21,
            "compare": "msgms",
        },
    },
}
"""`cpu`: the defaults. `gpu`: larger sizes of the same, not tuned. `paper`: the papers' sizes; where one names none
(EAR's network and epochs), of that order."""


def use(name: str, path: Path = paths.PARAMS) -> list[str]:
    """Write a profile into params.yaml, in place, comments kept; the lines that changed, as `key: old -> new`.

    Keys that any profile names get this one's value, or their default; all others stay as they are.

    Raises:
        UserError: no such profile, or a params.yaml that does not load, before or after; then it stays as it was.
    """
    if name not in PROFILES:
        raise UserError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    load_params(path)
    yaml = _yaml()
    content = yaml.load(path.read_text()) or {}
    chosen, plain, said = dict(_leaves(PROFILES[name])), dict(_leaves(defaults())), []
    for key in dict.fromkeys(key for profile in PROFILES.values() for key, _ in _leaves(profile)):
        section, last = _section(content, key)
        value = chosen.get(key, plain[key])
        if section.get(last, plain[key]) != value:
            said.append(f"{'.'.join(key)}: {section.get(last, plain[key])} -> {value}")
            section[last] = _scalar(value)
    text = io.StringIO()
    yaml.dump(content, text)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text.getvalue())
        load_params(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return said


def explain(params: Params, prefix: str = "") -> list[str]:
    """Lines that explain every key at or below `prefix` (`ear`, `denoise.neural_field`, `ear.lr`).

    Raises:
        UserError: there is no such key.
    """
    lines: list[str] = []
    for key, value, default, field in _fields(params, type(params)(), ()):
        name = ".".join(key)
        if prefix and name != prefix and not name.startswith(f"{prefix}."):
            continue
        changed = "" if value == default else f"   (default {_shown(default)})"
        lines += [f"{name} = {_shown(value)}{changed}{_range(field)}"]
        lines += textwrap.wrap(
            " ".join((field.description or "").split()), 100, initial_indent="    ", subsequent_indent="    "
        )
    if not lines:
        raise UserError(f"no key {prefix!r} in {paths.PARAMS}; `burnish params show` without it lists all")
    return lines


def _fields(model: Any, plain: Any, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any, Any]]:
    """(key, value, default, field) of every key that is no section."""
    for name, field in type(model).model_fields.items():
        value, default = getattr(model, name), getattr(plain, name)
        if hasattr(value, "model_fields"):
            yield from _fields(value, default, (*above, name))
        else:
            yield (*above, name), value, default, field


def _shown(value: Any) -> str:
    return "null" if value is None else str(list(value) if isinstance(value, tuple) else value)


def _range(field: Any) -> str:
    """What the annotation allows, as far as it is a range or a choice."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f"{sign} {getattr(one, name)}" for one in field.metadata for name, sign in signs.items() if hasattr(one, name)
    ]
    if choices := _choices(field.annotation):
        found.append(" | ".join(choices))
    return f"   [{', '.join(found)}]" if found else ""


def _choices(annotation: Any) -> list[str]:
    """Of a Literal, wherever it stands within."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return [str(one) for one in arguments]
    return [choice for one in arguments for choice in _choices(one)]


def _leaves(changes: Changes, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in changes.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _section(content: Any, key: tuple[str, ...]) -> tuple[Any, str]:
    """The mapping that holds a key, made where it is missing, and the key's last part."""
    for name in key[:-1]:
        content = content.setdefault(name, {})
    return content, key[-1]


def _scalar(value: Any) -> Any:
    """The value; a float as 2.0e-06, since YAML 1.1 takes 2e-06 for text."""
    text = repr(value)
    dotless = isinstance(value, float) and "e" in text and "." not in text
    return _yaml().load(text.replace("e", ".0e")) if dotless else value


def _yaml() -> Any:
    """A reader and writer that keeps comments, order and quotes."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
