"""Any tree of files gives a valid manifest, no group in two splits, and the same bytes in a second run."""

from __future__ import annotations

import hashlib
import io
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.download import examine, manifest, take
from stages.download.index import StatIndex
from stages.download.manifest import ImageRecord, collect
from stages.download.split import split_of
from stages.images import decode_mask
from stages.types import UserError
from tests.stages.download.made import files_of, settle
from tests.stages.download.test_manifest import config

NAMES = st.text(st.sampled_from("ab1üß ,.'é漢"), min_size=1, max_size=4).map(lambda name: name.lstrip(".") or "a")
GROUPS = r"/([ab1n]\d*)"


def always() -> list[str]:
    """Names of good images with which every fold can be split, with or without GROUPS."""
    numbers = {0, 1, 2}
    for fold in range(5):
        for form in ("normal/n{}.png", "n{}"):
            for split in ("train", "train", "validation"):
                own = (i for i in range(1000) if split_of(fold, form.format(i), True) == split and i not in numbers)
                if sum(split_of(fold, form.format(i), True) == split for i in numbers) < 2:
                    numbers.add(next(own))
    return [f"n{i}" for i in sorted(numbers)]


FILES = st.tuples(
    st.sampled_from(["normal", "normal", "normal/deep", "defect/x", "defect/ y", "masks/x", "other"]),
    NAMES,
    st.sampled_from(["png", "PNG", "bmp", "txt"]),
    st.sampled_from(["1", "2", "3", "small", "empty", "cut"]),
)


def grow(root: Path, files: list[tuple[str, str, str, str]]) -> None:
    for folder, name, ending, content in files:
        path = root / folder / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        side = 8 if content == "small" else 20
        seed = int(content) if content.isdigit() else 0
        data = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 255, (side, side), np.uint8)
        Image.fromarray(pixels).save(data, "BMP" if ending == "bmp" else "PNG")
        path.write_bytes({"empty": b"", "cut": data.getvalue()[:-40]}.get(content, data.getvalue()))


def check(records: list[ImageRecord], root: Path, fold: int) -> None:
    """The manifest is sorted, has each row once, and agrees with the files; there are no other files."""
    paths = [record.path for record in records]
    assert paths == sorted(set(paths))
    assert set(files_of(root)) == {*paths, *(record.mask_path for record in records if record.mask_path)}
    for record in records:
        data = (root / record.path).read_bytes()
        assert record.sha256 == hashlib.sha256(data).hexdigest()
        if record.mask_path:
            assert decode_mask((root / record.mask_path).read_bytes()).shape == (record.height, record.width)
        assert record.split == split_of(fold, record.group, record.label == 0)
    good = {(record.group, record.split) for record in records if not record.label}
    assert len(good) == len({group for group, _ in good})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FILES, max_size=12), st.integers(0, 4), st.booleans())
def test_whatever_the_tree(files: list[tuple[str, str, str, str]], fold: int, by_digit: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        grow(folder / "in", [*files, *(("normal", name, "png", "1") for name in always())])
        settle(folder / "in")
        wanted = config(
            folder / "in",
            fold=fold,
            group_pattern=GROUPS if by_digit else None,
            max_rejected_fraction=1,
        )
        index = StatIndex(folder / "index.sqlite")
        outcomes: list[object] = []
        for name, arguments in (
            ("plain", {}),
            ("threads", {"threads": 4}),
            ("index", {"index": index}),
            ("again", {"index": index, "threads": 4}),
        ):
            with (
                mock.patch.object(take, "read_unchanged", wraps=examine.read_unchanged) as read,
                mock.patch.object(manifest, "QUEUED_PER_THREAD", 1),
            ):
                try:
                    outcome = collect(wanted, folder / name, **arguments)  # type: ignore[arg-type]
                except UserError as fault:
                    outcomes.append(str(fault))
                else:
                    check(outcome[0], folder / name, fold)
                    outcomes.append((outcome, files_of(folder / name)))
            assert name != "again" or not read.called
        index.close()
        assert all(outcome == outcomes[0] for outcome in outcomes)
        event("error" if isinstance(outcomes[0], str) else "collected")
