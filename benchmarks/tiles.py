"""The memory that decoding and encoding take, whole and in tiles (networks/tiles.py).

    KERAS_BACKEND=jax python benchmarks/tiles.py [--sides 256 512 1024] [--tile 256] [--widths 32 64 64 64]

Prints one JSON line per case: the most memory beyond that of the built autoencoder (resident, in MiB), the seconds of a
second pass, and how far the tiles' result is from the whole one's, in values from 0 to 255. Every case has a process of
its own. The weights are random.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path


def memory(kind):
    """Mebibytes of this process: "VmRSS" now, "VmHWM" at most."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def measure(what, side, tile, widths, check):
    """One case, in this process."""
    import keras
    import numpy as np
    from keras import ops

    from keras_diffusion.networks import AutoencoderKL

    keras.utils.set_random_seed(0)
    autoencoder = AutoencoderKL(widths, num_res_blocks=1)
    rng, factor = np.random.default_rng(0), autoencoder.size_multiple
    latents = rng.standard_normal((1, side // factor, side // factor, 4)).astype("float32")
    x = latents if what == "decode" else rng.uniform(-1.0, 1.0, (1, side, side, 3)).astype("float32")
    # One whole picture is a batch of 1: the same compiled program, without tiles.
    options = {"batch_size": 1} if tile is None else {"tile_size": tile}

    def run(**options):
        return ops.convert_to_numpy(getattr(autoencoder, what)(x, **options))

    before = memory("VmRSS")
    result = run(**options)
    row = {
        "backend": keras.backend.backend(),
        "what": what,
        "side": side,
        "tile": tile,
        "peak_mib": round(memory("VmHWM") - before),
    }
    start = time.perf_counter()
    run(**options)
    row["seconds"] = round(time.perf_counter() - start, 2)
    if check and what == "decode":
        row["difference_of_255"] = round(float(np.abs(result - run(batch_size=1)).max()) * 127.5, 2)
        row["std_of_255"] = round(float(result.std()) * 127.5, 1)
    print(json.dumps(row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 64, 64])
    parser.add_argument("--case", help="one case, as JSON")
    options = parser.parse_args()
    if options.case:
        measure(**json.loads(options.case))
        return
    for what in ("decode", "encode"):
        for side in options.sides:
            for tile in (None, options.tile):
                check = tile is not None and tile < side == min(options.sides)
                case = {"what": what, "side": side, "tile": tile, "widths": options.widths, "check": check}
                subprocess.run([sys.executable, __file__, "--case", json.dumps(case)], check=False)


if __name__ == "__main__":
    main()
