"""What runs again when code changes: `deps` of dvc.yaml and the keys of cached items against the imports."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.project.stage_table import MATRIX, STAGES
from pipeline.stage_io.dependencies import (
    CANNOT_CHANGE_A_RESULT,
    FINDS_DETECTORS,
    SAME_ITEMS,
    code_of_item,
    digest_of_code,
    modules_of_stage,
)
from stages.code_version import imports_of
from stages.detectors.registry import CONFIGS, detector
from tests.conftest import ROOT

GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ALL_DETECTORS = "stages/detectors"
"""A dependency, as a whole, of the stages that ask the registry, so that a new detector needs no line in dvc.yaml.
These stages take seconds, and where their outputs stay as they were, nothing after them runs."""


def files_of(modules: tuple[str, ...]) -> set[str]:
    return {f"{module.replace('.', '/')}.py" for module in modules}


def code_in(deps: list[str], name: str) -> set[str]:
    """The Python files among the dependencies of a stage; those of a whole folder but for `__init__.py`."""
    found = set()
    for text in deps:
        path = ROOT / text.replace("${item.detector}", name)
        if text.startswith(("stages/", "pipeline/")):
            assert path.exists(), text
            inside = [path] if path.is_file() else [one for one in path.rglob("*.py") if one.name != "__init__.py"]
            found |= {str(one.relative_to(ROOT)) for one in inside}
    return found


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in MATRIX])
def test_a_stage_depends_on_what_it_imports(stage: str) -> None:
    needed, listed = files_of(modules_of_stage(stage)), code_in(GRAPH[stage]["deps"], "")
    assert not needed - listed, f"add to deps of {stage} in dvc.yaml, or results stay old when these change"
    surplus = listed - needed
    if ALL_DETECTORS in GRAPH[stage]["deps"]:
        assert FINDS_DETECTORS in modules_of_stage(stage)
        surplus = {file for file in surplus if not file.startswith(f"{ALL_DETECTORS}/")}
    assert not surplus, f"take from deps of {stage} in dvc.yaml, or it runs again when these change, for nothing"


@pytest.mark.parametrize("stage", sorted(MATRIX))
def test_a_stage_of_a_detector_depends_on_what_it_imports(stage: str) -> None:
    """All detectors have one list; so each one's code is on it, and on it is nothing that no detector imports."""
    deps = GRAPH[stage]["deps"] if "deps" in GRAPH[stage] else GRAPH[stage]["do"]["deps"]
    needed_by_one = set()
    for name in CONFIGS:
        needed, listed = files_of(modules_of_stage(stage, name)), code_in(deps, name)
        assert not needed - listed, f"add to deps of {stage} in dvc.yaml, or {name} stays old when these change"
        needed_by_one |= needed
    shared = {file for file in listed if not file.startswith(f"stages/detectors/{name}/")}
    assert not shared - needed_by_one, f"take from deps of {stage} in dvc.yaml"


def test_every_exception_is_there_and_is_imported_by_a_stage() -> None:
    """One that nothing imports any more would hide whatever takes its name later."""
    imported: set[str] = set()
    for module, _ in STAGES.values():
        imported |= set(imports_of(f"pipeline.stage_io.{module}"))
    for name, reason in CANNOT_CHANGE_A_RESULT.items():
        assert reason
        assert name == "stages" or any(one == name or one.startswith(f"{name}.") for one in imported), name


def test_packages_hold_no_code() -> None:
    """`imports_of` follows modules: what a package itself ran would be a dependency that nobody sees."""
    exempt = {"stages/__init__.py", "pipeline/cli/__init__.py"}
    for file in [*(ROOT / "stages").rglob("__init__.py"), *(ROOT / "pipeline").rglob("__init__.py")]:
        body = ast.parse(file.read_text()).body
        if str(file.relative_to(ROOT)) not in exempt:
            assert all(isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in body), file


def test_a_detector_that_reads_the_backbone_says_so() -> None:
    """Else its `train` and `infer` would not run again when features change."""
    for name, config in CONFIGS.items():
        read = detector(name).needs(config.model_validate({}))
        assert config.reads_backbone or not read & {"raw", "clean", "attention"}, name


