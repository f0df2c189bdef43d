"""Untrusted folders of TFDS data sets: no module is imported, no file of another folder is opened."""

import json
import sys

import pytest

from keras_diffusion import data
from keras_diffusion.data.tfds_folder import check_folder

CANARY = "canary_of_a_tfds_folder"
OWN = "tensorflow_datasets.core.features."
FEATURES = {
    "pythonClassName": f"{OWN}features_dict.FeaturesDict",
    "featuresDict": {
        "features": {
            "image": {
                "pythonClassName": f"{OWN}image_feature.Image",
                "image": {"shape": {"dimensions": ["8", "8", "3"]}},
            },
            "label": {"pythonClassName": f"{OWN}class_label_feature.ClassLabel", "classLabel": {"numClasses": "2"}},
        }
    },
}
INFO = {
    "name": "tiny",
    "version": "1.0.0",
    "fileFormat": "array_record",
    "citation": "https://example.org/x",
    "splits": [
        {
            "name": "train",
            "numBytes": "9",
            "shardLengths": ["1"],
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }
    ],
}


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A module that could be imported, and must not be."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{CANARY}.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield
    assert CANARY not in sys.modules


def folder(tmp_path, features=FEATURES, info=INFO):
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "features.json").write_text(features if isinstance(features, str) else json.dumps(features))
    (path / "dataset_info.json").write_text(info if isinstance(info, str) else json.dumps(info))
    return path


def within(feature):
    features = json.loads(json.dumps(FEATURES))
    features["featuresDict"]["features"]["label"] = feature
    return features


NAMED = f"{CANARY}.Feature"
ATTACKS = {
    "top": {"pythonClassName": NAMED, "jsonFeature": {"json": "{}"}},
    "inner": within({"pythonClassName": NAMED}),
    "spelling": within({"python_class_name": NAMED}),
    "legacy": {"type": NAMED, "content": {}},
    "legacy_inner": {
        "type": f"{OWN}features_dict.FeaturesDict",
        "content": {"image": {"type": NAMED, "content": "{}"}},
    },
    "text": within(
        {
            "pythonClassName": f"{OWN}sequence_feature.Sequence",
            "jsonFeature": {"json": json.dumps({"feature": {"type": NAMED, "content": {}}})},
        }
    ),
    "text_as_content": {"type": f"{OWN}features_dict.FeaturesDict", "content": json.dumps({"pythonClassName": NAMED})},
    "test_of_tfds": within({"pythonClassName": f"{OWN}test_feature.CustomFeatureConnector"}),
    "begins_like_tfds": within({"pythonClassName": f"{OWN}image_feature.Image.{NAMED}"}),
    "without_a_module": within({"pythonClassName": "image_feature.Image"}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_classes_of_others_are_not_imported(name, canary, tmp_path):
    path = folder(tmp_path, ATTACKS[name])
    with pytest.raises(ValueError, match="no others are imported"):
        check_folder(path)
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(ValueError, match="no others are imported"):
        data.load(path, image_size=4)
    (path / "1.0.0").mkdir()
    for file in ("features.json", "dataset_info.json"):
        (path / file).rename(path / "1.0.0" / file)
    with pytest.raises(ValueError, match="no others are imported"):
        data.load("tiny", data_dir=tmp_path, image_size=4)


@pytest.mark.parametrize("key", ["name", "version", "fileFormat", "configName"])
def test_names_lead_to_no_other_folder(key, tmp_path):
    with pytest.raises(ValueError, match="lead to no other folder"):
        check_folder(folder(tmp_path, info={**INFO, key: "../../secret"}))


def test_files_of_splits_lie_in_the_folder(tmp_path):
    for i, split in enumerate(
        ({"name": "/etc/x"}, {"filepathTemplate": "/etc/{SPLIT}"}, {"filepath_template": "..\\x"})
    ):
        (tmp_path / str(i)).mkdir()
        path = folder(tmp_path / str(i), info={**INFO, "splits": [{**INFO["splits"][0], **split}]})
        with pytest.raises(ValueError, match="lead to no other folder"):
            check_folder(path)


def test_names_of_features_are_no_paths(tmp_path):
    features = {**FEATURES, "featuresDict": {"features": {"../../x": FEATURES["featuresDict"]["features"]["label"]}}}
    with pytest.raises(ValueError, match="lead to no other folder"):
        check_folder(folder(tmp_path, features))


def test_sound_and_damaged_folders(tmp_path):
    check_folder(folder(tmp_path))
    pytest.importorskip("tensorflow_datasets")
    for i, (features, info) in enumerate(
        (("{", INFO), ("[]", INFO), (FEATURES, "{"), ({"pythonClassName": 3}, INFO), ("[" * 99999, INFO))
    ):
        (tmp_path / str(i)).mkdir()
        with pytest.raises(ValueError):
            data.load(folder(tmp_path / str(i), features, info), image_size=4)
