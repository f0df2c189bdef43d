"""A table of what was made lately, for compiled programs, each of which holds megabytes."""

from collections import OrderedDict


class Recent:
    """Keeps the `limit` things used last, by key.

    Args:
        limit: how many are kept; the one that was not used for longest goes first. Default 16.
    """

    def __init__(self, limit=16):
        self.limit = limit
        self._things = OrderedDict()

    def get(self, key, make):
        """The thing of a hashable key; `make()` makes it where there is none."""
        if key not in self._things:
            self._things[key] = make()
        self._things.move_to_end(key)
        while len(self._things) > self.limit:
            self._things.popitem(last=False)
        return self._things[key]

    def values(self):
        """All things that are kept, the one used last at the end."""
        return list(self._things.values())

    def clear(self):
        """Forgets everything."""
        self._things.clear()

    def __len__(self):
        return len(self._things)
