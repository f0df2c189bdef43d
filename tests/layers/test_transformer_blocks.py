import keras
import numpy as np
import pytest
from calling import call
from keras import ops

from keras_diffusion.layers.dit_block import DiTBlock
from keras_diffusion.layers.perturbation import perturbed_attention
from keras_diffusion.layers.rotary import rotate
from keras_diffusion.layers.ssm_block import SSMDiTBlock
from keras_diffusion.layers.state_space import StateSpace
from keras_diffusion.layers.uvit_block import UViTBlock

RNG = np.random.RandomState(0)
TOKENS, CONDITION = RNG.normal(size=(2, 6, 8)).astype("float32"), RNG.normal(size=(2, 4)).astype("float32")
IMAGE = np.zeros((2, 4, 6, 1), "float32")


def array(value):
    return ops.convert_to_numpy(value)


def randomized(layer, *inputs):
    layer.build(*[[np.shape(v) for v in value] if isinstance(value, list) else np.shape(value) for value in inputs])
    rng = np.random.RandomState(1)
    layer.set_weights([(w == 1) + 0.3 * rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def blocks(**options):
    """One block of each kind, with its inputs."""
    return [
        (randomized(DiTBlock(2, **options), TOKENS, [CONDITION]), (TOKENS, [CONDITION])),
        (
            randomized(UViTBlock(2, double_attention=True, use_projection=True, norm_inputs=True, **options), TOKENS),
            (TOKENS,),
        ),
        (
            randomized(
                SSMDiTBlock(3, spatial_fusion=True, order="hilbert", patch_size=2, **options),
                TOKENS,
                [CONDITION],
                IMAGE,
            ),
            (TOKENS, [CONDITION], IMAGE),
        ),
    ]


def test_rotary_products_depend_on_distance_alone():
    query, key = (np.tile(RNG.normal(size=(1, 1, 1, 7)), (1, 9, 1, 1)).astype("float32") for _ in range(2))
    products = array(rotate(query))[0, :, 0] @ array(rotate(key))[0, :, 0].T
    for distance in range(-3, 4):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(products) > 0.1
    np.testing.assert_array_equal(array(rotate(query))[..., 6], query[..., 6])  # an odd channel stays


@pytest.mark.parametrize("reverse", [False, True])
def test_state_space_is_its_recurrence(reverse):
    u = RNG.normal(size=(2, 11, 3))
    layer = StateSpace(5, reverse=reverse, seed=0)
    y = call(layer, u)
    weights = {w.name: array(w).astype("float64") for w in layer.weights}
    a = -np.exp(weights["log_a_real"]) + 1j * weights["a_imag"]
    step = np.exp(a * np.exp(weights["log_dt"]))
    b = (weights["b_real"] + 1j * weights["b_imag"]) * (step - 1) / a
    c = weights["c_real"] + 1j * weights["c_imag"]
    state, expected = np.zeros((2, 5), complex), np.zeros_like(u)
    for k in range(11)[:: -1 if reverse else 1]:
        state = step * state + u[:, k] @ b
        expected[:, k] = (state @ c).real + weights["d"] * u[:, k]
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_blocks_start_as_the_identity():
    for block in (DiTBlock(2), SSMDiTBlock(3)):
        np.testing.assert_array_equal(call(block, TOKENS, [CONDITION]), TOKENS)


def test_dropout_drops_in_training_only():
    for block, inputs in blocks(dropout=0.5, seed=0):
        still = call(block, *inputs)
        np.testing.assert_array_equal(call(block, *inputs, training=False), still)
        assert np.abs(call(block, *inputs, training=True) - still).max() > 1e-2, block.name


def test_perturbation_reaches_the_attention_of_a_block():
    (dit, inputs), (uvit, _), (ssm, with_image) = blocks()
    still, fixed = array(dit(*inputs)), array(ssm(*with_image))
    with perturbed_attention(lambda name: name != uvit.name):
        assert np.abs(array(dit(*inputs)) - still).max() > 1e-3
        np.testing.assert_array_equal(array(ssm(*with_image)), fixed)  # no attention in it


def test_spatial_fusion_lets_neighbours_of_the_image_speak():
    block, inputs = blocks()[2]
    block.convolutions[1].set_weights([kernel(2, 0)])
    for convolution in (block.convolutions[0], block.convolutions[2]):
        convolution.set_weights([np.zeros((3, 3, 8, 1))])
    alone = call(block, *inputs)
    block.convolutions[1].set_weights([np.zeros((3, 3, 8, 1))])
    np.testing.assert_array_equal(call(block, *inputs), alone)  # 2×3 patches: nobody has a neighbour two rows down
    block.convolutions[0].set_weights([kernel(1, 2)])
    changed = np.abs(call(block, *inputs) - alone).max(axis=(0, 2))
    assert (changed > 1e-4).sum() == 4  # all but the last of each row have one at their right


def kernel(row, column):
    """A depthwise kernel that reads one place alone."""
    weights = np.zeros((3, 3, 8, 1))
    weights[row, column] = 1
    return weights


def test_parallel_branches_are_another_network():
    inputs = (TOKENS, [CONDITION, CONDITION])
    block = randomized(DiTBlock(2, conditions=("time", "context")), *inputs)
    old = DiTBlock(2, conditions=("time", "context"), parallel=True)
    old.build(TOKENS.shape, [CONDITION.shape] * 2)
    old.set_weights(block.get_weights())
    assert np.abs(call(block, *inputs) - call(old, *inputs)).max() > 1e-2


def test_config_round_trip():
    for block, inputs in blocks(dropout=0.1, remat=True, seed=3):
        copy = type(block).from_config(block.get_config())
        assert copy.get_config() == block.get_config()
        expected = call(block, *inputs)
        copy(*inputs)
        copy.set_weights(block.get_weights())
        np.testing.assert_array_equal(call(copy, *inputs), expected)


def test_rematerialization_changes_no_gradient():
    class Model(keras.Model):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def call(self, x, training=False):
            return self.block(x, [x[:, 0, :4]], training=training)

    results = []
    for remat in (False, True):
        model = Model(randomized(DiTBlock(2, remat=remat, dropout=0.5, seed=0), TOKENS, [CONDITION]))
        model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=keras.backend.backend() == "jax")
        model.train_on_batch(TOKENS, np.zeros_like(TOKENS))
        results.append(model.block.get_weights())
    for plain, rematerialized in zip(*results, strict=True):
        np.testing.assert_allclose(plain, rematerialized, atol=1e-5)
    assert np.abs(results[0][0] - randomized(DiTBlock(2), TOKENS, [CONDITION]).get_weights()[0]).max() > 1e-4
