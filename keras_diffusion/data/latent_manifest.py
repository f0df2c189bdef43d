"""`latents.json`: what the tar files of a folder of latents hold, and whose they are.

    {"format": "keras_diffusion latents", "version": 1, "fingerprint": …, "kind": "moments", "shape": [16, 16, 3], …}

It is written last. A folder without it is none of latents, or was not finished.
"""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import clip, is_whole, shown
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.files import read_json, write_json

MANIFEST = "latents.json"
KINDS = ("moments", "means", "samples")
DTYPES = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}

_FORMAT, _VERSION = "keras_diffusion latents", 1
_HEADER = 128  # bytes before the numbers of an array


@dataclasses.dataclass(frozen=True)
class LatentManifest:
    """What a folder of latents holds; `batches.latents` of `data.load`.

    Attributes:
        fingerprint: of the autoencoder, without its scale and shift.
        autoencoder: name of its class.
        kind: "moments" (means and log variances), "means", or "samples" drawn from them.
        dtype: of the numbers on disk, "float32" or "float16".
        shape: of the latents of a picture, (h, w, D).
        image_shape: of the pictures, (H, W, C).
        flips: whether the latents of the mirrored pictures are there too.
        samples: number of samples.
        records: number of those that have captions or a class.
        shard_size: samples of a tar file.
        num_classes: number of classes, or None.
        class_names: list of names, or None.
        labelled: whether the classes of the source were known without reading its pictures: parts are held out by them.
        skipped: dict from the numbers of samples that were left out, as text, to the error.
    """

    fingerprint: str
    autoencoder: str
    kind: str
    dtype: str
    shape: tuple
    image_shape: tuple
    flips: bool
    samples: int = 0
    records: int = 0
    shard_size: int = 1000
    num_classes: int | None = None
    class_names: list | None = None
    labelled: bool = False
    skipped: dict = dataclasses.field(default_factory=dict)

    def __str__(self):
        size, of = ("×".join(map(str, shape)) for shape in (self.shape, self.image_shape))
        mirrored = " and mirrored" if self.flips else ""
        return f"{self.kind} {size} of {of} pictures{mirrored} by {self.autoencoder} {self.fingerprint[:8]}"

    @property
    def key(self):
        """Under which batches hold them: "moments" or "latents"."""
        return "moments" if self.kind == "moments" else "latents"

    @property
    def stored_shape(self):
        """Of a sample on disk: a mirrored picture's beside its own, log variances behind means."""
        *size, channels = self.shape
        return (1 + self.flips, *size, channels * (1 + (self.kind == "moments")))

    @property
    def sample_bytes(self):
        """Bytes of a sample's file."""
        return _HEADER + math.prod(self.stored_shape) * DTYPES[self.dtype].itemsize

    def to_bytes(self, array):
        """A sample as a .npy file.

        Args:
            array: of `stored_shape`.

        Returns:
            bytes.
        """
        return self._header() + np.ascontiguousarray(array, DTYPES[self.dtype]).tobytes()

    def from_bytes(self, data, name):
        """The array in a .npy file, which can only be of one shape and type: nothing in it is believed.

        Args:
            data: bytes.
            name: of the file, for errors.

        Returns:
            float32 array of `stored_shape`.

        Raises:
            ValueError: another array, or numbers that are not finite.
        """
        if len(data) != self.sample_bytes or not data.startswith(self._header()):
            raise ValueError(
                f"Latents are arrays {self.stored_shape} of {self.dtype}, as {MANIFEST} says. Received: {name}, which "
                "holds something else. Pack the pictures again, or copy the folder again"
            )
        array = np.frombuffer(data, DTYPES[self.dtype], offset=_HEADER).reshape(self.stored_shape)
        if not np.isfinite(array).all():
            raise ValueError(
                f"Latents are finite. Received: NaN or infinity in {name}. Pack the pictures again, or pass "
                "on_error='skip'"
            )
        return array.astype("float32")

    def write(self, folder):
        """Writes `latents.json`.

        Args:
            folder: path of an existing folder.
        """
        values = {**dataclasses.asdict(self), "shape": list(self.shape), "image_shape": list(self.image_shape)}
        write_json(Path(folder) / MANIFEST, {"format": _FORMAT, "version": _VERSION, **values})

    def _header(self):
        # As NumPy writes it, but for its length, which differs between versions.
        facts = f"{{'descr': '{DTYPES[self.dtype].str}', 'fortran_order': False, 'shape': {self.stored_shape}, }}"
        start = b"\x93NUMPY\x01\x00" + (_HEADER - 10).to_bytes(2, "little") + facts.encode("ascii")
        return start.ljust(_HEADER - 1) + b"\n"


def is_latents(path):
    """Whether a path is a folder of latents."""
    return isinstance(path, (str, Path)) and (Path(path).expanduser() / MANIFEST).is_file()


def read_manifest(folder):
    """The `LatentManifest` of a folder.

    Args:
        folder: path.

    Raises:
        ValueError: what `data.pack` would not have written.
    """
    path = Path(folder) / MANIFEST
    values = read_json(path)
    found = {key: values.pop(key, None) for key in ("format", "version")}
    if found != {"format": _FORMAT, "version": _VERSION}:
        raise _error(path, f"of the format {shown(found['format'])}, version {shown(found['version'])}")
    if set(values) != set(_RULES):
        raise _error(path, f"with other keys: {clip(', '.join(sorted(set(values) ^ set(_RULES))), 200)}")
    for key, rule in _RULES.items():
        if not rule(values[key]):
            raise _error(path, f"{key}={shown(values[key])}")
    for key in ("shape", "image_shape"):
        values[key] = tuple(values[key])
        limits.check(math.prod(values[key]), "image_pixels", f"The number of values of {key} in {str(path)!r}")
    if values["class_names"] and len(values["class_names"]) != values["num_classes"]:
        raise _error(path, f"{len(values['class_names'])} class_names for num_classes={values['num_classes']}")
    return LatentManifest(**values)


def _error(path, what):
    return ValueError(
        f"{MANIFEST} is as data.pack wrote it. Received: {str(path)!r}, {what}. Pack the pictures again, or copy the "
        "folder again"
    )


def _is_count(value):
    return is_whole(value) and value > 0


def _is_shape(value):
    return isinstance(value, list) and len(value) == 3 and all(map(_is_count, value))


def _is_flag(value):
    return isinstance(value, bool)


def _are_names(value):
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


#: What each value is; the keys are those of `LatentManifest`.
_RULES = {
    "fingerprint": lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value) is not None,
    "autoencoder": lambda value: isinstance(value, str) and 0 < len(value) <= 100,
    "kind": lambda value: value in KINDS,
    "dtype": lambda value: value in tuple(DTYPES),
    "shape": _is_shape,
    "image_shape": _is_shape,
    "flips": _is_flag,
    "samples": _is_count,
    "records": lambda value: is_whole(value) and value >= 0,
    "shard_size": _is_count,
    "num_classes": lambda value: value is None or _is_count(value),
    "class_names": _are_names,
    "labelled": _is_flag,
    "skipped": lambda value: isinstance(value, dict),
}
