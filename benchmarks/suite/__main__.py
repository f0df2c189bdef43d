"""The benchmark suite: sampling and training here, in FlaxDiff and in diffusers, in turns.

    make bench                                    cases a and b, with this table on the standard output
    cd benchmarks && python -m suite --cases a b c d b2 c2 --out results/NAME.json

`sample` and `train`: each contestant is a process of its own that has its library imported, its weights read and its
programs compiled before the first round. Then all run in each round, one after another, for a second at least. After
some rounds all are started anew, as a process may be a tenth faster or slower than another one of the same program, all
its life. Reported are medians, the ratio to ours on JAX (of the medians, and quartiles of the ratios within a round),
the time to the first result (weights read, compiled, run once), and the peak of memory.

`first`: the time to the first images, of processes that have imported their library and nothing more; a new process
each round.

A peer that is not installed is a row that says so.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_diffusion.runtime.files import write_json
from suite.cases import CASES

HERE = Path(__file__).resolve().parents[1]
# (name, module, function, backend)
SAMPLING = [
    ("ours, jax", "ours", "sample", "jax"),
    ("ours, tensorflow", "ours", "sample", "tensorflow"),
    ("ours, torch", "ours", "sample", "torch"),
    ("network alone, jax", "ours", "network_alone", "jax"),
]
TRAINING = [
    ("ours, jax", "ours", "train", "jax"),
    ("ours, tensorflow", "ours", "train", "tensorflow"),
    ("ours, torch", "ours", "train", "torch"),
    ("step by hand, jax", "ours", "step_alone", "jax"),
]
FIRST = [
    ("ours, weights read", "ours", "sample", "jax"),
    ("FlaxDiff, weights read", "flaxdiff_side", "sample", "jax"),
    ("ours, new weights", "ours", "sample_new", "jax"),
    ("FlaxDiff, new weights", "flaxdiff_side", "sample_new", "jax"),
]
_TRAIN_STEPS = 10  # of one run


def contestants(case, what):
    """(name, module, function, backend) of everyone who runs."""
    if what == "first":
        return FIRST
    peer = {
        "flaxdiff": ("FlaxDiff", "flaxdiff_side", what, "jax"),
        "diffusers": ("diffusers, torch", "diffusers_side", what, "torch"),
    }
    return [*(SAMPLING if what == "sample" else TRAINING), peer[case.peer]]


class Contestant:
    """A process that runs when told to."""

    def __init__(self, job, backend):
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": python_path()}
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "suite.worker", json.dumps(job)],
            cwd=HERE,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.start = self.answer()
        self.seconds = []

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        last = [line for line in self.errors.read().splitlines() if line.strip()][-1:]
        raise RuntimeError(last[0] if last else f"exit status {self.process.returncode}")

    def run(self):
        print("go", file=self.process.stdin, flush=True)
        self.seconds.append(self.answer()["seconds"])

    def end(self):
        print("end", file=self.process.stdin, flush=True)
        peak = self.answer()["peak_mib"]
        self.process.wait()
        return peak


def python_path():
    """This folder, the package beside it, and the peers where `make` puts them."""
    return os.pathsep.join(str(folder) for folder in (HERE, HERE.parent, HERE.parent / ".venv" / "peers"))


def measure(name, what, rounds, starts, only):
    """Rows of one case: {contestant: numbers, or {"missing": why}}."""
    case = CASES[name]
    wanted = [who for who in contestants(case, what) if not only or any(word in who[0] for word in only)]
    with tempfile.TemporaryDirectory() as folder:
        write = (
            "import sys; from pathlib import Path; from suite.cases import CASES; "
            f"from suite.{case.peer}_side import write_weights; write_weights(CASES[{name!r}], Path({folder!r}))"
        )
        environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": python_path()}
        written = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", write], cwd=HERE, env=environment, capture_output=True, text=True
        )
        if written.returncode:
            return {"all": {"missing": written.stderr.strip().splitlines()[-1]}}

        def start(title, who, function, backend):
            print(f"  {name} {what}: {title} …", file=sys.stderr, flush=True)
            return Contestant({"who": who, "case": name, "what": function, "weights": folder}, backend)

        if what == "first":
            return first_results(wanted, start, starts * rounds)
        return runs_in_turns(wanted, start, rounds, _TRAIN_STEPS if what == "train" else 1, starts)


def applies(what, case):
    """Whether `what` is measured of a case: training needs a batch, "first" is FlaxDiff's U-Net alone."""
    return {"sample": True, "train": case.train_batch > 0, "first": case.network == "Unet"}[what]


