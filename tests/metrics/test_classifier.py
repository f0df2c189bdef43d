import numpy as np
import pytest

from keras_diffusion import data
from keras_diffusion.metrics import classifier_accuracy, train_classifier


class Constant:
    def predict(self, features):
        self.seen = features.shape
        return np.full(len(features), 3)


def test_accuracy_is_the_share_of_hits():
    judge = Constant()
    assert classifier_accuracy(judge, np.zeros((4, 8, 8, 1)), [3, 3, 3, 1]) == 0.75
    assert judge.seen == (4, 64)


def test_the_judge_of_the_demo_knows_real_digits_it_has_not_seen():
    train, test = (
        data.load("digits", split=split, batch_size=2000, drop_remainder=False, shuffle=False)[0]
        for split in ("train", "test")
    )
    judge = train_classifier(train["images"], train["labels"])
    assert classifier_accuracy(judge, test["images"], test["labels"]) >= 0.98
    assert classifier_accuracy(judge, test["images"], (test["labels"] + 1) % 10) < 0.02
    noise = np.random.RandomState(0).uniform(-1, 1, (500, 8, 8, 1))
    assert classifier_accuracy(judge, noise, np.arange(500) % 10) < 0.2


def test_labels_must_match_the_images():
    with pytest.raises(ValueError, match=r"one label for each.*\(4, 8, 8, 1\), labels of shape \(3,\)"):
        classifier_accuracy(Constant(), np.zeros((4, 8, 8, 1)), [1, 2, 3])


def test_nan_is_refused():
    with pytest.raises(ValueError, match=r"must be finite.*Received: 64"):
        classifier_accuracy(Constant(), np.full((1, 8, 8, 1), np.nan), [1])
