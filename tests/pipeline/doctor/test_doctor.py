"""`burnish doctor`: good and bad set-ups."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.doctor import checks as doctor_checks
from pipeline.doctor import command as doctor
from pipeline.doctor import project as doctor_project
from pipeline.doctor.checks import Row
from pipeline.orchestration.run_lock import only_run
from tests.pipeline import toy_project as toy


def levels(rows: list[Row]) -> dict[str, str]:
    return {row.check: row.level for row in rows}


@pytest.fixture(scope="module")
def prefect_imported() -> None:
    """Prefect reads its environment once, at import."""
    import prefect  # noqa: F401


def test_packages_against_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have = {"torch": "2.13.0", "numpy": "1.0", "odd-one": "3"}
    monkeypatch.setattr(doctor_checks, "installed", have.get)
    lock = "torch==2.13.0 ; python_version >= '3.8'\nnumpy==2.4.6\n    # via torch\nOdd_One==3\nabsent==1\n"
    (tmp_path / "requirements.lock").write_text(lock + "winonly==1 ; sys_platform == 'none'\n")
    rows = list(doctor_checks.packages(tmp_path))
    assert levels(rows) == {"torch": "ok", "numpy": "fault", "other packages": "warn"}
    assert "1.0, pinned is 2.4.6" in rows[1].found
    assert "1 of 2 are not as pinned: absent missing for 1" in rows[2].found


def test_the_local_part_of_a_version_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks.metadata, "version", lambda name: "2.13.0+cpu")
    assert doctor_checks.installed("torch") == "2.13.0"


def test_project_rows(complete: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(complete)
    rows = [*doctor_project.git(complete), *doctor_project.dvc(complete), *doctor_project.locks(complete)]
    assert levels(rows) == {"git": "warn", "dvc graph": "ok", "dvc cache": "ok", "locks": "ok"}
    (complete / ".dvc" / "config").write_text("[cache]\n    type = hardlink\n")
    assert levels(list(doctor_project.dvc(complete)))["dvc cache"] == "warn"
    (complete / "dvc.lock").write_text("schema: '2.0'\nstages: {a: [")
    [row] = doctor_project.dvc(complete)
    assert (row.level, "git checkout dvc.lock" in row.fix) == ("fault", True)


def test_locks(complete: Path) -> None:
    toy.hold(complete, "out/left", os.getpid())
    [row] = doctor_project.locks(complete)
    assert (row.level, f"DVC (process {os.getpid()})" in row.found) == ("warn", True)
    toy.hold(complete, "out/left", 2**22 + 1)  # above the largest process id
    [row] = doctor_project.locks(complete)
    assert (row.level, "1 left by killed processes" in row.found) == ("ok", True)
    (complete / ".dvc/tmp/rwlock").write_text(json.dumps([1]))
    assert next(iter(doctor_project.locks(complete))).level == "fault"
    (complete / ".dvc/tmp/rwlock").unlink()
    with only_run(complete):
        [row] = doctor_project.locks(complete)
        assert (row.level, f"burnish run (process {os.getpid()})" in row.found) == ("warn", True)


def test_a_server_that_does_not_answer(tmp_path: Path, prefect_imported: None) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        rows = list(doctor_project.prefect(tmp_path))
    assert rows[1].level == "fault"
    assert "unset PREFECT_API_URL" in rows[1].fix


def test_a_check_that_breaks_is_a_fault_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(root: Path) -> list[Row]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(doctor, "CHECKS", (("odd", broken), ("python", doctor_checks.python)))
    assert doctor.run_doctor(tmp_path) == 1
    out = capsys.readouterr().out
    assert "RuntimeError: two lines" in out
    assert "fix: " in out
    assert "faults: 1" in out
    monkeypatch.setattr(doctor, "CHECKS", (("python", doctor_checks.python),))
    assert doctor.run_doctor(tmp_path) == 0


def test_every_fault_names_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder without Git, DVC, space, memory or packages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor_checks.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor_checks, "FAULT_DISK_GIB", 1e9)
    monkeypatch.setattr(doctor_checks, "MIN_MEMORY_GIB", 1e9)
    (tmp_path / "params.yaml").write_text("no_such_section: 1\n")
    checks = [check for name, check in doctor.CHECKS if name not in ("torch", "prefect")]
    rows = [row for check in checks for row in check(tmp_path)]
    found = levels(rows)
    faults = ("disk", "ImageNet weights", "ELPV images", "git", "dvc", "parameters")
    assert [found[name] for name in faults] == ["fault"] * len(faults)
    assert found["memory"] == "warn"
    assert [row.check for row in rows if row.level == "fault" and not row.fix] == []
