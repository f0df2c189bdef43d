import numpy as np
import pytest

from keras_diffusion.core.jax_random import jax_normal

# jax.random.normal(jax.random.PRNGKey(42), (6,)) and (8,)) of JAX 0.4.30 ("original") and 0.10.2 ("partitionable"),
# times 16.
TABLES = {
    ("original", 6): [
        9.796243667602539,
        17.96141242980957,
        18.197307586669922,
        -13.0037202835083,
        -14.246479988098145,
        2.0197031497955322,
    ],
    ("original", 8): [
        7.833999156951904,
        4.036120891571045,
        -10.03824520111084,
        -11.241641998291016,
        11.451738357543945,
        -9.095989227294922,
        -27.938928604125977,
        -43.61387252807617,
    ],
    ("partitionable", 6): [
        -0.4528738558292389,
        7.474109649658203,
        4.731247425079346,
        2.4567346572875977,
        -1.9845250844955444,
        3.4707703590393066,
    ],
    ("partitionable", 8): [
        -0.4528738558292389,
        7.474109649658203,
        4.731247425079346,
        2.4567346572875977,
        -1.9845250844955444,
        3.4707703590393066,
        -23.05406379699707,
        12.093758583068848,
    ],
}
LAST = {"original": -8.238971710205078, "partitionable": 11.084456443786621}


@pytest.mark.parametrize(("stream", "size"), TABLES)
def test_tables_of_jax(stream, size):
    np.testing.assert_allclose(16 * jax_normal(42, size, stream), np.array(TABLES[stream, size], "float32"), rtol=5e-7)


@pytest.mark.parametrize("stream", LAST)
def test_long_tables(stream):
    numbers = 16 * jax_normal(42, 512, stream)
    assert numbers.dtype == np.float32
    np.testing.assert_allclose(numbers[-1], LAST[stream], rtol=5e-7)
    # A standard normal: within three standard errors.
    assert abs(numbers.mean() / 16) < 3 / np.sqrt(512) and abs(numbers.std() / 16 - 1) < 3 / np.sqrt(2 * 512)


def test_odd_sizes():
    """The original stream pads its counter; the partitionable one is a prefix of any longer table."""
    assert jax_normal(42, 5, "original").shape == (5,)
    np.testing.assert_array_equal(jax_normal(42, 5), jax_normal(42, 8)[:5])


def test_unknown_stream():
    with pytest.raises(ValueError, match="stream='new'"):
        jax_normal(0, 4, "new")
