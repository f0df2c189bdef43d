"""Writing tar files of samples: the members of a sample share its number, and the same samples give the same bytes."""

import io
import json
import tarfile

from keras_diffusion.data.captions import from_template


class ShardWriter:
    """Tar files of `size` samples each, for use in a `with` block.

    Args:
        folder: path of an existing folder.
        size: samples of a file, int ≥ 1.

    Attributes:
        samples: number of samples written.
        records: number of those with a .json.
        count: number of files.
    """

    def __init__(self, folder, size):
        self.folder, self.size, self._archive = folder, size, None
        self.samples = self.records = self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._close()

    def add(self, members):
        """Writes the members of the next sample.

        Args:
            members: dict from suffixes to bytes.
        """
        if self.samples % self.size == 0:
            self._close()
            self._archive = tarfile.open(self.folder / shard_name(self.count), "w", format=tarfile.USTAR_FORMAT)
            self.count += 1
        for suffix, content in members.items():
            member = tarfile.TarInfo(f"{self.samples:08}{suffix}")  # its time is 0: the same data give the same bytes
            member.size = len(content)
            self._archive.addfile(member, io.BytesIO(content))
        self.samples += 1
        self.records += ".json" in members

    def _close(self):
        if self._archive is not None:
            self._archive.close()


def shard_name(number):
    """The name of tar file `number`."""
    return f"part-{number:05}.tar"


def record_of(source, number, sample, templates=None):
    """What is written beside a picture: its class and its captions.

    Args:
        source: the `Source`.
        number: of the sample.
        sample: the sample, a dict.
        templates: templates of captions, which the name of the sample's class fills in, or None.

    Returns:
        dict with "label", "class_name" and "text", as far as there are some.

    Raises:
        ValueError: a sample with other conditions.
    """
    further = sorted(sample.keys() - {"images", "labels", "captions"})
    if further:
        raise ValueError(f"Only pictures, captions and classes are packed. Received: samples with {further}")
    record, label = {}, sample.get("labels")
    if label is not None:
        record["label"] = int(label)
        if source.class_names:
            record["class_name"] = source.class_names[int(label)]
    if templates:
        texts = from_template(templates, record["class_name"])
    else:
        texts = sample.get("captions") or (source.texts([number]) or [()])[0]
    if texts:
        record["text"] = texts[0] if len(texts) == 1 else list(texts)
    return record


def json_of(record):
    """A record as the bytes of a .json file."""
    return json.dumps(record, ensure_ascii=False).encode()
