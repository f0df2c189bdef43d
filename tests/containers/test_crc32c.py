import numpy as np
import pytest

from keras_diffusion.containers.crc32c import crc32c, masked


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_vectors_of_rfc_3720(data, expected):
    assert crc32c(data) == expected


def bit_by_bit(data, crc=0):
    """The definition: one division step per bit."""
    state = crc ^ 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 255, 256, 257, 1023, 40_031, 40_032, 40_035, 40_036, 60_001])
def test_sizes_around_the_blocks(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == bit_by_bit(data)


def test_goes_on_from_a_checksum():
    data = np.random.default_rng(0).bytes(100_000)
    for cut in (0, 1, 50_001, 100_000):
        assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)


def test_chunks_of_long_messages():
    data = np.random.default_rng(1).integers(0, 256, (1 << 21) + 37_339, np.uint8)
    pieces = 0
    for start in range(0, data.size, 30_000):  # short enough for the tables alone
        pieces = crc32c(data[start : start + 30_000], pieces)
    assert crc32c(data) == pieces


def test_arrays_are_taken_as_their_bytes():
    assert crc32c(np.array([1, 2], "<u4")) == crc32c(b"\1\0\0\0\2\0\0\0")


def test_mask_rotates_and_adds():
    assert masked(0) == 0xA282EAD8
    assert masked(1) == (1 << 17) + 0xA282EAD8
    assert masked(0xFFFFFFFF) == 0xA282EAD7  # the sum wraps
