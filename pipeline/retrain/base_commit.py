"""The commit that a challenger starts from."""

from __future__ import annotations

from pathlib import Path

from pipeline.bundle import champion
from pipeline.project.git import git, is_ancestor
from pipeline.project.params import Params
from pipeline.retrain import tags
from pipeline.retrain.promotion import Say, rebuild_bundle


def find_champion_commit(root: Path, params: Params, say: Say) -> str | None:
    """The commit of the champion; None if there is no champion.

    In a fresh clone only a tag names the champion; then its bundle is made again.
    """
    if folder := champion.current_bundle(root):
        return champion.commit_of(folder)
    if version := tags.champion_version(root, params.retrain.model):
        say(f"making the bundle of the champion {version} again")
        rebuild_bundle(root, params, version)
        champion.set_current(root, version)
        return tags.commit_of(root, params.retrain.model, version)
    return None


def choose_base_commit(root: Path, champion_commit: str | None) -> tuple[str, tuple[str, ...]]:
    """The commit that the challenger starts from, and notes about it.

    It is the checked-out commit if that contains the champion's commit, else the champion's commit.
    """
    head = git(root, "rev-parse", "HEAD")
    if champion_commit is None or is_ancestor(root, champion_commit, head):
        return head, ()
    if is_ancestor(root, head, champion_commit):
        return champion_commit, ()
    count = git(root, "rev-list", "--count", f"{champion_commit}..{head}")
    note = (
        f"the checkout has {count} commits that the champion does not have, and the champion has commits that the "
        "checkout does not have. The challenger starts from the champion. Merge the champion's branch to use both"
    )
    return champion_commit, (note,)
