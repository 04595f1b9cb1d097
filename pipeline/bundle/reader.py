"""Read a bundle. Every file is checked against its digest before it is used, and nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.layout import FORMAT, INDEX, MODEL_FILES, digest_of, model_part
from pipeline.bundle.provenance import code_here, versions_of_packages
from pipeline.project.params import Params, load_params
from stages.fusion.members import FUSION
from stages.types import Fitted, UserError

REBUILD_HINT = "make a new bundle with `burnish bundle`"


@dataclass(frozen=True)
class Bundle:
    """An open bundle. Models are read when they are needed."""

    folder: Path
    index: Mapping[str, Any]
    """bundle.json."""
    params: Params

    @property
    def categories(self) -> tuple[str, ...]:
        return self.params.data.categories

    @property
    def detectors(self) -> tuple[str, ...]:
        """What gives a score in each category; the fusion is the last."""
        return self.params.scored_detectors

    def fitted(self, part: str) -> Fitted:
        """Read a model.

        Args:
            part: `backbone`, `denoiser`, `denoiser/distilled` or `model_part(category, detector)`.

        Raises:
            UserError: a file is missing or altered.
        """
        from safetensors.numpy import load

        weights, text = (_read(self.folder, self.index, f"{part}/{name}") for name in MODEL_FILES)
        content = json.loads(text)
        return Fitted(arrays=load(weights), info=content["info"], metrics=content["metrics"])

    def members(self, category: str, detector: str) -> tuple[str, ...]:
        """The detectors that a score needs: the detector itself, or the members of the fusion."""
        if detector != FUSION:
            return (detector,)
        return tuple(self.fitted(model_part(category, FUSION)).info["detectors"])


def open_bundle(folder: Path) -> Bundle:
    """Read and check bundle.json and the parameters, but no model yet.

    Raises:
        UserError: there is no bundle, or it is altered or from another version of Burnish.
    """
    path = folder / INDEX
    try:
        index = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as fault:
        raise UserError(f"no bundle in {folder}: `burnish bundle` makes a bundle from a finished run") from fault
    except (OSError, ValueError) as fault:
        raise UserError(f"{path} cannot be read ({' '.join(str(fault).split())}): {REBUILD_HINT}") from fault
    bundle_format = index.get("format") if isinstance(index, dict) else None
    if bundle_format != FORMAT:
        raise UserError(
            f"{path} has format {bundle_format}, but this version of burnish reads format {FORMAT}: {REBUILD_HINT}, or "
            "use the version that made it"
        )
    if index.pop("digest", None) != digest_of(index):
        raise UserError(f"{path} was altered: its content does not match its digest; {REBUILD_HINT}")
    _read(folder, index, "params.json")
    try:
        params = load_params(folder / index["folder"] / "params.json")
    except UserError as fault:
        commit = str(index["provenance"]["commit"])[:12]
        raise UserError(
            f"{fault}; the bundle is from another version of burnish (commit {commit}): {REBUILD_HINT}"
        ) from fault
    return Bundle(folder, index, params)


def differences(bundle: Bundle) -> list[str]:
    """Packages and code that compute scores and differ from those that made the bundle, in words."""
    provenance = bundle.index["provenance"]
    then, here = provenance["versions"], versions_of_packages()
    different = [f"{name} {then.get(name)} (here {here[name]})" for name in here if here[name] != then.get(name)]
    return different if provenance["code"] == code_here() else [*different, "different code of the stages"]


def _read(folder: Path, index: Mapping[str, Any], name: str) -> bytes:
    """The content of a file of the bundle.

    Raises:
        UserError: the file is missing, or its digest is not the digest in bundle.json.
    """
    inside = f"{index['folder']}/{name}"
    path, expected = folder / inside, index["files"].get(inside)
    if expected is None:
        raise UserError(f"{folder / INDEX} does not name {inside}: {REBUILD_HINT}")
    try:
        data = path.read_bytes()
    except OSError as fault:
        why = "is missing" if isinstance(fault, FileNotFoundError) else f"cannot be read ({fault.strerror})"
        raise UserError(f"{path} {why}: {REBUILD_HINT}") from fault
    if (digest := hashlib.sha256(data).hexdigest()) != expected:
        raise UserError(
            f"{path} was altered: its digest is {digest[:12]}, but {INDEX} says {expected[:12]}; {REBUILD_HINT}"
        )
    return data
