"""`burnish doctor`: findings on good and on bad set-ups, and its exit code."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from pipeline.doctor import checks as doctor_checks
from pipeline.doctor import command as doctor
from pipeline.doctor import project as doctor_project
from pipeline.doctor.checks import Finding
from pipeline.orchestration.run_lock import exclusive_run
from tests.pipeline import toy_project as toy


def levels(findings: list[Finding]) -> dict[str, str]:
    """Check -> level."""
    return {finding.check: finding.level for finding in findings}


@pytest.fixture(scope="module")
def prefect_imported() -> None:
    """Prefect reads its environment once, at import."""
    import prefect  # noqa: F401


def test_packages_against_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0", "numpy": "1.0", "odd-one": "3"}
    monkeypatch.setattr(doctor_checks, "installed_version", versions.get)
    lock = "torch==2.13.0 ; python_version >= '3.8'\nnumpy==2.4.6\n    # via torch\nOdd_One==3\nabsent==1\n"
    (tmp_path / "requirements.lock").write_text(lock + "winonly==1 ; sys_platform == 'none'\n")
    findings = list(doctor_checks.check_packages(tmp_path))
    assert levels(findings) == {"torch": "ok", "numpy": "fault", "other packages": "warn"}
    assert "1.0, pinned is 2.4.6" in findings[1].details
    assert "1 of 2 differ from requirements.lock: absent missing for 1" in findings[2].details


def test_the_local_part_of_a_version_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks.metadata, "version", lambda name: "2.13.0+cpu")
    assert doctor_checks.installed_version("torch") == "2.13.0"


def test_findings_on_a_project(complete: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(complete)
    checks = (doctor_project.check_git, doctor_project.check_dvc, doctor_project.check_locks)
    findings = [finding for check in checks for finding in check(complete)]
    assert levels(findings) == {"git": "fault", "dvc graph": "ok", "dvc cache": "ok", "locks": "ok"}
    (complete / ".dvc" / "config").write_text("[cache]\n    type = hardlink\n")
    assert levels(list(doctor_project.check_dvc(complete)))["dvc cache"] == "warn"
    (complete / "dvc.lock").write_text("schema: '2.0'\nstages: {a: [")
    [finding] = doctor_project.check_dvc(complete)
    assert (finding.level, "git checkout dvc.lock" in finding.fix) == ("fault", True)
    shutil.rmtree(complete / ".git")
    [finding] = doctor_project.check_dvc(complete)
    assert (finding.level, finding.fix) == ("fault", "see the row of git")


def test_locks(complete: Path) -> None:
    toy.hold(complete, "out/left", os.getpid())
    [finding] = doctor_project.check_locks(complete)
    assert (finding.level, f"DVC (process {os.getpid()})" in finding.details) == ("warn", True)
    toy.hold(complete, "out/left", 2**22 + 1)  # above the largest process id
    [finding] = doctor_project.check_locks(complete)
    assert (finding.level, "1 left by killed processes" in finding.details) == ("ok", True)
    (complete / ".dvc/tmp/rwlock").write_text(json.dumps([1]))
    assert next(iter(doctor_project.check_locks(complete))).level == "fault"
    (complete / ".dvc/tmp/rwlock").unlink()
    with exclusive_run(complete):
        [finding] = doctor_project.check_locks(complete)
        assert (finding.level, f"burnish run (process {os.getpid()})" in finding.details) == ("warn", True)


def test_a_server_that_does_not_answer(tmp_path: Path, prefect_imported: None) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        findings = list(doctor_project.check_prefect(tmp_path))
    assert findings[1].level == "fault"
    assert "unset PREFECT_API_URL" in findings[1].fix


def test_a_check_that_breaks_is_a_fault_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(root: Path) -> list[Finding]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(doctor, "CHECKS", (("odd", broken), ("python", doctor_checks.check_python)))
    assert doctor.run_doctor(tmp_path) == 1
    out = capsys.readouterr().out
    assert "RuntimeError: two lines" in out
    assert "fix: " in out
    assert "faults: 1" in out
    monkeypatch.setattr(doctor, "CHECKS", (("python", doctor_checks.check_python),))
    assert doctor.run_doctor(tmp_path) == 0


def test_every_fault_names_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder on a machine without git, DVC, space, memory or packages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor_checks.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor_checks, "FAULT_DISK_GIB", 1e9)
    monkeypatch.setattr(doctor_checks, "MIN_MEMORY_GIB", 1e9)
    (tmp_path / "params.yaml").write_text("no_such_section: 1\n")
    checks = [check for name, check in doctor.CHECKS if name not in ("torch", "prefect")]
    findings = [finding for check in checks for finding in check(tmp_path)]
    level_of = levels(findings)
    faults = ("disk", "ImageNet weights", "ELPV images", "git", "dvc", "parameters")
    assert [level_of[name] for name in faults] == ["fault"] * len(faults)
    assert level_of["memory"] == level_of["weights of focus"] == "warn"  # the default needs no `focus`
    assert [finding.check for finding in findings if finding.level == "fault" and not finding.fix] == []
