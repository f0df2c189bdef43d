"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, in NumPy.

A message is a polynomial over bits, its first bit the highest power of x. The checksum is, but for two inversions, the
remainder

    R(M) = M·x³² mod P
    P = x³² + x²⁸ + x²⁷ + x²⁶ + x²⁵ + x²³ + x²² + x²⁰ + x¹⁹ + x¹⁸ + x¹⁴ + x¹³ + x¹¹ + x¹⁰ + x⁹ + x⁸ + x⁶ + 1

R is linear, (M ⊕ N) ↦ R(M) ⊕ R(N), so the bytes of a block need not wait for one another. Three steps use that:

1. **Folding.** P divides Q = x⁵⁶⁸⁵ + x¹³⁶² + x⁴²⁶ + 1, and squaring over bits is Q(x)² = Q(x²), so P divides Q(x³²) as
   well. Hence a word of 32 bits may be erased if it is XORed into the words 4323, 5259 and 5685 places further on: the
   remainder stays. Whole blocks of words fold at once, at the speed of XOR, until some 40 KB are left.
2. **Tables.** T[p][b] is the remainder of byte b at place p of a block of 256. A block's remainder is the XOR of 256
  such entries.
3. **Chaining.** A remainder is carried on by XORing it into the first four bytes of what follows.

Reference: RFC 3720, appendix B.4 (test vectors).
"""

import numpy as np

_POLYNOMIAL = (
    0x82F63B78  # P without x³², lowest power in the highest bit: the order in which the checksum sends its bits
)
_FOLDS = (4323, 5259, 5685)  # 5685 − 1362, 5685 − 426, 5685 − 0
_BLOCK = 256
_CHUNK = 1 << 20  # folded in a copy that stays in the processor's cache


def _tables():
    """T (256, 256) uint32: T[p][b] is the remainder of byte b with 255 − p bytes of zeros behind it."""
    last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = (last >> 1) ^ np.where(last & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    tables = [last]
    for _ in range(_BLOCK - 1):
        tables.append((tables[-1] >> 8) ^ last[tables[-1] & 0xFF])
    return np.stack(tables[::-1])


_TABLES = _tables()
_FIRST = _TABLES[:4].tolist()  # what a remainder becomes when a block passes by
_LAST = _TABLES[-1].tolist()


def crc32c(data, crc=0):
    """CRC-32C of bytes.

    Args:
        data: bytes, or anything with a contiguous buffer (an array).
        crc: checksum of what came before, to go on from it. Default 0: nothing came before.

    Returns:
        int in [0, 2³²).
    """
    data = np.frombuffer(data, np.uint8)
    state = crc ^ 0xFFFFFFFF
    head = data.size % 4
    for byte in data[:head].tolist():
        state = (state >> 8) ^ _LAST[(state ^ byte) & 0xFF]
    for start in range(head, data.size, _CHUNK):
        state = _remainder(data[start : start + _CHUNK], state)
    return state ^ 0xFFFFFFFF


def masked(crc):
    """The form in which TensorFlow stores a checksum, so that a checksum of data with checksums in it is none of a
    special kind.

    Args:
        crc: int, CRC-32C.

    Returns:
        the checksum rotated by 15 bits to the right, plus 0xa282ead8, modulo 2³².
    """
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _remainder(data, state):
    """The state after `data`, whose size is a multiple of 4."""
    words = np.frombuffer(data.tobytes(), "<u4").copy()
    words[0] ^= np.uint32(state)
    start, step, reach = 0, _FOLDS[0], _FOLDS[-1]
    while start + step + reach <= words.size:
        block = words[start : start + step]
        for fold in _FOLDS:
            words[start + fold : start + fold + step] ^= block
        start += step
    rest = words[start:].view(np.uint8)
    # Zeros in front of a message change no remainder.
    blocks = np.pad(rest, (-rest.size % _BLOCK, 0)).reshape(-1, _BLOCK)
    remainders = np.bitwise_xor.reduce(_TABLES[np.arange(_BLOCK), blocks], axis=1)
    state = 0
    for remainder in remainders.tolist():
        t0, t1, t2, t3 = _FIRST
        state = t0[state & 0xFF] ^ t1[state >> 8 & 0xFF] ^ t2[state >> 16 & 0xFF] ^ t3[state >> 24] ^ remainder
    return state
