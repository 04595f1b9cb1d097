"""One side of a comparison: a commit or the workspace, as values. Nothing is computed or checked out."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import yaml

from pipeline.compare import revisions
from pipeline.compare.outputs import OutputFault, Outputs, outputs_of
from pipeline.project import paths
from stages.types import UserError

WORKSPACE = "workspace"
Key = tuple[str, str]
"""Category and detector."""

PREDICTION_COLUMNS = (
    *("path", "sha256", "split", "label", "defect_type", "image_score"),
    *("category", "detector", "threshold", "decision"),
)
NEEDED = frozenset({"path", "sha256", "split", "label", "image_score", "category", "detector"})
MANIFEST_COLUMNS = ("path", "sha256", "category", "split", "label", "defect_type")


@dataclass(frozen=True)
class Side:
    """What a commit or the workspace says."""

    root: Path
    name: str
    """As the user called it."""
    commit: str | None
    """Full name; of the workspace: that of HEAD."""
    changed: tuple[str, ...] = ()
    """Of the workspace: tracked files that differ from HEAD."""
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Category -> detector -> figure -> value."""
    details: Mapping[str, Any] = field(default_factory=dict)
    predictions: Mapping[Key, pd.DataFrame] = field(default_factory=dict)
    """Images of validation and test, columns PREDICTION_COLUMNS as far as there are such."""
    manifest: pd.DataFrame | None = None
    """All images, columns MANIFEST_COLUMNS."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """`predictions`, `manifest`, `metrics` -> why they cannot be had."""
    notes: tuple[str, ...] = ()
    """What the reader must know of these figures, a line each."""

    @property
    def is_workspace(self) -> bool:
        return self.name == WORKSPACE

    @property
    def dirty(self) -> bool:
        return bool(self.changed)

    @property
    def title(self) -> str:
        """Name and commit, for people."""
        if self.commit is None or self.commit.startswith(self.name):
            return self.name
        return f"{self.name} ({self.commit[:7]}{' + changes' if self.dirty else ''})"


def read_side(root: Path, revision: str | None) -> Side:
    """Everything of a revision; None or `workspace`: files as they lie.

    Raises:
        UserError: no such revision, or it holds neither metrics nor predictions.
    """
    name = revision or WORKSPACE
    if name == WORKSPACE:
        side = _read(root, name, None, revisions.head(root), tuple(revisions.changed_files(root)))
    else:
        commit = revisions.resolve(root, name)
        side = _read(root, name, commit, commit, ())
    if not side.metrics and not side.predictions:
        raise UserError(
            f"{side.title} has nothing to compare: {side.problems['metrics']}; {side.problems['predictions']}"
        )
    return side


def read_images(side: Side, names: Sequence[str]) -> dict[str, bytes]:
    """Image files of data/raw by path; those that cannot be had are left out."""
    found = {}
    try:
        with outputs_of(side.root, None if side.is_workspace else side.commit) as outputs:
            for name in names:
                try:
                    found[name] = outputs.read(paths.RAW / name)
                except OutputFault:
                    continue
    except OutputFault:
        pass
    return found


def _read(root: Path, name: str, read_at: str | None, commit: str | None, changed: tuple[str, ...]) -> Side:
    problems: dict[str, str] = {}
    lock = _yaml(_tracked(root, read_at, Path("dvc.lock")), f"dvc.lock of {name}")
    params = _yaml(_tracked(root, read_at, paths.PARAMS), f"{paths.PARAMS} of {name}")
    metrics = _metrics(_tracked(root, read_at, paths.METRICS), problems)
    details = _json(_tracked(root, read_at, paths.DETAILS))
    notes = _notes_on_params(params, lock)
    predictions: dict[Key, pd.DataFrame] = {}
    manifest = None
    if reason := _no_pipeline(root, read_at, lock):
        problems["predictions"] = problems["manifest"] = reason
    else:
        try:
            with outputs_of(root, read_at) as outputs:
                predictions = _predictions(outputs, problems)
                manifest = _manifest(outputs, problems)
                notes += [f"read {source}"] if (source := outputs.source()) else []
        except OutputFault as fault:
            problems["predictions"] = problems["manifest"] = str(fault)
    if read_at is None:
        notes += _notes_on_files(root, lock)
    return Side(*(root, name, commit, changed, params, metrics, details, predictions, manifest, problems, tuple(notes)))


def _no_pipeline(root: Path, commit: str | None, lock: Mapping[str, Any]) -> str | None:
    """Why a commit can have no outputs of DVC."""
    if commit is None:
        return None
    for path, what in (("dvc.yaml", "the pipeline is not in it"), (".dvc/config", "it is no DVC project")):
        if revisions.read(root, commit, PurePosixPath(path)) is None:
            return f"it has no {path}: {what}"
    return None if lock.get("stages") else "it has no dvc.lock: the pipeline was not run before it was committed"


def _tracked(root: Path, commit: str | None, path: Path) -> bytes | None:
    """A file that git keeps."""
    if commit is not None:
        return revisions.read(root, commit, PurePosixPath(path))
    try:
        return (root / path).read_bytes()
    except OSError:
        return None


def _yaml(data: bytes | None, what: str) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # dvc.lock is long
    try:
        content = yaml.load(data or b"", Loader=loader)  # noqa: S506  both are safe
    except yaml.YAMLError as error:
        raise UserError(f"{what} is not valid YAML: {' '.join(str(error).split())}") from error
    return content if isinstance(content, dict) else {}


def _json(data: bytes | None) -> dict[str, Any]:
    try:
        content = json.loads(data or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _metrics(data: bytes | None, problems: dict[str, str]) -> dict[str, dict[str, dict[str, Any]]]:
    """metrics.json as far as it is category -> detector -> figures."""
    if data is None:
        problems["metrics"] = f"it has no {paths.METRICS}"
        return {}
    found = {}
    for category, detectors in _json(data).items():
        kept = (
            {name: one for name, one in detectors.items() if isinstance(one, dict)}
            if isinstance(detectors, dict)
            else {}
        )
        if kept:
            found[category] = kept
    if not found:
        problems["metrics"] = f"its {paths.METRICS} holds no figures by category and detector: another layout, or none"
    return found


def _predictions(outputs: Outputs, problems: dict[str, str]) -> dict[Key, pd.DataFrame]:
    found: dict[Key, pd.DataFrame] = {}
    try:
        for name in outputs.names(paths.PREDICTIONS):
            if not name.endswith(".parquet"):
                continue
            table = _table(outputs.read(paths.PREDICTIONS / name), PREDICTION_COLUMNS)
            if missing := NEEDED - set(table.columns):
                problems["predictions"] = f"{name} is of another layout: no column {', '.join(sorted(missing))}"
                return {}
            if len(table):
                found[table["category"].iloc[0], table["detector"].iloc[0]] = table
    except OutputFault as fault:
        problems["predictions"] = str(fault)
        return {}
    if not found:
        problems["predictions"] = f"{paths.PREDICTIONS} is not in DVC's cache or holds nothing"
    return found


def _manifest(outputs: Outputs, problems: dict[str, str]) -> pd.DataFrame | None:
    try:
        table = _table(outputs.read(paths.MANIFEST), MANIFEST_COLUMNS)
    except OutputFault as fault:
        problems["manifest"] = str(fault)
        return None
    if missing := set(MANIFEST_COLUMNS) - set(table.columns):
        problems["manifest"] = f"{paths.MANIFEST} is of another layout: no column {', '.join(sorted(missing))}"
        return None
    return table


def _table(data: bytes, columns: Sequence[str]) -> pd.DataFrame:
    """The wanted columns of a Parquet file, as far as it has them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        present = set(pq.read_schema(io.BytesIO(data)).names)
        return pd.read_parquet(io.BytesIO(data), columns=[name for name in columns if name in present])
    except pa.ArrowInvalid as error:
        raise OutputFault(f"a table is broken ({' '.join(str(error).split())[:100]})") from error


