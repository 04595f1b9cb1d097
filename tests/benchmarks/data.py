"""What the data costs: the manifest of many images, made and made again, and images on their way to the backbone.

    python -m tests.benchmarks.data --json FILE [--quick] [--images 20000]

Images are drawn: grey and colour, JPEG and PNG in turn, 256 to 320 px a side. Rates are images a second of CPU time,
that is of one core. Each manifest is made in a process of its own; `memory_growth_bytes` is the difference of the peaks
with all and with a quarter of the images over the difference of their numbers: rows, not images. Both sides of
`loader_to_model_ratio` are one core's; each scales with the cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from tests.benchmarks.machine import machine

SIDES = (256, 321)
KINDS = (("L", "jpg"), ("RGB", "jpg"), ("L", "png"), ("RGB", "png"))


def draw(folder: Path, images: int) -> None:
    """`images` different images, a quarter of them in `quarter`, the others in `rest`: cuts of a few large textures."""
    rng = np.random.default_rng(0)
    large = [gaussian_filter(rng.normal(128, 400, (1024, 1024)), 2) + rng.normal(0, 4, (1024, 1024)) for _ in range(4)]
    textures = [np.clip(texture, 0, 255).astype(np.uint8) for texture in large]
    for name in ("quarter", "rest"):
        (folder / name).mkdir(parents=True)
    for i in range(images):
        side, (mode, ending) = int(rng.integers(*SIDES)), KINDS[i % len(KINDS)]
        where = "quarter" if i < images // 4 else "rest"
        x, y = rng.integers(0, 1024 - side, 2)
        cut = textures[i % 4][y : y + side, x : x + side]
        pixels = cut if mode == "L" else np.stack([cut, cut // 2 + 40, 255 - cut], -1)
        Image.fromarray(pixels).save(folder / where / f"{i:06d}.{ending}", quality=90, compress_level=1)


def manifest(root: str, destination: str, index: str, pattern: str, threads: int) -> dict[str, Any]:
    """One manifest of the images that a glob names, in this process: cost, peak of memory, images decoded."""
    from stages.download import examine
    from stages.download.config import DataConfig
    from stages.download.index import StatIndex
    from stages.download.manifest import collect

    config = DataConfig(source="folder", folder=root, categories=("part",), normal=pattern)
    known = StatIndex(Path(index))
    load, decoded = examine.load_upright, count()

    def counted(*arguments: Any, **options: Any) -> Image.Image:
        next(decoded)
        return load(*arguments, **options)

    examine.load_upright = counted
    cpu, wall = time.process_time(), time.perf_counter()
    records, _ = collect(config, Path(destination), index=known, threads=threads)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    known.close()
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be the parent's, which is larger
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return {"images": len(records), "decoded": next(decoded), "cpu_s": cpu, "wall_s": wall, "peak_bytes": peak}


def in_a_process(*arguments: object) -> dict[str, Any]:
    """`manifest` in a process of its own."""
    code = f"import json; from tests.benchmarks.data import manifest; print(json.dumps(manifest(*{arguments!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def manifests(folder: Path, images: int) -> list[dict[str, Any]]:
    """Rows: a part of the images, all, all again, all with two threads."""
    draw(folder / "in", images)
    root, rows = str(folder / "in"), []
    for what, name, pattern, threads in (
        ("manifest, a quarter", "quarter", "quarter/**", 1),
        ("manifest", "all", "*/**", 1),
        ("manifest, nothing changed", "all", "*/**", 1),
        ("manifest, two threads", "two", "*/**", 2),
    ):
        row = in_a_process(root, str(folder / "out"), str(folder / f"{name}.sqlite"), pattern, threads)
        per_s = round(row["images"] / row["cpu_s"], 1)
        rows.append({"what": what, "threads": threads, **row, "images_per_cpu_s": per_s})
        subprocess.run(["rm", "-r", str(folder / "out")], check=True)
    return rows


def data_path(folder: Path, number: int) -> list[dict[str, Any]]:
    """Rows: bytes to the backbone's input, and the default backbone itself, untrained, which costs the same."""
    import stages.torch_setup  # noqa: F401
    from stages.backbone.build import build
    from stages.backbone.config import BackboneConfig
    from stages.backbone.networks.load import load
    from stages.images import decode, to_square
    from stages.training import Session

    config = BackboneConfig(steps=0)
    files = [path.read_bytes() for path in sorted((folder / "in" / "quarter").iterdir())[:number]]
    start = time.process_time()
    images = np.stack([to_square(decode(file), config.image_side) for file in files])
    loaded = time.process_time() - start
    few = images[: max(8, number // 4)]
    backbone = load(build(config, few[:4], few[4:8], 0, Session()), "cpu")
    backbone.extract(few[:2])
    start = time.process_time()
    backbone.extract(few)
    extracted = time.process_time() - start
    return [
        {"what": what, "images": len(those), "cpu_s": cpu, "images_per_cpu_s": round(len(those) / cpu, 1)}
        for what, those, cpu in (("decode and resize", images, loaded), ("backbone", few, extracted))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="400 images")
    parser.add_argument("--images", type=int, default=20_000)
    options = parser.parse_args()
    images = 400 if options.quick else options.images
    with tempfile.TemporaryDirectory() as scratch:
        rows = manifests(Path(scratch), images)
        rows += data_path(Path(scratch), 20 if options.quick else 400)
    part, whole, again, _, loader, model = rows
    summary = {
        "manifest_images_per_s": whole["images_per_cpu_s"],
        "second_run_decodes": again["decoded"],
        "second_run_images_per_s": again["images_per_cpu_s"],
        "memory_growth_bytes": round((whole["peak_bytes"] - part["peak_bytes"]) / (whole["images"] - part["images"])),
        "loader_to_model_ratio": round(loader["images_per_cpu_s"] / model["images_per_cpu_s"], 1),
    }
    for row in rows:
        print(*(f"{key} {value:.5g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()))
    print(*(f"{key} {value}" for key, value in summary.items()), sep="  ")
    rows = [{**row, "settings": {"images": images, "sides": SIDES}} for row in rows]
    options.json.write_text(
        json.dumps({"name": "data", "machine": machine(), "rows": rows, "summary": summary}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
