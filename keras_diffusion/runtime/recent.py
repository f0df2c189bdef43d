"""A small cache for compiled programs, each of which holds megabytes."""

from collections import OrderedDict


class Recent:
    """A cache of the `limit` most recently used values, by key.

    Args:
        limit: how many values are kept. Default 16.
    """

    def __init__(self, limit=16):
        self.limit = limit
        self._values = OrderedDict()

    def get(self, key, make):
        """The value of a hashable key, created by `make()` if there is none."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        while len(self._values) > self.limit:
            self._values.popitem(last=False)
        return self._values[key]

    def values(self):
        """All values, the most recently used one last."""
        return list(self._values.values())

    def clear(self):
        """Empties the cache."""
        self._values.clear()

    def __len__(self):
        return len(self._values)
