"""Versions of the model as GTO's tags: `burnish@v0.2.0` names a commit, `burnish#champion#3` names the champion."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.bundle.champion import version_numbers
from pipeline.project.git import author, git, git_output_or_none
from stages.types import UserError

STAGE = "champion"
"""GTO's name for what a version is assigned to."""


def next_version(root: Path, model: str) -> str:
    """The version after the newest; the first is `v0.1.0`."""
    known = versions(root, model)
    if not known:
        return "v0.1.0"
    major, minor, _ = version_numbers(max(known, key=version_numbers))
    return f"v{major}.{minor + 1}.0"


def versions(root: Path, model: str) -> list[str]:
    """All versions with a tag, oldest first."""
    names = git(root, "tag", "--list", f"{model}@v*").splitlines()
    tagged = [name.removeprefix(f"{model}@") for name in names]
    return sorted((version for version in tagged if re.fullmatch(r"v\d+\.\d+\.\d+", version)), key=version_numbers)


def commit_of(root: Path, model: str, version: str) -> str:
    """The commit of a version.

    Raises:
        UserError: there is no such version.
    """
    commit = git_output_or_none(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{model}@{version}^{{commit}}")
    if commit is None:
        known = ", ".join(versions(root, model)) or "none"
        raise UserError(f"there is no version {version!r} of {model}; there are: {known}")
    return commit


def champion_version(root: Path, model: str) -> str | None:
    """The version that the newest tag of the champion names; None if there is no such tag."""
    tag_by_number = {int(name.rpartition("#")[2]): name for name in _assignments(root, model)}
    if not tag_by_number:
        return None
    commit = git(root, "rev-parse", f"refs/tags/{tag_by_number[max(tag_by_number)]}^{{commit}}")
    for version in reversed(versions(root, model)):
        if commit_of(root, model, version) == commit:
            return version
    return None


def register_version(root: Path, model: str, version: str, commit: str, message: str) -> None:
    """Tag a commit as a version, unless the version has a tag already."""
    if version not in versions(root, model):
        import gto.api

        name, email = author(root)
        gto.api.register(root, model, ref=commit, version=version, message=message, author=name, author_email=email)


def assign_champion(root: Path, model: str, version: str, message: str) -> None:
    """Tag a version as the champion, unless the newest such tag names it already."""
    if champion_version(root, model) != version:
        import gto.api

        name, email = author(root)
        gto.api.assign(
            root, model, stage=STAGE, version=version, message=message, force=True, author=name, author_email=email
        )


def _assignments(root: Path, model: str) -> list[str]:
    names = git(root, "tag", "--list", f"{model}#{STAGE}#*").splitlines()
    return [name for name in names if name.rpartition("#")[2].isdigit()]
