"""Checks folders of prepared TFDS data sets, before TFDS imports the classes and opens the files they name.

features.json        {"pythonClassName": "tensorflow_datasets.core.features.…",
                      "featuresDict": {"features": {"image": {…}}}}
dataset_info.json    {"name": …, "splits": [{"name": "train",
                      "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}]}
"""

from pathlib import Path

from keras_diffusion.configs.checks import shown
from keras_diffusion.runtime.documents import parse_json
from keras_diffusion.runtime.files import read_json

_INFO, _FEATURES = "dataset_info.json", "features.json"

_PACKAGE = "tensorflow_datasets.core.features."
_KNOWN = frozenset(
    """
    audio_feature.Audio bounding_boxes.BBoxFeature class_label_feature.ClassLabel dataset_feature.Dataset
    features_dict.FeaturesDict image_feature.Image labeled_image.LabeledImage optional_feature.Optional scalar.Scalar
    sequence_feature.Sequence tensor_feature.Tensor text_feature.Text translation_feature.Translation
    translation_feature.TranslationVariableLanguages video_feature.Video
    """.split()
)
_CLASS_KEYS = ("type", "pythonClassName", "python_class_name")
_JSON_KEYS = ("json", "content")  # of strings that TFDS reads as JSON
_FILE_KEYS = "name version configName config_name fileFormat file_format filepathTemplate filepath_template".split()


def is_prepared_folder(path):
    """Whether `path` is the folder of a prepared TFDS data set."""
    return (Path(path).expanduser() / _INFO).is_file()


def check_folder(path):
    """Raises a ValueError if opening a folder with TFDS could run code from it, or read outside it.

    Args:
        path: folder of a prepared data set.
    """
    folder = Path(path).expanduser()
    _check_names(read_json(folder / _INFO), folder / _INFO)
    if (folder / _FEATURES).is_file():
        _check_features(read_json(folder / _FEATURES), folder / _FEATURES)


def check_folders_below(path):
    """`check_folder` for every prepared data set below a folder."""
    for info in sorted(Path(path).expanduser().rglob(_INFO)):
        check_folder(info.parent)


def _check_features(value, path):
    """Every class must be one of TFDS's own features, also in strings that hold JSON."""
    if isinstance(value, list):
        for child in value:
            _check_features(child, path)
    if not isinstance(value, dict):
        return
    for key, child in value.items():
        _check_name(key, "a feature", path)
        if key in _CLASS_KEYS and isinstance(child, str) and (key != "type" or "content" in value):
            if child.removeprefix(_PACKAGE) not in _KNOWN or not child.startswith(_PACKAGE):
                raise ValueError(
                    "The features of a TFDS folder are classes of tensorflow_datasets; no others are imported. "
                    f"Received: {key}={shown(child)} in {str(path)!r}. Open it yourself if you trust it, and pass what "
                    "tfds.builder_from_directory(folder).as_data_source(split) gives"
                )
        if isinstance(child, str) and key in _JSON_KEYS:
            child = parse_json(child, f"text {key!r} in {str(path)!r}", kind=object)
        _check_features(child, path)


def _check_names(value, path):
    """The parts of file names must not point to other folders."""
    if isinstance(value, list):
        for child in value:
            _check_names(child, path)
    if not isinstance(value, dict):
        return
    for key, child in value.items():
        if key in _FILE_KEYS and isinstance(child, str):
            _check_name(child, key, path)
        if key not in ("dataSourceAccesses", "data_source_accesses", "location"):  # notes on the origin
            _check_names(child, path)


def _check_name(name, what, path):
    if any(sign in name for sign in "/\\\0") or name in (".", ".."):
        raise ValueError(
            "Names in a TFDS folder are parts of its files' names, and lead to no other folder. "
            f"Received: {what}={shown(name)} in {str(path)!r}"
        )
