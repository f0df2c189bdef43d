"""From tensors into variables: what fits is assigned, what does not is named before anything is read."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_diffusion.checkpoints.families.family import Family, Source
from keras_diffusion.checkpoints.transfer import Report, transfer
from keras_diffusion.containers.errors import CheckpointError


class Tensors:
    """A container of arrays."""

    path, format = "weights.test", "arrays"

    def __init__(self, arrays):
        self.arrays, self.reads = arrays, []
        self.tensors = {
            name: SimpleNamespace(shape=array.shape, dtype=str(array.dtype)) for name, array in arrays.items()
        }

    def read(self, name):
        self.reads.append(name)
        return self.arrays[name]


@pytest.fixture
def network():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="dense")])


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {"w": rng.normal(size=(2, 3)).astype("float32"), "b": rng.normal(size=(3,)).astype("float32")}


def sources(network, kernel=None):
    return [(network.layers[0].kernel, kernel or Source(("w",))), (network.layers[0].bias, Source(("b",)))]


def run(arrays, network, pairs, **options):
    container, report = Tensors(arrays), Report("weights.test", "arrays", "test", "raw")
    transfer(container, pairs, network, report, verbose=0, **options)
    return container, report


def test_values_arrive_and_the_report_says_from_where(network, arrays):
    _, report = run({**arrays, "step": np.zeros(())}, network, sources(network), ignored={"step"})
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(network.layers[0].kernel), arrays["w"])
    assert list(report.matched.values()) == [("w",), ("b",)]
    assert report.ignored == ["step"] and not report.missing and not report.unused
    assert "raw weights of a test checkpoint (arrays): 2 of 2 variables" in str(report)


def test_a_source_may_combine_tensors(network, arrays):
    halves = {"w1": arrays["w"][:, :1], "w2": arrays["w"][:, 1:], "b": arrays["b"]}
    run(halves, network, sources(network, Source(("w1", "w2"), lambda *parts: np.concatenate(parts, axis=1))))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(network.layers[0].kernel), arrays["w"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("w"), r"lacks 1 tensors .*: w"),
        (lambda a: a.update(w=a["w"].T), r"w of shape \(3, 2\) for .*kernel of shape \(2, 3\)"),
        (lambda a: a.update(extra=a["b"]), "No use for 1 tensors: extra"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_read(network, arrays, change, message):
    before = keras.ops.convert_to_numpy(network.layers[0].kernel)
    change(arrays)
    container = Tensors(arrays)
    with pytest.raises(CheckpointError, match=message) as error:
        transfer(container, sources(network), network, Report("p", "arrays", "test", "raw"), verbose=0)
    assert "File: 'weights.test'" in str(error.value) and container.reads == []
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(network.layers[0].kernel), before)


def test_loose_loading_reports_what_is_missing_and_unused(network, arrays):
    _, report = run({**arrays, "extra": arrays["b"]}, network, sources(network)[:1], strict=False)
    assert report.unused == ["b", "extra"] and len(report.missing) == 1 and "bias" in report.missing[0]
    assert "unused: extra" in str(report)
    with pytest.raises(CheckpointError, match="No source for 1 variables"):
        run(arrays, network, sources(network)[:1])


def test_values_that_are_not_finite_and_two_sources_for_one_variable_are_refused(network, arrays):
    arrays["b"][1] = np.inf
    with pytest.raises(CheckpointError, match="must be finite. Received: b"):
        run(arrays, network, sources(network))
    with pytest.raises(CheckpointError, match="one source. Received two for"):
        run(arrays, network, sources(network) + sources(network)[:1])


def test_a_family_falls_back_on_the_set_that_is_there_and_says_so():
    class OnlyRaw(Family):
        def weights(self, container):
            return {"raw": "network"}

    assert OnlyRaw().choose(None, "raw", "best") == ("raw", "network", [])
    name, root, notes = OnlyRaw().choose(None, "ema", "best")
    assert (name, root) == ("raw", "network") and "no averaged weights (EMA)" in notes[0]
