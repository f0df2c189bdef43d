"""What metrics of features cost: memory beyond the features, and time as their number grows.

    KERAS_BACKEND=jax python benchmarks/metrics.py [--counts 12500 25000 50000] [--width 2048] [--json FILE]

Every measurement is a process of its own. It makes the features, notes the memory that it holds, and then the most that
it held while the metric was computed. `fd` and `kid` have both sides in memory; `fd streamed` gets them in batches of
1,000, made as they are needed, so that nothing else is held. Seconds are of all cores together (user and system): those
of a clock depend on what else runs. What an eigenvalue decomposition costs depends on the width alone, so FD's time
is a constant and a slope: seconds ≈ constant + slope·n/1,000, the least-squares line through all counts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import keras_diffusion as kd
from keras_diffusion.runtime.files import write_json

BATCH = 1000
CASES = ("fd streamed", "fd", "kid", "mind")
LIMIT = 1 << 30  # bytes beyond the features


def features(side, start, count, width):
    """Rows of features, correlated and not negative, as after a ReLU. The same for the same place."""
    rng = np.random.default_rng((side, start))
    rows = rng.standard_normal((count, width), "float32")
    rows[:, 1:] += 0.5 * rows[:, :-1]
    return np.maximum(rows + 0.02 * side, 0.0)


def gathered(side, count, width):
    """All features of a side, made in place."""
    held = np.empty((count, width), "float32")
    for start in range(0, count, BATCH):
        held[start : start + BATCH] = features(side, start, min(BATCH, count - start), width)
    return held


def measure(case, count, width):
    """What a process of its own prints: a dict of numbers."""
    if case == "fd streamed":
        sides = [features(side, 0, BATCH, width) for side in (0, 1)]
    else:
        sides = [gathered(side, count, width) for side in (0, 1)]
    before, clock, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    if case == "fd streamed":
        metric = kd.metrics.FrechetDistance()
        made = 0.0
        for start in range(0, count, BATCH):
            begun = time.process_time()
            sides = [features(side, start, min(BATCH, count - start), width) for side in (0, 1)]
            made += time.process_time() - begun
            metric.update_state(*sides)
        estimate, cpu = (metric.result(), None), cpu + made
    else:
        estimate = kd.metrics.get(case)(sides[1], sides[0])
    return {
        "value": estimate[0],
        "standard_error": estimate[1],
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "clock_seconds": round(time.perf_counter() - clock, 1),
        "mib_beyond_features": round((memory("VmHWM") - before) / 2**20),
    }


def memory(kind):
    """Bytes of this process: VmRSS now, VmHWM at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def in_process(case, count, width):
    command = [sys.executable, __file__, "--measure", case, str(count), str(width)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[12_500, 25_000, 50_000], help="samples on each side")
    parser.add_argument("--width", type=int, default=2048, help="features of a sample")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/metrics.json"))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        case, count, width = options.measure
        print(json.dumps(measure(case, int(count), int(width))))
        return
    results = {"width": options.width, "cores": len(os.sched_getaffinity(0)), "cases": {}}
    if options.json.exists():  # other cases of the same width stay
        before = json.loads(options.json.read_text(encoding="utf-8"))
        results["cases"] = before["cases"] if before["width"] == options.width else {}
    for case in options.cases:
        rows = {}
        for count in options.counts:
            rows[str(count)] = in_process(case, count, options.width)
            print(f"{case:12} {count:>7,} × {options.width}: {rows[str(count)]}", flush=True)
        slope, constant = np.polyfit(options.counts, [row["cpu_seconds"] for row in rows.values()], 1)
        line = {"constant_seconds": round(constant, 1), "seconds_per_thousand": round(1000 * slope, 3)}
        results["cases"][case] = {"counts": rows, **line}
        print(f"{case:12} cpu seconds ≈ {constant:.1f} + {1000 * slope:.3f}·n/1000")
        write_json(options.json, results)
    worst = max(row["mib_beyond_features"] for case in results["cases"].values() for row in case["counts"].values())
    print(f"At most {worst} MiB beyond the features{'' if worst * 2**20 < LIMIT else ': TOO MUCH'}.")


if __name__ == "__main__":
    main()
