"""JSON, TOML and YAML from anywhere, within the limits of runtime/limits.py.

Parsers are not safe with hostile text: 100 kB of "[" end in a RecursionError or a stack overflow, a megabyte of "{},"
becomes a hundred megabytes of dicts, and ten lines of YAML with references become a billion values. So a text is
measured before it is parsed: its bytes, its values (commas and brackets) and its levels.

A JSON object with a repeated key is an error, since readers differ in which value they take; so is an integer beyond
64 bits.
"""

import json
import re
import tomllib

from keras_diffusion.configs.checks import clip
from keras_diffusion.runtime import limits

# Quoted strings, which do not count; an unterminated one runs to the end. Possessive, so that it never backtracks.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_MARKS = re.compile(rb"[^\[\]{}]+")
_KEY_ENDS = re.compile(rb"[=,{}\[\]\n]")
_STEPS = bytes.maketrans(b"[{]}", b"++--")
_DIGITS = 20  # of 2⁶⁴


def parse_json(text, what="text", error=ValueError, kind=dict):
    """A value from JSON.

    Args:
        text: str or bytes.
        what: what it is, for errors: "file 'config.json'".
        error: function from a message to the exception that is raised. Default: `ValueError`.
        kind: required type of the value; `object` for any. Default: dict.

    Returns:
        the value.

    Raises:
        `error`: invalid JSON, not of `kind`, a repeated key, or beyond the limits `text_bytes`, `text_values` and
            `text_depth`.
    """
    data = _data(text, what, error)
    _measure(data, what, error, "JSON")
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique, parse_int=_integer)
    except (ValueError, RecursionError) as cause:
        raise error(clip(f"The {what} is no JSON: {cause}.")) from cause
    if not isinstance(value, kind):
        wanted = "a JSON object" if kind is dict else kind.__name__
        raise error(f"The {what} should be {wanted}, and is of type {type(value).__name__}.")
    return value


def parse_toml(text, what="text", error=ValueError):
    """A dict from TOML; see `parse_json`. Its length is limited by `config_bytes`.

    Raises:
        `error`: invalid TOML, or beyond the limits.
    """
    data = _data(text, what, error, "config_bytes")
    _measure(data, what, error, "TOML")
    # a.b.c.d … = 1 is as deep as it has dots, and its parsing time grows with their square.
    dots = max(part.count(b".") for part in _KEY_ENDS.split(_TEXT.sub(b"", data)))
    limits.check(dots, "text_depth", f"The depth of the {what}", error)
    try:
        value = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as cause:
        raise error(clip(f"The {what} is no TOML: {cause}.")) from cause
    check_size(value, what, error)
    return value


def parse_yaml(text, what="text", error=ValueError):
    """A value from YAML; see `parse_json`.

    Its length is limited by `yaml_bytes`; a reference counts as everything that it stands for.

    Raises:
        `error`: invalid YAML, or beyond the limits.
        ImportError: PyYAML is not installed.
    """
    import yaml

    data = _data(text, what, error, "yaml_bytes")
    _measure(data, what, error, "YAML")
    try:
        loader = yaml.SafeLoader(data)
        node = loader.get_single_node()
    except (yaml.YAMLError, RecursionError, ValueError) as cause:
        raise error(clip(f"The {what} is no YAML: {cause}.")) from cause
    _check_nodes(node, what, error)
    try:
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError, TypeError) as cause:
        raise error(clip(f"The {what} is no YAML: {cause}.")) from cause


def check_size(value, what, error=ValueError):
    """Raises `error` if `value` has more nested levels or values than `text_depth` and `text_values` allow."""
    level, depth, count = [value], 0, 0
    while level:
        count += len(level)
        limits.check(depth, "text_depth", f"The depth of the {what}", error)
        limits.check(count, "text_values", f"The number of values in the {what}", error)
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        depth += 1


def _data(text, what, error, limit="text_bytes"):
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
    limits.check(len(data), limit, f"The length of the {what}", error)
    return data


def _measure(data, what, error, kind):
    """Counts values and levels outside quotation marks."""
    bare = _TEXT.sub(b"", data)
    count = sum(bare.count(mark) for mark in (b",", b"[", b"{"))
    limits.check(count, "text_values", f"The {what} is no {kind} that is read: its number of values", error)
    depth = deepest = 0
    for run in re.finditer(rb"\++|-+", _MARKS.sub(b"", bare).translate(_STEPS)):
        depth += len(run[0]) if run[0][:1] == b"+" else -len(run[0])
        deepest = max(deepest, depth)
    limits.check(deepest, "text_depth", f"The {what} is no {kind} that is read: its depth", error)


def _check_nodes(root, what, error):
    """Measures the tree that a YAML document stands for; one that contains itself would be endless."""
    sizes: dict[int, tuple[int, int]] = {}

    def measure(node, above):
        if id(node) in above or len(above) > 2 * limits.current().text_depth:
            raise error(f"The {what} is no YAML of a configuration: a value contains itself, or is too deep.")
        if id(node) not in sizes:
            children = getattr(node, "value", None)
            children = children if isinstance(children, list) else []
            parts = [
                measure(part, above | {id(node)})
                for child in children
                for part in (child if isinstance(child, tuple) else (child,))
            ]
            sizes[id(node)] = 1 + sum(size for size, _ in parts), 1 + max((depth for _, depth in parts), default=-1)
        return sizes[id(node)]

    size, depth = measure(root, frozenset())
    limits.check(depth, "text_depth", f"The depth of the {what}", error)
    limits.check(size, "text_values", f"The number of values in the {what}", error)


def _unique(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _integer(text):
    if len(text.lstrip("-")) > _DIGITS:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)
