"""`burnish predict`: from what the user named to tables, pictures and an exit code."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.bundle import champion
from pipeline.bundle.provenance import lock_digest
from pipeline.bundle.reader import ANEW, Bundle, differences, open_bundle
from pipeline.judge.results import DEFECT, GOOD, OVERLAYS, TABLES, UNREADABLE, Results, Row, Summary, shown_path
from pipeline.project import exit_codes, paths
from pipeline.project.faults import explain
from stages.fusion.members import FUSION
from stages.types import UserError

if TYPE_CHECKING:
    from pipeline.judge.images import Opened
    from pipeline.judge.models import Models
    from stages.types import ScoreMap


@dataclass(frozen=True)
class Options:
    """What the command line says beside the images."""

    bundle: Path | None = None
    """None: the project's."""
    out: Path | None = None
    """None: data/judged of the project; without a project, ./judged."""
    category: str | None = None
    detectors: tuple[str, ...] = ()
    as_json: bool = False
    overlays: bool | None = None
    """None: of rejected images; else of all, or of none."""
    fail_on_defect: bool = False
    batch: int | None = None
    """None: chosen by what memory an image takes."""


@dataclass(frozen=True)
class Rule:
    """What decides."""

    category: str
    detector: str
    threshold: float | None
    no_threshold: str | None
    """Why there is none."""
    training: Mapping[str, Any]
    """What the training images were like."""
    limits: Sequence[float] | None
    """Of the colours of overlays."""


def predict(arguments: Sequence[str], options: Options) -> int:
    """Judge images; return the exit code.

    Raises:
        UserError: no bundle, or one that does not fit; no images; none that can be read; memory for not even one.
    """
    root = paths.project_root(Path.cwd())
    bundle = open_bundle(_bundle_folder(options, root))
    for line in _notices(bundle, root):
        print(f"burnish: {line}", file=sys.stderr)
    try:
        return _predict(bundle, arguments, options, options.out or (root / paths.JUDGED if root else Path("judged")))
    except (UserError, BrokenPipeError):  # whoever reads our output may leave
        raise
    except Exception as error:
        _, message = explain(error)
        if message is None and differences(bundle):
            message = f"{bundle.folder} does not fit this code ({type(error).__name__}: {error}): {ANEW}"
        if message is None:
            raise
        raise UserError(" ".join(message.split())) from error


def _predict(bundle: Bundle, arguments: Sequence[str], options: Options, out: Path) -> int:
    category, wanted = _category(bundle, options), _detectors(bundle, options)
    images = _images(arguments, out)
    bundle, models = _loaded(bundle, category, wanted)
    rule = _rule(bundle, category, wanted[0])
    summary = Summary()
    with Results(out, models.names) as results:
        for opened, maps in _judged(models, images, bundle, options):
            row = _row(opened, maps, rule, models.names)
            if maps is not None and _drawn(row, options):
                row["overlay"] = _draw(opened, maps, rule, results, summary.total)
            results.add(row)
            summary.add(row)
            if options.as_json:
                print(json.dumps(row), flush=True)
        _some_read(summary)
    return _finish(summary, out, rule, options)


def _bundle_folder(options: Options, root: Path | None) -> Path:
    if options.bundle is not None:
        return options.bundle
    if root is None:
        raise UserError(f"no dvc.yaml in {Path.cwd()} or above it: call burnish inside a project, or name a --bundle")
    return champion.current(root) or root / paths.BUNDLE


def _notices(bundle: Bundle, root: Path | None) -> Iterator[str]:
    """What the user should know of the bundle before relying on it."""
    if root is not None and bundle.folder == champion.current(root):
        yield f"judging with the champion {bundle.folder.name}; `--bundle {paths.BUNDLE}` takes the latest run's models"
    elif root is not None and bundle.folder == root / paths.BUNDLE and _of_another_run(bundle, root):
        yield "the bundle is of another dvc.lock than the project's; `burnish bundle` renews it"
    if found := differences(bundle):
        yield f"the bundle was made with {'; '.join(found)}: scores may differ from those that set its thresholds"


def _of_another_run(bundle: Bundle, root: Path) -> bool:
    return bundle.index["provenance"]["dvc_lock"] != lock_digest(root)


def _category(bundle: Bundle, options: Options) -> str:
    known = bundle.categories
    if options.category is None and len(known) == 1:
        return known[0]
    if options.category is None:
        raise UserError(f"the bundle has several categories: say which with --category, one of {', '.join(known)}")
    if options.category not in known:
        raise UserError(f"--category {options.category}: the bundle has {', '.join(known)}")
    return options.category


def _detectors(bundle: Bundle, options: Options) -> tuple[str, ...]:
    """The first one decides."""
    known = bundle.detectors
    for name in options.detectors:
        if name not in known:
            raise UserError(f"--detector {name}: the bundle has {', '.join(known)}")
    default = (FUSION,) if FUSION in known else known
    return tuple(dict.fromkeys(options.detectors)) or default


def _images(arguments: Sequence[str], out: Path) -> list[str]:
    from pipeline.judge.images import named

    found, nothing = named(arguments, out / OVERLAYS)
    if not found:
        which = f"nothing matches {', '.join(map(shown_path, nothing))}" if nothing else "the list is empty"
        raise UserError(f"no images: {which}")
    if nothing:
        print(f"burnish: no images match {', '.join(map(shown_path, nothing))}", file=sys.stderr)
    return found


