"""One clip: how many frames it has, and some of them.

    clip_001/0001.png …       a folder of pictures, in natural order        Pillow
    clip.npy                  an array (F, H, W, C)                         NumPy, memory-mapped
    clip.gif                  an animation                                  Pillow
    clip.mp4 .webm …          a video                                       PyAV, extra "video"

Frames of a video are found by their time stamps: the packets say them without being decoded, so that decoding begins at
the last key frame before the first frame that is needed, and every frame is the one that was meant. A video is read as
what its name says, never as what its bytes look like: some formats that FFmpeg knows are lists of other files.
"""

import math
import os

import numpy as np

from keras_diffusion.configs.checks import clip as clipped
from keras_diffusion.data.image_file import convert_image, read_image
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.arrays import map_array
from keras_diffusion.runtime.natural_order import natural
from keras_diffusion.runtime.optional import import_optional

#: Endings of files of a folder of frames.
FRAMES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
#: FFmpeg's format by the ending of a file.
VIDEOS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "matroska", ".mkv": "matroska", ".avi": "avi"}
#: Endings of files that are clips.
FILES = frozenset({".npy", ".gif", *VIDEOS})
_MODES = {1: "gray", 3: "rgb24", 4: "rgba"}
_PURPOSE = "reading clips"


def open_clip(path, channels=3, background="white"):
    """A clip as an object with `len`, whose method `frames(numbers)` reads some of its frames.

    Args:
        path: a folder of pictures, or a file with one of `FILES`' endings.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA); those of a .npy file are as they are.
        background: colour behind transparent pixels, as for `read_image`.

    Returns:
        an object; `frames` takes increasing numbers from 0, and returns an array `(len(numbers), H, W, channels)`,
        uint8, or of the type of a .npy file.

    Raises:
        ValueError: a damaged file, or none that is a clip; the message names it.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy" and path.is_file():
        return _Array(path)
    kind = _Pictures if path.is_dir() else _Animation
    if suffix in VIDEOS and path.is_file():
        kind = _Video
    return kind(path, channels, background)


class _Array:
    def __init__(self, path):
        self.values = map_array(path)
        if self.values.ndim != 4:
            raise ValueError(
                f"A clip is an array (frames, height, width, channels). Received: {str(path)!r} of shape "
                f"{self.values.shape}"
            )

    def __len__(self):
        return len(self.values)

    def frames(self, numbers):
        limits.check(len(numbers) * math.prod(self.values.shape[1:]), "image_pixels", "The size of a clip")
        return np.asarray(self.values[numbers])


class _Pictures:
    def __init__(self, path, *options):
        names = [entry.name for entry in os.scandir(path) if is_frame(entry.name)]
        self.paths, self.options = [path / name for name in sorted(names, key=natural)], options

    def __len__(self):
        return len(self.paths)

    def frames(self, numbers):
        paths = [self.paths[number] for number in numbers]
        return _stacked((read_image(path, *self.options) for path in paths), len(numbers), self.paths[0].parent)


class _Animation:
    def __init__(self, path, *options):
        self.path, self.options = path, options
        with self._open() as file:
            self.count = getattr(file, "n_frames", 1)

    def __len__(self):
        return self.count

    def frames(self, numbers):
        with self._open() as file:
            return _stacked((self._frame(file, number) for number in numbers), len(numbers), self.path)

    def _frame(self, file, number):
        try:
            file.seek(number)
        except Exception as error:  # EOFError, SyntaxError, struct.error …
            raise ValueError(f"Cannot read frame {number} of {str(self.path)!r}: {error}") from error
        return convert_image(file, *self.options, name=str(self.path))

    def _open(self):
        images = import_optional("PIL.Image", extra="viz", purpose=_PURPOSE)
        try:
            return images.open(self.path, formats=("GIF",))
        except Exception as error:
            raise ValueError(f"Cannot read the clip {str(self.path)!r}: {error}. Remove or replace it.") from error


class _Video:
    def __init__(self, path, channels, background):
        self.path, self.mode = path, _MODES[channels]
        with _container(path) as (container, stream):
            packets = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
            stamps = [packet.pts for packet in packets]
        if None in stamps:
            raise ValueError(f"The frames of {str(path)!r} have no time stamps. Write it as .mp4 or .webm.")
        self.stamps = np.unique(np.array(stamps, "int64"))

    def __len__(self):
        return len(self.stamps)

    def frames(self, numbers):
        wanted = self.stamps[numbers].tolist()
        with _container(self.path) as (container, stream):
            context = stream.codec_context
            _check_size(len(numbers) * context.width * context.height * 4, self.path)
            container.seek(wanted[0], stream=stream, backward=True)
            found = {}
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    _check_size(len(numbers) * frame.width * frame.height * 4, self.path)
                    found[frame.pts] = self._pixels(frame)
                if len(found) == len(wanted) or (frame.pts is not None and frame.pts > wanted[-1]):
                    break
        missing = [number for number, stamp in zip(numbers, wanted) if stamp not in found]
        if missing:
            raise ValueError(f"Cannot decode frame {missing[0]} of {str(self.path)!r}. Remove or replace it.")
        return _stacked((found[stamp] for stamp in wanted), len(numbers), self.path)

    def _pixels(self, frame):
        pixels = frame.to_ndarray(format=self.mode)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        return np.rot90(pixels, getattr(frame, "rotation", 0) // 90 % 4)  # counted against the clock, as there


class _container:
    """A video file that was opened, and its stream of pictures; what PyAV raises becomes a ValueError."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.av = import_optional("av", extra="video", purpose="reading video files")
        self.file, self.container = self.path.open("rb"), None
        try:
            # From an open file: FFmpeg then has no name from which it could find others.
            self.container = self.av.open(self.file, format=VIDEOS[self.path.suffix.lower()])
            stream = self.container.streams.video[0]
            return self.container, stream
        except Exception as error:
            self._close()
            raise self._error(error) from None

    def __exit__(self, kind, error, trace):
        self._close()
        if isinstance(error, self.av.error.FFmpegError):
            raise self._error(error) from None

    def _close(self):
        if self.container is not None:
            self.container.close()
        self.file.close()

    def _error(self, error):
        reason = clipped(getattr(error, "strerror", None) or str(error), 200)
        reason = "it has no pictures" if isinstance(error, IndexError) else reason
        return ValueError(f"Cannot read the clip {str(self.path)!r}: {reason}. Remove or replace it.")


def is_frame(name):
    """Whether a file of this name, in a folder, is a frame of a clip."""
    return os.path.splitext(name)[1].lower() in FRAMES and not name.startswith((".", "__"))


def _stacked(frames, count, path):
    """Frames, arrays `(H, W, C)`, as one array `(count, H, W, C)`, which is made when their size is known."""
    clip = None
    for number, frame in enumerate(frames):
        if clip is None:
            _check_size(count * frame.size, path)
            clip = np.empty((count, *frame.shape), frame.dtype)
        if frame.shape != clip.shape[1:]:
            raise ValueError(
                f"Frames of a clip have one size. Received: {clip.shape[1:]} and {frame.shape} in {str(path)!r}"
            )
        clip[number] = frame
    return clip


def _check_size(values, path):
    limits.check(values, "image_pixels", f"The size of the clip {str(path)!r}")
