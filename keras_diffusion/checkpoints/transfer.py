"""Copies the tensors of a file into the variables of a network, one at a time, and reports what went where.

Every variable must have a source, every tensor a use, and all shapes must agree. This is checked before the first
tensor is read.
"""

from dataclasses import dataclass, field

import numpy as np

from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.runtime.progress import progress_bar


@dataclass
class Report:
    """What was found, and where it went.

    Attributes:
        path: the checkpoint.
        format: its container.
        family: name of its family.
        weights: the set that was read, "ema" or "raw".
        matched: dict from each variable's path to the tensors it was made of.
        missing: variables for which the file has nothing.
        unused: tensors that no variable took and that are not known to be needless.
        ignored: tensors that are known not to matter: optimizer state, counters, the other set of weights.
        notes: sentences: what was assumed.
    """

    path: str
    format: str
    family: str
    weights: str
    matched: dict = field(default_factory=dict)
    missing: list = field(default_factory=list)
    unused: list = field(default_factory=list)
    ignored: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def summary(self):
        """One line."""
        words = {"ema": "averaged weights (EMA)", "raw": "raw weights"}.get(self.weights, self.weights)
        total = len(self.matched) + len(self.missing)
        return (
            f"Loaded the {words} of a {self.family} checkpoint ({self.format}): "
            f"{len(self.matched)} of {total} variables."
        )

    def __str__(self):
        missing = (f"missing: {path}" for path in self.missing)
        lines = [self.summary(), *self.notes, *missing, *(f"unused: {name}" for name in self.unused)]
        if self.ignored:
            lines.append(f"{len(self.ignored)} further tensors are not needed: {', '.join(self.ignored[:3])}, …")
        return "\n".join(lines)


def transfer(container, sources, network, report, ignored=(), strict=True, verbose="auto"):
    """Fills `network` from `container`.

    Args:
        container: the opened checkpoint.
        sources: pairs (variable, `Source`).
        network: built Keras model.
        report: `Report` to be filled in.
        ignored: names of tensors that need not be used.
        strict: whether a variable without a source and a tensor without a use are errors. Default True.
        verbose: 1 shows a bar, 0 does not, "auto" (default) does on a terminal.

    Raises:
        CheckpointError: two sources for one variable, shapes that differ, a source that the file lacks, values that are
            not finite, and (if strict) what is missing or unused.
    """
    pairs = list(sources)
    _check(container, pairs, network, report, set(ignored), strict)
    bar = progress_bar(verbose, len(pairs))
    for done, (variable, source) in enumerate(pairs, 1):
        arrays = [container.read(name) for name in source.names]
        value = arrays[0] if source.combine is None else source.combine(*arrays)
        _check_value(container, variable, source, value)
        variable.assign(value)
        report.matched[variable.path] = source.names
        if bar:
            bar(done)


def _check(container, pairs, network, report, ignored, strict):
    """Everything that can be known before reading: which names, which shapes."""
    seen = [id(variable) for variable, _ in pairs]
    if len(set(seen)) != len(seen):
        twice = sorted({variable.path for variable, _ in pairs if seen.count(id(variable)) > 1})
        raise CheckpointError(f"Each variable takes one source. Received two for: {', '.join(twice)}", container.path)
    absent = [name for _, source in pairs for name in source.names if name not in container.tensors]
    if absent:
        raise CheckpointError(
            f"The file lacks {len(absent)} tensors that this network needs: {some(absent)}. "
            "Either it is another network (pass `config`) or a part of the file is gone.",
            container.path,
        )
    for variable, source in pairs:
        shape = container.tensors[source.names[0]].shape
        if source.combine is None and shape != tuple(variable.shape):
            raise _wrong_shape(container, variable, source, shape)
    used = {name for _, source in pairs for name in source.names}
    report.missing = [variable.path for variable in network.weights if id(variable) not in set(seen)]
    report.ignored = [name for name in container.tensors if name not in used and name in ignored]
    report.unused = [name for name in container.tensors if name not in used and name not in ignored]
    if strict and (report.missing or report.unused):
        raise CheckpointError(
            "Network and file do not fit."
            + (f" No source for {len(report.missing)} variables: {some(report.missing)}." if report.missing else "")
            + (f" No use for {len(report.unused)} tensors: {some(report.unused)}." if report.unused else "")
            + " Pass `config` to describe the network, or strict=False to load what fits.",
            container.path,
        )


def _check_value(container, variable, source, value):
    if tuple(value.shape) != tuple(variable.shape):
        raise _wrong_shape(container, variable, source, value.shape)
    if value.dtype.kind == "f" and not np.isfinite(np.sum(value, dtype="float64")) and not np.all(np.isfinite(value)):
        raise CheckpointError(
            f"Weights must be finite. Received: {' + '.join(source.names)} with NaN or infinite values", container.path
        )


def _wrong_shape(container, variable, source, shape):
    return CheckpointError(
        f"A variable takes a tensor of its own shape. Received: {' + '.join(source.names)} of shape {tuple(shape)} for "
        f"{variable.path} of shape {tuple(variable.shape)}. If the network is another one, pass `config`.",
        container.path,
    )


def some(names, limit=6):
    """The first of some names."""
    return ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")
