import numpy as np
import pytest

from keras_diffusion.data.sources import ArraySource, Subset, as_source, held_out_indices


def test_array_source_reads_samples_and_batches_alike():
    source = ArraySource({"images": np.arange(12, dtype="uint8").reshape(3, 2, 2, 1), "labels": [0, 2, 1]})
    batch = source.batch(np.array([2, 0]))
    for row, index in enumerate([2, 0]):
        for key, value in source[index].items():
            np.testing.assert_array_equal(batch[key][row], value)
    assert source.num_classes == 3 and len(source) == 3


def test_singular_keys_and_missing_labels():
    source = ArraySource({"image": np.zeros((2, 2, 2, 1), "uint8"), "label": None})
    assert set(source[0]) == {"images"} and source.num_classes is None


@pytest.mark.parametrize(
    ("sample", "keys"),
    [(np.zeros((2, 2, 1), "uint8"), {"images"}), ((np.zeros((2, 2, 1), "uint8"), 1), {"images", "labels"})],
)
def test_forms_of_a_sample(sample, keys):
    assert set(as_source([sample, sample])[1]) == keys


@pytest.mark.parametrize("key", ["captions", "caption", "text", "prompt"])
def test_names_of_captions(key):
    image = np.zeros((2, 2, 1), "uint8")
    assert as_source([{"image": image, key: ["a", "b"]}])[0]["captions"] == ("a", "b")
    other = as_source([{"image": image, key: "a", "captions": "b"}])[0]
    assert other["captions"] == ("b",)


def test_subset():
    source = Subset(
        ArraySource({"images": np.arange(5, dtype="uint8")[:, None, None, None], "labels": np.arange(5)}), [4, 1, 3]
    )
    assert source[0]["labels"] == 4
    assert source.batch(np.array([1, 2]))["images"].ravel().tolist() == [1, 3]
    assert source.labels.tolist() == [4, 1, 3] and source.num_classes == 5


def test_held_out_part_is_stratified_and_fixed():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    kept, held_out = held_out_indices(100, 0.2, labels)
    assert np.bincount(labels[held_out]).tolist() == [10, 6, 4]
    assert sorted([*kept, *held_out]) == list(range(100))
    np.testing.assert_array_equal(held_out, held_out_indices(100, 0.2, labels)[1])


@pytest.mark.parametrize(
    ("fraction", "message"), [(1.5, r"in \(0, 1\). Received: validation_fraction=1.5"), (0.01, "leaves one part empty")]
)
def test_bad_fraction(fraction, message):
    with pytest.raises(ValueError, match=message):
        held_out_indices(10, fraction)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((2, 2))}, r"needs the key 'images'. Received keys: \['pictures'\]"),
        (
            {"images": np.zeros((2, 2, 2, 1), "uint8"), "labels": [0]},
            r"same number of samples.*'images': 2, 'labels': 1",
        ),
        (np.zeros(3), r"at least one sample. Received: shape=\(3,\)"),
        (np.zeros((0, 2, 2, 1)), r"at least one sample"),
    ],
)
def test_bad_arrays(arrays, message):
    with pytest.raises(ValueError, match=message):
        ArraySource(arrays)


def test_no_source():
    with pytest.raises(ValueError, match="random access.*type generator"):
        as_source(i for i in range(3))


def test_sample_without_images():
    with pytest.raises(ValueError, match=r"needs the key 'images'.*sample 0 with keys \['text'\]"):
        as_source([{"text": "a"}])[0]


def test_samples_of_different_size():
    source = as_source([np.zeros((2, 2, 1), "uint8"), np.zeros((3, 2, 1), "uint8")])
    with pytest.raises(ValueError, match=r"\(2, 2, 1\) in sample 0 and \(3, 2, 1\) in sample 1. Pass image_size"):
        source.batch([0, 1])
