"""Families whose files hold a network, or several under a name each: `network` and `ema_network`."""

import re

from keras_diffusion.checkpoints.families.family import Family

_EMA = re.compile(r"(?<![a-z])ema|ema(?![a-z])")


class RootedFamily(Family):
    """Base class of these families; a subclass defines `is_mine`."""

    def is_mine(self, container, root):
        """Whether the tensors under `root` are of this family. Must not raise on others."""
        raise NotImplementedError(f"{type(self).__name__} must implement is_mine(container, root)")

    def my_roots(self, container):
        """The roots of a container that hold networks of this family."""
        return [root for root in container.roots if self.is_mine(container, root)]

    def recognizes(self, container):
        return bool(self.my_roots(container))

    def weights(self, container):
        # A file of one network says which it is by its own name, "ema_0.9999_500000.pt".
        names = {root: root.rsplit("/", 1)[-1] or container.path.name for root in self.my_roots(container)}
        return {("ema" if _EMA.search(name.lower()) else "raw"): root for root, name in reversed(names.items())}

    def ignores(self, container, root):
        others = tuple(f"{other}/" for other in container.roots if other != root)
        return {name for name in container.tensors if root and name.startswith(others)}
