"""What a machine does not allow: characters, writing, memory. One line, and nothing lost."""

from __future__ import annotations

import errno
import io
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.doctor import checks, command, project
from pipeline.project import faults
from pipeline.project.process_lock import process_lock
from pipeline.project.profiles import apply_profile
from stages.types import UserError
from tests.conftest import ROOT


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_terminal_takes_every_character(encoding: str, stream: str) -> None:
    """R² is in our own words; a file name may hold bytes that are no text; a table has lines."""
    script = (
        "import sys\nfrom pipeline.cli import print_what_the_terminal_cannot\nprint_what_the_terminal_cannot()\n"
        "from rich.console import Console\nfrom rich.table import Table\n"
        f"print('R² – \\u2265 \\U0001f600 \\udcff', file=sys.{stream})\n"
        f"table = Table('R²')\ntable.add_row('–')\nConsole(file=sys.{stream}).print(table)\n"
    )
    environment = {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\udcff" in getattr(done, stream)


def test_the_commands_do_so(tmp_path: Path) -> None:
    folder = tmp_path / "Prüfung ²"
    shutil.copytree(ROOT, folder, ignore=lambda path, names: [name for name in names if name != "params.yaml"])
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text() + "\ngrösse: 1\n")
    environment = {"PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": str(ROOT), "PATH": "/usr/bin", "LC_ALL": "C"}
    call = [sys.executable, "-m", "pipeline", "params", "show"]
    done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "gr\\xf6sse" in line


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_project_that_cannot_be_written(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = str(tmp_path / ".dvc/tmp/burnish-run.lock")
    with pytest.raises(typer.Exit) as end, faults_in_one_line():
        raise OSError(number, "not allowed", lock)
    assert end.value.exit_code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"burnish: error: {lock}: not allowed: ")
    assert ("read-only" in line) == (number == errno.EROFS)
    assert (f"chown or chmod {lock}" in line) == (number != errno.EROFS)


def test_a_file_where_a_folder_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".dvc").write_text("")
    with (
        pytest.raises(typer.Exit),
        faults_in_one_line(),
        process_lock(tmp_path / ".dvc/tmp/run.lock", lambda holder: UserError(holder)),
    ):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"burnish: error: {tmp_path}/.dvc")


def test_a_bug_is_not_taken_for_a_fault_of_the_machine() -> None:
    with pytest.raises(ZeroDivisionError), faults_in_one_line():
        _ = 1 / 0
    with pytest.raises(BrokenPipeError), faults_in_one_line():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_doctor_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = project.check_writable(tmp_path)
    assert finding.level == "ok"
    (tmp_path / "data").mkdir()

    def create(dir: Path) -> IO[bytes]:
        if dir == tmp_path / "data":
            raise PermissionError(errno.EACCES, "Permission denied", str(dir))
        return io.BytesIO()

    monkeypatch.setattr(project.tempfile, "TemporaryFile", create)
    (finding,) = project.check_writable(tmp_path)
    assert (finding.level, finding.details) == ("fault", f"{tmp_path / 'data'}: Permission denied")
    assert f"chown or chmod {tmp_path / 'data'}" in finding.fix


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        (".dvc", lambda path: path.write_text(""), "is a file"),
        ("data", lambda path: path.symlink_to("/mnt/not/mounted"), "is a link to /mnt/not/mounted, which is not there"),
        ("data/cache", lambda path: path.symlink_to("nowhere"), "is a link to nowhere"),
    ],
)
def test_doctor_names_what_is_no_folder(name: str, make: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    make(tmp_path / name)
    (finding,) = project.check_writable(tmp_path)
    assert (finding.level, finding.details) == ("fault", f"{tmp_path / name} {finding.details.partition(' ')[2]}")
    assert words in finding.details
    assert f"mv {tmp_path / name} " in finding.fix


def test_doctor_does_not_fail_where_dvc_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dvc").mkdir()

    def refuse(root: Path, check: bool) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(root / ".dvc/tmp/lock"))

    monkeypatch.setattr("pipeline.orchestration.graph.read_graph", refuse)
    (finding,) = project.check_dvc(tmp_path)
    assert (finding.level, finding.details) == ("fault", f"{tmp_path}/.dvc/tmp/lock: Read-only file system")


def test_no_remedy_deletes_what_took_time() -> None:
    """Neither caches, checkpoints nor results: `make clean` deletes the item cache."""
    for module in (checks, project, command, faults):
        text = Path(str(module.__file__)).read_text()
        for remedy in ("make clean", "rm -rf data", "dvc gc", "rm -rf ."):
            assert remedy not in text.replace("rm -rf .venv", ""), (module.__name__, remedy)


@pytest.mark.parametrize(
    ("shell", "container", "words"),
    [
        (None, None, "24,576 MiB available"),
        (26, None, "the limit of this shell is 26,624 MiB (ulimit -v)"),  # 10 GiB of addresses are in use
        (None, 30, "the limit of this container is 30,720 MiB"),
        (26, 30, "the limit of this container"),
        (35, 50, "24,576 MiB available"),
    ],
)
def test_the_limit_that_was_hit_is_named(
    shell: int | None, container: int | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one of which least is left, not the smallest. Sizes in GiB."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=24 << 30))
    monkeypatch.setattr("psutil.Process.memory_info", lambda self: SimpleNamespace(vms=10 << 30))
    limit = resource.RLIM_INFINITY if shell is None else shell << 30
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    monkeypatch.setattr(faults, "CONTAINER", tmp_path)
    (tmp_path / "memory.max").write_text("max\n" if container is None else f"{container << 30}\n")
    (tmp_path / "memory.current").write_text(f"{15 << 30}\n")
    code, message = faults.explain_fault(MemoryError("1 GiB"))
    assert code == 1
    assert message is not None and words in message


def test_a_profile_changes_only_the_lines_that_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    before = path.read_text()
    assert apply_profile("cpu", path) == []
    assert path.read_text() == before
    changed = apply_profile("gpu", path)
    lines = [(a, b) for a, b in zip(before.splitlines(), path.read_text().splitlines(), strict=True) if a != b]
    assert len(lines) == len(changed)
    assert all(("#" in a) == ("#" in b) for a, b in lines)
    apply_profile("cpu", path)
    assert [line.split() for line in path.read_text().splitlines()] == [line.split() for line in before.splitlines()]


def test_a_profile_keeps_line_ends_and_lines_that_it_adds_beside(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("  crops: ")]
    before = text.replace(line, f"  # {line.strip()}").replace("\n", "\r\n").encode()
    path.write_bytes(before)
    assert apply_profile("cpu", path) == []
    assert path.read_bytes() == before
    changed = apply_profile("gpu", path)
    after = path.read_bytes()
    assert after.count(b"\n") == after.count(b"\r\n") == before.count(b"\n") + 1
    assert (Counter(after.splitlines()) - Counter(before.splitlines())).total() == len(changed)
