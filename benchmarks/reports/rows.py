"""Measured rows, on disk after each, so that an interrupted report goes on where it stopped."""

import json
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from keras_diffusion.runtime.files import write_whole

PARTS = ("digits", "samplers", "mixtures", "latents")


class Rows:
    """Rows by part and key.

    Args:
        path: JSON file, there already or not.
        again: parts whose rows are forgotten.
    """

    def __init__(self, path, again=()):
        self.path = Path(path)
        found = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}
        self.parts = {part: {} if part in again else found.get(part, {}) for part in PARTS}

    def measure(self, part, keys, function):
        """Keeps `function(*key)` for each key that has no row yet."""
        missing = [key for key in keys if name(key) not in self.parts[part]]
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn()) as progress:
            task = progress.add_task(part, total=len(missing))
            for key in missing:
                progress.update(task, description=f"{part}: {name(key)}")
                self.put(part, key, function(*key))
                progress.advance(task)

    def put(self, part, key, row):
        """Keeps one row, and writes the file."""
        self.parts[part][name(key)] = row
        write_whole(self.path, (json.dumps(self.parts, indent=1, sort_keys=True) + "\n").encode("utf-8"))

    def of(self, part, *key):
        """Rows whose key begins with `key`, in its order."""
        start = name(key)
        return [row for own, row in self.parts[part].items() if own == start or own.startswith(start + " ")]


def name(key):
    """A key as it stands in the file: its parts with blanks between."""
    return " ".join(str(part) for part in key)
