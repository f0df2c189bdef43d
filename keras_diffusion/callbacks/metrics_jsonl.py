"""Metrics as a text file: one line of JSON per epoch.

    {"epoch": 1, "step": 22, "time": 1767225600.0, "seconds": 3.1, "loss": 0.71, "val_loss": 0.65}

It can be read while training runs, and from any language. JSON has no NaN: such a value is written as null, and an
additional entry has its name, `"non_finite": {"loss": "nan"}`.
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

    "epoch" counts finished epochs, from 1, as Keras's progress bar does. When training resumes at some epoch
    (`fit(initial_epoch=...)` or `BackupAndRestore`), lines of that and later epochs are removed first, and so is an
    incomplete last line of a killed run, so that each epoch is in the file once. A second `fit` that counts from epoch
    1 therefore starts a new file; pass `initial_epoch` to continue. Of several processes, the first one writes.

    Args:
        path: the file; missing folders are created.
        append: whether to continue an existing file; otherwise it starts empty.

    Raises:
        ValueError: when training starts, an existing file that holds anything but metrics.
    """

    def __init__(self, path, append=True):
        super().__init__()
        self.path, self.append = Path(check_path("path", path)), check_flag("append", append)
        self._ready = False
        self._began = 0.0

    def on_train_begin(self, logs=None):
        self._ready = False

    def on_epoch_begin(self, epoch, logs=None):
        # Not in on_train_begin: in it, a later callback may still set the epoch at which training resumes.
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
        values = {name: float(value) for name, value in (logs or {}).items()}
        non_finite = {name: str(value) for name, value in values.items() if not math.isfinite(value)}
        row |= {**values, **dict.fromkeys(non_finite), **({"non_finite": non_finite} if non_finite else {})}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def _step(self):
        """Optimizer steps so far; at the end of an epoch, when the state is synchronized, reading them is free."""
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
        except ValueError:
            row = None
            if number == len(lines):
                break  # cut off when the run that wrote it was killed
        if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
            raise ValueError(
                f"A metrics file holds one JSON object with 'epoch' per line. Received: {str(path)!r}, line {number}: "
                f"{line[:80]!r}. Choose another path, or append=False to overwrite the file."
            )
        if row["epoch"] < epoch:
            kept.append(line)
    return kept
