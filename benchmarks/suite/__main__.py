"""The benchmark suite: sampling and training here, in FlaxDiff and in diffusers, in turns.

    make bench                                    cases a and b, with this table on the standard output
    cd benchmarks && python -m suite --cases a b c d b2 c2 --rounds 7 --out results/NAME.json

Each contestant is a process of its own that has its library imported, its weights read and its programs compiled before the first round.
Then all run once per round, one after another. Reported are medians, the ratio to ours on JAX within each round (median and quartiles), the
time to the first result (weights read, compiled, run once), and the peak of memory. A peer that is not installed is a row that says so.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

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
_TRAIN_STEPS = 10  # of one run


def contestants(case, what):
    """(name, module, function, backend) of everyone who runs."""
    peer = {"flaxdiff": ("FlaxDiff", "flaxdiff_side", what, "jax"), "diffusers": ("diffusers, torch", "diffusers_side", what, "torch")}
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


def measure(name, what, rounds, only):
    """Rows of one case: {contestant: numbers, or {"missing": why}}."""
    case = CASES[name]
    rows, running = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        write = (
            "import sys; from pathlib import Path; from suite.cases import CASES; "
            f"from suite.{case.peer}_side import write_weights; write_weights(CASES[{name!r}], Path({folder!r}))"
        )
        environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": python_path()}
        written = subprocess.run([sys.executable, "-W", "ignore", "-c", write], cwd=HERE, env=environment, capture_output=True, text=True)
        if written.returncode:
            return {"all": {"missing": written.stderr.strip().splitlines()[-1]}}
        for title, who, function, backend in contestants(case, what):
            if only and not any(word in title for word in only):
                continue
            print(f"  {name} {what}: {title} …", file=sys.stderr, flush=True)
            try:
                running[title] = Contestant({"who": who, "case": name, "what": function, "weights": folder}, backend)
            except RuntimeError as error:
                rows[title] = {"missing": str(error)}
        for i in range(rounds):
            print(f"  {name} {what}: round {i + 1} of {rounds}", file=sys.stderr, flush=True)
            for contestant in running.values():
                contestant.run()
        base = np.array(running["ours, jax"].seconds) if "ours, jax" in running else None
        for title, contestant in running.items():
            spent = np.array(contestant.seconds)
            per = _TRAIN_STEPS if what == "train" else 1
            rows[title] = {
                "seconds": float(np.median(spent)) / per,
                "quartiles": [float(q) / per for q in np.quantile(spent, [0.25, 0.75])],
                "first": sum(contestant.start.values()),
                "compile": max(0.0, contestant.start["first"] - float(np.median(spent))),
                "peak_mib": contestant.end(),
            }
            if base is not None:
                ratios = base / spent
                rows[title]["ours_over_this"] = float(np.median(base) / np.median(spent))
                rows[title]["ours_over_this_quartiles"] = [float(q) for q in np.quantile(ratios, [0.25, 0.75])]
    return rows


def table(results):
    """The results as Markdown."""
    lines = []
    for key, rows in results["measurements"].items():
        name, what = key.split()
        case = CASES[name]
        size = "×".join(map(str, case.shape))
        title = f"{case.steps} steps, batch {case.batch}" if what == "sample" else f"one training step, batch {case.train_batch}"
        lines += [
            f"**{name}: {case.network}, {size}, {title}**",
            "",
            "| | time | first result | compiling | peak memory | ours on JAX ÷ this |",
        ]
        lines += ["|---|--:|--:|--:|--:|--:|"]
        for who, row in rows.items():
            if "missing" in row:
                lines.append(f"| {who} | {row['missing']} | | | | |")
                continue
            ratio = ""
            if "ours_over_this" in row:
                ratio = "{:.2f} ({:.2f}–{:.2f})".format(row["ours_over_this"], *row["ours_over_this_quartiles"])
            times = " | ".join(seconds(row[key]) for key in ("seconds", "first", "compile"))
            lines.append(f"| {who} | {times} | {row['peak_mib']:,.0f} MiB | {ratio} |")
        lines.append("")
    return "\n".join(lines)


def seconds(value):
    return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"


def main():
    parser = argparse.ArgumentParser(prog="python -m suite", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["a", "b"], choices=list(CASES))
    parser.add_argument("--what", nargs="+", default=["sample", "train"], choices=["sample", "train"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", help="contestants with one of these words in their name")
    parser.add_argument("--out", type=Path, help="JSON file; a table is printed in any case")
    parser.add_argument("--show", type=Path, help="print the table of such a file, and measure nothing")
    options = parser.parse_args()
    if options.show is not None:
        print(table(json.loads(options.show.read_text(encoding="utf-8"))))
        return
    results = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "rounds": options.rounds, "measurements": {}}
    for name in options.cases:
        for what in options.what:
            if what == "sample" or CASES[name].train_batch:
                results["measurements"][f"{name} {what}"] = measure(name, what, options.rounds, options.only)
                print(table({"measurements": {f"{name} {what}": results["measurements"][f"{name} {what}"]}}), flush=True)
                if options.out is not None:
                    options.out.parent.mkdir(parents=True, exist_ok=True)
                    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
