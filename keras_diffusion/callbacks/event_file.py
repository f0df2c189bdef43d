"""Images and numbers for TensorBoard, written without TensorBoard.

An event file is a sequence of records

    length (8 bytes) · checksum of the length (4) · event (length bytes) · checksum of the event (4)

each event being a small Protocol Buffers message. These forty lines avoid a dependency on `tensorboard` and, on the JAX
and torch backends, the import of TensorFlow, which takes seconds and, on a GPU, its memory. Only viewing the file needs
`tensorboard`.

Reference: TensorFlow's event.proto, summary.proto and "TFRecord" format, with masked CRC-32C checksums.
"""

import struct
import time
from pathlib import Path

from keras_diffusion.containers.crc32c import crc32c, masked

_COLORSPACE = {1: 1, 3: 3, 4: 4}  # Summary.Image.colorspace: grey, RGB, RGBA
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


class EventFile:
    """A TensorBoard event file to which images and numbers are appended.

    Args:
        directory: log directory, used for nothing else: TensorBoard follows only the newest event file in it.
    """

    def __init__(self, directory):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / f"events.out.tfevents.{time.time_ns()}.keras_diffusion"
        self._write(_field(3, _BYTES, b"brain.Event:2"))

    def image(self, tag, image, png, step):
        """Appends one image.

        Args:
            tag: name under which TensorBoard shows it.
            image: array `(H, W, C)`; only its shape is used.
            png: the same image as PNG bytes.
            step: int, position on TensorBoard's slider.
        """
        height, width, channels = image.shape
        content = _field(1, _VARINT, height) + _field(2, _VARINT, width)
        content += _field(3, _VARINT, _COLORSPACE[channels]) + _field(4, _BYTES, png)
        value = _field(1, _BYTES, tag.encode()) + _field(4, _BYTES, content)
        self._write(_field(2, _VARINT, step) + _field(5, _BYTES, _field(1, _BYTES, value)))

    def scalar(self, tag, value, step):
        """Appends one number.

        Args:
            tag: name under which TensorBoard shows it.
            value: a number; TensorBoard has single precision.
            step: int, position on TensorBoard's axis.
        """
        content = _field(1, _BYTES, tag.encode()) + _field(2, _FIXED32, value)
        self._write(_field(2, _VARINT, step) + _field(5, _BYTES, _field(1, _BYTES, content)))

    def _write(self, event):
        event = _field(1, _FIXED64, time.time()) + event
        length = struct.pack("<Q", len(event))
        record = length + _masked_crc(length) + event + _masked_crc(event)
        with open(self.path, "ab") as file:  # one write: a killed run truncates at most the last record
            file.write(record)


def _field(number, wire_type, value):
    """One field of a Protocol Buffers message."""
    key = _varint(number << 3 | wire_type)
    if wire_type == _VARINT:
        return key + _varint(value)
    if wire_type in (_FIXED64, _FIXED32):
        return key + struct.pack("<d" if wire_type == _FIXED64 else "<f", value)
    return key + _varint(len(value)) + value


def _varint(value):
    """Seven bits per byte, lowest first; the eighth bit marks that more follow."""
    return bytes([value]) if value <= 0x7F else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)


def _masked_crc(data):
    return struct.pack("<I", masked(crc32c(data)))