def runs_in_turns(wanted, start, rounds, parts, starts):
    """Rows of contestants that are all started, and then run once each round; all that so many times.

    A run is of so many parts.
    """
    rows, seconds, prepared, peaks = {}, {}, {}, {}
    for _ in range(starts):
        running = {}
        for title, *job in wanted:
            try:
                running[title] = start(title, *job)
            except RuntimeError as error:
                rows[title] = {"missing": str(error)}
        for i in range(rounds):
            print(f"  round {i + 1} of {rounds}", file=sys.stderr, flush=True)
            for contestant in running.values():
                contestant.run()
        for title, contestant in running.items():
            seconds.setdefault(title, []).extend(contestant.seconds)
            prepared.setdefault(title, []).append(contestant.start)
            peaks.setdefault(title, []).append(contestant.end())
    base = seconds.get("ours, jax")
    for title, spent in seconds.items():
        rows[title] = {
            **times(np.array(spent) / parts),
            "first": float(np.median([sum(one.values()) for one in prepared[title]])),
            "compile": max(0.0, float(np.median([one["first"] for one in prepared[title]]) - np.median(spent))),
            "peak_mib": max(peaks[title]),
            **({} if base is None else ratio(base, spent)),
        }
    return {title: rows[title] for title, *_ in wanted}


def first_results(wanted, start, rounds):
    """Rows of contestants that are started anew each round.

    Each is timed from the import of its library to its first result.
    """
    rows, seconds, peaks = {}, {title: [] for title, *_ in wanted}, {}
    for _ in range(rounds):
        for title, *job in wanted:
            if title in rows:
                continue
            try:
                contestant = start(title, *job)
            except RuntimeError as error:
                rows[title] = {"missing": str(error)}
                continue
            seconds[title].append(sum(contestant.start.values()))
            peaks[title] = contestant.end()
    for title in seconds.keys() - rows.keys():
        base = seconds.get(f"ours, {title.split(', ')[1]}")
        rows[title] = {
            **times(seconds[title]),
            "peak_mib": peaks[title],
            **(ratio(base, seconds[title]) if base else {}),
        }
    return {title: rows[title] for title in seconds}


def times(seconds):
    return {"seconds": float(np.median(seconds)), "quartiles": [float(q) for q in np.quantile(seconds, [0.25, 0.75])]}


def ratio(ours, theirs):
    ours, theirs = np.array(ours), np.array(theirs)
    return {
        "ours_over_this": float(np.median(ours) / np.median(theirs)),
        "ours_over_this_quartiles": [float(q) for q in np.quantile(ours / theirs, [0.25, 0.75])],
    }


def table(results):
    """The results as Markdown."""
    lines = []
    for key, rows in results["measurements"].items():
        name, what = key.split()
        case = CASES[name]
        size = "×".join(map(str, case.shape))
        sampling = f"{case.steps} steps, batch {case.batch}"
        title = {
            "sample": sampling,
            "train": f"one training step, batch {case.train_batch}",
            "first": f"first images, {sampling}",
        }[what]
        columns = {"seconds": "time", **({} if what == "first" else {"first": "first result", "compile": "compiling"})}
        lines += [
            f"**{name}: {case.network}, {size}, {title}**",
            "",
            f"| | {' | '.join(columns.values())} | peak memory | "
            f"{'ours ÷ this' if what == 'first' else 'ours on JAX ÷ this'} |",
            f"|---|{'--:|' * (len(columns) + 2)}",
        ]
        for who, row in rows.items():
            if "missing" in row:
                lines.append(f"| {who} | {row['missing']} |{' |' * (len(columns) + 1)}")
                continue
            compared = ""
            if "ours_over_this" in row:
                compared = "{:.2f} ({:.2f}–{:.2f})".format(row["ours_over_this"], *row["ours_over_this_quartiles"])
            spent = " | ".join(seconds(row[key]) for key in columns)
            lines.append(f"| {who} | {spent} | {row['peak_mib']:,.0f} MiB | {compared} |")
        lines.append("")
    return "\n".join(lines)


def seconds(value):
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"


def main():
    parser = argparse.ArgumentParser(prog="python -m suite", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["a", "b"], choices=list(CASES))
    parser.add_argument("--what", nargs="+", default=["sample", "train", "first"], choices=["sample", "train", "first"])
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="after each start")
    parser.add_argument("--only", nargs="+", help="contestants with one of these words in their name")
    parser.add_argument(
        "--out", type=Path, help="JSON file that measurements are put into; a table is printed in any case"
    )
    parser.add_argument("--show", type=Path, help="print the table of such a file, and measure nothing")
    options = parser.parse_args()
    if options.show is not None:
        print(table(json.loads(options.show.read_text(encoding="utf-8"))))
        return
    results = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "rounds": {}, "measurements": {}}
    if options.out is not None and options.out.exists():
        results = json.loads(options.out.read_text(encoding="utf-8"))
    for name, what in itertools.product(options.cases, options.what):
        if not applies(what, CASES[name]):
            continue
        key = f"{name} {what}"
        results["measurements"][key] = measure(name, what, options.rounds, options.starts, options.only)
        results["rounds"][key] = options.starts * options.rounds
        print(table({"measurements": {key: results["measurements"][key]}}), flush=True)
        if options.out is not None:
            write_json(options.out, results)


if __name__ == "__main__":
    main()
