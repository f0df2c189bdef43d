"""Buckets: pictures of several shapes and nearly one area, and batches that hold one shape each.

    image_size 64, 4,096 pixels:     48×88     56×72     64×64     72×56     88×48

A square crop cuts off what stands at the side of a landscape. Instead, each picture goes to the bucket whose ratio of
height to width is nearest, is scaled until it covers the bucket's shape, and loses a few rows or columns. The shapes
are a fixed set, since on JAX each costs a compilation.

The order of batches is a function of (seed, epoch): the samples of a pass in their usual order, dealt to the buckets,
cut into batches, and these shuffled. The first two batches of an epoch have shapes that differ in both axes, if any do:
from two batches Keras on TensorFlow concludes which axes vary.

Reference: NovelAI, "Improvements on Stable Diffusion", 2022, https://github.com/NovelAI/novelai-aspect-ratio-bucketing
"""

import collections
import itertools
import math

import numpy as np

from keras_diffusion.configs.checks import check_whole, is_whole, shown
from keras_diffusion.data.sizes import Sized

_LONGEST = 2.0  # the ratio of long to short side of the longest bucket
_MOST = 100  # buckets
_AHEAD = 64  # samples that a source is told of before their sizes are asked for


class Buckets(Sized):
    """The pictures of `source`, each at the shape of its bucket.

    The sizes of all pictures are read when it is made: from the headers of files, without decoding them.

    Args:
        source: a `Source` of images `(H, W, C)`.
        shapes: list of (height, width).
        crop: "center" (default) or "random", as for `Sized`.
        least: a bucket with fewer pictures is closed, and they go to the nearest that is open. Default 1.

    Attributes:
        shapes: list of (height, width).
        groups: number of each picture's bucket, ints `(n,)`.
        bucket_counts: dict from the (height, width) of each bucket in use to the number of its pictures.

    Raises:
        ValueError: samples that are no pictures, or, without `on_error="skip"`, a file without a readable header.
    """

    def __init__(self, source, shapes, crop="center", least=1):
        super().__init__(source, crop)
        self.shapes = [tuple(shape) for shape in shapes]
        self.groups = nearest(_sizes(source), self.shapes, least)
        self.bucket_counts = counted(self.groups, self.shapes)

    def size_at(self, index):
        return self.shapes[self.groups[index]]


