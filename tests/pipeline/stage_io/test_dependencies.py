"""What runs again when code changes: `deps` of dvc.yaml and the keys of cached items against the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.project.stage_table import MATRIX, STAGES
from pipeline.stage_io import dependencies
from pipeline.stage_io.dependencies import CANNOT_CHANGE_A_RESULT, FINDS_DETECTORS, modules_of_stage
from stages.code_version import imports_of
from stages.detectors.registry import CONFIGS
from tests.conftest import ROOT, change_params, make_project

GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ALL_DETECTORS = "stages/detectors"
"""A dependency, as a whole, of the stages that ask the registry, so that a new detector needs no line in dvc.yaml. These
stages take seconds, and where their outputs stay as they were, nothing after them runs."""


def files_of(modules: tuple[str, ...]) -> set[str]:
    return {f"{module.replace('.', '/')}.py" for module in modules}


def code_in(dependencies_of_stage: list[str], detector: str) -> set[str]:
    """The Python files among the dependencies of a stage; those of a whole folder but for `__init__.py`."""
    found = set()
    for text in dependencies_of_stage:
        path = ROOT / text.replace("${item.detector}", detector)
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
    for detector in CONFIGS:
        needed, listed = files_of(modules_of_stage(stage, detector)), code_in(deps, detector)
        assert not needed - listed, f"add to deps of {stage} in dvc.yaml, or {detector} stays old when these change"
        needed_by_one |= needed
    shared = {file for file in listed if not file.startswith(f"stages/detectors/{detector}/")}
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
        section = config.model_validate({})
        if dependencies_of_features(name, section):
            assert config.reads_backbone, name


def dependencies_of_features(name: str, section: object) -> frozenset[str]:
    from stages.detectors.registry import detector

    return detector(name).needs(section) & {"raw", "clean", "attention"}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


KEYS = """
import json
from pipeline.stage_io.dependencies import code_of_item, code_of_stage, imports_of
from stages.detectors.registry import CONFIGS
items = {name: code_of_item(f"pipeline.stage_io.items.{name}") for name in ("features", "denoised", "clean")}
items |= {f"scores-{name}": code_of_item("pipeline.stage_io.items.scores", name) for name in CONFIGS}
print(json.dumps(items | {"pretrain": code_of_stage("pretrain")}))
"""


def keys(project: Path) -> dict[str, str]:
    """The code's part of the keys, in a process of its own: what has been read of the sources is kept in a process."""
    done = subprocess.run([sys.executable, "-c", KEYS], cwd=project, capture_output=True, text=True, check=True)
    found: dict[str, str] = yaml.safe_load(done.stdout)
    return found


SCORES = {f"scores-{name}" for name in CONFIGS}


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("stages/images.py", {"features", "denoised", "pretrain", *SCORES}),
        ("stages/backbone/networks/vit.py", {"features", "denoised", "pretrain"}),
        ("stages/backbone/pretrain.py", {"pretrain"}),
        ("stages/denoise/denoiser.py", {"clean"}),
        ("stages/denoise/per_image/views.py", {"denoised"}),
        ("stages/detectors/pca/detector.py", {"scores-pca"}),
        ("stages/detectors/shared/nearest.py", {"scores-ear", "scores-knn"}),
        ("stages/probe/pictures.py", set()),
        ("stages/score/metrics.py", set()),
        ("pipeline/show/figure.py", set()),
        ("pipeline/compute/fan_out.py", set()),
        ("pipeline/stage_io/items/features.py", {"features"}),
    ],
)
def test_a_change_of_code_makes_exactly_these_items_anew(copied: Path, file: str, changed: set[str]) -> None:
    before = keys(copied)
    with (copied / file).open("a") as source:
        source.write("\nADDED = 1\n")
    after = keys(copied)
    assert {name for name in before if before[name] != after[name]} == changed


LOADED = """
import json, sys
from pipeline.stage_io.run_stage import run
run(*sys.argv[1:])
print(json.dumps(sorted(name for name in sys.modules if name.startswith(("stages.", "pipeline.")))))
"""


def test_what_stages_load_is_what_they_are_said_to_import(finished: Path) -> None:
    """The imports are read from the sources; this sees what is really loaded, by whatever way."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        shutil.copytree(finished, project, symlinks=True)
        change_params(project, {})
        for arguments in (["features"], ["denoise"], ["clean_features"], ["infer", "tile", "knn"], ["score"]):
            done = subprocess.run(
                [sys.executable, "-c", LOADED, *arguments], cwd=project, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            loaded = yaml.safe_load(done.stdout.splitlines()[-1])
            known = set(modules_of_stage(arguments[0], arguments[2] if len(arguments) > 2 else None))
            told = {name for name in loaded if name not in known and not _exempt(name)}
            assert not told, arguments


def _exempt(name: str) -> bool:
    """Left out for a reason that is written down; or a package; or what params.py, the registry and the run load."""
    if name in ("pipeline.stage_io.run_stage", FINDS_DETECTORS) or name.endswith(".config"):
        return True
    if any(
        name == left or name.startswith(f"{left}.") for left in dependencies.CANNOT_CHANGE_A_RESULT if left != "stages"
    ):
        return True
    return (ROOT / name.replace(".", "/")).is_dir()