def _loaded(bundle: Bundle, category: str, wanted: Sequence[str]) -> tuple[Bundle, Models]:
    """The models, of the bundle that took the place of this one where it was renewed in this moment."""
    import stages.torch_setup
    from pipeline.judge.models import Models

    # Not the training's device, which may not be here.
    wish = "cpu" if bundle.params.compute.device == "cpu" else "auto"
    device = stages.torch_setup.device_named(wish)
    try:
        return bundle, Models(bundle, category, wanted, device)
    except UserError:
        again = open_bundle(bundle.folder)
        if again.index == bundle.index:
            raise
        return again, Models(again, category, wanted, device)


def _rule(bundle: Bundle, category: str, detector: str) -> Rule:
    threshold = bundle.index["thresholds"][category][detector]
    return Rule(
        category=category,
        detector=detector,
        threshold=threshold["value"],
        no_threshold=threshold["note"] or "none in the bundle",
        training=bundle.index["training_images"][category],
        limits=bundle.index["map_limits"][category][detector],
    )


def _judged(
    models: Models, images: Sequence[str], bundle: Bundle, options: Options
) -> Iterator[tuple[Opened, dict[str, ScoreMap] | None]]:
    """Each image with what the models say of it, in order; a progress bar runs along on stderr."""
    from pipeline.judge.chunks import Batch, judged, opened
    from pipeline.stage_io.progress import progress_bar

    bar, set_done = progress_bar("predict", len(images))

    def say_smaller(count: int) -> None:
        bar.write(f"burnish: out of memory: from here on {count} image{'s' * (count > 1)} at once", file=sys.stderr)

    batch = Batch(options.batch or models.batch, say_smaller)
    with bar:
        chunks = opened(images, models.sides, bundle.params.data, batch)
        for done, (image, maps) in enumerate(judged(models, chunks, batch), start=1):
            set_done(done)
            yield image, maps


def _row(opened: Opened, maps: Mapping[str, ScoreMap] | None, rule: Rule, names: Sequence[str]) -> Row:
    import numpy as np

    from pipeline.judge.images import note_on
    from stages.score.calibration import rejected

    row: Row = {"path": shown_path(opened.path), "sha256": opened.sha256 or None}
    row |= {"width": opened.width or None, "height": opened.height or None, "mode": opened.mode or None}
    row |= {"category": rule.category, "verdict": UNREADABLE, "score": None, "threshold": rule.threshold}
    row |= {"detector": rule.detector, **{f"score_{name}": None for name in names}}
    row |= {"note": opened.fault, "overlay": None}
    if maps is None:
        return row
    scores = {name: maps[name].image_score for name in names}
    row |= {f"score_{name}": score if math.isfinite(score) else None for name, score in scores.items()}
    score, notes = row[f"score_{rule.detector}"], [note_on(opened, rule.training)]
    if score is None:
        notes.append("no verdict: the score is not a finite number")
    elif rule.threshold is None:
        notes.append(f"no verdict: {rule.no_threshold}")
    row["verdict"] = None
    if score is not None and rule.threshold is not None:
        row["verdict"] = DEFECT if rejected(np.array([score]), rule.threshold)[0] else GOOD
    return {**row, "score": score, "note": "; ".join(filter(None, notes))}


def _drawn(row: Row, options: Options) -> bool:
    return row["verdict"] == DEFECT if options.overlays is None else options.overlays


def _draw(opened: Opened, maps: Mapping[str, ScoreMap], rule: Rule, results: Results, number: int) -> str | None:
    """Write the overlay of an image; its path below the output folder."""
    from pipeline.show.overlay import overlay
    from stages.images import ImageFault, decode

    try:
        image = decode(Path(opened.path).read_bytes())  # again: to keep it from before would take memory
    except (OSError, ImageFault):
        return None
    name = f"{number + 1:06d}-{shown_path(Path(opened.path).stem)[:80]}.png"
    path = results.overlay_path(name)
    overlay(image, maps[rule.detector].anomaly_map, rule.limits).save(path, compress_level=1)  # else most of the time
    return f"{OVERLAYS}/{name}"


def _some_read(summary: Summary) -> None:
    if summary.counts[UNREADABLE] == summary.total:
        raise UserError(summary.faults() or "no images")


def _finish(summary: Summary, out: Path, rule: Rule, options: Options) -> int:
    """Say how it went; the exit code."""
    stream = sys.stderr if options.as_json else sys.stdout
    print(*summary.lines(), sep="\n", file=stream)
    if rule.threshold is not None:
        print(f"rejected where the score of {rule.detector} is above {rule.threshold:.6g}", file=stream)
    if summary.counts[""]:
        why = rule.no_threshold if rule.threshold is None else "their scores are not finite numbers"
        print(f"burnish: {summary.counts['']} images without a verdict: {why}", file=sys.stderr)
    if (faults := summary.faults()) is not None:
        print(f"burnish: {faults}", file=sys.stderr)
    pictures = f", {OVERLAYS}/" if (out / OVERLAYS).is_dir() else ""
    shown = out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out
    print(f"written: {shown / TABLES[0]}, {TABLES[1]}{pictures}", file=stream)
    passed = summary.counts[GOOD] == summary.total
    return exit_codes.OK if passed or not options.fail_on_defect else exit_codes.DEFECTS
