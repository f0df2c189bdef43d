"""Families: whose network a checkpoint holds.

A container says which tensors a file has; a family knows what they mean:

    recognizes     is this one of mine?                    names and shapes
    weights        which sets of weights are there?        {"raw": "network", "ema": "ema_network"}
    read_config    the network's arguments                 from shapes, from the file, from the user
    build          the network and its conventions         schedule, predictor, normalizer
    sources        where each weight comes from            variable ← tensors

A new family is one file with one subclass, registered here. Nothing else needs to know about it.
"""

import contextlib
from typing import Any, NamedTuple

from keras_diffusion.checkpoints.links import Source
from keras_diffusion.containers.errors import CheckpointError

_SETS = {"ema": "averaged weights (EMA)", "raw": "raw weights"}
__all__ = ["Family", "Parts", "Source", "families", "family_of", "register", "required_family"]


class Parts(NamedTuple):
    """What a family builds from a config.

    Attributes:
        network: built Keras model, its weights still to be filled.
        noise_schedule: `NoiseSchedule`, or None for what is no denoising network (a text encoder).
        predictor: `Predictor`, or None.
        normalizer: layer with `encode` and `decode` between images in [−1, 1] and what the network saw, or None.
        options: further arguments of `DiffusionModel`.
        notes: sentences for the report: what was assumed.
        sampling: how the source samples, as `DiffusionModel` takes it in `sampling_defaults`.
    """

    network: Any
    noise_schedule: Any = None
    predictor: Any = None
    normalizer: Any = None
    options: dict = {}
    notes: tuple[str, ...] = ()
    sampling: dict = {}


class Family:
    """Base class of families; see the module's table.

    Attributes:
        name: short name, "keras_ddpm".
        title: what it is, in words.
        loses: what a file of this family holds and `load` leaves behind, in words.
        one_set: what the report says where a file has one set of weights and does not say which; "" (default) where
            files say it.
    """

    name = title = loses = one_set = ""

    def recognizes(self, container):
        """Whether the names and shapes in `container` are of this family. Must not raise on others."""
        raise NotImplementedError(f"{type(self).__name__} must implement recognizes(container)")

    def weights(self, container):
        """The sets of weights in a container, a dict from "raw" and "ema" to the root that `sources` takes."""
        return {"raw": container.roots[0]}

    def choose(self, container, weights, state):
        """The set to be read.

        Args:
            container: the opened checkpoint.
            weights: "ema" or "raw".
            state: "best" or "last".

        Returns:
            (name of the set, its root, notes): the other set where the one asked for is not there, which the notes say.
        """
        known = self.weights(container)
        name = weights if weights in known else next(iter(known))
        return name, known[name], self.set_notes(weights, name)

    def set_notes(self, wanted, taken):
        """What the report says of the set of weights that was taken: nothing where it is the one asked for."""
        if taken == wanted:
            return []
        return [self.one_set or f"The file has no {_SETS[wanted]}; these are its {_SETS[taken]}."]

    def read_config(self, container, root, config):
        """The network's arguments.

        Args:
            container: the opened checkpoint.
            root: which set of weights.
            config: dict of what the user says, empty if nothing; it stands above what the file says. Names as `build`
                takes them, or those of the old code.

        Raises:
            CheckpointError: a config that the shapes contradict, or an unknown key.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement read_config(container, root, config)")

    def build(self, container, config):
        """`Parts` from a config of `read_config`; the container holds what is no weight (a normalizer's statistics)."""
        raise NotImplementedError(f"{type(self).__name__} must implement build(container, config)")

    def sources(self, container, root, network, config):
        """Pairs (variable, `Source`), each weight of `network` once."""
        raise NotImplementedError(f"{type(self).__name__} must implement sources(container, root, network, config)")

    def ignores(self, container, root):
        """Names of tensors that are known not to matter for `root`: optimizer state, counters, the other set of
        weights.
        """
        return set()

    @contextlib.contextmanager
    def describing(self, container):
        """A block that builds from a config: where that fails, the config does not describe such a network."""
        try:
            yield
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"The config does not describe a {self.title}. {error}", container.path) from error


_FAMILIES: dict[str, Family] = {}


def register(cls):
    """Class decorator: adds a family. Families are asked in the order of registration."""
    _FAMILIES[cls.name] = cls()
    return cls


def families():
    """All known families, in the order in which they are asked."""
    return list(_FAMILIES.values())


def family_of(container):
    """The first family that recognizes `container`, or None."""
    return next((family for family in _FAMILIES.values() if family.recognizes(container)), None)


def required_family(container):
    """The family of `container`; CheckpointError if it is of no known one."""
    family = family_of(container)
    if family is None:
        known = "; ".join(f"{f.name} ({f.title})" for f in families())
        first = ", ".join(list(container.tensors)[:4])
        raise CheckpointError(
            f"The file can be read ({container.format}, {len(container.tensors)} tensors: {first}, …), but it is not "
            f"known whose network this is. Known families: {known}. `checkpoints.open_container` gives the tensors.",
            container.path,
        )
    return family
