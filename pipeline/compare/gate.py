"""Limits on B - A, for CI and for promotion: broken only where the data shows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pipeline.compare.diff import Diff
from pipeline.compare.rows import Row
from pipeline.project.gate_rules import Rule
from stages.types import UserError

BREACH = 3
"""Exit code of `burnish diff --gate` where a limit is broken."""


@dataclass(frozen=True)
class Breach:
    """A rule and the row that breaks it."""

    rule: Rule
    row: Row

    def __str__(self) -> str:
        assert self.row.difference is not None and self.row.interval is not None  # else it is not judged
        low, high = self.row.interval
        change = f"{self.row.difference:+.4f} [{low:+.4f}, {high:+.4f}]"
        return f"{self.row.label} changed by {change}, which breaks {self.rule}"


def judge(
    diff: Diff, rules: Sequence[Rule], *, detectors: Collection[str] = (), categories: Collection[str] = ()
) -> list[Breach]:
    """The breaches of all rules.

    Args:
        detectors: whose rows a rule without a place of its own is about; none: the headline detector of each category.
        categories: likewise; none: all.

    Raises:
        UserError: a rule is about no row, or about one that cannot be judged, which is neither kept nor broken.
    """
    breaches = []
    for rule in rules:
        rows = [
            row for row in diff.rows if row.metric == rule.metric and _meant(diff, rule, row, detectors, categories)
        ]
        if not rows:
            raise UserError(f"the gate's rule {rule} is about no row: compared are {_names(diff)}")
        for row in rows:
            if row.interval is None:
                raise UserError(f"the gate's rule {rule} cannot be judged: {row.label}: {row.verdict}: {row.reason}")
            if rule.breached_by(row.interval):
                breaches.append(Breach(rule, row))
    return breaches


def _meant(diff: Diff, rule: Rule, row: Row, detectors: Collection[str], categories: Collection[str]) -> bool:
    if rule.where is not None:
        category, _, detector = rule.where.partition("/")
        return fnmatchcase(row.category, category) and fnmatchcase(row.detector, detector)
    if categories and row.category not in categories:
        return False
    return row.detector in detectors if detectors else row.detector == diff.headline[row.category]


def _names(diff: Diff) -> str:
    return ", ".join(dict.fromkeys(f"{row.category}/{row.detector}" for row in diff.rows))
