"""The item cache: atomic, content-addressed, safe to delete, bounded."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.code_version import _behaviour, code_version
from stages.item_cache import Item, ItemCache, item_key

KEY = item_key(image="a" * 64, weights="b" * 64, parameters={"x": 1}, code="c")


@given(
    hnp.arrays(
        dtype=st.sampled_from([np.float16, np.float32, np.float64, np.uint8, np.int64, np.bool_]),
        shape=hnp.array_shapes(min_dims=0, max_dims=4, max_side=5),
        elements=None,
    )
)
def test_what_goes_in_comes_out(value: np.ndarray) -> None:
    cache = ItemCache("memory://round-trip")
    cache.put(KEY, {"value": value})
    item = cache.get(KEY)
    assert item is not None
    assert item["value"].dtype == value.dtype
    assert item["value"].shape == value.shape
    assert item["value"].tobytes() == value.tobytes()


@pytest.mark.parametrize("change", [{"image": "d"}, {"weights": "d"}, {"parameters": {"x": 2}}, {"code": "d"}])
def test_each_part_changes_the_key(change: dict) -> None:
    parts = {"image": "a" * 64, "weights": "b" * 64, "parameters": {"x": 1}, "code": "c"}
    assert item_key(**parts) == KEY
    assert item_key(**{**parts, **change}) != KEY


def _squares(calls: list[list[int]]):
    def compute(missing: Sequence[int]) -> Iterator[Item]:
        calls.append(list(missing))
        for i in missing:
            yield {"value": np.asarray(i * i)}

    return compute


def test_only_missing_items_are_computed(tmp_path: Path) -> None:
    keys = [f"{i:064x}" for i in range(10)]
    calls: list[list[int]] = []
    first = ItemCache(str(tmp_path))
    assert [int(item["value"]) for item in first.map(keys[:4], _squares(calls), batch=3)] == [0, 1, 4, 9]
    assert calls == [[0, 1, 2], [3]]
    second, calls = ItemCache(str(tmp_path)), []
    values = [int(item["value"]) for item in second.map(keys, _squares(calls), batch=4)]
    assert values == [i * i for i in range(10)]
    assert calls == [[4, 5, 6, 7], [8, 9]]
    assert (second.counts.cached, second.counts.computed) == (4, 6)


def test_a_death_in_the_middle_keeps_what_was_done(tmp_path: Path) -> None:
    keys = [f"{i:064x}" for i in range(6)]

    def dies(missing: Sequence[int]) -> Iterator[Item]:
        for i in missing:
            if i == 4:
                raise KeyboardInterrupt
            yield {"value": np.asarray(i * i)}

    with pytest.raises(KeyboardInterrupt):
        list(ItemCache(str(tmp_path)).map(keys, dies, batch=6))
    calls: list[list[int]] = []
    cache = ItemCache(str(tmp_path))
    list(cache.map(keys, _squares(calls), batch=6))
    assert calls == [[4, 5]]


@pytest.mark.parametrize("damage", [lambda data: data[:40], lambda data: b"", lambda data: data[:-30] + b"x" * 30])
def test_a_damaged_item_is_computed_again(tmp_path: Path, damage) -> None:
    cache = ItemCache(str(tmp_path))
    cache.put(KEY, {"value": np.arange(1000)})
    (file,) = tmp_path.glob("*/*.zip")
    file.write_bytes(damage(file.read_bytes()))
    assert cache.get(KEY) is None
    assert len(list(cache.map([KEY], _squares([])))) == 1
    assert cache.get(KEY) is not None


def test_flipped_value_byte_is_noticed(tmp_path: Path) -> None:
    cache = ItemCache(str(tmp_path))
    cache.put(KEY, {"value": np.full(1000, 7, np.uint8)})
    (file,) = tmp_path.glob("*/*.zip")
    data = bytearray(file.read_bytes())
    data[data.index(bytes([7] * 10))] = 8
    file.write_bytes(bytes(data))
    assert cache.get(KEY) is None


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    cache = ItemCache(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            cache.put(KEY, {"value": np.arange(3)})
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = ItemCache(str(tmp_path))
    keys = [f"{i:064x}" for i in range(5)]
    for age, key in enumerate(keys):
        cache.put(key, {"value": np.full(2000, age + 1, np.uint8)})
        (file,) = tmp_path.glob(f"*/{key}*")
        os.utime(file, ns=(age * 10**9, age * 10**9))
    assert cache.get(keys[0]) is not None  # read now, so it is the youngest
    bounded = ItemCache(str(tmp_path), max_bytes=3 * file.stat().st_size)
    assert bounded.evict() == 2 * file.stat().st_size
    assert [cache.get(key) is not None for key in keys] == [True, False, False, True, True]


def test_behaviour_ignores_words_but_not_deeds() -> None:
    plain = _behaviour("def f(x):\n    return x + 1\n")
    dressed = _behaviour('"""Module."""\n\n\ndef f(x):  # why\n    """Doc."""\n    return (x + 1)\n')
    assert plain == dressed
    assert _behaviour("def f(x):\n    return x + 2\n") != plain


def test_code_version_sees_every_file_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_step"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(textwrap.dedent("A = 1\n"))
    monkeypatch.syspath_prepend(tmp_path)
    before = code_version("some_step")
    (package / "inner.py").write_text("A = 2\n")
    assert code_version("some_step") != before
    with pytest.raises(ValueError, match="no_such"):
        code_version("stages.no_such")
