"""What the artifact shared by all images is worth: `python -m tests.benchmarks.shared_artifact --json FILE [--quick]`.

32 views of each image; a fit sees the first 4, 6, 8, 12 or 20 of them and is scored on the last 12, which no fit sees:
R^2 of F + G, mean over images, with G shrunk toward 0 (`without`) and toward the artifact of all images (`with`), for
several ridges mu. `fit_ridge` is mu of the images' own fits (`without`) and of the shared estimate, `ridge` mu of the
shrinkage toward it. Real: ELPV mono, good cells, tokens of the CNN. Synthetic: plane waves under one artifact, with
noise, where the error of G is known too. `gain_se`: standard error of with - without over the images. The summary takes
`without` and `with` each at its best ridges by the mean R^2 on those 12 views (a choice out of a few for a hundred
thousand tokens).

F between the patch centres, which the score needs, comes from a fit to the tokens less the shared artifact at the own
fit's lambda; `drawn_apart` is how far F at the centres is from that of `shrink_toward`, which keeps the robust weights
too (relative, mean over images).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.denoise.config import DenoiseConfig
from stages.denoise.per_image.decomposition import Decomposition
from stages.denoise.per_image.least_squares import solve
from stages.denoise.per_image.shared import SharedArtifact, shrink_toward
from stages.denoise.per_image.views import make_views, patch_centres
from tests.benchmarks.machine import machine

EXTRA = 12
"""Views that no fit sees."""
VIEWS, RIDGES, IMAGES = (4, 6, 8, 12, 20), (1.0, 4.0, 16.0, 64.0), 32
QUICK_VIEWS, QUICK_RIDGES, QUICK_IMAGES = (4, 8, 20), (1.0, 16.0), 4


@dataclass(frozen=True)
class Images:
    name: str
    tokens: list[NDArray[np.float32]]
    """(V, h, w, C) of each image."""
    coords: list[NDArray[np.float64]]
    artifact: NDArray[np.float64] | None
    """(h, w, C) where it is known."""


def elpv(count: int, views: int) -> Images:
    """Evenly chosen good cells."""
    from stages.backbone.build import build
    from stages.backbone.config import BackboneConfig
    from stages.backbone.networks.load import load
    from stages.training import Session
    from tests.benchmarks.backbone import elpv_mono

    cells = elpv_mono(1)
    good = [path for path, defect in zip(cells.paths, cells.defect, strict=True) if not defect]
    chosen = [np.asarray(Image.open(path).convert("RGB")) for path in good[:: len(good) // count][:count]]
    config = BackboneConfig(model="cnn")
    side = (config.image_side, config.image_side)
    squares = np.stack([np.asarray(Image.fromarray(image).resize(side)) for image in chosen])
    backbone = load(build(config, squares, squares, seed=0, session=Session()), "cpu")
    tokens, coords = [], []
    for number, image in enumerate(chosen):
        made = make_views(image, side[0], backbone.grid, DenoiseConfig(views=views), 0, str(number))
        tokens.append(np.concatenate([backbone.extract(made.images[[v]]).tokens for v in range(views)]))
        coords.append(made.coords)
    return Images("elpv mono", tokens, coords, None)


def synthetic(count: int, views: int, grid: tuple[int, int] = (14, 14), channels: int = 32) -> Images:
    """Plane waves of spread 0.7, one white artifact of spread 0.5, noise 0.3."""
    rng = np.random.default_rng(0)
    artifact = 0.5 * rng.standard_normal((*grid, channels))
    artifact -= artifact.mean((0, 1))
    blank, tokens, coords = np.zeros((*grid, 3), np.uint8), [], []
    for number in range(count):
        places = make_views(blank, grid[0], grid, DenoiseConfig(views=views), 0, str(number)).coords
        waves = places @ rng.uniform(-2, 2, (2, channels)) + rng.uniform(0, 1, channels)
        seen = np.sin(2 * np.pi * waves) + artifact + 0.3 * rng.standard_normal((views, *grid, channels))
        tokens.append(seen.astype(np.float32))
        coords.append(places)
    return Images("synthetic", tokens, coords, artifact)


def relative(found: NDArray[Any], true: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


def own_fits(images: Images, views: int, ridge: float) -> list[Decomposition]:
    config = DenoiseConfig(views=views, artifact_ridge=ridge, shared_artifact=True)
    grid = images.tokens[0].shape[1:3]
    return [solve(t[:views], x[:views], grid, config) for t, x in zip(images.tokens, images.coords, strict=True)]


def measure(images: Images, fits: list[Decomposition], views: int, fit_ridge: float, ridge: float) -> dict[str, Any]:
    """One row."""
    start, grid = time.process_time(), images.tokens[0].shape[1:3]
    shared = SharedArtifact()
    for fit in fits:
        assert fit.terms is not None
        shared.add(fit.terms)
    prior = shared.estimate(fit_ridge)
    common = prior.reshape(images.tokens[0].shape[1:]).astype(np.float32)  # (P, C) -> (h, w, C)
    scores, apart, errors = [], [], []
    for tokens, coords, fit in zip(images.tokens, images.coords, fits, strict=True):
        same = (fit.diagnostics["smoothness"],)
        config = DenoiseConfig(views=views, artifact_ridge=ridge, smoothness=same, held_out=0)
        free = solve(tokens[:views] - common, coords[:views], grid, config)
        centres = patch_centres(grid)
        clean, artifact = shrink_toward(fit.F(centres), fit.G, fit.terms, prior, ridge)
        apart.append(relative(clean, free.F(centres)))
        unseen, places = tokens[-EXTRA:], coords[-EXTRA:]
        whole = np.square(unseen - tokens[:views].mean((0, 1, 2))).sum()
        pair = ((fit.F, fit.G), (free.F, free.G + common))
        scores.append([1 - np.square(unseen - field(places) - offset).sum() / whole for field, offset in pair])
        if images.artifact is not None:
            errors.append([relative(found, images.artifact) for found in (fit.G, artifact, common)])
    without, drawn = np.array(scores, np.float64).T
    row = {
        "images": f"{images.name}, {len(fits)}",
        "views": views,
        "fit_ridge": fit_ridge,
        "ridge": ridge,
        "r2_without": round(float(without.mean()), 4),
        "r2_with": round(float(drawn.mean()), 4),
        "gain_se": round(float((drawn - without).std() / np.sqrt(len(fits))), 4),
        "better": int((drawn > without).sum()),
        "drawn_apart": round(float(np.mean(apart)), 4),
        "cpu_s": round(time.process_time() - start, 1),
    }
    if errors:
        names = ("g_error_without", "g_error_with", "g_error_shared")
        row |= {name: round(float(value), 4) for name, value in zip(names, np.mean(errors, 0), strict=True)}
    return row


def best(rows: list[dict[str, Any]], name: str, views: int, key: str) -> dict[str, Any]:
    """The row with the greatest `key` of the images `name` at so many views."""
    return max((r for r in rows if r["images"].startswith(name) and r["views"] == views), key=lambda r: r[key])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="few images, views and ridges")
    options = parser.parse_args()
    views, ridges, count = (QUICK_VIEWS, QUICK_RIDGES, QUICK_IMAGES) if options.quick else (VIEWS, RIDGES, IMAGES)
    rows: list[dict[str, Any]] = []
    for make in (elpv, synthetic):
        images = make(count, max(views) + EXTRA)
        for number in views:
            for fit_ridge in ridges:
                fits = own_fits(images, number, fit_ridge)
                for ridge in ridges if fit_ridge == ridges[0] else (fit_ridge,):
                    rows.append(measure(images, fits, number, fit_ridge, ridge))
                    print(*(f"{key} {value}" for key, value in rows[-1].items()), sep="  ", flush=True)
    summary = {}
    for number in (4, 8, 20):
        drawn, without = best(rows, "elpv", number, "r2_with"), best(rows, "elpv", number, "r2_without")
        summary[f"gain_{number}_views"] = round(drawn["r2_with"] - without["r2_without"], 4)
        summary |= {f"{name}_{number}_views": drawn[name] for name in ("fit_ridge", "ridge")}
    result = {"name": "shared_artifact", "machine": machine(), "rows": rows, "summary": summary}
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
