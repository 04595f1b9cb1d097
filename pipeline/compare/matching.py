"""Which test images two sides share, and why their metrics may not be comparable."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compare.sides import Side
from stages.score.resamples import group_numbers


@dataclass(frozen=True)
class MatchedImages:
    """The test images of one category and detector that both sides have with the same label.

    Row i of `a` and row i of `b` are the same image.
    """

    a: pd.DataFrame
    b: pd.DataFrame
    reason: str | None
    """Why the test sets differ; None if they are the same."""

    @property
    def labels(self) -> NDArray[np.bool_]:
        """(N,), True for a defect."""
        return self.a["label"].to_numpy().astype(bool)

    @property
    def groups(self) -> NDArray[np.int64]:
        """(N,) the group of each image; equal for related images.

        They are B's; A's if the predictions of B are of an earlier layout, which has none. If neither has groups, each
        image is its own.
        """
        for table in (self.b, self.a):
            if "group" in table:
                return group_numbers(table["group"].to_numpy(dtype=str))
        return np.arange(len(self.a))

    @property
    def identity(self) -> tuple[str, bytes, bytes]:
        """Equal for the same images with the same labels and groups in the same order."""
        return "".join(self.a["sha256"]), self.labels.tobytes(), self.groups.tobytes()


def match_images(a: pd.DataFrame, b: pd.DataFrame, side_a: Side, side_b: Side) -> MatchedImages:
    """Pair the test images of two tables of predictions by content.

    Content is the sha256; files of the same content are paired in the order of their paths. Rows are sorted by content,
    so that bootstrap resamples do not depend on the order of files.
    """
    test_a, test_b = _test_images(a), _test_images(b)
    only_a, only_b = test_a.index.difference(test_b.index), test_b.index.difference(test_a.index)
    common = test_a.index.intersection(test_b.index).sort_values()
    test_a, test_b = test_a.loc[common], test_b.loc[common]
    same_label = (test_a["label"] == test_b["label"]).to_numpy()
    reasons = []
    if len(only_a) or len(only_b):
        moved_a, moved_b = _count_learned_from(only_a, side_b), _count_learned_from(only_b, side_a)
        if moved_a or moved_b:
            reasons.append(
                f"different split: {moved_a} of A's test images are in B's training or validation, "
                f"{moved_b} of B's in A's"
            )
        reasons.append(f"different images: {len(only_a)} only in A, {len(only_b)} only in B, {len(common)} in both")
    if not same_label.all():
        reasons.append(f"different labels: {int((~same_label).sum())} of {len(common)} common images")
    return MatchedImages(test_a[same_label], test_b[same_label], "; ".join(reasons) or None)


def _test_images(table: pd.DataFrame) -> pd.DataFrame:
    """Test rows, indexed by sha256 and by a number that tells files of the same content apart."""
    test = table[table["split"] == "test"].sort_values("path")
    number = test.groupby("sha256").cumcount()
    return test.set_index(pd.MultiIndex.from_arrays([test["sha256"], number], names=["content", "copy"]))


def _count_learned_from(images: pd.Index, side: Side) -> int:
    """How many of the images are in a side's training or validation split; 0 if its manifest is not known."""
    if side.manifest is None:
        return 0
    learned_from = side.manifest.loc[side.manifest["split"].isin(["train", "validation"]), "sha256"]
    return int(images.get_level_values(0).isin(learned_from).sum())
