"""What `burnish predict` prints at the end: the images, and how many have each verdict."""

from __future__ import annotations

from pipeline.judge.prediction import DEFECT, GOOD, UNREADABLE, Prediction
from pipeline.show.text import counted

NAMED = 20
"""Images that are named on the terminal."""
NAMED_UNREADABLE = 3
"""Unreadable images that are named in one line."""
NO_VERDICT = ""


class Summary:
    """Counts of verdicts, and the images to name."""

    def __init__(self, unread: str = "") -> None:
        """
        Args:
            unread: how many files below the named folders are not images that can be read, in words.
        """
        self._unread = f"; not read: {unread}" if unread else ""
        self.counts = dict.fromkeys((GOOD, DEFECT, UNREADABLE, NO_VERDICT), 0)
        """Verdict (NO_VERDICT: none) -> number of images."""
        self._rejected: list[Prediction] = []
        self._unreadable: list[Prediction] = []
        self._first: list[Prediction] = []

    def add(self, prediction: Prediction) -> None:
        """Count a prediction, and keep it if it may be named."""
        self.counts[prediction.verdict or NO_VERDICT] += 1
        for kept, belongs in (
            (self._first, True),
            (self._unreadable, prediction.verdict == UNREADABLE),
            (self._rejected, prediction.verdict == DEFECT),
        ):
            if belongs and len(kept) <= NAMED:
                kept.append(prediction)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """A few images are all named, of many the first rejected ones; then a line with the count of each verdict."""
        few = self.total <= NAMED
        named = self._first if few else self._rejected[:NAMED]
        lines = [_line(prediction) for prediction in named]
        if not few and (more := self.counts[DEFECT] - len(named)) > 0:
            lines.append(f"... and {more} more rejected")
        words = {GOOD: "good", DEFECT: "rejected", NO_VERDICT: "without a verdict", UNREADABLE: "unreadable"}
        counts = ", ".join(f"{self.counts[verdict]} {word}" for verdict, word in words.items() if self.counts[verdict])
        return [*lines, f"{counted(self.total, 'image')}: {counts}{self._unread}"]

    def unreadable(self) -> str | None:
        """Which files could not be read, in one line; None if all could."""
        count = self.counts[UNREADABLE]
        if not count:
            return None
        named = "; ".join(f"{entry.path} ({entry.note})" for entry in self._unreadable[:NAMED_UNREADABLE])
        more = f"; and {count - NAMED_UNREADABLE} more" if count > NAMED_UNREADABLE else ""
        return f"{count} of {self.total} images could not be read: {named}{more}"


def _line(prediction: Prediction) -> str:
    score = "" if prediction.score is None else f"{prediction.score:.4g}"
    note = f"  ({prediction.note})" if prediction.note else ""
    return f"{prediction.verdict or 'no verdict':<10}  {score:>9}  {prediction.path}{note}"
