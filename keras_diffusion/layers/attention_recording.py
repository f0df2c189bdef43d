"""A tap on attention: the queries and keys of every layer that is called, with its name.

The kernels that compute attention never hold its weights as a whole, so whoever wants to see them takes queries and
keys and computes them again (`visualization.attention_maps`). The tap is read when a layer is called; in compiled
programs that is when they are traced.
"""

import contextlib
import contextvars

_RECORD = contextvars.ContextVar("recorded_attention", default=None)


@contextlib.contextmanager
def recorded_attention():
    """A context that yields a dict, which fills with {path of the layer: (query, key, mask)}: `(B, N, heads, d)`,
    `(B, M, heads, d)`, and which keys are seen, `(B, M)` or None. A layer that is called twice counts with its last
    call.
    """
    found = {}
    token = _RECORD.set(found)
    try:
        yield found
    finally:
        _RECORD.reset(token)


def record_attention(name, query, key, key_mask=None):
    """What `dot_product_attention` notes of a layer's call."""
    found = _RECORD.get()
    if found is not None and name is not None:
        found[name] = (query, key, key_mask)
