"""The table of classes learns as Adam says, on every backend, however often a class occurs in a batch."""

import keras
import numpy as np
from keras import ops

from keras_diffusion.layers import LabelEmbedding


def test_repeated_labels_take_adams_step():
    layer = LabelEmbedding(3, 1, null_class=False)
    inputs = keras.Input((), dtype="int32")
    model = keras.Model(inputs, layer(inputs))
    start = ops.convert_to_numpy(layer.table.embeddings)[:, 0]
    rate, b1, b2 = 0.1, 0.9, 0.999
    model.compile(
        keras.optimizers.Adam(rate, b1, b2, epsilon=1e-7), loss=lambda y, p: ops.sum(p[:, 0]) + 0.0 * ops.sum(y)
    )
    batches = [[0, 0, 0, 1], [0, 1, 1, 2], [2, 2, 2, 2]]
    model.fit(np.array(batches).reshape(-1), np.zeros(12, "float32"), batch_size=4, shuffle=False, verbose=0)
    # d loss / d row = how often the class occurs
    m, v, expected = np.zeros(3), np.zeros(3), start.astype("float64")
    for step, batch in enumerate(batches, 1):
        gradient = np.bincount(batch, minlength=3)
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        expected -= rate * m / (1 - b1**step) / (np.sqrt(v / (1 - b2**step)) + 1e-7)
    np.testing.assert_allclose(ops.convert_to_numpy(layer.table.embeddings)[:, 0], expected, atol=1e-5)
