"""Weights of other people's networks, read from the files that they publish; nothing in a file is run."""

from keras_diffusion.configs.checks import check_path, shown
from keras_diffusion.containers import open_container
from keras_diffusion.containers.errors import CheckpointError


def open_weights(path, what, sources, argument="weights"):
    """Opens a file of weights.

    Args:
        path: the file or folder.
        what: whose weights, for errors: "the InceptionV3 of FID".
        sources: where they are published, a tuple of texts.
        argument: the one that the path was given as, for errors.

    Returns:
        `Container`; a context manager.

    Raises:
        ValueError: no path.
        FileNotFoundError: nothing there.
        CheckpointError: damaged, or of an unknown kind.
    """
    where = " or ".join(sources)
    if path is None:
        raise ValueError(
            f"Weights of {what} are needed, and nothing is downloaded here. Received: {argument}=None. Fetch "
            f"{where}, and pass its path"
        )
    try:
        return open_container(check_path(argument, path))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There are no weights of {what} at {shown(str(path))}. They are published at {where}."
        ) from error


def fill(container, sources):
    """Assigns the tensors of a file to variables; names and shapes are checked before the first is read.

    Args:
        container: opened, see `open_weights`.
        sources: triples (variable, names of tensors, function of their arrays → the variable's value).

    Raises:
        CheckpointError: tensors that the file lacks, or of other shapes.
    """
    sources = list(sources)
    lacking = sorted({name for _, names, _ in sources for name in names if name not in container.tensors})
    if lacking:
        raise CheckpointError(
            f"The file lacks {len(lacking)} tensors that the network needs: {', '.join(lacking[:3])}"
            f"{', …' if len(lacking) > 3 else ''}. It is of another network.",
            container.path,
        )
    for variable, names, combine in sources:
        value = combine(*(container.read(name) for name in names))
        if tuple(value.shape) != tuple(variable.shape):
            raise CheckpointError(
                f"{names[0]} should become {variable.path} of shape {tuple(variable.shape)}. Received: {value.shape}. "
                "The file is of another network.",
                container.path,
            )
        variable.assign(value.astype("float32"))


def shape_of(container, name, rank):
    """The shape of a tensor that a file must have, of so many axes; CheckpointError otherwise."""
    info = container.tensors.get(name)
    if info is None or len(info.shape) != rank:
        received = "none" if info is None else f"shape {info.shape}"
        raise CheckpointError(
            f"The file should have a tensor {name!r} with {rank} axes. Received: {received}. It is of another network.",
            container.path,
        )
    return info.shape


def count_blocks(container, name):
    """How many blocks a file has: the least i for which it lacks the tensor `name.format(i)`; 0 is refused."""
    count = 0
    while name.format(count) in container.tensors:
        count += 1
    if not count:
        raise CheckpointError(f"The file lacks {name.format(0)!r}. It is of another network.", container.path)
    return count
