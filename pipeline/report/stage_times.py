"""Wall time of the stages, and how many items each took from the cache."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.project import paths
from pipeline.project.stage_table import STAGES
from pipeline.report.tables import Line, Table
from pipeline.show.tables import DASH


def read_logs(root: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The contents of data/logs/STAGE.KIND.json by stage. Files that cannot be read are left out.

    Args:
        kind: `time` or `counts`.
    """
    logs = {}
    for path in sorted((root / paths.LOGS).glob(f"*.{kind}.json")):
        try:
            logs[path.name.removesuffix(f".{kind}.json")] = json.loads(path.read_text("utf-8"))
        except ValueError:
            continue
    return logs


def last_finished(times: Mapping[str, Any]) -> str:
    """When the last stage finished, in words; empty if no time is known."""
    ends = [str(time["finished"]) for time in times.values()]
    return f"Last stage finished {_moment(max(ends))}" if ends else ""


def times_table(times: Mapping[str, Any], counts: Mapping[str, Any], scored: set[str]) -> Table | str:
    """Time and cache counts of each stage without `report`, whose own time is not known yet.

    Args:
        scored: CATEGORY-DETECTOR of the current metrics. Logs of other detectors are from an earlier run.
    """
    current = [name for name in {*times, *counts} if "-" not in name or name.partition("-")[2] in scored]
    names = [name for name in _in_order(current) if name != "report"]
    if not names:
        return "No stage ran in this folder. Its results come from DVC's cache or remote."
    lines = [_line(name, times.get(name), counts.get(name)) for name in names]
    seconds = sum(times[name]["seconds"] for name in names if name in times)
    known = [counts[name] for name in names if name in counts]
    items = [f"{sum(count[key] for count in known):,}" if known else DASH for key in ("cached", "computed")]
    lines.append(Line(["sum", _duration(seconds) if times else DASH, *items, ""], muted=True))
    return Table(["stage", "wall time", "cached", "computed", "finished"], lines)


def _line(name: str, time: Mapping[str, Any] | None, count: Mapping[str, Any] | None) -> Line:
    return Line(
        [
            name.replace("-", "@", 1),  # the name that `burnish run` takes
            DASH if time is None else _duration(time["seconds"]),
            DASH if count is None else f"{count['cached']:,}",
            DASH if count is None else f"{count['computed']:,}",
            DASH if time is None else _moment(time["finished"]),
        ]
    )


def _in_order(names: Iterable[str]) -> list[str]:
    """Names in the order of the stages; names of unknown stages last."""
    order = list(STAGES)

    def sort_key(name: str) -> tuple[int, str]:
        stage = name.partition("-")[0]
        return order.index(stage) if stage in order else len(order), name

    return sorted(names, key=sort_key)


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
