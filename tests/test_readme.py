"""The READMEs and the lock say what is so."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.show.tables import metrics_markdown
from tests.benchmarks.folds import summarised, tables
from tests.conftest import ROOT

README = ROOT / "README.md"
ROOMS = ("pipeline", "stages", "tests")
PAGES = (README, *(page for room in ROOMS for page in sorted((ROOT / room).rglob("*.md"))))
LINES = 250
"""At most so many has the README of the project."""
FILES = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
page_of_each = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def code_blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of each."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """The text without its code blocks."""
    return re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", prose(text))


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_the_readme_can_be_read_in_one_sitting() -> None:
    lines = README.read_text().splitlines()
    assert len(lines) <= LINES
    assert [line for line in lines if len(line) > 160] == []


def test_the_results_are_those_of_the_committed_run() -> None:
    metrics = json.loads((ROOT / "data/metrics/metrics.json").read_text())
    assert metrics_markdown(metrics).strip() in README.read_text()


def test_the_tables_of_folds_are_those_that_were_measured() -> None:
    page = (ROOT / "tests/benchmarks/README.md").read_text()
    rows = json.loads((ROOT / "tests/benchmarks/folds.json").read_text())["rows"]
    for table in tables(summarised(rows)).split("\n\n"):
        assert table in page


def test_the_graph_is_that_of_dvc_yaml(environment: dict[str, str]) -> None:
    result = subprocess.run(["burnish", "graph"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() in (ROOT / "pipeline/README.md").read_text()


@page_of_each
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the repository, and to a heading in it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


@page_of_each
def test_every_named_path_exists(page: Path) -> None:
    for code in inline_code(page.read_text()):
        if re.fullmatch(rf"(?:{'|'.join(ROOMS)})/[\w/.]*", code) and not re.search(r"\bNAME\b", code):
            assert (ROOT / code).exists(), code


@page_of_each
def test_every_named_module_exists(page: Path) -> None:
    """`denoiser.py`, `networks/load.py`: somewhere in a room."""
    for code in inline_code(page.read_text()):
        if re.fullmatch(r"[\w/]+\.py", code) and not re.search(r"\bNAME\b", code):
            assert any(f"/{path}".endswith(f"/{code}") for path in map(str, FILES)), code


@page_of_each
def test_every_command_and_option_exists(page: Path) -> None:
    for words in burnish_commands(page.read_text()):
        command, rest = named(words)
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in options | {"-h", "--help"}, " ".join(words)


@page_of_each
def test_every_target_of_make_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    shown = [line for language, block in code_blocks(text) if language == "sh" for line in block.splitlines()]
    for place in (*inline_code(text), *shown):
        for word in re.findall(r"(?:^|[\s;&(])make ([a-z-]+)", place):
            assert word in targets, place


def burnish_commands(text: str) -> Iterator[list[str]]:
    """What follows `burnish` in code, word by word, up to a comment, a pipe, or another command."""
    places = inline_code(text)
    for language, block in code_blocks(text):
        if language in ("sh", "yaml", "ini"):
            places += block.splitlines()
    for place in places:
        # in place of the braces of GitHub's expressions and of what a reader fills in, a word
        plain = re.sub(r"\$\{\{.*?\}\}", "X", place)
        for found in re.finditer(r"(?:^|[\s/=(])burnish (?=[a-z-])", plain):
            yield words_of(plain[found.end() :])


def words_of(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|;&<>()")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word[0] in "|;&<>(":
            break
        words.append(word)
    return words


@cache
def whole_command() -> Any:
    import typer

    from pipeline.cli.app import app

    return typer.main.get_command(app)


def named(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words that follow."""
    command, rest = whole_command(), list(words)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        assert rest[0] in command.commands, " ".join(words)
        command = command.commands[rest.pop(0)]
    return command, rest


def test_the_check_of_commands_sees_what_is_wrong() -> None:
    seen = list(burnish_commands("`burnish run --jobs 2`\n\n```sh\nfind . | burnish predict - --json   # now\n```\n"))
    assert seen == [["run", "--jobs", "2"], ["predict", "-", "--json"]]
    with pytest.raises(AssertionError):
        named(["walk"])


def test_every_benchmark_takes_the_options_that_it_is_told_with() -> None:
    pattern = r"`python -m tests\.benchmarks\.([a-z_]+)([^`]*)`"
    told = [one for page in PAGES for one in re.findall(pattern, page.read_text())]
    assert len(told) > 20
    for name, arguments in told:
        options = re.findall(r"--\w+", arguments)
        source = (ROOT / f"tests/benchmarks/{name}.py").read_text()
        assert "--json" in options, f"{name}{arguments}"
        assert all(f'"{option}"' in source for option in options), f"{name}{arguments}"


def test_every_benchmark_is_told_of() -> None:
    page = (ROOT / "tests/benchmarks/README.md").read_text()
    there = {path.stem for path in (ROOT / "tests/benchmarks").glob("*.py") if "argparse" in path.read_text()}
    assert there - set(re.findall(r"`python -m tests\.benchmarks\.([a-z_]+)", page)) == set()


@pytest.mark.long
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
