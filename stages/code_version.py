"""What a result depends on: the code that computes it, found by following imports.

One source of truth for the stage graph and for the item cache: a stage, or the work on one image, depends on the module
that does it and on all that this module imports. A test holds `deps` of dvc.yaml against it; item keys are made of it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

OURS = ("stages", "pipeline")


def imports_of(*entries: str, without: Collection[str] = ()) -> tuple[str, ...]:
    """The modules `entries` and all modules of ours that they import, directly or not, sorted.

    Imports inside functions count; those for type checkers alone do not. Packages are left out: they hold no code.

    Args:
        entries: modules, as `stages.images`.
        without: modules and packages that are neither listed nor followed.

    Raises:
        ValueError: an entry is no module.
    """
    found: set[str] = set()
    todo = list(entries)
    while todo:
        name = todo.pop()
        if name in found or any(name == left or name.startswith(f"{left}.") for left in without):
            continue
        found.add(name)
        todo += _imported(name)
    return tuple(sorted(name for name in found if not _is_package(name)))


def _is_package(name: str) -> bool:
    return _file(name).name == "__init__.py"


@cache
def _imported(name: str) -> tuple[str, ...]:
    """Modules of ours that a module names in an import."""
    found = []
    for node in _run_nodes(ast.parse(_file(name).read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append(inner if _is_ours(inner) and _exists(inner) else node.module)
    return tuple(sorted({one for one in found if _is_ours(one)}))


def _run_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING:`."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in OURS


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the part before the last dot is a module, not a package
        return False


def _file(name: str) -> Path:
    """The source of a module, which is found without being imported."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"no module {name}")
    return Path(spec.origin)


def code_version(*names: str) -> str:
    """16 hex digits of what modules (`stages.types`) or whole packages (`stages.denoise`) do, without importing them.

    Taken over their syntax trees without comments, layout and docstrings, so that only a change of behaviour counts.
    """
    digest = hashlib.sha256()
    for name in names:
        origin = _file(name)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        for file in files:
            digest.update(file.name.encode())
            digest.update(_behaviour(file.read_text()).encode())
    return digest.hexdigest()[:16]


def _behaviour(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
