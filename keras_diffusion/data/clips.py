"""Clips, `(F, H, W, C)`: a folder of them, or arrays of whole ones, of which some frames are read.

    clips/clip_001/0001.png 0002.png …       a folder of frames is a clip
    clips/wave.mp4, wave.npy, wave.gif       a file is a clip
    clips/surf/wave.mp4                      class "surf"

Captions stand beside a clip as beside a picture: clip_001.txt, wave.txt, metadata.jsonl, metadata.csv. A folder is
listed when it is opened; a clip is read when its sample is.

Which frames: `frames` of them, `stride` apart. For training they begin at a random place, drawn by the seed, the epoch
and the place in the batch, so that a resumed run sees the same ones; otherwise they are those around the middle.
"""

from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import check_choice, check_flag, check_whole
from keras_diffusion.data.captions import FolderCaptions
from keras_diffusion.data.clip_file import FILES, VIDEOS, is_frame, open_clip
from keras_diffusion.data.image_file import MODES, colour_of
from keras_diffusion.data.image_folder import sub_folders
from keras_diffusion.data.sources import Derived, Source, collate
from keras_diffusion.runtime.natural_order import natural

_FRAMES_RULE = "frames is the number of frames of a sample, an integer ≥ 1, or 'all'"
_KEPT = 10_000