def flatten(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat


def _notes_on_params(params: Mapping[str, Any], lock: Mapping[str, Any]) -> list[str]:
    """Parameters that changed after the stages ran: the figures are of the older ones."""
    now = flatten(params)
    used: dict[str, Any] = {}
    for stage in (lock.get("stages") or {}).values():
        used |= flatten((stage.get("params") or {}).get(str(paths.PARAMS)) or {})
    # as text: YAML 1.1 and 1.2 read `1e-05` differently
    stale = sorted(key for key, value in used.items() if str(now.get(key)) != str(value))
    if not stale:
        return []
    shown = ", ".join(f"{key} ({used[key]}, now {now.get(key)})" for key in stale[:3])
    more = f" and {len(stale) - 3} more" if len(stale) > 3 else ""
    return [f"the stages ran with other parameters than {paths.PARAMS} has now: {shown}{more}; `burnish run` follows"]


def _notes_on_files(root: Path, lock: Mapping[str, Any]) -> list[str]:
    """Whether what lies in the workspace is what dvc.lock names, as far as that is cheap to tell."""
    outs = {out["path"]: out for stage in (lock.get("stages") or {}).values() for out in stage.get("outs") or ()}
    other = []
    file = root / paths.METRICS
    if (out := outs.get(str(paths.METRICS))) and file.is_file():
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        if digest != out.get("md5"):
            other.append(str(paths.METRICS))
    folder = root / paths.PREDICTIONS
    if (out := outs.get(str(paths.PREDICTIONS))) and folder.is_dir():
        sizes = [path.stat().st_size for path in folder.iterdir()]
        if (len(sizes), sum(sizes)) != (out.get("nfiles"), out.get("size")):
            other.append(str(paths.PREDICTIONS))
    if not other:
        return []
    return [
        f"{' and '.join(other)} here are not those of dvc.lock: `burnish run` or `dvc checkout` brings them together"
    ]
