"""What denoisers remember from one step of a walk to the next, such as guidance with momentum.

A denoiser is a function of (x, level), and most need nothing else. One that remembers keeps a tensor in its attribute
`memory`, and `initial_memory(x)` makes the first one. Inside a compiled loop such a tensor has to be handed from step
to step: the loop carries the memories of all parts of a denoiser, puts them in before a step and takes them out after
it. Wrappers need not know of it.
"""

import contextlib


def initial_memories(denoise, x):
    """The memories at the beginning of a walk: a tuple of pytrees of tensors, one for each part of `denoise` that
    remembers.

    Args:
        denoise: a denoiser, or any function of (x, level), which remembers nothing.
        x: samples `(B, ...)`.
    """
    memories = (part.initial_memory(x) for part in parts_of(denoise))
    return tuple(memory for memory in memories if memory is not None)


@contextlib.contextmanager
def memory_scope(denoise, memories, x):
    """A context in which the parts of `denoise` have `memories`; yields a function that returns what they have become.

    Args:
        denoise: a denoiser, or any function of (x, level).
        memories: as `initial_memories` makes them.
        x: samples `(B, ...)`.
    """
    parts = [part for part in parts_of(denoise) if part.initial_memory(x) is not None]
    try:
        for part, memory in zip(parts, memories, strict=True):
            part.memory = memory
        yield lambda: tuple(part.memory for part in parts)
    finally:
        for part in parts:
            part.memory = None


def get_memory(denoise):
    """The memories as they are now within `remembering`, a tuple: what a loop inside a step carries, and puts back with
    `recall`.
    """
    return tuple(part.memory for part in parts_of(denoise) if part.memory is not None)


def set_memory(denoise, memories):
    """Puts `memories`, as `remembered` returned them, into the parts of `denoise` that remember."""
    parts = [part for part in parts_of(denoise) if part.memory is not None]
    for part, memory in zip(parts, memories, strict=True):
        part.memory = memory


def parts_of(denoise):
    """A denoiser and all that it wraps, each once; nothing for a function that is no `Denoiser`."""
    found = denoise.parts() if hasattr(denoise, "parts") else []
    return list({id(part): part for part in found}.values())