class Clips(Source):
    """Base class: samples of clips, of which some frames are read. A subclass gives `sample`.

    Args:
        frames: number of frames of a sample, int ≥ 1; or "all", for clips of one length.
        stride: from each frame to the next one that is taken, int ≥ 1.
        random_start: whether the first frame is drawn; otherwise the middle of the clip is taken.
    """

    def __init__(self, frames="all", stride=1, random_start=False):
        self.frames = "all" if frames == "all" else check_whole("frames", frames, 1, rule=_FRAMES_RULE)
        self.stride = check_whole("stride", stride, 1)
        self.random_start = check_flag("random_start", random_start)
        self.num_draws = int(self.random_start and self.frames != "all")

    def sample(self, index, draw):
        """A sample with some of the frames.

        Args:
            index: number of the sample.
            draw: where they begin, in [0, 1); None for the middle.

        Returns:
            dict with "images" `(frames, H, W, C)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement sample(index, draw)")

    def __getitem__(self, index):
        return self.sample(int(index), None)

    def drawn(self, indices, draws):
        """Reads several samples, whose frames begin where `draws`, `(B, 1)` in [0, 1), say; otherwise as `batch`.

        Raises:
            ValueError: as `batch`.
        """
        return collate([self.sample(int(i), float(draw[0])) for i, draw in zip(indices, draws)], indices)

    def numbers(self, count, draw, name):
        """Which frames of a clip are taken.

        Args:
            count: number of frames of the clip.
            draw: as in `sample`.
            name: of the clip, for the error.

        Returns:
            increasing ints `(frames,)`.

        Raises:
            ValueError: too few frames.
        """
        frames = -(-count // self.stride) if self.frames == "all" else self.frames
        spare = count - ((frames - 1) * self.stride + 1)
        if spare < 0 or count == 0:
            raise ValueError(
                f"A clip needs as many frames as are asked for. Received: {count} frames in {name}, of which "
                f"frames={frames} with stride={self.stride} need {count - spare}. Lower them, or leave such clips out "
                "with on_error='skip'."
            )
        first = spare // 2 if draw is None else int(draw * (spare + 1))
        return first + self.stride * np.arange(frames)


class ClipFolder(Clips):
    """Clips of a folder, each a file or a folder of frames; its other sub-folders are the classes.

    Args:
        path: the folder. It holds .npy arrays `(F, H, W, C)`, .gif, .mp4, .mov, .webm, .mkv and .avi files, and folders
            of pictures in natural order.
        frames, stride, random_start: see `Clips`.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        background: colour behind transparent pixels, as for `ImageFolder`.

    Returns (of indexing):
        {"images": `(frames, H, W, channels)`, uint8 or what a .npy file holds, "labels": int} — "labels" only if there
        are class folders; captions are given by `texts`.

    Raises:
        ValueError: no such folder, no clips in it, clips beside class folders, or, when reading, a clip that is
            damaged or too short.
        ImportError: the package av is missing, which the extra "video" installs.

    Example:

    >>> kd.data.ClipFolder("clips", frames=16, stride=2)[0]["images"].shape
    (16, 240, 320, 3)
    """

    def __init__(self, path, frames="all", stride=1, random_start=False, channels=3, background="white"):
        super().__init__(frames, stride, random_start)
        self.channels = check_choice(
            "channels", channels, tuple(MODES), "channels must be 1 (grey), 3 (RGB) or 4 (RGBA)"
        )
        self.path, self.background = Path(path).expanduser(), colour_of(background)
        if not self.path.is_dir():
            raise ValueError(f"A folder of clips must exist. Received: path={str(path)!r}")
        self.files = _clips_in(self.path)
        classes = {folder.name: _clips_in(folder) for folder in sub_folders(self.path) if folder not in self.files}
        self._number(classes)
        self._texts = FolderCaptions(self.path, self.files)
        self._videos = {}  # opened ones: to count their frames, a file is read from end to end

    def _number(self, classes):
        if self.files and any(classes.values()):
            raise ValueError(
                "A folder of clips holds either clips or one sub-folder per class. Received: both in "
                f"{str(self.path)!r}: {self.files[0].name} beside {', '.join(sorted(classes)[:5])}"
            )
        if any(classes.values()):
            self.class_names = list(classes)
            self.num_classes = len(classes)
            self.files = [file for files in classes.values() for file in files]
            self.labels = np.repeat(np.arange(len(classes), dtype="int32"), [len(files) for files in classes.values()])
        if not self.files:
            alone = any(is_frame(file.name) for file in self.path.iterdir())
            hint = ", whose pictures are frames: name the folder above it" if alone else ""
            raise ValueError(
                f"A folder of clips must hold clips: files ({', '.join(sorted(FILES))}) or folders of frames. "
                f"Received: none in {str(self.path)!r}{hint}"
            )

    def __len__(self):
        return len(self.files)

    def sample(self, index, draw):
        clip = self._videos.get(index) or open_clip(self.files[index], self.channels, self.background)
        if self.files[index].suffix.lower() in VIDEOS and len(self._videos) < _KEPT:
            self._videos[index] = clip
        numbers = self.numbers(len(clip), draw, repr(str(self.files[index])))
        sample = {"images": clip.frames(numbers)}
        return sample if self.labels is None else {**sample, "labels": self.labels[index]}

    @property
    def captions(self):
        """For each clip its caption, or a tuple of several, "" for none; None if no clip has one."""
        texts = self.texts(range(len(self)))
        return texts and [several[0] if len(several) == 1 else several for several in texts]

    def texts(self, indices):
        return [self._texts[int(i)] for i in indices] if self._texts.exist else None


class ClipSource(Derived, Clips):
    """Some frames of the whole clips that another source gives, such as arrays `(n, F, H, W, C)`.

    Args:
        source: a `Source` of "images" `(F, H, W, C)`; "concat" beside them may have frames too.
        frames, stride, random_start: see `Clips`.
    """

    def __init__(self, source, frames="all", stride=1, random_start=False):
        Derived.__init__(self, source)
        Clips.__init__(self, frames, stride, random_start)

    def sample(self, index, draw):
        sample = self.source[index]
        shape = np.shape(sample["images"])
        if len(shape) != 4:
            raise ValueError(
                "frames= is for clips (frames, height, width, channels). Received: images of shape "
                f"{shape} in sample {index}. Leave it out."
            )
        numbers = self.numbers(shape[0], draw, f"sample {index}")
        return sample | {key: sample[key][numbers] for key in ("images", "concat") if np.ndim(sample.get(key)) == 4}


def _clips_in(folder):
    """The clips that lie in a folder, in natural order."""
    return sorted((path for path in folder.iterdir() if _is_clip(path)), key=lambda path: natural(path.name))


def _is_clip(path):
    if path.name.startswith((".", "__")):
        return False
    if path.is_dir():
        return any(is_frame(file.name) for file in path.iterdir())
    return path.suffix.lower() in FILES
