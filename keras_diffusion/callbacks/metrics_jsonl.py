"""Metrics as a text file: one JSON object per epoch and line.

    {"epoch": 1, "step": 22, "time": 1767225600.0, "seconds": 3.1, "loss": 0.71, "val_loss": 0.65}

It can be read while training runs, and by every language. JSON knows no NaN: such a value is written as null, and a
further entry says what it was, `"non_finite": {"loss": "nan"}`.
"""

import json
import math
import time
from pathlib import Path

import keras
from keras import ops

from keras_diffusion.configs.checks import check_flag, check_path
from keras_diffusion.runtime.devices import is_writer
from keras_diffusion.runtime.files import write_whole


class MetricsJSONL(keras.callbacks.Callback):
    """Appends one line per epoch to a file.

    "epoch" counts finished epochs, from 1, as Keras's progress bar shows them. When training resumes at some epoch
    (`fit(initial_epoch=...)` or `BackupAndRestore`), lines of that epoch and later ones are dropped first, also a last
    line that a killed run left half-written: each epoch is in the file once. A second `fit` that counts from epoch 1
    again therefore starts the file anew; give it `initial_epoch` to go on. Of several processes the first one writes.

    Args:
        path: the file; missing folders are made.
        append: whether an existing file is continued; else it starts empty.

    Raises:
        ValueError: when training starts, an existing file that holds other things than metrics.
    """

    def __init__(self, path, append=True):
        super().__init__()
        self.path, self.append = Path(check_path("path", path)), check_flag("append", append)
        self._ready = False
        self._began = 0.0

    def on_train_begin(self, logs=None):
        self._ready = False

    def on_epoch_begin(self, epoch, logs=None):
        # Not in on_train_begin: a callback after this one may only there find out at which epoch training resumes.
        if not self._ready and is_writer():
            lines = _lines_before(self.path, epoch + 1) if self.append else []
            write_whole(self.path, "".join(line + "\n" for line in lines).encode("utf-8"))
            self._ready = True
        self._began = time.time()

    def on_epoch_end(self, epoch, logs=None):
        if not is_writer():
            return
        now = time.time()
        row = {"epoch": epoch + 1, "step": self._step(), "time": round(now, 3), "seconds": round(now - self._began, 3)}
        non_finite = {}
        for name, value in (logs or {}).items():
            value = float(value)
            row[name] = value if math.isfinite(value) else None
            if not math.isfinite(value):
                non_finite[name] = str(value)
        if non_finite:
            row["non_finite"] = non_finite
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def _step(self):
        """Optimizer steps so far. The state is synchronized at epoch ends, where reading it costs nothing."""
        optimizer = getattr(self.model, "optimizer", None)
        return None if optimizer is None else int(ops.convert_to_numpy(optimizer.iterations))


def _lines_before(path, epoch):
    """Lines of an existing file whose "epoch" is smaller than `epoch`."""
    if not path.exists():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    kept = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            known = isinstance(row, dict) and isinstance(row.get("epoch"), int)
        except ValueError:
            if number == len(lines):
                break  # cut off by the end of the run that wrote it
            known = False
        if not known:
            raise ValueError(
                f"A metrics file holds one JSON object with 'epoch' per line. Received: {str(path)!r}, line {number}: "
                f"{line[:80]!r}. "
                "Choose another path, or append=False to overwrite the file."
            )
        if row["epoch"] < epoch:
            kept.append(line)
    return kept
