"""The champion is a whole bundle at every moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bundle import champion
from pipeline.bundle.writer import INDEX


def bundle(folder: Path) -> None:
    (folder / INDEX).write_text('{"provenance": {"commit": "abc"}}')


def test_there_is_none_until_one_is_let_serve(tmp_path: Path) -> None:
    assert champion.current(tmp_path) is None
    assert champion.version(tmp_path) is None
    champion.install(tmp_path, "v0.1.0", bundle)
    assert champion.current(tmp_path) is None
    champion.switch(tmp_path, "v0.1.0")
    found = champion.current(tmp_path)
    assert found is not None
    assert found == champion.store(tmp_path).resolve() / "v0.1.0"
    assert champion.commit_of(found) == "abc"
    champion.install(tmp_path, "v0.2.0", bundle)
    assert champion.version(tmp_path) == "v0.1.0"
    champion.switch(tmp_path, "v0.2.0")
    assert champion.version(tmp_path) == "v0.2.0"


def test_a_bundle_that_fails_to_be_made_leaves_nothing(tmp_path: Path) -> None:
    champion.install(tmp_path, "v0.1.0", bundle)
    champion.switch(tmp_path, "v0.1.0")

    def fails(folder: Path) -> None:
        bundle(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        champion.install(tmp_path, "v0.2.0", fails)
    assert sorted(path.name for path in champion.store(tmp_path).iterdir()) == ["current", "v0.1.0"]


def test_the_newest_and_the_one_that_serves_are_kept(tmp_path: Path) -> None:
    for number in (1, 2, 9, 10, 11):
        champion.install(tmp_path, f"v0.{number}.0", bundle)
    champion.switch(tmp_path, "v0.1.0")
    (champion.store(tmp_path) / ".v0.12.0.part").mkdir()
    (champion.store(tmp_path) / ".current.part").symlink_to("nowhere")
    champion.prune(tmp_path, keep=2)
    assert champion.versions(tmp_path) == ["v0.1.0", "v0.10.0", "v0.11.0"]
    assert not list(champion.store(tmp_path).glob(".*"))
    assert champion.version(tmp_path) == "v0.1.0"


def test_a_switch_that_a_kill_left_half_done_is_done_again(tmp_path: Path) -> None:
    champion.install(tmp_path, "v0.1.0", bundle)
    (champion.store(tmp_path) / ".current.part").symlink_to("v9.9.9")
    champion.switch(tmp_path, "v0.1.0")
    assert champion.version(tmp_path) == "v0.1.0"
