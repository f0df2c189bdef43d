"""What a start costs on JAX: every operation outside of a compiled function is a program of its own for each shape,
made in 10 to 50 ms.
"""

import keras
import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.runtime.compile import compiler_options

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="counts the programs that JAX compiles")
_COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def programs():
    """Names of the programs that JAX has compiled, or read from its cache, since the test began."""
    import jax

    names = []

    def listen(event, duration, fun_name=None, **_):
        if event == _COMPILED:
            names.append(fun_name)

    compiler_options()  # asks XLA once in a process, by compiling with them
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize(
    "make",
    [
        lambda: kd.networks.UNet((8, 8, 1), widths=(24, 40), num_res_blocks=1, num_classes=3, seed=0),
        lambda: kd.networks.UNet((8, 8, 1), widths=(20, 28), num_res_blocks=1, norm="rms", seed=0),
        lambda: kd.networks.FlaxUNet((8, 8, 1), widths=(12, 36), num_res_blocks=1, attention=[None, {"num_heads": 2}]),
        lambda: kd.networks.ResidualUNet((8, 8, 1), widths=(20, 28), block_depth=1),
        lambda: kd.networks.UViT((8, 8, 1), patch_size=2, emb_features=44, num_layers=2, num_heads=2),
        lambda: kd.networks.HybridSSMAttentionDiT((8, 8, 1), patch_size=2, emb_features=44, num_layers=2, num_heads=2),
    ],
    ids=["UNet", "UNet of rms norms", "FlaxUNet", "ResidualUNet", "UViT", "HybridSSMAttentionDiT"],
)
def test_making_a_network_compiles_nothing(programs, make):
    assert make().count_params() > 0
    assert programs == []


# What a multistep method remembers begins as zeros of the samples' shape: a program more.
@pytest.mark.parametrize("sampler, count", [("ddim", 1), ("ddpm", 1), ("dpmpp_2m", 2)])
def test_generate_compiles_its_loop_alone_and_once(programs, make_model, sampler, count):
    model = make_model(shape=(7,))
    del programs[:]
    model.generate(3, {"labels": [0, 1, 2]}, num_steps=4, sampler=sampler, seed=0, guidance_scale=2.0)
    assert len(programs) == count
    model.generate(3, {"labels": [2, 1, 0]}, num_steps=9, sampler=sampler, seed=1, guidance_scale=3.0)
    assert len(programs) == count


def test_counting_sees_a_program_and_sees_it_once(programs):
    keras.ops.zeros((3, 5, 7, 11, 13))
    assert len(programs) == 1
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(keras.ops.zeros((3, 5, 7, 11, 13))), 0)
    assert len(programs) == 1
