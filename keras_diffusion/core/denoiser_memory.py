"""State that denoisers carry from one step of a walk to the next, as guidance with momentum does.

Most denoisers are pure functions of (x, level). One with a state keeps a tensor in its attribute `memory`;
`initial_memory(x)` creates the first one. A compiled loop must pass such tensors from step to step: it carries the
memories of all parts of a denoiser, sets them before a step and reads them after it. Wrappers need no code for this.
"""

import contextlib


def initial_memories(denoise, x):
    """The memories at the start of a walk.

    Args:
        denoise: a denoiser, or any function of (x, level), which has no memory.
        x: samples `(B, ...)`.

    Returns:
        tuple of pytrees of tensors, one for each part of the denoiser that has one.
    """
    memories = (part.initial_memory(x) for part in parts_of(denoise))
    return tuple(memory for memory in memories if memory is not None)


@contextlib.contextmanager
def memory_scope(denoise, memories, x):
    """A context in which the parts of a denoiser have given memories.

    Args:
        denoise: a denoiser, or any function of (x, level).
        memories: as `initial_memories` returns them.
        x: samples `(B, ...)`.

    Yields:
        function without arguments that returns the current memories.
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
    """The current memories within `memory_scope`, for a loop inside a step to carry.

    It puts them back with `set_memory`.

    Args:
        denoise: a denoiser, or any function of (x, level).

    Returns:
        tuple of pytrees of tensors.
    """
    return tuple(part.memory for part in parts_of(denoise) if part.memory is not None)


def set_memory(denoise, memories):
    """Gives memories to the parts of a denoiser that have one.

    Args:
        denoise: a denoiser, or any function of (x, level).
        memories: tuple, as `get_memory` returns it.
    """
    parts = [part for part in parts_of(denoise) if part.memory is not None]
    for part, memory in zip(parts, memories, strict=True):
        part.memory = memory


def parts_of(denoise):
    """A denoiser and everything that it wraps.

    Args:
        denoise: a denoiser, or any function of (x, level).

    Returns:
        list of denoisers, each once; empty for a plain function.
    """
    found = denoise.parts() if hasattr(denoise, "parts") else []
    return list({id(part): part for part in found}.values())
