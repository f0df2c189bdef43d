"""What a data set holds: counts, sizes, classes, captions, and what cannot be read. Every sample is read once."""

import collections
import dataclasses

import numpy as np

from keras_diffusion.configs.checks import clip
from keras_diffusion.data.batches import Batches
from keras_diffusion.data.latent_manifest import LatentManifest
from keras_diffusion.data.sources import as_source

_AHEAD = 64  # samples that are asked for at once, where they come from the web


@dataclasses.dataclass
class Inspection:
    """What `inspect` found.

    Attributes:
        source: the source's `repr`.
        samples: number of samples.
        sizes: Counter of (height, width) of the readable pictures; of the shape, where samples are no pictures.
        classes: Counter of the names of classes, or of their numbers.
        captions: Counter of the number of captions of a sample, 0 for none.
        words: numbers of words of all captions, a list.
        broken: dict from the number of a sample that cannot be read to (its name, the error).
        buckets: dict from the (height, width) of buckets to the number of their samples, or None.
        encoded: `LatentManifest` of packed latents, or None.
    """

    source: str
    samples: int
    sizes: dict
    classes: dict
    captions: dict
    words: list
    broken: dict
    buckets: dict | None = None
    encoded: LatentManifest | None = None

    def __str__(self):
        return self.text()

    def text(self, most_broken=20):
        """The report.

        Args:
            most_broken: how many of the samples that cannot be read are listed, or None for all.

        Returns:
            a few lines, a str.
        """
        lines = [self.source, f"readable   {self.samples - len(self.broken):,} of {self.samples:,}"]
        if self.encoded:
            lines += _about(self.encoded)
        if self.sizes:
            lines.append(f"sizes      {_counted(self.sizes, '×')}")
        if self.buckets:
            lines.append(f"buckets    {', '.join(f'{h}×{w} ({n:,})' for (h, w), n in self.buckets.items())}")
        if self.classes:
            lines.append(f"classes    {len(self.classes)}: {_counted(self.classes)}")
        if self.words:
            none = self.captions[0]
            several = sum(count for number, count in self.captions.items() if number > 1)
            lines.append(
                f"captions   {self.captions.total() - none:,} samples have one or more, {several:,} several, {none:,} "
                f"none; {np.mean(self.words):.1f} words each, {max(self.words)} at most"
            )
        for number, (name, error) in list(self.broken.items())[:most_broken]:
            lines.append(f"broken     {number} {name}: {error}")
        left_out = 0 if most_broken is None else len(self.broken) - most_broken
        if left_out > 0:
            lines.append(f"           and {left_out:,} more")
        return "\n".join(lines)


def inspect(data, progress=iter):
    """Reads every sample of a data set once.

    Args:
        data: a `Source`, or what `Batches` takes; of batches their `source`.
        progress: function that passes an iterable on and shows how far it is.

    Returns:
        `Inspection`, which prints as a few lines.

    Raises:
        ValueError: what is no data set.

    Example:

    >>> report = kd.data.inspect(kd.data.load("emoji", split="all"))
    >>> report.samples, len(report.broken)
    (1892, 0)
    """
    source = as_source(data.source if isinstance(data, Batches) else data)
    found = Inspection(repr(source), len(source), *(collections.Counter() for _ in range(3)), [], {})
    found.buckets, found.encoded = source.bucket_counts, source.latents
    for number in progress(range(len(source))):
        if number % _AHEAD == 0:
            source.prefetch(range(number, min(number + _AHEAD, len(source))))
        try:
            sample = source[number]
            texts = source.texts([number])
        except (ValueError, OSError) as error:
            found.broken[number] = (_name(source, number), clip(str(error)))
            continue
        if found.encoded is None:
            shape = np.shape(sample["images"])
            found.sizes[shape[:2] if len(shape) == 3 else shape] += 1
        if "labels" in sample:
            label = int(sample["labels"])
            found.classes[source.class_names[label] if source.class_names else label] += 1
        _count_texts(found, sample.get("captions") if texts is None else texts[0])
    return found


def _about(latents):
    """Lines on packed latents."""
    mirrored = ", with those of the mirrored pictures" if latents.flips else ""
    pictures = "×".join(map(str, latents.image_shape))
    lines = [
        f"latents    {latents.kind} in {latents.dtype}, {latents.sample_bytes:,} bytes each{mirrored}",
        f"           of {pictures} pictures by {latents.autoencoder}, fingerprint {latents.fingerprint}",
    ]
    return lines + ([f"left out   {len(latents.skipped):,} when they were packed"] if latents.skipped else [])


def _count_texts(found, texts):
    texts = [text for text in texts or () if text]
    found.captions[len(texts)] += 1
    found.words += [len(text.split()) for text in texts]


def _name(source, number):
    names = getattr(source, "files", None) or getattr(source, "keys", None)
    return getattr(names[number], "name", names[number]) if names else ""


def _counted(counter, join=None, most=8):
    """The most frequent of a Counter, as text."""
    shown = [
        f"{join.join(map(str, value)) if join else value} ({count:,})" for value, count in counter.most_common(most)
    ]
    return ", ".join(shown) + (f" and {len(counter) - most:,} others" if len(counter) > most else "")
