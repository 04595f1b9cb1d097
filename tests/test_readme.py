"""The README and the lock say what is so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.tables import metrics_markdown
from tests.benchmarks.folds import summarised, tables
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_results_are_those_of_the_committed_run() -> None:
    metrics = json.loads((ROOT / "data/metrics/metrics.json").read_text())
    assert metrics_markdown(metrics).strip() in README


def test_the_tables_of_folds_are_those_that_were_measured() -> None:
    rows = json.loads((ROOT / "tests/benchmarks/folds.json").read_text())["rows"]
    for table in tables(summarised(rows)).split("\n\n"):
        assert table in README


def test_the_graph_is_that_of_dvc_yaml(environment: dict[str, str]) -> None:
    result = subprocess.run(["burnish", "graph"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() in README


def test_every_command_exists(environment: dict[str, str]) -> None:
    told = re.findall(r"`(burnish|make) ([a-z]+)", README)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    result = subprocess.run(["burnish", "--help"], env=environment, capture_output=True, text=True, check=True)
    usage = result.stdout
    for tool, word in told:
        assert word in targets if tool == "make" else re.search(rf"^. {word} ", usage, flags=re.MULTILINE), word


def test_every_named_path_exists() -> None:
    for path in re.findall(r"`((?:pipeline|stages|tests)/[\w/.]*)`", README):
        assert (ROOT / path).exists(), path


def test_every_benchmark_takes_the_options_that_it_is_told_with() -> None:
    pages = [page.read_text() for page in (ROOT / "README.md", *(ROOT / "stages").rglob("README.md"))]
    told = [one for page in pages for one in re.findall(r"`python -m tests\.benchmarks\.(\w+)([^`]*)`", page)]
    assert len(told) > 20
    for name, arguments in told:
        options = re.findall(r"--\w+", arguments)
        source = (ROOT / f"tests/benchmarks/{name}.py").read_text()
        assert "--json" in options, f"{name}{arguments}"
        assert all(f'"{option}"' in source for option in options), f"{name}{arguments}"


def test_the_lock_holds_what_pyproject_asks_for(tmp_path: Path) -> None:
    """Resolving anew with the pins as they are changes nothing."""
    if not (ROOT / ".venv/.installed").exists():
        pytest.skip("no .venv: run `make test`")
    copy = tmp_path / "requirements.lock"
    shutil.copy(ROOT / "requirements.lock", copy)
    result = subprocess.run(
        ["make", "lock", f"LOCK={copy}", "UPGRADE="], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if re.search("Failed to fetch|error sending request|dns error", result.stderr):
        pytest.skip("the package index cannot be reached")
    assert result.returncode == 0, result.stderr

    def pins(path: Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]

    assert pins(copy) == pins(ROOT / "requirements.lock")
