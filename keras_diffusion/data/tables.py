"""Tables of pictures as sources: which files and objects are tables, and what reads them."""

from keras_diffusion.data.hugging_face import HuggingFaceSource, folders_of, is_hugging_face, open_hugging_face


def is_table(source):
    """Whether `source` is a table of pictures: a name, a path or an object of Hugging Face."""
    return is_hugging_face(source)


def open_table(source, split, whole, options):
    """The source that a table means.

    Args:
        source: that for which `is_table`.
        split: as in `data.load`.
        whole: whether a part will be held out of the training data, so that "validation" is no split of its own.
        options: dict of the columns' names, `channels` and `background`.

    Returns:
        (`Source`, whether `split` is applied).

    Raises:
        ImportError: a package is missing; the message names the extra that installs it.
        ValueError: no such table, split or column.
    """
    dataset, applied = open_hugging_face(source, split, whole)
    return HuggingFaceSource(dataset, folders=folders_of(source), **options), applied
