"""Counter noise and initial noise: known answers, statistics, and independence of how a batch is cut."""

import math

import numpy as np
import pytest
from golden_data import array
from keras import ops

from keras_diffusion.core import noise
from keras_diffusion.runtime.compile import Compiled


def words(*values):
    return tuple(ops.convert_to_tensor(np.array(v, noise.word_dtype())) for v in values)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(key, counter, expected):
    """The vectors of threefry2x32 with 20 rounds that come with Random123 (kat_vectors)."""
    result = noise.threefry_2x32(words(*key), words(*counter))
    assert tuple(int(array(v)) for v in result) == expected


def test_threefry_on_vectors_equals_threefry_on_scalars():
    counters = np.array([0, 0x243F6A88, 0xFFFFFFFF]), np.array([0, 0x85A308D3, 0xFFFFFFFF])
    vector = noise.threefry_2x32(words(5, 6), words(*counters))
    for i in range(3):
        scalar = noise.threefry_2x32(words(5, 6), words(counters[0][i], counters[1][i]))
        assert [int(array(v)[i]) for v in vector] == [int(array(v)) for v in scalar]


def reference_normals(seed, step, draw, shape, first_index=0):
    """The definition in plain Python integers and float64."""
    mask = 0xFFFFFFFF

    def threefry(key, counter):
        schedule = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
        x0, x1 = (counter[0] + key[0]) & mask, (counter[1] + key[1]) & mask
        for block in range(5):
            for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
                x0 = (x0 + x1) & mask
                x1 = ((x1 << rotation | x1 >> 32 - rotation) & mask) ^ x0
            x0 = (x0 + schedule[(block + 1) % 3]) & mask
            x1 = (x1 + schedule[(block + 2) % 3] + block + 1) & mask
        return x0, x1

    size = math.prod(shape[1:])
    pairs = (size + 1) // 2
    key = threefry((seed & mask, seed >> 32), (step, draw))
    rows = []
    for sample in range(first_index, first_index + shape[0]):
        bits = [threefry(key, (sample, element)) for element in range(pairs)]
        polar = [
            (math.sqrt(-2 * math.log(((a >> 8) + 0.5) * 2**-24)), 2 * math.pi * (b >> 8) * 2**-24) for a, b in bits
        ]
        rows.append(([r * math.cos(angle) for r, angle in polar] + [r * math.sin(angle) for r, angle in polar])[:size])
    return np.array(rows).reshape(shape)


PROGRAMS = {}


def draw(seed, step, number, shape, first_index=0):
    """`counter_normal`, compiled: one by one its integer operations take their time."""
    if (number, shape) not in PROGRAMS:
        PROGRAMS[number, shape] = Compiled(
            lambda words, step, first: noise.counter_normal(words, step, number, shape, first)
        )
    step, first = (ops.convert_to_tensor(np.int32(v)) for v in (step, first_index))
    return array(PROGRAMS[number, shape](noise.seed_words(seed), step, first))


@pytest.mark.parametrize("shape", [(3, 5), (2, 2, 3, 1), (4,)])
def test_counter_normal_is_what_its_definition_says_on_every_backend(shape):
    seed = 2**40 + 5
    np.testing.assert_allclose(
        draw(seed, 3, 1, shape, first_index=7), reference_normals(seed, 3, 1, shape, 7), atol=5e-6
    )


def test_counter_normal_statistics():
    x = draw(0, 0, 0, (4000, 50)).astype("float64").reshape(-1)
    n = x.size
    # mean, variance, skewness and kurtosis within 4 standard errors
    for moment, expected, std in ((x, 0, 1), (x**2, 1, 2**0.5), (x**3, 0, 15**0.5), (x**4, 3, 96**0.5)):
        assert abs(moment.mean() - expected) < 4 * std / n**0.5
    assert 4.2 < np.abs(x).max() < 6


@pytest.mark.parametrize("axis", ["samples", "elements"])
def test_counter_normal_has_no_correlation_between_neighbours(axis):
    x = draw(1, 0, 0, (2000, 50))
    a, b = (x[1:], x[:-1]) if axis == "samples" else (x[:, 1:], x[:, :-1])
    assert abs((a * b).mean()) < 4 / a.size**0.5


