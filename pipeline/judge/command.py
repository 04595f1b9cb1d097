"""`burnish predict`: from the named images to tables, overlays and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bundle.reader import REBUILD_HINT, Bundle, differences, open_bundle
from pipeline.judge import selection
from pipeline.judge.chunks import BatchSize, predict_images, read_images
from pipeline.judge.images import LoadedImage, displayable_path
from pipeline.judge.options import Options
from pipeline.judge.prediction import DEFECT, GOOD, UNREADABLE, DecisionRule, Prediction, make_prediction
from pipeline.judge.results import OVERLAYS, TABLES, ResultWriter
from pipeline.judge.summary import NO_VERDICT, Summary
from pipeline.project import exit_codes, paths
from pipeline.project.faults import explain_fault
from pipeline.show.text import counted
from stages.types import ScoreMap, UserError

if TYPE_CHECKING:
    from pipeline.judge.models import Models


def predict(arguments: Sequence[str], options: Options) -> int:
    """Decide on images, write the results, and return the exit code.

    Args:
        arguments: files, folders and globs, or `-` for a list on standard input.

    Raises:
        UserError: there is no bundle, or the bundle does not fit this code; there are no images, or none can be read;
            memory does not suffice for a single image.
    """
    root = paths.project_root(Path.cwd())
    bundle = open_bundle(selection.bundle_folder(options, root))
    for line in selection.bundle_notices(bundle, root):
        print(f"burnish: {line}", file=sys.stderr)
    out = options.out or (root / paths.JUDGED if root else Path("judged"))
    try:
        return _predict(bundle, arguments, options, out)
    except (UserError, BrokenPipeError):  # the reader of our output may close it early
        raise
    except Exception as error:
        _, message = explain_fault(error)
        if message is None and differences(bundle):
            message = f"{bundle.folder} does not fit this code ({type(error).__name__}: {error}): {REBUILD_HINT}"
        if message is None:
            raise
        raise UserError(" ".join(message.split())) from error


def _predict(bundle: Bundle, arguments: Sequence[str], options: Options, out: Path) -> int:
    category, detectors = selection.select_category(bundle, options), selection.select_detectors(bundle, options)
    images = selection.select_images(arguments, out)
    bundle, models = selection.load_models(bundle, category, detectors)
    rule = selection.decision_rule(bundle, category, detectors[0])
    summary = Summary(selection.describe_unread_files(arguments))
    with ResultWriter(out, models.names) as results:
        for image, maps in _score_maps(models, images, bundle, rule, options):
            prediction = make_prediction(image, maps, rule, models.names)
            if maps is not None and _wants_overlay(prediction, options):
                overlay = _write_overlay(image, maps, rule, results, number=summary.total + 1)
                prediction = replace(prediction, overlay=overlay)
            results.add(prediction)
            summary.add(prediction)
            if options.as_json:
                print(json.dumps(prediction.to_row()), flush=True)
        if summary.counts[UNREADABLE] == summary.total:
            raise UserError(summary.unreadable() or "no images")
    _print_summary(summary, out, rule, options)
    all_good = summary.counts[GOOD] == summary.total
    return exit_codes.OK if all_good or not options.fail_on_defect else exit_codes.DEFECTS


def _score_maps(
    models: Models, images: Sequence[str], bundle: Bundle, rule: DecisionRule, options: Options
) -> Iterator[tuple[LoadedImage, dict[str, ScoreMap] | None]]:
    """Each image with its score maps (None: unreadable), in order. A progress bar on stderr is updated meanwhile."""
    from pipeline.stage_io.progress import progress_bar

    bar, set_done = progress_bar("predict", len(images))

    def report_smaller_batch(size: int) -> None:
        bar.write(f"burnish: out of memory: continuing with {counted(size, 'image')} at a time", file=sys.stderr)

    batch = BatchSize(options.batch or models.batch, report_smaller_batch)
    with bar:
        chunks = read_images(images, models.sides, bundle.params.data, batch, rule.white)
        for done, (image, maps) in enumerate(predict_images(models, chunks, batch), start=1):
            set_done(done)
            yield image, maps


def _wants_overlay(prediction: Prediction, options: Options) -> bool:
    return prediction.verdict == DEFECT if options.overlays is None else options.overlays


def _write_overlay(
    image: LoadedImage, maps: Mapping[str, ScoreMap], rule: DecisionRule, results: ResultWriter, number: int
) -> str | None:
    """Write the overlay of an image; returns its path below the output folder, or None if the file is gone.

    Args:
        number: of the image, from 1, for the name of the overlay.
    """
    from pipeline.show.overlay import overlay
    from stages.images import ImageFault, decode

    try:
        # Read again, because keeping all images takes memory.
        decoded = decode(Path(image.path).read_bytes(), white=rule.white)
    except (OSError, ImageFault):
        return None
    name = f"{number:06d}-{displayable_path(Path(image.path).stem)[:80]}.png"
    rendered = overlay(decoded, maps[rule.detector].anomaly_map, rule.map_limits)
    rendered.save(results.overlay_path(name), compress_level=1)  # a higher level takes most of the whole time
    return f"{OVERLAYS}/{name}"


def _print_summary(summary: Summary, out: Path, rule: DecisionRule, options: Options) -> None:
    """Print to stdout, with --json to stderr; problems always to stderr."""
    stream = sys.stderr if options.as_json else sys.stdout
    print(*summary.lines(), sep="\n", file=stream)
    if rule.threshold is not None:
        print(f"images with a {rule.detector} score above {rule.threshold:.6g} are rejected", file=stream)
    if undecided := summary.counts[NO_VERDICT]:
        why = rule.why_no_threshold if rule.threshold is None else "the score is not a finite number"
        print(f"burnish: {counted(undecided, 'image')} without a verdict: {why}", file=sys.stderr)
    if (unreadable := summary.unreadable()) is not None:
        print(f"burnish: {unreadable}", file=sys.stderr)
    overlays = f", {OVERLAYS}/" if (out / OVERLAYS).is_dir() else ""
    folder = out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out
    print(f"written: {folder / TABLES[0]}, {TABLES[1]}{overlays}", file=stream)
