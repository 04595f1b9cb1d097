"""What surrounds a run and is no result: commit, machine, times, what the cache spared. They go into index.html.

A stage's output must depend on its dependencies alone, or the same commit would not give the same bytes. So the stage
`report` yields body.html, without any of this, and index.html is made from it beside DVC, which knows nothing of it.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.project import paths
from pipeline.project.git import asks
from pipeline.project.stage_table import STAGES
from pipeline.report.words import Line, Table
from pipeline.show.tables import DASH
from pipeline.show.text import counted

HEAD, TAIL = "<!-- burnish: commit -->", "<!-- burnish: time and machine -->"
"""Where the body leaves room. Nothing that a user names can hold them there: `<` is escaped."""
RESULTS = ("dvc.lock", f"{paths.METRICS_DIR}/")
"""Files in git that a run itself changes."""
PACKAGES = ("burnish", "torch", "numpy", "scikit-learn", "pillow")


@dataclass(frozen=True)
class Circumstances:
    commit: str
    finished: str
    """When the last stage ended; empty where no time is known."""
    facts: list[tuple[str, str]]
    stages: Table | str


def finish(root: Path) -> Path | None:
    """Bring data/report/index.html up to date with the body and the circumstances of now; None where there is no body.

    It is replaced in one step, and only where it changes.
    """
    from pipeline.report.page import environment

    if not (root / paths.REPORT_BODY).is_file():
        return None
    template: Any = environment().get_template("circumstances.html.j2").module
    found = circumstances(root)
    text = (root / paths.REPORT_BODY).read_text("utf-8")
    text = text.replace(HEAD, template.head(found), 1).replace(TAIL, template.tail(found), 1)
    index = root / paths.REPORT_INDEX
    if not index.is_file() or index.read_text("utf-8") != text:
        replace(index, text)
    return index


def replace(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def circumstances(root: Path) -> Circumstances:
    times, counts = _logs(root, "time"), _logs(root, "counts")
    ends = [str(one["finished"]) for one in times.values()]
    packages = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    return Circumstances(
        commit=_commit(root),
        finished=f"Last stage finished {_moment(max(ends))}" if ends else "",
        facts=[("Commit", _commit(root)), ("Machine", machine()), ("Software", packages)],
        stages=_stages(times, counts, _scored(root)),
    )


def _scored(root: Path) -> set[str]:
    file = root / paths.METRICS
    metrics = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return {f"{category}-{name}" for category, detectors in metrics.items() for name in detectors}


def _logs(root: Path, kind: str) -> dict[str, dict[str, Any]]:
    """What data/logs/STAGE.KIND.json hold, by stage; one that cannot be read is left out, it is only an account."""
    found = {}
    for path in sorted((root / paths.LOGS).glob(f"*.{kind}.json")):
        try:
            found[path.name.removesuffix(f".{kind}.json")] = json.loads(path.read_text("utf-8"))
        except ValueError:
            continue
    return found


def _stages(times: Mapping[str, Any], counts: Mapping[str, Any], scored: set[str]) -> Table | str:
    """Time and cache counts of each stage but this one, whose own time is not known yet.

    Args:
        scored: CATEGORY-DETECTOR of what the metrics hold; logs of others are of an earlier run.
    """
    known = [name for name in {*times, *counts} if "-" not in name or name.partition("-")[2] in scored]
    names = [name for name in _in_order(known) if name != "report"]
    if not names:
        return "No stage has run in this folder: its results came from elsewhere."
    lines = []
    for name in names:
        time, count = times.get(name), counts.get(name)
        lines.append(
            Line(
                [
                    name.replace("-", "@", 1),  # as `burnish run` takes it
                    DASH if time is None else _duration(time["seconds"]),
                    DASH if count is None else f"{count['cached']:,}",
                    DASH if count is None else f"{count['computed']:,}",
                    DASH if time is None else _moment(time["finished"]),
                ]
            )
        )
    whole = sum(times[name]["seconds"] for name in names if name in times)
    told = [counts[name] for name in names if name in counts]
    items = [f"{sum(one[key] for one in told):,}" if told else DASH for key in ("cached", "computed")]
    lines.append(Line(["sum", _duration(whole) if times else DASH, *items, ""], quiet=True))
    return Table(["stage", "wall time", "cached", "computed", "finished"], lines)


def _in_order(names: Iterable[str]) -> list[str]:
    order = list(STAGES)

    def place(name: str) -> tuple[int, str]:
        stage = name.partition("-")[0]
        return order.index(stage) if stage in order else len(order), name

    return sorted(names, key=place)


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _commit(root: Path) -> str:
    """The commit, and whether the files differ from it."""
    commit = asks(root, "log", "-1", "--format=%h (%cd)", "--date=format:%Y-%m-%d")
    if not commit:
        return "not known: this is no git repository with a commit"
    status = asks(root, "status", "--porcelain", "--untracked-files=no") or ""
    changed = [line[3:].strip('"') for line in status.splitlines()]
    others = [name for name in changed if not name.startswith(RESULTS)]
    if others:
        more = f" and {counted(len(others) - 3, 'other')}" if len(others) > 3 else ""
        return f"{commit.strip()} with uncommitted changes in {', '.join(others[:3])}{more}"
    return commit.strip() + ("; its results are not committed yet" if changed else "")


def machine() -> str:
    """Processor, cores, memory, GPU and system in one line."""
    import psutil

    gpus = ", ".join(_gpus()) or "no GPU"
    memory = psutil.virtual_memory().total / 2**30
    cores = counted(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, "core")
    return f"{_processor()}, {cores}, {memory:.0f} GiB, {gpus}; {platform.system()}, Python {platform.python_version()}"


def _processor() -> str:
    return next(_lines(Path("/proc/cpuinfo"), "model name"), platform.processor() or platform.machine())


def _gpus() -> Iterator[str]:
    """As the NVIDIA driver says: asking torch would take seconds."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        yield from _lines(path, "Model")


def _lines(path: Path, key: str) -> Iterator[str]:
    """Values of `key: value` lines of a file of the system; none where it is not there."""
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                yield value.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
