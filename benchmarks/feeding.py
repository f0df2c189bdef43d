"""How long training waits for its data: a U-Net of 32×32 pictures, which are PNG in a tar file.

    KERAS_BACKEND=jax python benchmarks/feeding.py [--size small] [--json benchmarks/results/feeding.json]

Each round trains a few steps from every place in turn, from memory too, where there is nothing to wait for:

    waited     share of the time of `fit` in which it asks for the next batch and has not got it
    slower     time of a step beside one from memory in the same round, less 1
    read       processor time of reading a batch, as a share of that of a whole step from memory

The last one does not depend on what else the machine does. On JAX the device computes while the next batch is read, so
that not all of the first is lost.
"""

import argparse
import io
import os
import tarfile
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from PIL import Image

import keras_diffusion as kd
from keras_diffusion.runtime.files import write_json

BATCH, STEPS = 64, 8
WORKERS = (1, 2)
_waits = []


class Watched:
    """An iterator of batches; what `next` takes is added to `_waits`."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __iter__(self):
        return self

    def __next__(self):
        start = time.perf_counter()
        try:
            return next(self.batches)
        finally:
            _waits.append(time.perf_counter() - start)


def watch():
    """From now on, all of Keras's iterators over `PyDataset` are `Watched`."""
    own = PyDatasetAdapter._get_iterator
    PyDatasetAdapter._get_iterator = lambda self: Watched(own(self))


def places(folder):
    """Batches by where they come from: memory, and a tar file with some numbers of threads."""
    images = kd.data.load("emoji", split="all").source.arrays["images"]
    path = Path(folder) / "emoji.tar"
    with tarfile.open(path, "w") as archive:
        for number, image in enumerate(images):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            member = tarfile.TarInfo(f"{number:05}.png")
            member.size = len(file.getvalue())
            archive.addfile(member, io.BytesIO(file.getvalue()))
    options = {"batch_size": BATCH, "batches_per_epoch": STEPS, "seed": 0}
    found = {"memory": kd.data.load(images, **options)}
    for workers in WORKERS:
        found[f"tar, workers={workers}"] = kd.data.load(path, workers=workers, **options)
    return found


def model_of(size):
    """A compiled model, and its number of weights."""
    shape = (32, 32, 3)
    model = kd.DiffusionModel(kd.networks.UNet(shape, **kd.networks.unet_size(size, shape)), seed=0)
    model.compile(keras.optimizers.AdamW(1e-4))
    return model


def trained(model, batches):
    """Trains one short epoch: seconds and processor seconds of a step, and the share that was spent waiting."""
    _waits.clear()
    start, busy = time.perf_counter(), time.process_time()
    model.fit(batches, epochs=1, verbose=0)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return {"step": seconds / STEPS, "busy": busy / STEPS, "waited": sum(_waits) / seconds}


def reading(batches, count=20):
    """Processor seconds of reading each of some batches."""
    spent = []
    for number in range(count):
        start = time.process_time()
        batches[number % len(batches)]
        spent.append(time.process_time() - start)
    return np.array(spent)


def quartiles(values, digits=4):
    """n, and the median with its quartiles."""
    low, middle, high = (round(float(q), digits) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return {"n": len(values), "median": middle, "quartiles": [low, high]}


def measure(size, rounds):
    """A dict for JSON."""
    model = model_of(size)
    with tempfile.TemporaryDirectory() as folder:
        data = places(folder)
        for batches in data.values():
            trained(model, batches)  # compiles, and starts the threads
        runs = [{name: trained(model, batches) for name, batches in data.items()} for _ in range(rounds)]
        read = reading(data["tar, workers=1"])
    base = np.array([run["memory"]["step"] for run in runs])
    busy = float(np.median([run["memory"]["busy"] for run in runs]))
    rows = {
        name: {
            "step_seconds": quartiles([run[name]["step"] for run in runs]),
            "waited": quartiles([run[name]["waited"] for run in runs]),
            "slower": quartiles(np.array([run[name]["step"] for run in runs]) / base - 1),
        }
        for name in data
    }
    return {"weights": model.count_params(), "rows": rows, "read_cpu_share": quartiles(read / busy)}


def main(arguments=None):
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", default=["small", "tiny"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    watch()
    result = {"backend": keras.backend.backend(), "batch": BATCH, "cores": len(os.sched_getaffinity(0)), "sizes": {}}
    for size in options.size:
        result["sizes"][size] = measure(size, options.rounds)
        result["load"] = [round(load, 1) for load in os.getloadavg()]
        print(f"{size}, {result['sizes'][size]['weights']:,} weights; load of the machine {result['load']}")
        for name, row in result["sizes"][size]["rows"].items():
            texts = [f"{what} {row[what]['median']} {row[what]['quartiles']}" for what in row]
            print(f"  {name:16} n={row['waited']['n']}  " + "  ".join(texts))
        print(f"  reading: {result['sizes'][size]['read_cpu_share']} of the processor time of a step", flush=True)
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
