"""The champion is always a complete bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bundle import champion
from pipeline.bundle.layout import INDEX


def bundle(folder: Path) -> None:
    (folder / INDEX).write_text('{"provenance": {"commit": "abc"}}')


def test_there_is_no_champion_until_a_version_is_made_current(tmp_path: Path) -> None:
    assert champion.current_bundle(tmp_path) is None
    assert champion.current_version(tmp_path) is None
    champion.install_version(tmp_path, "v0.1.0", bundle)
    assert champion.current_bundle(tmp_path) is None
    champion.set_current(tmp_path, "v0.1.0")
    found = champion.current_bundle(tmp_path)
    assert found is not None
    assert found == champion.versions_folder(tmp_path).resolve() / "v0.1.0"
    assert champion.commit_of(found) == "abc"
    champion.install_version(tmp_path, "v0.2.0", bundle)
    assert champion.current_version(tmp_path) == "v0.1.0"
    champion.set_current(tmp_path, "v0.2.0")
    assert champion.current_version(tmp_path) == "v0.2.0"


def test_a_failed_installation_leaves_nothing(tmp_path: Path) -> None:
    champion.install_version(tmp_path, "v0.1.0", bundle)
    champion.set_current(tmp_path, "v0.1.0")

    def fails(folder: Path) -> None:
        bundle(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        champion.install_version(tmp_path, "v0.2.0", fails)
    assert sorted(path.name for path in champion.versions_folder(tmp_path).iterdir()) == ["current", "v0.1.0"]


def test_the_newest_versions_and_the_champion_are_kept(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 11):
        champion.install_version(tmp_path, f"v0.{number}.0", bundle)
    champion.set_current(tmp_path, "v0.1.0")
    (champion.versions_folder(tmp_path) / ".v0.12.0.part").mkdir()
    (champion.versions_folder(tmp_path) / ".current.part").symlink_to("nowhere")
    champion.prune_versions(tmp_path, keep=2)
    assert champion.stored_versions(tmp_path) == ["v0.1.0", "v0.10.0", "v0.11.0"]
    assert not list(champion.versions_folder(tmp_path).glob(".*"))
    assert champion.current_version(tmp_path) == "v0.1.0"


def test_an_interrupted_switch_is_repeated(tmp_path: Path) -> None:
    champion.install_version(tmp_path, "v0.1.0", bundle)
    (champion.versions_folder(tmp_path) / ".current.part").symlink_to("v9.9.9")
    champion.set_current(tmp_path, "v0.1.0")
    assert champion.current_version(tmp_path) == "v0.1.0"
