"""Profiles: the sizes of all stages for a CPU, for a GPU, and as in the papers; writes them into params.yaml."""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.project import paths
from pipeline.project.params import defaults, load_params
from stages.types import UserError

Values = Mapping[str, Any]
"""Key -> value; the value of a section is such a mapping too."""

PROFILES: dict[str, Values] = {
    "cpu": {},
    "gpu": {
        "backbone": {"steps": 2000, "crops": 8192, "batch": 128, "mixed_precision": True},
        "denoise": {"images": 1000, "probe_images": 64, "views": 32},
        "denoiser": {"batch": 32},
        "ear": {
            "channels": 128,
            "width": 64,
            "depth": 3,
            "epochs": 200,
            "patience": 30,
            "batch": 32,
            "lr": 0.001,
            "mixed_precision": True,
        },
        "intra": {
            "channels": 128,
            "window_side": 5,
            "blocks": 8,
            "width": 256,
            "heads": 8,
            "windows_per_image": 100,
            "epochs": 200,
            "patience": 30,
            "batch": 256,
            "lr": 0.0005,
            "warmup_steps": 500,
            "mixed_precision": True,
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
            "space": "pixels",
            "image_side": 256,
            "width": 64,
            "depth": 5,
            "mask": "attention",
            "epochs": 500,
            "patience": 50,
            "compare": "msgms",
        },
        "intra": {
            "space": "pixels",
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
"""`cpu`: the defaults. `gpu`: larger sizes of the same networks, not tuned. `paper`: the sizes of the papers; where a
paper does not state a size (EAR's network and epochs), a size of the same order of magnitude."""


def apply_profile(name: str, path: Path = paths.PARAMS) -> list[str]:
    """Write a profile into params.yaml, in place, and return the changed keys as `key: old -> new`.

    A key that any profile names gets the value of this profile, or its default if this profile does not name it. All
    other keys and the comments stay.

    Raises:
        UserError: there is no such profile, or params.yaml is not valid before or after the change. The file is then
            unchanged.
    """
    if name not in PROFILES:
        raise UserError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    load_params(path)
    yaml = _yaml()
    with path.open(newline="") as file:  # keeps the line ends of the file
        before = file.read()
    content = yaml.load(before) or {}
    plain = _dumped(content)
    profile_values, default_values = dict(_flatten(PROFILES[name])), dict(_flatten(defaults()))
    changed = []
    for key in dict.fromkeys(key for profile in PROFILES.values() for key, _ in _flatten(profile)):
        section, last = _section(content, key)
        old, new = section.get(last, default_values[key]), profile_values.get(key, default_values[key])
        if old != new:
            changed.append(f"{'.'.join(key)}: {old} -> {new}")
            section[last] = _scalar(new)
    if not changed:
        return []
    text = _with_changed_lines(before, plain, _dumped(content))
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("w", newline="") as file:
            file.write(text)
        load_params(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return changed


def _dumped(content: Any) -> str:
    text = io.StringIO()
    _yaml().dump(content, text)
    return text.getvalue()


def _with_changed_lines(original: str, before: str, after: str) -> str:
    """`original`, with the lines that differ between `before` and `after`, which ruamel.yaml wrote.

    It writes some lines otherwise than a person does, and only what changes is to change.
    """
    lines, old, new = (text.splitlines() for text in (original, before, after))
    if len(lines) != len(old):  # a value over several lines
        return after
    kept: list[str] = []
    for tag, start, end, new_start, new_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        kept += lines[start:end] if tag == "equal" else new[new_start:new_end]
    line_end = "\r\n" if "\r\n" in original else "\n"
    return line_end.join(kept) + line_end


def _flatten(values: Values, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(key, value) of each key that is not a section; the key is the names of its sections and its own."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def _section(content: Any, key: tuple[str, ...]) -> tuple[Any, str]:
    """The mapping that holds a key, created if it is missing, and the last part of the key."""
    for name in key[:-1]:
        content = content.setdefault(name, {})
    return content, key[-1]


def _scalar(value: Any) -> Any:
    """The value as ruamel.yaml should write it. A float is written as 2.0e-06, because YAML 1.1 reads 2e-06 as text."""
    text = repr(value)
    is_exponent_without_dot = isinstance(value, float) and "e" in text and "." not in text
    return _yaml().load(text.replace("e", ".0e")) if is_exponent_without_dot else value


def _yaml() -> Any:
    """A reader and writer that keeps comments, order and quotes."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