def test_counter_normal_differs_between_seeds_steps_draws_and_samples():
    first = draw(5, 1, 0, (2, 200))
    others = [
        draw(seed, step, number, (2, 200))
        for seed, step, number in ((6, 1, 0), (5, 2, 0), (5, 1, 1), (5 + 2**32, 1, 0), (1, 5, 0), (6, 0, 0))
    ]
    for other in [first[::-1], *others]:
        assert abs((first * other).mean()) < 4 / 400**0.5


def test_counter_normal_does_not_depend_on_batch_size_or_cut():
    whole = draw(3, 2, 0, (10, 7))
    parts = [draw(3, 2, 0, (stop - start, 7), first_index=start) for start, stop in ((0, 1), (1, 6), (6, 10))]
    # The bits are equal; TensorFlow's logarithm and cosine round differently in vectors of other lengths.
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=2e-6)


def test_counter_normal_eager_with_plain_integers_equals_compiled():
    eager = noise.counter_normal(noise.seed_words(3), 5, 0, (4, 3), 6)
    np.testing.assert_allclose(array(eager), draw(3, 5, 0, (4, 3), 6), atol=2e-6)


def test_initial_noise_is_named_by_seed_and_index():
    whole = noise.initial_noise(7, range(5), (4, 4, 1))
    assert whole.shape == (5, 4, 4, 1) and whole.dtype == np.float32
    np.testing.assert_array_equal(noise.initial_noise(7, [3, 1], (4, 4, 1)), whole[[3, 1]])
    assert not np.allclose(noise.initial_noise(8, [0], (4, 4, 1)), whole[:1])
    # Frozen: NumPy's Philox stream, so that a seed gives the same picture in years to come.
    expected = np.random.Generator(np.random.Philox(key=[7, 2])).standard_normal((4, 4, 1), dtype="float32")
    np.testing.assert_array_equal(whole[2], expected)


def test_initial_noise_of_no_samples():
    assert noise.initial_noise(0, [], (3, 2)).shape == (0, 3, 2)


def test_initial_noise_statistics():
    x = noise.initial_noise(0, range(200), (500,)).astype("float64")
    assert abs(x.mean()) < 4 / x.size**0.5
    assert abs(x.var() - 1) < 4 * (2 / x.size) ** 0.5
    assert abs((x[1:] * x[:-1]).mean()) < 4 / x[1:].size ** 0.5


def test_seed_words_and_new_seeds():
    assert array(noise.seed_words(2**40 + 5)).tolist() == [5, 2**8]
    assert noise.check_seed(np.int64(3)) == 3
    assert noise.check_seed(None) != noise.check_seed(None)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "0"])
def test_a_seed_must_be_a_64_bit_integer(seed):
    with pytest.raises(ValueError, match=r"seed must be an integer from 0 to 2\^64 − 1, or None.*Received: seed="):
        noise.check_seed(seed)


LARGE = [0, 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**63 + 2, 2**63 + 500, 2**64 - 2, 2**64 - 1]


def test_all_64_bit_seeds_differ():
    start = {noise.initial_noise(seed, [3], (4,)).tobytes() for seed in LARGE}
    loop = {array(noise.seed_words(seed)).tobytes() for seed in LARGE}
    streams = {noise.philox(seed, 1).random(4).tobytes() for seed in LARGE}
    assert len(start) == len(loop) == len(streams) == len(LARGE)


def test_numpys_integers_are_seeds():
    for seed in (np.uint64(2**63 + 1), np.int64(7), np.uint8(3), np.array(5)):
        np.testing.assert_array_equal(noise.initial_noise(seed, [0], (4,)), noise.initial_noise(int(seed), [0], (4,)))


@pytest.mark.parametrize("seed", [-1, 2**64, 10**30, True, 1.0, "1", np.float64(2.0), [1], np.zeros(2)])
def test_what_is_no_seed(seed):
    with pytest.raises(
        ValueError, match="A seed must be an integer from 0 to 2\\^64 − 1, or None for a new one. Received: seed="
    ):
        noise.check_seed(seed)


def test_seeds_of_kerass_generators():
    assert noise.generator_seed(None) is None and noise.generator_seed(7) == 7
    assert len({noise.generator_seed(seed) for seed in LARGE}) == len(LARGE)
    assert all(0 <= noise.generator_seed(seed) < 2**31 for seed in LARGE)
