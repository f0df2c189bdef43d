"""What a frozen text encoder makes of texts, kept on disk: training then runs without the encoder.

    folder/<encoder>/<2 digits>/<tokens>       context (L, D), little-endian, then the mask, L bytes, where there is one

<encoder> is a hash of the encoder's class, config and weights, and of the numbers' type; <tokens> is one of a text's
tokens. Another encoder, new weights or another tokenizer thus find nothing of the old ones, and several runs share what
they have in common. The folder holds L·D numbers for each different text: 230 kB for CLIP's 77 × 768 in float32.
"""

import hashlib
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_choice
from keras_diffusion.networks.fingerprint import fingerprint
from keras_diffusion.networks.network import MASK_KEY
from keras_diffusion.runtime.files import check_room, write_whole

_AT_ONCE = 32  # texts that are encoded together


class EmbeddingCache:
    """A folder of contexts. `models.TextToImage(text_cache=folder)` makes one.

    Args:
        folder: path; made when the first context is written.
        dtype: of the numbers on disk. "float32" (default): training is as without a cache, up to rounding. "float16":
            half of the room, for contexts that need no more than 3 digits and stay below 65,504.

    Raises:
        ValueError: another dtype.

    Example:

    >>> cache = kd.text.EmbeddingCache("~/embeddings", dtype="float16")
    >>> model = kd.models.TextToImage(network, text_encoder, tokenizer, text_cache=cache)
    """

    def __init__(self, folder, dtype="float32"):
        self.folder, self.dtype = Path(folder).expanduser(), check_choice("dtype", dtype, ("float32", "float16"))

    def of(self, encode, encoder, null_tokens):
        """The contexts of one encoder, with that of the empty text.

        Args:
            encode: function from tokens `(N, L)` to a dict with "context" and perhaps "context_mask", arrays.
            encoder: Keras model.
            null_tokens: `(1, L)`.

        Returns:
            `CachedTexts`.
        """
        null = encode(null_tokens)
        name = fingerprint(encoder, self.dtype)
        _, length, width = null["context"].shape
        cached = CachedTexts(self.folder / name, (length, width), self.dtype, MASK_KEY in null)
        cached.fill(null_tokens, lambda tokens: null)
        return cached


class CachedTexts:
    """The contexts of one encoder on disk; it can be sent to worker processes.

    Args:
        folder: path.
        shape: (L, D).
        dtype: of the numbers on disk.
        masked: whether contexts have masks.
    """

    def __init__(self, folder, shape, dtype, masked):
        self.folder, self.shape, self.dtype, self.masked = folder, shape, np.dtype(dtype).newbyteorder("<"), masked
        self._values = int(np.prod(shape)) * self.dtype.itemsize
        self._bytes = self._values + (shape[0] if masked else 0)

    def fill(self, tokens, encode):
        """Writes the contexts that are not there yet.

        Args:
            tokens: `(N, L)`.
            encode: as in `EmbeddingCache.of`.

        Raises:
            ValueError: contexts that are not finite in the cache's dtype.
            NotWritten: the disk is full.
        """
        missing = {row.tobytes(): row for row in np.unique(tokens, axis=0) if not self._is_there(row)}
        rows = np.array(list(missing.values()), "int32")
        if len(rows):
            self.folder.mkdir(parents=True, exist_ok=True)
            check_room(self.folder / "contexts", len(rows) * self._bytes)
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            # Always as many at a time, so that nothing is compiled again.
            padded = (
                np.concatenate([some, np.repeat(some[:1], _AT_ONCE - len(some), axis=0)]) if len(rows) > 1 else some
            )
            encoded = encode(padded)
            for i, row in enumerate(some):
                self._write(row, encoded["context"][i], encoded[MASK_KEY][i] if self.masked else None)

    def read(self, tokens):
        """The contexts of texts.

        Args:
            tokens: `(N, L)`, all of which have been filled in.

        Returns:
            (contexts, masks): float32 `(N, L, D)`, and booleans `(N, L)` or None.

        Raises:
            ValueError: a context that is not there, or damaged.
        """
        contexts = np.empty((len(tokens), *self.shape), "float32")
        masks = np.empty((len(tokens), self.shape[0]), bool) if self.masked else None
        for i, row in enumerate(tokens):
            path = self._path(row)
            if not self._is_there(row):
                raise ValueError(
                    "A text's context is on disk before training reads it. Received: a text whose file "
                    f"{str(path)!r} is missing or has another size. Leave the folder alone while training runs, and "
                    "call fit again"
                )
            content = path.read_bytes()
            contexts[i] = np.frombuffer(content[: self._values], self.dtype).reshape(self.shape)
            if masks is not None:
                masks[i] = np.frombuffer(content[self._values :], "uint8") != 0
        return contexts, masks

    def _write(self, row, context, mask):
        with np.errstate(over="ignore"):
            values = np.asarray(context).astype(self.dtype)
        if not np.isfinite(values).all():
            raise ValueError(
                f"Contexts are numbers that {self.dtype.name} can hold. Received: a context with values up to "
                f"{np.abs(context).max():g}. Use dtype='float32'"
            )
        write_whole(self._path(row), values.tobytes() + (b"" if mask is None else mask.astype("uint8").tobytes()))

    def _is_there(self, row):
        try:
            return self._path(row).stat().st_size == self._bytes
        except FileNotFoundError:
            return False

    def _path(self, row):
        name = hashlib.sha256(np.ascontiguousarray(row, "<i4").tobytes()).hexdigest()
        return self.folder / name[:2] / name
