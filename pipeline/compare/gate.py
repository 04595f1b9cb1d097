"""The gate: limits on B - A, for CI and for promotion. A limit is violated only if the data shows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pipeline.compare.comparison import MetricComparison
from pipeline.compare.diff import Diff
from pipeline.project.gate_rules import Rule
from stages.types import UserError

BREACH = 3
"""Exit code of `burnish diff --gate` if a rule is violated."""


@dataclass(frozen=True)
class Breach:
    """A rule and the comparison that violates it."""

    rule: Rule
    row: MetricComparison

    def __str__(self) -> str:
        assert self.row.difference is not None and self.row.interval is not None  # else find_breaches raises
        low, high = self.row.interval
        change = f"{self.row.difference:+.4f} [{low:+.4f}, {high:+.4f}]"
        return f"{self.row.label} changed by {change}, which violates {self.rule}"


def find_breaches(
    diff: Diff, rules: Sequence[Rule], *, detectors: Collection[str] = (), categories: Collection[str] = ()
) -> list[Breach]:
    """Find every violation of the rules.

    Args:
        detectors: what rules apply to that name no detector; none: the headline detector of each category.
        categories: what rules apply to that name no category; none: all.

    Raises:
        UserError: a rule matches no result, or a result without an interval, so that it cannot be evaluated.
    """
    breaches = []
    for rule in rules:
        rows = [row for row in diff.rows if _applies(rule, row, diff, detectors, categories)]
        if not rows:
            available = ", ".join(dict.fromkeys(str(row.key) for row in diff.rows))
            raise UserError(f"gate rule `{rule}` matches no result; available: {available}")
        for row in rows:
            if row.interval is None:
                raise UserError(f"gate rule `{rule}` cannot be evaluated: {row.label}: {row.verdict}: {row.reason}")
            if rule.breached_by(row.interval):
                breaches.append(Breach(rule, row))
    return breaches


def _applies(
    rule: Rule, row: MetricComparison, diff: Diff, detectors: Collection[str], categories: Collection[str]
) -> bool:
    if row.metric != rule.metric:
        return False
    if rule.scope is not None:
        category, _, detector = rule.scope.partition("/")
        return fnmatchcase(row.category, category) and fnmatchcase(row.detector, detector)
    if categories and row.category not in categories:
        return False
    return row.detector in detectors if detectors else row.detector == diff.headline[row.category]
