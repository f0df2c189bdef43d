"""Measures what docs/results.md says, and writes the page: `make reports`.

    cd benchmarks && python -m reports [--only digits samplers mixtures latents] [--seeds 5]

    digits      predictor × weighting × schedule, a small U-Net for each and every seed
    samplers    quality against network evaluations, by `kd.metrics.sweep`, for one model
    mixtures    networks trained on mixtures in the plane, against their exact densities
    latents     diffusion in latents against diffusion in pixels, trained for equally long

Rows that are in the file of results are not measured again, so an interrupted report goes on where it stopped. `--again
PART` measures anew, and `--render` only writes the page. All of it takes about three hours on two cores.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

from keras_diffusion.runtime.files import write_whole
from reports import digits, latents, mixtures, page, samplers
from reports.rows import PARTS, Rows

ROOT = Path(__file__).resolve().parent.parent.parent
MEASURES = {
    "digits": digits.measure,
    "samplers": samplers.measure,
    "mixtures": mixtures.measure,
    "latents": latents.measure,
}


def main(arguments=None):
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--again", nargs="+", choices=PARTS, default=())
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "reports.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of results.md and images/")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    rows = Rows(options.results, options.again)
    for part in () if options.render else options.only:
        MEASURES[part](rows, options.seeds)
    (options.out / "images").mkdir(parents=True, exist_ok=True)
    page.draw(rows, options.out / "images")
    write_whole(options.out / "results.md", page.render(rows).encode("utf-8"))


if __name__ == "__main__":
    main()