CHANGES: dict[str, set[str]] = {
    "stages/images.py": {"bundle", "features", "denoised", "pretrain", *(f"scores-{name}" for name in CONFIGS)},
    "stages/backbone/networks/vit.py": {"bundle", "features", "denoised", "pretrain"},
    "stages/backbone/pretrain.py": {"pretrain"},
    "stages/denoise/denoiser.py": {"bundle", "clean"},
    "stages/denoise/per_image/views.py": {"denoised"},
    "stages/detectors/pca/detector.py": {"bundle", "scores-pca"},
    "stages/detectors/shared/nearest.py": {"bundle", "scores-ear", "scores-knn"},
    "stages/probe/pictures.py": set(),
    "stages/score/metrics.py": set(),
    "pipeline/show/figure.py": set(),
    "pipeline/compute/fan_out.py": set(),
    "pipeline/stage_io/items/features.py": {"bundle", "features"},
}
"""A file, and what a change in it makes anew, and nothing else: items, the training `pretrain`, and the code of
predictions that a bundle names."""
KEYS = """
import json, sys
from pathlib import Path
from pipeline.stage_io.dependencies import code_of_item, code_of_predictions, code_of_stage
from stages.detectors.registry import CONFIGS, detector

def keys():
    found = {name: code_of_item(f"pipeline.stage_io.items.{name}") for name in ("features", "denoised", "clean")}
    found |= {f"scores-{name}": code_of_item("pipeline.stage_io.items.scores", name) for name in CONFIGS}
    return found | {"pretrain": code_of_stage("pretrain"), "bundle": code_of_predictions(CONFIGS)}

before, changed = keys(), {}
for file in map(Path, sys.argv[1:]):
    text = file.read_text()
    file.write_text(text + "\\nADDED = 1\\n")
    after = keys()
    changed[str(file)] = [name for name in before if before[name] != after[name]]
    file.write_text(text)
print(json.dumps(changed))
"""


def test_a_change_of_code_makes_exactly_these_items_anew(tmp_path: Path) -> None:
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", KEYS, *CHANGES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {file: set(names) for file, names in json.loads(done.stdout).items()} == CHANGES


ITEMS: list[tuple[str, str | None]] = [
    ("features", None),
    ("denoised", None),
    ("clean", None),
    *(("scores", name) for name in CONFIGS),
]


def test_items_of_earlier_code_that_computed_the_same_are_found() -> None:
    current = {digest_of_code(f"pipeline.stage_io.items.{item}", name) for item, name in ITEMS}
    assert not set(SAME_ITEMS) - current, "the code of these has changed since: delete their lines in SAME_ITEMS"
    for item, name in ITEMS:
        digest = digest_of_code(f"pipeline.stage_io.items.{item}", name)
        assert code_of_item(f"pipeline.stage_io.items.{item}", name) == SAME_ITEMS.get(digest, digest)


LOADED = """
import json, sys
from pipeline.project.params import load_params
from pipeline.stage_io.run_stage import run
load_params()  # checks the gate, for which it imports modules that no stage depends on
before = set(sys.modules)
run(*sys.argv[1:])
print(json.dumps(sorted(name for name in set(sys.modules) - before if name.startswith(("stages.", "pipeline.")))))
"""


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["denoise"], marks=pytest.mark.long),
        pytest.param(["clean_features"], marks=pytest.mark.long),
        ["infer", "tile", "knn"],
    ],
)
def test_what_a_stage_loads_is_what_it_is_said_to_import(finished: Path, tmp_path: Path, arguments: list[str]) -> None:
    """The imports are read from the sources; this sees what is loaded while a stage runs, by whatever way."""
    project = tmp_path / "project"
    shutil.copytree(finished, project, symlinks=True)
    command = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    known = {*modules_of_stage(arguments[0], arguments[-1]), *CANNOT_CHANGE_A_RESULT, FINDS_DETECTORS}
    loaded = {name for name in json.loads(done.stdout.splitlines()[-1]) if not (ROOT / name.replace(".", "/")).is_dir()}
    assert not {name for name in loaded - known if not name.startswith("pipeline.compute.")}
