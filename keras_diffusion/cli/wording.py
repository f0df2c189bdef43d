"""Errors in the words of the command line.

The library's messages are for Python: "Pass image_size=(32, 32) to data.load()", "Received: num_steps=0". On a
terminal, the user has written a configuration and options, so the messages are translated to these:

    Pass image_size=(32, 32) to data.load()     →   Set [data] image_size = [32, 32]
    `num_steps` must be ≥ 1 … num_steps=0       →   `--steps` must be ≥ 1 … --steps 0

One place does this for all commands, so that messages are written once. Names that are neither an option nor a key are
unchanged.
"""

import ast
import contextvars
import json
import re

#: Arguments of Python functions → options with another name, for commands that have no option of the first name.
ALIASES = {"num_steps": "steps", "conditions": "labels", "directory": "out", "folder": "out", "backends": "backend"}

#: The command (of typer) that was called.
running: contextvars.ContextVar = contextvars.ContextVar("running", default=None)

_LIMIT = re.compile(r"`with keras_diffusion\.runtime\.limits\.raised\([^`]*\)`, or (?=the environment variable)")
_LITERAL = r"""'[^']*'|"[^"]*"|\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\]|\{[^{}]*\}|[^\s,;:()\[\]]*[^\s,;:.()\[\]]"""
_CALL = re.compile(
    r"(?P<to> (?:to|of) )?`?(?:(?:keras_diffusion|kd)\.)?data\.load\((?P<inside>[^()]*(?:\([^()]*\)[^()]*)*)\)`?"
)
_ASSIGNED = re.compile(rf"(?<![\w.\"'/-])`?(?P<name>[a-z_]\w*)=(?P<value>{_LITERAL})`?")
_BARE = re.compile(r"(?<![\w.\"'/-])(?P<name>[a-z_]\w*)=(?=[\s,;)]|$)")
_QUOTED = re.compile(r"`(?P<name>[a-z_]\w*)`")
_SECTION = re.compile(r"\[(?P<section>[a-z_.]+)\] ")


def in_command_words(message, options=None, keys=None):
    """`message` with Python's arguments as options of a command and keys of a configuration.

    Args:
        message: text of an error.
        options: dict from names of arguments to options, such as {"num_steps": "--steps"}.
        keys: dict from names of arguments to the sections of a configuration that have them, such as {"image_size":
            ["data"]}.

    Returns:
        the text.
    """
    options, keys = options or {}, keys or {}
    begins = _SECTION.match(message)
    here = begins["section"] if begins else None

    def rename(name):
        """(how the name is written here, whether it is an option), or None where it is neither option nor key."""
        if here is None and name in options:
            return options[name], True
        sections = keys.get(name, ())
        if here is not None and (here in sections or not sections):
            return name, False
        if sections:
            return (f"[{sections[0]}] {name}" if len(sections) == 1 else name), False
        return (options[name], True) if name in options else None

    def assigned(match):
        found = rename(match["name"])
        if found is None:
            return match[0]
        word, is_option = found
        if here == "network" and match["name"] == "size" and match["value"][0] in "([":
            word = "[data] image_size"  # of the samples; a name, [network] size, is that of the network
        quote = "`" if match[0].startswith("`") else ""
        text = f"{word} {_as_typed(match['value'])}" if is_option else f"{word} = {_as_toml(match['value'])}"
        return f"{quote}{text.rstrip()}{quote}"

    def named(match, quote=""):
        found = rename(match["name"])
        return match[0] if found is None else f"{quote}{found[0]}{quote}"

    message = _LIMIT.sub("", message)
    if keys:
        message = _CALL.sub(lambda match: match["inside"] or ("" if match["to"] else "[data]"), message)
    message = _ASSIGNED.sub(assigned, message)
    message = _BARE.sub(named, message)
    message = _QUOTED.sub(lambda match: named(match, "`"), message)
    return re.sub(
        r"\b([Pp])ass (?=`?(\[[a-z_.]+\] |--|[a-z_]+ = ))", lambda match: "Set " if match[1] == "P" else "set ", message
    )


def _as_toml(text):
    try:
        value = ast.literal_eval(text)
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return f"[{text[1:-1]}]" if text.startswith("(") else text


def _as_typed(text):
    """A value as typed after an option in a shell."""
    if text in ("True", "None"):
        return ""
    if text[0] in "'\"" and text[-1] == text[0] and re.fullmatch(r"[\w./,-]+", text[1:-1]):
        return text[1:-1]
    return text


def words_of_command():
    """`options` and `keys` of `in_command_words` for the running command; empty outside a command."""
    command, options = running.get(), {}
    if command is None:
        return {"options": {}, "keys": {}}
    for parameter in command.params:
        long = [option for option in parameter.opts if option.startswith("--")]
        if long:
            options[parameter.name.rstrip("_")] = long[0]
    for python, name in ALIASES.items():
        if name in options:
            options.setdefault(python, options[name])
    return {"options": options, "keys": _keys() if command.name in ("train", "compare") else {}}


def _keys():
    from keras_diffusion.cli.building import known_keys

    found = {}
    for section, names in known_keys().items():
        for name in names:
            found.setdefault(name, []).append(section)
    return found