def bucket_shapes(buckets, image_size, step=None):
    """The shapes of buckets.

    Args:
        buckets: True for all shapes with about as many pixels as `image_size` and a long side of at most twice the
            short one; or a list of (height, width), which is checked.
        image_size: (height, width), multiples of `step`; None if `buckets` is a list.
        step: sides are multiples of this int. None (default): the power of two from an eighth of the shorter side
            down, at least 8; for square pictures of a power of two, that makes five shapes.

    Returns:
        list of (height, width), from wide to high.

    Raises:
        ValueError: no size, one that is no multiple of `step`, or what is no list of shapes.

    Example:

    >>> bucket_shapes(True, (64, 64))
    [(48, 88), (56, 72), (64, 64), (72, 56), (88, 48)]
    """
    step = check_whole("bucket_step", step, 1, optional=True)
    if buckets is not True:
        return _checked(buckets, step)
    if image_size is None:
        raise ValueError(
            "The pictures of buckets have about as many pixels as image_size says. Received: buckets=True without "
            "image_size. Pass it, or a list of shapes"
        )
    step = step or max(8, 2 ** int(math.log2(max(min(image_size) // 8, 1))))
    if any(side % step for side in image_size):
        raise ValueError(
            f"The sides of buckets, and of image_size, are multiples of bucket_step. Received: image_size={image_size}"
            f", bucket_step={step}"
        )
    area, shapes = image_size[0] * image_size[1], {tuple(image_size)}
    for short in range(step, math.isqrt(area) + 1, step):
        long = round(area / short / step) * step
        if long <= _LONGEST * short:
            shapes |= {(short, long), (long, short)}
    return sorted(shapes)


def _checked(buckets, step):
    rule = f"buckets is True, or a list of 1 to {_MOST} different (height, width)"
    shapes = [tuple(shape) if isinstance(shape, (tuple, list)) else () for shape in _listed(buckets)]
    whole = all(len(shape) == 2 and all(is_whole(side) and side > 0 for side in shape) for shape in shapes)
    if not whole or not 1 <= len(shapes) <= _MOST or len(set(shapes)) < len(shapes):
        raise ValueError(f"{rule}. Received: buckets={shown(buckets)}")
    if step is not None:
        raise ValueError(f"bucket_step is for buckets=True. Received: bucket_step={step} with a list of shapes")
    return sorted((int(height), int(width)) for height, width in shapes)


def _listed(buckets):
    return buckets if isinstance(buckets, (tuple, list)) else []


def _sizes(source):
    sizes = []
    for index in range(len(source)):
        if index % _AHEAD == 0:
            source.prefetch(np.arange(index, min(index + _AHEAD, len(source))))
        sizes.append(source.size_of(index))
    return sizes


def nearest(sizes, shapes, least=1):
    """The bucket of each picture: that of the nearest ratio of height to width, on a logarithmic scale.

    Args:
        sizes: n pairs (height, width).
        shapes: list of (height, width) of the buckets.
        least: a bucket with fewer pictures is closed, the emptiest first.

    Returns:
        ints `(n,)`.
    """
    ratios, own = (np.log([height / width for height, width in pairs]) for pairs in (shapes, sizes))
    distances = np.abs(own[:, None] - ratios)
    while True:
        numbers = distances.argmin(axis=1)
        counts = np.bincount(numbers, minlength=len(shapes))
        few = [k for k in range(len(shapes)) if 0 < counts[k] < least]
        if not few or np.count_nonzero(counts) == 1:
            return numbers
        distances[:, min(few, key=lambda k: counts[k])] = np.inf


def counted(numbers, shapes):
    """How many pictures each bucket in use holds, a dict from (height, width) to int.

    Args:
        numbers: of `nearest`.
        shapes: list of (height, width) of the buckets.
    """
    counts = collections.Counter(numbers.tolist())
    return {shapes[k]: counts[k] for k in sorted(counts)}


# The order of batches ------------------------------------------------------------------------------------------------


def number_of_batches(counts, batch_size, whole):
    """The number of batches of a pass, each of one bucket.

    Args:
        counts: numbers of samples of the buckets.
        batch_size: int ≥ 1.
        whole: whether what does not fill a batch is left out.

    Returns:
        int.
    """
    return sum(count // batch_size if whole else -(-count // batch_size) for count in counts)


def batches_of_epoch(epoch, length, per_pass, batches_of):
    """The batches of an epoch.

    Args:
        epoch: int ≥ 0.
        length: number of its batches, which go on where the last epoch ended.
        per_pass: number of batches of a pass.
        batches_of: function from the number of a pass to the list of its batches.

    Returns:
        list of arrays of numbers of samples.
    """
    places = range(epoch * length, (epoch + 1) * length)
    passes = {number: batches_of(number) for number in sorted({place // per_pass for place in places})}
    return [passes[place // per_pass][place % per_pass] for place in places]


def batches_of_pass(order, groups, batch_size, whole, rng=None):
    """The batches of one pass, each of one group.

    Args:
        order: permutation of the samples, ints `(n,)`.
        groups: number of each sample's group, ints `(n,)`.
        batch_size: int ≥ 1.
        whole: whether what does not fill a batch is left out. Another part in each pass, since `order` differs.
        rng: NumPy generator that shuffles the batches; None (default): one group after the other.

    Returns:
        list of arrays of numbers of samples.
    """
    batches = []
    for group in np.unique(groups):
        members = order[groups[order] == group]
        stop = len(members) // batch_size * batch_size if whole else len(members)
        batches += [members[start : min(start + batch_size, stop)] for start in range(0, stop, batch_size)]
    return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


def unlike_first(batches, groups, shapes):
    """The same batches, with two at the beginning whose shapes differ in as many axes as any.

    Args:
        batches: list of arrays of numbers of samples, each of one group.
        groups: number of each sample's group, ints `(n,)`.
        shapes: (height, width) of each group.

    Returns:
        list of the same arrays.
    """
    first = {}
    for position, batch in enumerate(batches):
        first.setdefault(groups[batch[0]], position)

    def unlikeness(pair):
        return sum(a != b for a, b in zip(*(shapes[group] for group in pair), strict=True))

    pairs = list(itertools.combinations(first, 2))  # in the order in which they come
    if not pairs:
        return batches
    chosen = sorted(first[group] for group in max(pairs, key=unlikeness))
    return [*(batches[i] for i in chosen), *(batch for i, batch in enumerate(batches) if i not in chosen)]
