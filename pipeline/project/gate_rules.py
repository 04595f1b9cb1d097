"""Rules of a gate: what B - A of a figure must at least, or may at most be. Light, since params.yaml holds some."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stages.score import paired
from stages.types import UserError

RATES = {"escape_rate": (1, 0), "overkill_rate": (0, 1)}
"""Share of the images of this label that get this decision."""
PAIRED = (*paired.AREAS, *RATES)
"""Figures whose difference has an interval."""
_RULE = re.compile(
    r"(?:(?P<where>[^:<>=]+/[^:<>=]+):)?(?P<metric>\w+)(?P<sign>>=|<=)(?P<limit>[+-]?[\d.]+(?:[eE][+-]?\d+)?)"
)


@dataclass(frozen=True)
class Rule:
    """What B - A of a metric must at least, or may at most be."""

    metric: str
    sign: str
    """`>=` or `<=`."""
    limit: float
    where: str | None = None
    """CATEGORY/DETECTOR, either may hold `*`; None: the headline detector of each category."""

    @classmethod
    def parse(cls, text: str) -> tuple[Rule, ...]:
        """Rules separated by commas, for example `image_auroc>=-0.005,*/knn:escape_rate<=+0.01`.

        Raises:
            UserError: not a rule, an unknown metric, or none at all.
        """
        rules = tuple(cls._one(part.strip()) for part in text.split(",") if part.strip())
        if not rules:
            raise UserError("--gate needs a rule, for example image_auroc>=-0.005,escape_rate<=+0.01")
        return rules

    @classmethod
    def _one(cls, text: str) -> Rule:
        found = _RULE.fullmatch(re.sub(r"\s+", "", text))
        try:
            limit = float(found["limit"]) if found else None
        except ValueError:
            limit = None
        if found is None or limit is None:
            raise UserError(
                f"{text!r} is no rule of a gate: write METRIC>=LIMIT or METRIC<=LIMIT of B - A, as in "
                "image_auroc>=-0.005, with CATEGORY/DETECTOR: before it for another than the headline detector"
            )
        if found["metric"] not in PAIRED:
            raise UserError(f"{found['metric']!r} in {text!r} is no metric of a gate: those are {', '.join(PAIRED)}")
        return cls(found["metric"], found["sign"], limit, found["where"])

    def __str__(self) -> str:
        prefix = f"{self.where}:" if self.where else ""
        return f"{prefix}{self.metric}{self.sign}{self.limit:+g}"

    def breached_by(self, interval: tuple[float, float]) -> bool:
        """Whether the whole interval of B - A lies beyond the limit."""
        low, high = interval
        return high < self.limit if self.sign == ">=" else low > self.limit
