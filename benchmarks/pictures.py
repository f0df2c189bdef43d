"""Makes the pictures of docs/images: `python benchmarks/pictures.py`, or `make pictures`.

Each command makes the pictures named beside it, and the page that shows a picture names its command. All together take
about half an hour on two cores; `--only start-film.png spacings.png` makes some of them. `growth.png` is drawn of the
times in benchmarks/results/growth.json, which are measured by the same command without `--redraw`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPLAINED = ("averages", "compiled-programs", "denoisers", "levels", "parameterizations", "randomness", "samplers")
SHOWN = (
    *("grid.png", "film.png", "walk.webp", "walks.png", "schedules.png", "table.png"),
    *("losses.png", "attention.png"),
)

SCREENSHOT = "chromium --headless --hide-scrollbars --window-size=1200,2800 --screenshot={out}/compare.png"

# Shell commands, run in a checkout: {out} is the folder for pictures, {work} one that is thrown away.
COMMANDS = {
    "python benchmarks/start.py --out {out}": ["start-film.png", "start-walks.png"],
    "python benchmarks/explanation.py --out {out}": [f"explanation-{name}.png" for name in EXPLAINED],
    "python tests/pages.py docs/visualization.md --keep {out}": [f"visualization-{name}" for name in SHOWN],
    "python tests/pages.py docs/sizes-and-augmentation.md --keep {out}": ["sizes-and-augmentation-augmented.png"],
    "python tests/pages.py docs/evaluating.md --keep {out}": ["evaluating-sweep.png"],
    "keras-diffusion plot spacing linspace karras leading --schedule linear --out {work}/spacings.png": [
        "spacings.png"
    ],
    "python benchmarks/growth.py --redraw --out {out}/growth.png": ["growth.png"],
    "python benchmarks/solvers.py --out {work}/docs": ["solvers-error.png"],
    "cd benchmarks && python -m reports --render --out {work}/docs": ["results-sweep.png"],
    "keras-diffusion demo --out {work}/demo": ["digits-grid.png", "film-strip.png"],
    "keras-diffusion train examples/shapes.toml --out {work}/shapes"
    " && python benchmarks/shapes.py {work}/shapes --sheet {work}/words-shapes.png": ["words-shapes.png"],
    "keras-diffusion train examples/digits.toml --set network.widths=[16,32] --set train.epochs=12 --out {work}/digits"
    " && keras-diffusion compare {work}/digits --steps 50 --num-steps 30 --out {work}/compare"
    f" && {SCREENSHOT} {{work}}/compare/compare.html": ["compare.png"],
}


def make(command, names, out):
    """Runs one command and puts its pictures into `out`."""
    with tempfile.TemporaryDirectory() as work:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {"KERAS_BACKEND": "jax", **os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        command = command.format(out=out, work=work)
        print(command, flush=True)
        subprocess.run(command, shell=True, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        for made in (path for name in names for path in Path(work).rglob(name)):
            shutil.copyfile(made, out / made.name)


def main(arguments=None):
    """Makes them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument(
        "--only", nargs="+", choices=sorted(name for names in COMMANDS.values() for name in names), metavar="NAME"
    )
    options = parser.parse_args(arguments)
    for command, names in COMMANDS.items():
        if options.only and not set(options.only) & set(names):
            continue
        if "chromium" in command and not shutil.which("chromium"):
            print(f"{', '.join(names)}: left out, as there is no chromium")
            continue
        make(command, names, options.out.resolve())


if __name__ == "__main__":
    main()
