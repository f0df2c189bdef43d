"""`.keras` files of Keras 2 and Keras 3: a zip with three members.

    config.json         the model's config
    metadata.json       version and date
    model.weights.h5    the weights, laid out as keras_weights.py says

Every member has a CRC-32 in the zip, which is verified when the file is opened. The config is read as data. Keras 2
stores a Lambda layer's function in it as marshalled bytecode; it is not looked at.

Reference: PKWARE, APPNOTE.TXT, section 4.3.
"""

import io
import struct
import zipfile

from keras_diffusion.containers.container import Container, read_json, register
from keras_diffusion.containers.errors import CheckpointError, error_at
from keras_diffusion.containers.keras_weights import KerasWeights
from keras_diffusion.containers.source_file import SourceFile
from keras_diffusion.containers.torch_file import is_torch_zip
from keras_diffusion.runtime import limits

_SIGNATURE = b"PK\x03\x04"
_WEIGHTS = "model.weights.h5"
_DEFLATE_RATIO = 1032  # zlib never makes less than 1/1032 of its input
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others unpack without a limit: 1 kB of bzip2 can be gigabytes
_PIECE = 1 << 20


@register
class KerasArchive(KerasWeights):
    """A `.keras` file.

    Args:
        path: the file.
    """

    kind = "Keras .keras"

    def __init__(self, path):
        Container.__init__(self, path)
        self._source = SourceFile(self.path)
        try:
            self.config, self.metadata = self._json("config.json"), self._json("metadata.json")
            version = str(self.metadata.get("keras_version", "?")).split(".")[0]
            self.format = f"Keras {version} .keras"
            weights = self._weights()
        except CheckpointError:
            self.close()
            raise
        self._open(weights)

    @classmethod
    def matches(cls, path):
        if not path.is_file() or is_torch_zip(path):
            return False
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE

    def _json(self, member):
        target = io.BytesIO()
        self._extract(member, target)
        return read_json(target.getvalue(), f"member {member!r}", self.path)

    def _check_members(self, archive):
        """Nothing but the weights is large, and all of it is packed in a way that can be unpacked piece by piece."""
        error = error_at(self.path)
        for info in archive.infolist():
            if info.compress_type not in _METHODS:
                raise error(
                    f"The member {info.filename!r} is packed in a way that Keras does not use.",
                    offset=info.header_offset,
                )
        size = sum(info.file_size for info in archive.infolist() if info.filename != _WEIGHTS)
        limits.check(size, "text_bytes", f"The size of the members beside {_WEIGHTS!r}, unpacked,", error)

    def _weights(self):
        """The range of the file that is the member with the weights."""
        info = self._extract(_WEIGHTS, None)
        if info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"The member {_WEIGHTS!r} is compressed, which Keras does not do. Unpack "
                "the archive and pack it with `zip -0`.",
                self.path,
                info.header_offset,
            )
        # The local header, whose two last fields are the lengths of the name and the extra field that follow.
        lengths = struct.unpack("<HH", self._source.read(info.header_offset + 26, 4))
        return self._source.part(info.header_offset + 30 + sum(lengths), info.file_size)

    def _extract(self, member, target):
        """Reads a member to its end, which verifies its checksum, and copies it to `target` if there is one."""
        offset = None
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = archive.namelist()
                if names.count(member) != 1:
                    raise CheckpointError(
                        f"A .keras file has one member {member!r}. Found: {', '.join(names) or 'none'}.", self.path
                    )
                info = archive.getinfo(member)
                offset = info.header_offset
                limit = max(info.compress_size, 1) * _DEFLATE_RATIO
                self._check_members(archive)
                if info.file_size > limit or info.compress_size > self._source.size:
                    raise CheckpointError(f"The member {member!r} claims a size that cannot be.", self.path, offset)
                with archive.open(info) as file:
                    size = 0
                    while piece := file.read(_PIECE):
                        size += len(piece)
                        if target is not None:
                            target.write(piece)
                if size != info.file_size:
                    raise CheckpointError(f"The member {member!r} is shorter than it should be.", self.path, offset)
                return info
        except CheckpointError:
            raise
        # zipfile reports damage as BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError,
        # UnicodeDecodeError, …
        except Exception as error:
            raise CheckpointError(
                f"The archive is cut off or damaged: {type(error).__name__}: {error}.", self.path, offset
            ) from error
