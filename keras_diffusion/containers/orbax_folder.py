"""Folders of Orbax, in which FlaxDiff's trainer keeps a number of its last steps.

    run/753/_CHECKPOINT_METADATA          dates
    run/753/default/_METADATA             names of the tensors
    run/753/default/checkpoint            all tensors, msgpack       until 2024, one process
    run/753/default/manifest.ocdbt, d/    all tensors, OCDBT         since

Of a run the newest step is taken, that of the highest number: its state is the last, and the best one until then lies
beside it in the same step (`best_state`).
"""

import re
from pathlib import Path
from typing import NamedTuple

from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.named_tensors import read_json_file

_STEP = re.compile(r"(?:\w+_)?(\d+)$")
_NO_ARRAYS = (
    "None",
    "Dict",
    "List",
    "Tuple",
    "NamedTuple",
    "string",
)  # None, what is empty, and what is kept elsewhere
MANIFEST = "manifest.ocdbt"
AGGREGATE = "checkpoint"


class OrbaxItem(NamedTuple):
    """The folder with the tensors, and what is known of it."""

    folder: Path
    metadata: dict


def find_item(path):
    """The folder with the tensors of a run, of a step, that folder itself, or its `checkpoint` or `manifest.ocdbt`.

    Args:
        path: `pathlib.Path`.

    Returns:
        `OrbaxItem`, or None where nothing is as the table above says.
    """
    if path.name in (AGGREGATE, MANIFEST) and path.is_file():
        path = path.parent
        return OrbaxItem(path, _dates(path.parent)) if _is_item(path) else None
    if not path.is_dir():
        return None
    if _is_item(path):
        return OrbaxItem(path, _dates(path.parent))
    steps = {
        int(match[1]): child
        for child in path.iterdir()
        for match in [_STEP.match(child.name)]
        if match and _inside(child)
    }
    if steps:
        others = [step for step in sorted(steps) if step != max(steps)]
        metadata = {"step": max(steps), **({"other_steps": others} if others else {})}
        folder = _inside(steps[max(steps)])
        return OrbaxItem(folder, {**metadata, **_dates(folder.parent)})
    folder = _inside(path)
    return folder and OrbaxItem(folder, _dates(path))


def tree_names(folder):
    """Names of the tensors as the file `_METADATA` lists them, without what is no array.

    Args:
        folder: of an `OrbaxItem`.

    Returns:
        dict from name to the tensor's key in a store, the path joined by "." in place of "/"; or None where there is no
        such list.
    """
    file = folder / "_METADATA"
    entries = read_json_file(file).get("tree_metadata") if file.is_file() else None
    if entries is None:
        return None
    names = {}
    try:
        for entry in entries.values():
            path = [str(part["key"]) for part in entry["key_metadata"]]
            if entry["value_metadata"]["value_type"] not in _NO_ARRAYS:
                names["/".join(path)] = ".".join(path)
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"The list of tensors is damaged: {error!r}.", file) from error
    return names


def _is_item(folder):
    return (folder / MANIFEST).is_file() or ((folder / AGGREGATE).is_file() and (folder / "_METADATA").is_file())


def _inside(step):
    """The item in the folder of a step: the folder itself, `default`, or the only one."""
    if not step.is_dir():
        return None
    items = [child for child in (step, step / "default") if _is_item(child)] or [
        c for c in step.iterdir() if c.is_dir() and _is_item(c)
    ]
    return items[0] if items and (len(items) == 1 or items[0] == step) else None


def _dates(step):
    file = step / "_CHECKPOINT_METADATA"
    found = read_json_file(file) if file.is_file() else {}
    step_number = {"step": int(_STEP.match(step.name)[1])} if _STEP.match(step.name) else {}
    return step_number | {key: value for key, value in found.items() if key.endswith("_timestamp_nsecs")}
