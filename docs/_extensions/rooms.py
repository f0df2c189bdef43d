"""A room of the package as a page: `.. room:: keras_diffusion.samplers`.

The page shows the room's docstring, a table of the names that `get` knows, and a section per file with the file's own
docstring, which has the formula, above the classes and functions that the room's `__all__` lists. Content of the
directive, one dotted name per line, takes the place of `__all__`.
"""

import importlib
import inspect
import re
import sys

from docutils.statemachine import StringList
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.parsing import nested_parse_to_nodes

from _extensions.docstrings import escape, to_rst
from keras_diffusion.configs.arguments import ArgumentsMixin
from keras_diffusion.configs.checks import parameters_of
from keras_diffusion.configs.registry import Registry
from keras_diffusion.lora.network import LoRAMixin

PACKAGE = "keras_diffusion"

#: What a model overrides so that Keras calls it, and nobody else does.
_HIDDEN = re.compile(
    r"_.*|make_.*_function|.*_own_variables|.*_state_tree|.*_compile_config|compile_from_config|state_prefixes|"
    r"prepare_weights|weights_loaded"
)
ROOMS = (
    "models schedulers predictors training networks layers denoisers guidance samplers data text metrics visualization "
    "callbacks checkpoints distribution comparison"
).split()


def setup(app):
    app.add_directive("room", Room)
    app.connect("autodoc-process-bases", _show_public_bases)
    app.connect("autodoc-process-signature", _show_all_arguments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Room(SphinxDirective):
    required_arguments = 1
    has_content = True

    def run(self):
        name = self.arguments[0]
        room = importlib.import_module(name)
        lines = [] if self.content else [*to_rst(room.__doc__), ""]
        if not self.content:
            for registry in [value for value in vars(room).values() if isinstance(value, Registry)]:
                lines += _table(registry, name)
        for title, rest, names in _files(name, room, list(self.content)):
            if title:
                lines += ["", title, "-" * (2 * len(title)), "", *to_rst(rest), ""]
            for path in names:
                lines += _entry(path)
        text = StringList(lines, source=f"<{name}>")
        return nested_parse_to_nodes(self.state, text, offset=0, allow_section_headings=True)


def resolve(path):
    """The object that a dotted path names, and the longest part of the path that is a module."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            value = getattr(value, part)
        return value, ".".join(parts[:end])
    raise ValueError(path)


def _files(name, room, content):
    """(title, rest of the docstring, paths of public objects) of each file: the room's own functions, bases, others."""
    groups = {}
    for path in [f"{name}.{line.strip()}" for line in content] or [f"{name}.{public}" for public in room.__all__]:
        value, module = resolve(path)
        home = getattr(value, "__module__", None) or module
        if home.startswith(f"{PACKAGE}.configs.registry") and not content:
            home = name
        groups.setdefault(home if home.startswith(PACKAGE) else module, []).append(path)
    bases = {home for home in groups if home.rsplit(".", 1)[-1] in (name.rsplit(".", 1)[-1][:-1], "noise_schedule")}
    order = sorted(groups, key=lambda home: (home != name, home not in bases, home.rsplit(".", 1)[-1]))
    for home in order:
        paths = groups[home]
        if home == name:
            yield "", "", paths
            continue
        first, _, rest = inspect.cleandoc(sys.modules[home].__doc__).partition("\n\n")
        first = " ".join(first.split())
        title, _, after = first.partition(": ")
        title = title.strip("`").rstrip(".")
        if len(title) > 48 or "`" in title or title.lower() == name.rpartition(".")[2]:
            title, after = ", ".join(path.rsplit(".", 1)[-1] for path in paths[:3]), first
        if after[:1].isascii():  # no capital Η of η
            after = after[:1].upper() + after[1:]
        yield title, "\n\n".join(part for part in (after, rest) if part), paths


def _entry(path):
    value, _ = resolve(path)
    if inspect.isclass(value):
        lines = [f".. autoclass:: {path}", "   :show-inheritance:"]
        shown = _members(value)
        return [*lines, *([f"   :members: {', '.join(shown)}"] if shown else []), ""]
    if callable(value):
        return [f".. autofunction:: {path}", ""]
    return [f".. autodata:: {path}", *(["   :no-value:"] if len(repr(value)) > 200 else []), ""]


def _members(cls):
    """Documented public members of a class: its own, and a model's also of the parts that it is put together from."""
    owners = [cls]
    if f"{PACKAGE}.models" in cls.__module__:
        shared = (*public_classes(), ArgumentsMixin, LoRAMixin)
        owners += [base for base in cls.__mro__[1:] if _is_ours(base) and base not in shared]
    found = []
    for owner in owners:
        comments = ModuleAnalyzer.for_module(owner.__module__).find_attr_docs()
        for name, value in vars(owner).items():
            value = getattr(value, "__func__", value)
            described = isinstance(value, property) or (callable(value) and not inspect.isclass(value))
            documented = (described and value.__doc__) or (owner.__qualname__, name) in comments
            if documented and name not in found and not _HIDDEN.fullmatch(name):
                found.append(name)
    return found


def _is_ours(cls):
    return cls.__module__.startswith(PACKAGE)


_public = {}


def public_classes():
    """{class: the dotted path under which the rooms offer it}."""
    if not _public:
        for name in ROOMS:
            room = importlib.import_module(f"{PACKAGE}.{name}")
            for public in room.__all__:
                value = getattr(room, public)
                if inspect.isclass(value):
                    _public.setdefault(value, f"{PACKAGE}.{name}.{public}")
    return _public


def _show_public_bases(app, name, obj, options, bases):
    """Names the nearest public bases, and Keras's; mixins and helpers are how a class is made, not what it is."""
    shown = []
    for base in obj.__mro__[1:]:
        if base in public_classes():
            shown.append(f":py:class:`~{public_classes()[base]}`")
            break
        if base.__module__.startswith("keras.") and base.__name__ in ("Model", "Layer", "Callback", "PyDataset"):
            room = {"Layer": "layers.", "Callback": "callbacks.", "PyDataset": "utils."}.get(base.__name__, "")
            shown.append(f":py:class:`keras.{room}{base.__name__}`")
            break
        if base.__module__ == "builtins" and base is not object:
            shown.append(f":py:class:`{base.__name__}`")
            break
    bases[:] = shown or [":py:class:`object`"]


def _show_all_arguments(app, what, name, obj, options, signature, returns):
    """A class's signature has the arguments that its bases take for it."""
    if what == "class" and issubclass(obj, ArgumentsMixin):
        shown = [p for p in parameters_of(obj).values() if p.name not in ("name", "trainable", "dtype")]
        shown.sort(key=lambda p: (p.kind, p.default is not p.empty))
        return str(inspect.Signature(shown)), None
    return signature, returns


def _table(registry, room):
    """A list table: name, class, and the first sentence of its docstring."""
    lines = [".. list-table::", "   :header-rows: 1", "   :class: names", ""]
    lines += ["   * - name", "     - class", "     - "]
    for name in registry.names():
        cls, options = registry._entries[name]
        if not _is_ours(cls):
            continue
        path = public_classes().get(cls)
        link = f":py:class:`~{path}`" if path else escape(f"`{cls.__name__}`")
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        first = " ".join(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].split())
        lines += [f"   * - :literal:`{name}`", f"     - {link}{escape(f' `{given}`') if given else ''}"]
        lines += [f"     - {escape(first)}"]
    return [*lines, ""]
