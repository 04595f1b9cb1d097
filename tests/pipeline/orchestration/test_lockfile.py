"""The order of the entries in dvc.lock: as plain `dvc repro` would have written them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipeline.orchestration.lockfile import ENTRIES_BEFORE_RUN, order_entries, remember_entries, wanted_order
from tests.pipeline import toy_project as toy

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(NAMES, NAMES, NAMES)
def test_wanted_order(names: list[str], before: list[str], plan: list[str]) -> None:
    wanted = wanted_order(names, before, plan)
    assert sorted(wanted) == sorted(names)
    old = [name for name in names if name in before]
    assert wanted[: len(old)] == old  # earlier entries keep their places
    new = [name for name in wanted[len(old) :] if name in plan]
    assert new == [name for name in plan if name in new]  # new entries follow the plan


def test_an_interrupted_and_continued_run_orders_like_one_run(complete: Path) -> None:
    """The first run is killed after `right`; the next run adds all other stages."""
    import yaml

    lock = complete / "dvc.lock"
    wanted = lock.read_bytes()
    whole = yaml.safe_load(wanted)

    def keep_entries(*names: str) -> None:
        stages = {name: whole["stages"][name] for name in names}
        lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))

    keep_entries("download")
    remember_entries(complete)
    keep_entries("download", "right")
    remember_entries(complete)  # the second run: the names saved by the first run stay
    keep_entries("download", "right", "left", "train@mono-y", "train@mono-x", "score")
    assert order_entries(complete, toy.ORDER, finished=True)
    assert lock.read_bytes() == wanted  # with DVC's formatting
    assert not (complete / ENTRIES_BEFORE_RUN).exists()
    assert not order_entries(complete, toy.ORDER, finished=True)
