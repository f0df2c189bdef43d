"""One contestant in a process of its own: prepares, then runs each time it is told to.

    python -m suite.worker '{"who": "ours", "case": "b", "what": "sample", "weights": "FOLDER"}'

Reads "go" or "end" per line and answers each with one line of JSON. `suite.__main__` starts all contestants of a case
and lets them run in turns: a process that waits for a line costs nothing. Short runs are repeated within a turn, as the
first after a pause finds neither the caches nor its threads where they were.
"""

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np

from suite.cases import CASES

CONTEXT = (4, 32)  # FlaxDiff's U-Net needs a text; everyone gets the same


def main():
    job = json.loads(sys.argv[1])
    case = CASES[job["case"]]
    module = importlib.import_module(f"suite.{job['who']}")  # imports its library: a warm Python
    start = time.perf_counter()
    run = getattr(module, job["what"])(case, Path(job["weights"]))
    prepared = time.perf_counter()
    run()
    say(prepare=prepared - start, first=time.perf_counter() - prepared)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        say(seconds=turn(run))
    peaks = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    say(peak_mib=int(peaks[0].split()[1]) / 1024)


def turn(run):
    """Seconds of a run: the median of as many as fit into a second, at least one."""
    seconds = []
    while sum(seconds) < 1.0:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def say(**message):
    print(json.dumps(message), flush=True)


def train_data(case, steps):
    """Pictures and texts for `steps` training steps."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (steps * case.train_batch, *case.shape)).astype("uint8")
    return {"images": images, "context": np.zeros((len(images), *CONTEXT), "float32")}


if __name__ == "__main__":
    main()
