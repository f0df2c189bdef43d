"""The order in which people count: 2 before 10."""

import re


def natural(name):
    """A key that sorts texts with numbers in them as people do: "class 2" before "class 10"."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name
