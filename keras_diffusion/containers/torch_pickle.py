"""Weights in files of `torch.save`: `.pt`, `.pth`, `.bin`, `.ckpt`, read without PyTorch and without running anything
of them.

Names are the path of keys to a tensor, joined by "/"; the names that PyTorch gives to parameters keep their dots:

    {"conv.weight": …}                                    conv.weight                   roots ("",)
    {"step": 10, "model": {"conv.weight": …}, "ema": …}   model/conv.weight, ema/…      roots ("model", "ema")

Numbers and texts of the two outer levels become metadata.
"""

from keras_diffusion.containers.container import check_name, register
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.named_tensors import NamedTensors
from keras_diffusion.containers.pickle_machine import Instance
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.containers.torch_file import LEGACY, ZIP, is_torch_zip, read_torch_file
from keras_diffusion.containers.torch_values import StoredTensor

_DEPTH = 32
_LONGEST = 1000
_SPARE = 100
_SHARED, _SMALL = 8, 1 << 20  # times that a number may be listed; bytes below which that does not matter


class Visits:
    """Counts the steps of a walk through a pickle's value, which may hold itself: a value takes no more steps than it
    has instructions.

    Args:
        instructions: number of the pickle's instructions.
        path: the file, for the error.
    """

    def __init__(self, instructions, path):
        self._left, self._path = 2 * instructions + _SPARE, path
        self._bytes, self._seen = 0, 0

    def step(self, depth):
        """Counts one value, `depth` levels down."""
        self._left -= 1
        if self._left < 0 or depth > _DEPTH:
            raise CheckpointError(
                "The pickle's values hold themselves, or are nested too deeply to be weights.", self._path
            )

    def take(self, tensor):
        """Counts a tensor that is listed.

        Tensors may share their numbers, as averages do that were never updated, but not all of them.
        """
        storage = tensor.storage
        self._seen += 0 if storage.listed else storage.size
        self._bytes += tensor.size
        storage.listed = True
        if self._bytes > _SHARED * self._seen + _SMALL:
            raise CheckpointError(
                "The tensors claim far more numbers than the file has: they lie one over the other.", self._path
            )


@register
class TorchPickle(NamedTensors):
    """A file of `torch.save` with weights alone: a dict of tensors, or dicts of such.

    Args:
        path: the file. A `config.json` beside it becomes `config`.

    Raises:
        CheckpointError: damaged, or it asks for anything but tensors, dicts, lists, numbers and texts.
    """

    kind = "PyTorch file"

    def __init__(self, path):
        super().__init__(path)
        self._tensors: dict[str, StoredTensor] = {}
        self._source = SourceFile(self.path)
        try:
            value, instructions = read_torch_file(self._source)
            if self._source.read(0, len(ZIP)) != ZIP:
                self.format = "PyTorch file (before 1.6)"
            if not isinstance(value, dict):
                raise CheckpointError("The file should hold a dict of tensors. Save `model.state_dict()`.", self.path)
            self._walk("", value, 0, Visits(instructions, self.path))
            self._look_beside()
        except CheckpointError:
            self.close()
            raise
        if not any(isinstance(child, StoredTensor) for child in value.values()):
            self.roots = tuple(str(key) for key, child in value.items() if _holds_tensors(child)) or ("",)

    @classmethod
    def matches(cls, path):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(LEGACY)) == LEGACY or is_torch_zip(path)

    def close(self):
        self._source.close()

    def _walk(self, name, value, depth, visits):
        visits.step(depth)
        value = value.state if isinstance(value, Instance) else value
        check_name(name, self.path)
        if isinstance(value, StoredTensor):
            self._add(name, value.info)
            visits.take(value)
            self._tensors[name] = value
        elif isinstance(value, dict | list) or type(value) is tuple:
            for key, child in value.items() if isinstance(value, dict) else enumerate(value):
                self._walk(f"{name}/{key}" if name else str(key), child, depth + 1, visits)
        elif depth <= 2 and is_plain(value):
            self.metadata[name] = value

    def _read(self, name):
        return self._tensors[name].read(name)


def is_plain(value):
    """Whether a value is a number or a short text."""
    return (
        isinstance(value, bool | float)
        or (isinstance(value, int) and abs(value) < 1 << 63)
        or (isinstance(value, str) and len(value) < _LONGEST)
    )


def _holds_tensors(value):
    return isinstance(value, dict) and any(isinstance(child, StoredTensor) for child in value.values())
