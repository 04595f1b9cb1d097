"""A bundle as its readers see it: every file is checked against its digest before it is used; nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.provenance import code_here, versions_of_packages
from pipeline.bundle.writer import FORMAT, INDEX, MODEL_FILES, digest_of, model_part
from pipeline.project.params import Params, load_params
from stages.fusion.members import FUSION
from stages.types import Fitted, UserError

ANEW = "make the bundle anew with `burnish bundle`"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; models are read when they are asked for."""

    folder: Path
    index: Mapping[str, Any]
    """bundle.json."""
    params: Params

    @property
    def categories(self) -> tuple[str, ...]:
        return self.params.data.categories

    @property
    def detectors(self) -> tuple[str, ...]:
        """What there is in each category; the fusion is the last."""
        return self.params.scored_detectors

    def fitted(self, part: str) -> Fitted:
        """The model `backbone`, `denoiser`, `denoiser/distilled` or `model_part(category, detector)`.

        Raises:
            UserError: a file is missing or altered.
        """
        from safetensors.numpy import load

        weights, text = (_read(self.folder, self.index, f"{part}/{name}") for name in MODEL_FILES)
        content = json.loads(text)
        return Fitted(arrays=load(weights), info=content["info"], metrics=content["metrics"])

    def members(self, category: str, detector: str) -> tuple[str, ...]:
        """Detectors that must be run for this one: itself, or what the fusion is made of."""
        if detector != FUSION:
            return (detector,)
        return tuple(self.fitted(model_part(category, FUSION)).info["detectors"])


def open_bundle(folder: Path) -> Bundle:
    """Read and check bundle.json and the parameters; no model is read yet.

    Raises:
        UserError: there is none, it is altered or of another version.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as fault:
        raise UserError(f"no bundle in {folder}: `burnish bundle` makes it from a finished run") from fault
    except (OSError, ValueError) as fault:
        raise UserError(f"{path} cannot be read ({' '.join(str(fault).split())}): {ANEW}") from fault
    found = index.get("format") if isinstance(index, dict) else None
    if found != FORMAT:
        raise UserError(
            f"{path} is of format {found}, this version of burnish reads format {FORMAT}: {ANEW}, or judge with the "
            "version that made it"
        )
    if index.pop("digest", None) != digest_of(index):
        raise UserError(f"{path} was altered: its digest is not the one in it; {ANEW}")
    _read(folder, index, "params.json")
    try:
        params = load_params(folder / index["folder"] / "params.json")
    except UserError as fault:
        made = str(index["provenance"]["commit"])[:12]
        raise UserError(f"{fault}; the bundle is of another version of burnish (commit {made}): {ANEW}") from fault
    return Bundle(folder, index, params)


def differences(bundle: Bundle) -> list[str]:
    """In words, what computes scores and is not the same here as where the bundle was made."""
    made = bundle.index["provenance"]
    then, here = made["versions"], versions_of_packages()
    found = [f"{name} {then.get(name)}, here {here[name]}" for name in here if here[name] != then.get(name)]
    return found if made["code"] == code_here() else [*found, "other code of the stages"]


def _read(folder: Path, index: Mapping[str, Any], name: str) -> bytes:
    """Bytes of a file of the bundle, if they are those that bundle.json tells of."""
    inside = f"{index['folder']}/{name}"
    path, expected = folder / inside, index["files"].get(inside)
    if expected is None:
        raise UserError(f"{folder / INDEX} does not name {inside}: {ANEW}")
    try:
        data = path.read_bytes()
    except OSError as fault:
        why = "is missing" if isinstance(fault, FileNotFoundError) else f"cannot be read ({fault.strerror})"
        raise UserError(f"{path} {why}: {ANEW}") from fault
    if (found := hashlib.sha256(data).hexdigest()) != expected:
        raise UserError(f"{path} was altered: its digest is {found[:12]}, {INDEX} says {expected[:12]}; {ANEW}")
    return data
