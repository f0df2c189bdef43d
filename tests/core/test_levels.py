import warnings

import numpy as np
import pytest
from golden_data import array, tensor

from keras_diffusion.core.levels import Levels
from keras_diffusion.core.precision import solver_dtype, solver_layer_options
from keras_diffusion.samplers import DDIMSampler


def test_log_snr_on_the_host_is_infinite_at_the_ends_and_does_not_warn():
    levels = Levels(np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.6, 1.0]), np.array([1.0, 0.8, 0.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_snr = levels.log_snr
    np.testing.assert_allclose(log_snr, [-np.inf, 2 * np.log(0.75), np.inf])
    assert log_snr.dtype == np.float64


def test_log_snr_of_tensors():
    levels = Levels(tensor([1.0, 0.5, 0.0]), tensor([0.0, 0.6, 1.0]), tensor([1.0, 0.8, 0.0]))
    np.testing.assert_allclose(array(levels.log_snr), [-np.inf, 2 * np.log(0.75), np.inf], rtol=1e-6)


def test_map_applies_to_every_field():
    levels = Levels(np.arange(3), np.arange(3) + 10, np.arange(3) + 20).map(lambda v: v[:-1])
    assert isinstance(levels, Levels)
    np.testing.assert_array_equal(levels, [[0, 1], [10, 11], [20, 21]])


def test_solver_type_is_never_half_precision(monkeypatch):
    for floatx, expected in (
        ("float32", "float32"),
        ("float64", "float64"),
        ("bfloat16", "float32"),
        ("float16", "float32"),
    ):
        monkeypatch.setattr("keras.config.floatx", lambda floatx=floatx: floatx)
        assert solver_dtype() == expected


def test_solver_layers_do_not_autocast_and_keep_their_other_options():
    options = solver_layer_options({"name": "a"})
    assert options == {"name": "a", "dtype": solver_dtype(), "autocast": False}
    assert solver_layer_options({"dtype": "float16"})["dtype"] == "float16"


def test_an_option_that_a_layer_does_not_have():
    message = r"DDIMSampler has no option 'ets'. Its options: eta, s_noise. Received: 'ets'=0.5. Did you mean 'eta'\?"
    with pytest.raises(ValueError, match=message):
        DDIMSampler(ets=0.5)
