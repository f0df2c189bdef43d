import time

import numpy as np
import pytest

from keras_diffusion.configs.labels import check_class_names, label_of, labels_of, listed, name_of, parse_labels

FLOWERS = ["daisy", "rose", "tulip, red"]
FOLDERS = ["1", "2", "10"]  # numbers that are not the labels themselves


@pytest.mark.parametrize(
    "text, ids",
    [
        ("daisy", [0]),
        ("rose,daisy", [1, 0]),
        ("rose, 0", [1, 0]),
        ("0-1,rose", [0, 1, 1]),
        ("tulip, red", [2]),  # a comma within a name
        ("Rose", [1]),
        (["tulip, red", 0], [2, 0]),
        (2, [2]),
    ],
)
def test_names_and_numbers_may_stand_together(text, ids):
    assert parse_labels(text, FLOWERS) == ids


@pytest.mark.parametrize("text, ids", [("1", [0]), ("10", [2]), ("1-2", [0, 1]), ([1], [1])])
def test_where_names_are_numbers_texts_are_names(text, ids):
    assert parse_labels(text, FOLDERS) == ids


def test_names_of_digits_are_the_digits():
    assert parse_labels("7,0-2", [str(n) for n in range(10)]) == [7, 0, 1, 2]


@pytest.mark.parametrize(
    "labels, names, message",
    [
        ("dasy", FLOWERS, r"Unknown class name. Received: 'dasy'. Did you mean 'daisy'\? Known: 0 daisy, 1 rose"),
        ("0", FOLDERS, "Unknown class name. Received: '0'"),
        ("daisy", None, "Received: labels='daisy'. The model does not know its classes by name"),
        ("0-99999999999", None, "100,000 at most. Received: labels='0-99999999999'"),
        ("0-99999999999999999999999999", FLOWERS, "Unknown class name"),
        (",".join(["0-99999"] * 3), None, "100,000 at most"),
        ("3-1", None, "Labels are class ids"),
        ("", FLOWERS, "Labels are class ids"),
        ("9" * 10_000, None, "Labels are class ids"),
    ],
)
def test_bad_labels_are_refused_at_once(labels, names, message):
    began = time.perf_counter()
    with pytest.raises(ValueError, match=message) as error:
        parse_labels(labels, names)
    assert time.perf_counter() - began < 1 and len(str(error.value)) < 1000


def test_in_python_an_integer_is_a_label_and_a_text_a_name():
    assert labels_of(["rose", 0, "daisy"], FLOWERS) == [1, 0, 0]
    assert labels_of("rose", FLOWERS) == 1 and labels_of(2, FLOWERS) == 2
    assert labels_of(np.array(["rose", "daisy"]), FLOWERS) == [1, 0]
    given = np.array([1, 2])
    assert labels_of(given, FLOWERS) is given
    with pytest.raises(ValueError, match="does not know its classes by name"):
        label_of("rose", None)


def test_lists_are_short():
    assert listed(FLOWERS, 2) == "0 daisy, 1 rose, … (3 classes)"
    assert name_of(1, FLOWERS) == "rose" and name_of(1, None) == "class 1"


@pytest.mark.parametrize(
    "names, message",
    [
        (["a", "a"], "a list of different texts"),
        ("ab", "a list of different texts"),
        ([1, 2], "a list of different texts"),
        (["a"], "one name per class of the network, which has 2. Received: 1 names"),
    ],
)
def test_class_names_are_one_text_per_class(names, message):
    with pytest.raises(ValueError, match=message):
        check_class_names(names, 2)
    assert check_class_names(("a", "b"), 2) == ["a", "b"] and check_class_names(None, None) is None
