from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import stage as stage_command
from pipeline.project import exit_codes
from pipeline.report.run_facts import HEAD, TAIL, collect_run_facts, write_index
from pipeline.report.tables import Table
from stages.types import UserError

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


def write(root: Path, name: str, content: Any) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def log(root: Path, stage: str, seconds: float, at: str = "2026-11-22T12:29:03+00:00") -> None:
    write(root, f"data/logs/{stage}.time.json", {"seconds": seconds, "finished": at})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "data/report/body.html", f"<p>results</p>{HEAD}<h2>Time</h2>{TAIL}")
    write(tmp_path, "data/metrics/metrics.json", {"tile": {"ear": {}}})
    return tmp_path


def git(root: Path, *arguments: str) -> None:
    subprocess.run([*GIT, *arguments], cwd=root, check=True, capture_output=True)


def committed(root: Path) -> None:
    for name in ("params.yaml", "dvc.lock"):
        write(root, name, "a: 1\n")
    write(root, ".gitignore", "data/report\ndata/logs\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "start")


def test_without_a_body_there_is_no_page(tmp_path: Path) -> None:
    assert write_index(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_the_body_and_the_facts(root: Path) -> None:
    log(root, "score", 75)
    body = (root / "data/report/body.html").read_text()
    index = write_index(root)
    assert index == root / "data/report/index.html"
    text = index.read_text()
    assert HEAD not in text
    assert TAIL not in text
    for part in ("<p>results</p>", "Last stage finished 2026-11-22 12:29 UTC", "1 min 15 s", "Python 3."):
        assert part in text
    assert (root / "data/report/body.html").read_text() == body
    assert {path.name for path in index.parent.iterdir()} == {"body.html", "index.html"}


def test_it_is_written_only_where_it_changes(root: Path) -> None:
    log(root, "score", 75)
    index = write_index(root)
    assert index is not None
    before = index.stat().st_ino
    write_index(root)
    assert index.stat().st_ino == before
    log(root, "score", 76)
    write_index(root)
    assert index.stat().st_ino != before
    assert "1 min 16 s" in index.read_text()


def test_times_and_counts_in_the_order_of_the_stages(root: Path) -> None:
    for stage, seconds in (("score", 2.0), ("train-tile-ear", 3700), ("features", 59.96), ("report", 9.0)):
        log(root, stage, seconds)
    log(root, "infer-tile-gone", 5.0)
    write(root, "data/logs/features.counts.json", {"cached": 1200, "computed": 3})
    write(root, "data/logs/infer-tile-ear.counts.json", {"cached": 4, "computed": 5})
    write(root, "data/logs/half.time.json", "{")
    table = collect_run_facts(root).stages
    assert isinstance(table, Table)
    assert [tuple(line.cells[:4]) for line in table.lines] == [
        ("features", "60.0 s", "1,200", "3"),
        ("train@tile-ear", "1 h 01 min", "–", "–"),
        ("infer@tile-ear", "–", "4", "5"),
        ("score", "2.0 s", "–", "–"),
        ("sum", "1 h 02 min", "1,204", "8"),
    ]


def test_no_stage_has_run_here(root: Path) -> None:
    found = collect_run_facts(root)
    assert "come from DVC's cache or remote" in str(found.stages)
    assert found.finished == ""


def test_commit_and_what_differs_from_it(root: Path) -> None:
    assert "no git repository" in collect_run_facts(root).commit
    committed(root)
    clean = collect_run_facts(root).commit
    assert "uncommitted" not in clean
    assert "not committed" not in clean
    write(root, "dvc.lock", "a: 2\n")
    write(root, "data/metrics/metrics.json", {})
    assert collect_run_facts(root).commit == clean + "; its results are not committed yet"
    write(root, "params.yaml", "a: 3\n")
    assert collect_run_facts(root).commit == clean + " with uncommitted changes in params.yaml"
    write(root, "untracked.txt", "x")
    assert "untracked" not in collect_run_facts(root).commit


def test_a_stage_notes_its_time_only_when_it_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.stage_io.run_stage.run", lambda *which: None)
    assert stage_command.run_stage("infer", "tile", "ear") == exit_codes.OK
    assert stage_command.run_stage("score", None, None) == exit_codes.OK
    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / "data/logs").iterdir()}
    assert set(written) == {"infer-tile-ear.time.json", "score.time.json"}
    assert all(set(log) == {"seconds", "finished"} and log["seconds"] >= 0 for log in written.values())

    def fail(*which: object) -> None:
        raise UserError("no")

    monkeypatch.setattr("pipeline.stage_io.run_stage.run", fail)
    assert stage_command.run_stage("fuse", None, None) == exit_codes.FAILED
    assert not (tmp_path / "data/logs/fuse.time.json").exists()


def test_the_page_shows_what_stages_warn_about(root: Path) -> None:
    write(root, "data/warnings/download.json", ["3 masks of <tile> mark no pixel"])
    write(root, "data/warnings/train-tile-ear.json", ["the loss rises"])
    write(root, "data/warnings/train-tile-gone.json", ["of a detector that no longer runs"])
    page = write_index(root)
    assert page is not None
    text = page.read_text()
    assert "Stage download: 3 masks of &lt;tile&gt; mark no pixel" in text
    assert text.index("Stage download:") < text.index("Stage train@tile-ear: the loss rises") < text.index("<h2>Time")
    assert "no longer runs" not in text
