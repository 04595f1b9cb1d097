"""Versions of the model as GTO's tags: `burnish@v0.2.0` names a commit, `burnish#champion#3` says which one serves."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.bundle.champion import order
from pipeline.project.git import asks, author, git
from stages.types import UserError

STAGE = "champion"


def next_version(root: Path, model: str) -> str:
    """The version after the newest."""
    found = versions(root, model)
    if not found:
        return "v0.1.0"
    major, minor, _ = order(max(found, key=order))
    return f"v{major}.{minor + 1}.0"


def versions(root: Path, model: str) -> list[str]:
    """All that have a tag, the oldest first."""
    names = (asks(root, "tag", "--list", f"{model}@v*") or "").splitlines()
    found = [name.removeprefix(f"{model}@") for name in names]
    return sorted((one for one in found if re.fullmatch(r"v\d+\.\d+\.\d+", one)), key=order)


def commit_of(root: Path, model: str, version: str) -> str:
    """Raises:
    UserError: there is no such version.
    """
    found = asks(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{model}@{version}^{{commit}}")
    if found is None:
        known = ", ".join(versions(root, model)) or "none"
        raise UserError(f"there is no version {version!r} of {model}; there are: {known}")
    return found


def champion(root: Path, model: str) -> str | None:
    """The version that the newest tag of the stage names; None where there is no such tag."""
    places = {int(name.rpartition("#")[2]): name for name in _assignments(root, model)}
    if not places:
        return None
    commit = git(root, "rev-parse", f"refs/tags/{places[max(places)]}^{{commit}}")
    for name in reversed(versions(root, model)):
        if commit_of(root, model, name) == commit:
            return name
    return None


def register(root: Path, model: str, version: str, commit: str, message: str) -> None:
    """Tag a commit as a version, unless it is that already."""
    if version not in versions(root, model):
        import gto.api

        name, email = author(root)
        gto.api.register(root, model, ref=commit, version=version, message=message, author=name, author_email=email)


def assign(root: Path, model: str, version: str, message: str) -> None:
    """Say by a tag that a version serves from now on, unless the newest such tag says so."""
    if champion(root, model) != version:
        import gto.api

        name, email = author(root)
        gto.api.assign(
            root, model, stage=STAGE, version=version, message=message, force=True, author=name, author_email=email
        )


def _assignments(root: Path, model: str) -> list[str]:
    names = (asks(root, "tag", "--list", f"{model}#{STAGE}#*") or "").splitlines()
    return [name for name in names if name.rpartition("#")[2].isdigit()]
