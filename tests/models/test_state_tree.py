import keras
import numpy as np
import pytest

import keras_diffusion as kd


def test_every_variable_has_its_place(make_model, blobs, difference):
    """The average's weights have the paths of the network's, and a second optimizer of a process another name."""
    first = make_model()
    first.fit(blobs, epochs=1, verbose=0)
    tree = first.get_state_tree("numpy_array")
    assert set(tree["non_trainable_variables"]) >= {"average", "training_noise"}
    leaves = keras.tree.flatten(tree)
    assert len(leaves) == len(first.variables) + len(first.metrics_variables) + len(first.optimizer.variables)
    second = make_model()
    second.optimizer.build(second.trainable_variables)
    second.set_state_tree(tree)
    assert difference(first, second) == 0
    for a, b in zip(first.optimizer.variables, second.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b), err_msg=a.path)
    seeds = [keras.ops.convert_to_numpy(model.training_noise.state) for model in (first, second)]
    np.testing.assert_array_equal(*seeds)


def test_errors(make_model):
    with pytest.raises(ValueError, match="'backend_tensor' or 'numpy_array'. Received: value_format='list'"):
        make_model().get_state_tree("list")
    with pytest.raises(ValueError, match="A state tree has the branches trainable_variables.*Received: 'weights'"):
        make_model().set_state_tree({"weights": {}})


def test_without_orbax_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r"keras-diffusion\[orbax\]"):
        kd.callbacks.orbax_checkpoint(tmp_path)


@pytest.mark.slow
def test_training_goes_on_from_an_orbax_checkpoint(make_model, blobs, difference, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    first, batches = make_model(), kd.data.Batches(blobs, 32, value_range=None)
    first.fit(
        batches, epochs=2, verbose=0, callbacks=[kd.callbacks.orbax_checkpoint(tmp_path / "orbax", max_to_keep=1)]
    )
    second, again = make_model(), kd.data.Batches(blobs, 32, value_range=None)
    second.optimizer.build(second.trainable_variables)
    second.load_weights(tmp_path / "orbax")
    assert difference(first, second) == 0
    again.epoch = 2
    for model, data in ((first, batches), (second, again)):
        model.fit(data, initial_epoch=2, epochs=3, verbose=0)
    assert difference(first, second) == 0
