"""The code that a result depends on, found by following imports.

The stage graph and the item cache both use it: a stage, or the work on one image, depends on the module that does it
and on all modules that this module imports. A test compares `deps` of dvc.yaml with it; item keys contain its digest.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

PROJECT_PACKAGES = ("stages", "pipeline")


def imports_of(*entries: str, without: Collection[str] = ()) -> tuple[str, ...]:
    """The modules `entries` and all modules of this project that they import, directly or indirectly, sorted.

    Imports inside functions count; imports for type checkers alone do not. Packages are left out, since their
    `__init__.py` holds no code.

    Args:
        entries: modules, such as `stages.images`.
        without: modules and packages that are neither listed nor followed.

    Raises:
        ValueError: an entry is not a module.
    """
    modules: set[str] = set()
    todo = list(entries)
    while todo:
        name = todo.pop()
        if name in modules or any(name == excluded or name.startswith(f"{excluded}.") for excluded in without):
            continue
        modules.add(name)
        todo += _imported(_source_file(name).read_text())
    return tuple(sorted(name for name in modules if not _is_package(name)))


def _is_package(name: str) -> bool:
    return _source_file(name).name == "__init__.py"


@cache
def _imported(source: str) -> tuple[str, ...]:
    """Modules of this project that the code of a module imports directly."""
    modules = []
    for node in _executed_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                inside = _is_project_module(node.module) and _has_module(node.module, alias.name)
                modules.append(f"{node.module}.{alias.name}" if inside else node.module)
    return tuple(sorted({module for module in modules if _is_project_module(module)}))


def _executed_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes except those below `if TYPE_CHECKING:`."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


def _is_project_module(name: str) -> bool:
    return name.partition(".")[0] in PROJECT_PACKAGES


def _has_module(package: str, name: str) -> bool:
    """Whether `package` is a package and `name` a module of it. `find_spec` of both would import the package."""
    folder = _source_file(package).parent
    return _is_package(package) and ((folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists())


def _source_file(name: str) -> Path:
    """The source file of a module, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"no module {name}")
    return Path(spec.origin)


def code_version(*names: str) -> str:
    """16 hex digits for the code of modules (`stages.types`) or whole packages (`stages.denoise`), without importing
    them.

    The digest is of their syntax trees without comments, layout and docstrings, so that only a change of behaviour
    counts.
    """
    digest = hashlib.sha256()
    for name in names:
        origin = _source_file(name)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        for file in files:
            digest.update(file.name.encode())
            digest.update(_behaviour(file.read_text()).encode())
    return digest.hexdigest()[:16]


@cache
def _behaviour(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_docstring(line)]
    return ast.dump(tree)


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
