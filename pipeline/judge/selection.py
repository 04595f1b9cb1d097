"""Which bundle, category, detectors and images `burnish predict` uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.bundle import champion
from pipeline.bundle.provenance import lock_digest
from pipeline.bundle.reader import Bundle, differences, open_bundle
from pipeline.judge.options import Options
from pipeline.judge.results import OVERLAYS
from pipeline.project import paths
from stages.fusion.members import FUSION
from stages.types import UserError

if TYPE_CHECKING:
    from pipeline.judge.models import Models
    from pipeline.judge.prediction import DecisionRule


def bundle_folder(options: Options, root: Path | None) -> Path:
    """The bundle that the options name, else the project's champion, else data/bundle of the project.

    Args:
        root: of the project; None: there is none.

    Raises:
        UserError: no bundle is named and there is no project.
    """
    if options.bundle is not None:
        return options.bundle
    if root is None:
        raise UserError(f"no dvc.yaml in {Path.cwd()} or above it: run burnish inside a project, or name a --bundle")
    return champion.current_bundle(root) or root / paths.BUNDLE


def bundle_notices(bundle: Bundle, root: Path | None) -> Iterator[str]:
    """What the user should know about the bundle before relying on it."""
    if root is not None and bundle.folder == champion.current_bundle(root):
        yield f"using the champion {bundle.folder.name}; `--bundle {paths.BUNDLE}` uses the models of the latest run"
    elif root is not None and bundle.folder == root / paths.BUNDLE and not _made_from_this_lock(bundle, root):
        yield "the bundle was made from another dvc.lock than the project's; `burnish bundle` makes a new bundle"
    if found := differences(bundle):
        yield f"the bundle was made with {'; '.join(found)}: scores may differ from the scores that set its thresholds"


def _made_from_this_lock(bundle: Bundle, root: Path) -> bool:
    return bundle.index["provenance"]["dvc_lock"] == lock_digest(root)


def select_category(bundle: Bundle, options: Options) -> str:
    """Raises UserError if the chosen category is not in the bundle, or none is chosen of several."""
    known = bundle.categories
    if options.category is None and len(known) == 1:
        return known[0]
    if options.category is None:
        raise UserError(f"the bundle has several categories: choose one with --category: {', '.join(known)}")
    if options.category not in known:
        raise UserError(f"--category {options.category}: the bundle has {', '.join(known)}")
    return options.category


def select_detectors(bundle: Bundle, options: Options) -> tuple[str, ...]:
    """The detectors to run; the first decides.

    Raises:
        UserError: a chosen detector is not in the bundle.
    """
    known = bundle.detectors
    for name in options.detectors:
        if name not in known:
            raise UserError(f"--detector {name}: the bundle has {', '.join(known)}")
    default = (FUSION,) if FUSION in known else known
    return tuple(dict.fromkeys(options.detectors)) or default


def select_images(arguments: Sequence[str], out: Path) -> list[str]:
    """Paths of the images that the arguments name; arguments that name none are reported on stderr.

    Args:
        out: the output folder, whose overlays are left out.

    Raises:
        UserError: there is no image.
    """
    from pipeline.judge.images import displayable_path, resolve_paths

    images, unmatched = resolve_paths(arguments, out / OVERLAYS)
    names = ", ".join(map(displayable_path, unmatched))
    if not images:
        raise UserError(f"no images: {f'nothing matches {names}' if unmatched else 'the list is empty'}")
    if unmatched:
        print(f"burnish: no images match {names}", file=sys.stderr)
    return images


def describe_unread_files(arguments: Sequence[str]) -> str:
    """How many files below the named folders are not read, by ending; empty if all are."""
    from pipeline.judge.images import unread_below
    from stages.download.sources.files import describe_unread

    return describe_unread(unread_below(arguments))


def load_models(bundle: Bundle, category: str, detectors: Sequence[str]) -> tuple[Bundle, Models]:
    """Load the models of a bundle. If the bundle is replaced meanwhile, use the new bundle.

    Raises:
        UserError: a file of the bundle is missing or altered.
    """
    from pipeline.judge.models import Models

    # The device of the training may not exist on this machine.
    device = "cpu" if bundle.params.compute.device == "cpu" else "auto"
    try:
        return bundle, Models(bundle, category, detectors, device)
    except UserError:
        reopened = open_bundle(bundle.folder)
        if reopened.index == bundle.index:
            raise
        return reopened, Models(reopened, category, detectors, device)


def decision_rule(bundle: Bundle, category: str, detector: str) -> DecisionRule:
    """How the detector decides."""
    from pipeline.judge.prediction import DecisionRule
    from stages.images import WHITE_16

    threshold = bundle.index["thresholds"][category][detector]
    training_images = bundle.index["training_images"][category]
    return DecisionRule(
        category=category,
        detector=detector,
        threshold=threshold["value"],
        why_no_threshold=threshold["note"] or "the bundle has no threshold",
        training_images=training_images,
        white=training_images.get("white", WHITE_16),  # bundles of earlier versions have none
        map_limits=bundle.index["map_limits"][category][detector],
    )
