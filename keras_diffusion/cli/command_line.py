"""docs/command-line.md, generated from the commands: their docstrings, arguments and options.

python -m keras_diffusion.cli.reference docs/command-line.md
"""

import inspect
import re
import typing

import typer.models

from keras_diffusion.cli.app import app

_HEAD = """# The command line

Installing the package installs the command `keras-diffusion`; `python -m keras_diffusion` is the same. `--help` after
any command says what this page says, `--version` prints the version, and every error says what to type instead;
`--debug` adds its traceback. `train` takes its settings from [a configuration](configuration.md).

This page is written by `python -m keras_diffusion.cli.reference docs/command-line.md`.
"""

_OPTION = re.compile(r"(?<![\w`])(--[a-z][a-z-]*)(?![\w`])")


def command_line_page():
    """The text of docs/command-line.md."""
    commands = [("", command) for command in app.registered_commands]
    for group in app.registered_groups:
        inner = group.typer_instance
        commands += [(f"{inner.info.name} ", command) for command in inner.registered_commands]
    return "\n\n".join([_HEAD.strip("\n"), *(_section(group, command) for group, command in commands)]) + "\n"


def _section(group, command):
    """A command: what it does, an example, and its arguments and options with their defaults."""
    name = group + (command.name or command.callback.__name__.strip("_"))
    text, _, example = inspect.cleandoc(command.callback.__doc__).partition("Example: ")
    positional, options = [], []
    for key, parameter in inspect.signature(command.callback).parameters.items():
        kind, info = typing.get_args(parameter.annotation)
        is_argument = isinstance(info, typer.models.ArgumentInfo)
        (positional if is_argument else options).append((key, kind, info, parameter.default))
    usage = " ".join(["keras-diffusion", name, *(_placeholder(*entry) for entry in positional), "[OPTIONS]"])
    parts = [f"## `keras-diffusion {name}`", _prose(text), f"    {usage}"]
    if example:
        parts.append(f"For example:\n\n    {example.strip()}")
    rows = [(f"`{key.upper()}`", _default(default), info.help) for key, _, info, default in positional]
    rows += [(_spelling(key, kind, info), _default(default), info.help) for key, kind, info, default in options]
    lines = ["| argument or option | default | |", "|---|---|---|"]
    lines += [f"| {' | '.join((spelling, default, _cell(text)))} |" for spelling, default, text in rows]
    return "\n\n".join([*(part for part in parts if part), "\n".join(lines)])


def _placeholder(key, kind, info, default):
    name = key.upper() + ("…" if typing.get_origin(kind) is list else "")
    return name if default is inspect.Parameter.empty else f"[{name}]"


def _spelling(key, kind, info):
    """An option as it is typed, with what it takes."""
    given = info.param_decls or ()
    if isinstance(info.default, str):  # within Annotated, Typer keeps the first spelling here
        given = (info.default, *given)
    given = given or (f"--{key.replace('_', '-')}",)
    spelled = ", ".join(f"`{option}`" for declared in given for option in declared.split("/"))
    kinds = {int: "INTEGER", float: "NUMBER"}
    inner = next((part for part in (kind, *typing.get_args(kind)) if part in (bool, int, float)), str)
    return spelled if inner is bool else f"{spelled} `{info.metavar or kinds.get(inner, 'TEXT')}`"


def _default(value):
    if value is inspect.Parameter.empty:
        return "required"
    return "–" if value is None or isinstance(value, bool) else f"`{value}`"


def _prose(text):
    return _OPTION.sub(r"`\1`", text.strip())


def _cell(text):
    text = _OPTION.sub(r"`\1`", text or "")
    return text.replace("|", "\\|").replace("<", "\\<").rstrip(".")
