"""TensorFlow Datasets without TensorFlow: random access to data sets stored as array_record files.

`tfds` stores a prepared data set in one of several formats. array_record files allow reading sample i, in NumPy and
without importing TensorFlow; tfrecord files, the default of `tfds`, only allow reading in order, through tf.data.
Preparing (downloading and converting) needs TensorFlow, once.
"""

import re
from pathlib import Path

import numpy as np

from keras_diffusion.configs.checks import clip
from keras_diffusion.data.captions import TEXT_KEYS
from keras_diffusion.data.records import texts_of
from keras_diffusion.data.sources import Source
from keras_diffusion.data.tfds_folder import check_folder, check_folders_below, is_prepared_folder
from keras_diffusion.runtime.optional import import_optional

_RANDOM_ACCESS = ("array_record", "parquet")


class TFDSSource(Source):
    """One split of a prepared TFDS data set.

    Args:
        name: a name such as `"oxford_flowers102"`, or the folder of a prepared data set (it holds dataset_info.json).
        split: `"train"`, `"train[:80%]"`, `"train+validation"` …
        data_dir: folder of data sets. Default: that of `tfds`.
        download: whether a missing data set is downloaded and prepared.
        image_key: name of the image feature.
        label_key: name of the class feature; None for no labels.
        caption_key: name of the feature of texts, or of sequences of them. Default None: "text", "caption", "captions"
            or "prompt", if there is one.

    Raises:
        ImportError: tensorflow-datasets is not installed.
        ValueError: unknown name or split, a data set that is not prepared or has no random access, no such feature, or
            a folder that names classes other than TFDS features, or files in other folders.
    """

    def __init__(
        self,
        name,
        split="train",
        data_dir=None,
        download=False,
        image_key="image",
        label_key="label",
        caption_key=None,
    ):
        tfds = import_optional(
            "tensorflow_datasets", extra="data", purpose=f"the data set {str(name)!r} of TensorFlow Datasets"
        )
        builder = self._builder(tfds, name, data_dir)
        if not is_prepared_folder(builder.data_path):
            if not download:
                raise ValueError(
                    f"The TFDS data set {name!r} is not prepared under {str(builder.data_path)!r}. "
                    "Prepare it once (this needs TensorFlow and the network) with download=True, or "
                    f"with: {_prepare_call(builder, data_dir)}"
                )
            builder = tfds.builder(str(name), data_dir=data_dir, file_format="array_record")
            builder.download_and_prepare()
        file_format = builder.info.file_format.value
        if file_format not in _RANDOM_ACCESS:
            raise ValueError(
                f"Reading single samples needs the file format array_record. Received: the TFDS data set {name!r}, "
                f"prepared as {file_format} in {str(builder.data_path)!r}. A data set has one format per data_dir: "
                f"prepare it in another one, {_prepare_call(builder, 'another/folder')}, and pass that data_dir; or "
                "pass a tf.data pipeline of it to fit() directly."
            )
        features = builder.info.features
        for key in (image_key, label_key, caption_key):
            # Without the default label, a data set has no classes; a name that the caller chose must exist.
            if key is not None and key not in features and (key == image_key or key != "label"):
                raise ValueError(
                    f"The TFDS data set {name!r} has no feature {key!r}. Its features: {', '.join(sorted(features))}"
                )
        self.name, self.image_key = str(name), image_key
        self.label_key = label_key if label_key in features else None
        self.caption_key = caption_key or next((key for key in TEXT_KEYS if key in features), None)
        if self.label_key is not None:
            self.num_classes = getattr(features[label_key], "num_classes", None)
            self.class_names = getattr(features[label_key], "names", None)
        try:
            self._records = builder.as_data_source(split=split)
        except ValueError as error:
            raise ValueError(f"The TFDS data set {name!r} cannot give split={split!r}: {error}") from error

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        record = self._records[index]
        sample = {"images": np.asarray(record[self.image_key])}
        if self.label_key is not None:
            sample["labels"] = np.asarray(record[self.label_key])
        if self.caption_key is not None:
            sample["captions"] = texts_of(record[self.caption_key], f"sample {index} of {self.name}")
        return sample

    @staticmethod
    def _builder(tfds, name, data_dir):
        if is_prepared_folder(name):
            check_folder(name)
            try:
                return tfds.builder_from_directory(name)
            except Exception as error:  # from JSON, protocol buffers or TFDS: the folder is damaged
                raise ValueError(
                    clip(f"TFDS cannot open the folder {str(name)!r}: {type(error).__name__}: {error}")
                ) from error
        if data_dir is not None:
            # For unknown names, and names with a version, TFDS uses what it finds in this folder.
            check_folders_below(Path(data_dir).expanduser() / re.split("[/:]", str(name))[0])
        return tfds.builder(str(name), data_dir=data_dir)


def _prepare_call(builder, data_dir):
    """The Python line that prepares the data set for random access."""
    where = f"data_dir={str(data_dir)!r}, " if data_dir else ""
    made = f'tfds.builder({builder.name!r}, {where}file_format="array_record")'
    return f"import tensorflow_datasets as tfds; {made}.download_and_prepare()"
