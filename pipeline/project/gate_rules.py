"""Rules of a gate: limits on the difference B - A of a metric.

This module imports little, because the parameters of params.yaml hold rules too (`retrain.gate`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stages.paired import paired
from stages.types import UserError

RATES = {"escape_rate": (1, 0), "overkill_rate": (0, 1)}
"""Metric -> (label, decision): the metric is the share of the images with this label that get this decision.
1: defect, rejected; 0: good, passed."""
PAIRED = (*paired.AREAS, *RATES)
"""Metrics whose difference is computed from paired images and has a confidence interval. Only these can have a rule."""
_RULE = re.compile(
    r"(?:(?P<scope>[^:<>=]+/[^:<>=]+):)?(?P<metric>\w+)(?P<sign>>=|<=)(?P<limit>[+-]?[\d.]+(?:[eE][+-]?\d+)?)"
)


@dataclass(frozen=True)
class Rule:
    """A lower or an upper limit on B - A of one metric."""

    metric: str
    sign: str
    """`>=`: the limit is a lower limit. `<=`: it is an upper limit."""
    limit: float
    scope: str | None = None
    """CATEGORY/DETECTOR, each of which may hold the wildcard `*`. None: the headline detector of each category."""

    @classmethod
    def parse(cls, text: str) -> tuple[Rule, ...]:
        """Parse rules that are separated by commas, for example `image_auroc>=-0.005,*/knn:escape_rate<=+0.01`.

        Raises:
            UserError: the text holds no rule, a part of it is not a rule, or a metric is unknown.
        """
        rules = tuple(cls._parse_rule(part.strip()) for part in text.split(",") if part.strip())
        if not rules:
            raise UserError("--gate needs a rule, for example image_auroc>=-0.005,escape_rate<=+0.01")
        return rules

    @classmethod
    def _parse_rule(cls, text: str) -> Rule:
        match = _RULE.fullmatch(re.sub(r"\s+", "", text))
        try:
            limit = float(match["limit"]) if match else None
        except ValueError:
            limit = None
        if match is None or limit is None:
            raise UserError(
                f"{text!r} is no rule of a gate: write METRIC>=LIMIT or METRIC<=LIMIT for the difference B - A, for "
                "example image_auroc>=-0.005. Write CATEGORY/DETECTOR: before it to name another detector than the "
                "headline detector"
            )
        if match["metric"] not in PAIRED:
            raise UserError(f"{match['metric']!r} in {text!r} is no metric of a gate: choose from {', '.join(PAIRED)}")
        return cls(match["metric"], match["sign"], limit, match["scope"])

    def __str__(self) -> str:
        prefix = f"{self.scope}:" if self.scope else ""
        return f"{prefix}{self.metric}{self.sign}{self.limit:+g}"

    def breached_by(self, interval: tuple[float, float]) -> bool:
        """Whether the whole confidence interval of B - A violates the limit."""
        low, high = interval
        return high < self.limit if self.sign == ">=" else low > self.limit
