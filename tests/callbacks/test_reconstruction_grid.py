import keras
import numpy as np
import pytest
from PIL import Image

from keras_diffusion.callbacks import ReconstructionGrid

PICTURES = np.linspace(-1, 1, 5 * 16, dtype="float32").reshape(5, 4, 4, 1)


class Copier(keras.Model):
    """A model with one weight, whose reconstructions are the negatives."""

    factor = -1.0

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x, training=False):
        return self.dense(x)

    def reconstruct(self, images, weights="ema"):
        return self.factor * images


def fit(callback, epochs=5, model=None):
    model = model or Copier()
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 2)), np.ones((4, 1)), epochs=epochs, verbose=0, callbacks=[callback])


def test_originals_stand_above_reconstructions(tmp_path):
    fit(ReconstructionGrid(tmp_path, PICTURES, every=2, cols=3, scale=1))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"epoch-000{i}.png" for i in (2, 4, 5)]
    with Image.open(tmp_path / "epoch-0005.png") as image:
        pixels = np.array(image).reshape(4 * 5 + 1, 3 * 5 + 1, -1)[..., 0].astype(int)
    first, second = pixels[1:5, 1:5], pixels[6:10, 1:5]
    np.testing.assert_allclose(first + second, 255, atol=1)
    assert first.mean() < 100 and (pixels[11:, 11:] == 255).all()  # five pictures: the sixth place is empty


def test_pictures_that_are_not_finite_warn(tmp_path):
    model = Copier()
    model.factor = np.nan
    with pytest.warns(UserWarning, match="pictures after epoch 1 hold NaN"):
        fit(ReconstructionGrid(tmp_path, PICTURES), epochs=1, model=model)
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="`images` are pictures"):
        ReconstructionGrid(tmp_path, PICTURES[0])
    with pytest.raises(ValueError, match="`every`"):
        ReconstructionGrid(tmp_path, PICTURES, every=0)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a model with reconstruct"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0, callbacks=[ReconstructionGrid(tmp_path, PICTURES)])
