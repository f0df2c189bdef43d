"""Every public name says what it takes, returns and raises, in which shapes, and where its method was published.

Public is what a room's `__all__` lists, the classes that its tables of names know, and their methods without a leading
underscore that this library defines. `python tests/test_docstrings.py` prints what is missing, by room.
"""

import ast
import collections
import functools
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path

import keras_diffusion as kd
from keras_diffusion.configs.registry import Registry

PACKAGE = Path(kd.__file__).parent
ROOMS = sorted(init.parent.name for init in PACKAGE.glob("*/__init__.py"))
MODULES = ("core", "lora")  # no list of names: every public function and class of their files counts

# Arguments that are arrays wherever they occur: their description has a shape.
ARRAYS = {
    "x", "x0", "x_t", "eps", "noise", "image", "images", "mask", "sample", "samples", "context", "known", "means",
    "points", "centres", "drop", "drop_concat", "output", "latents", "alpha", "sigma", "t", "log_snr",
}  # fmt: skip

# What has no literature: plain definitions, and methods of this library.
OWN_METHODS = {
    "MLP": "residual dense layers",
    "KerasExtractor": "somebody's own model",
    "FunctionExtractor": "somebody's own function",
    "PixelExtractor": "the values themselves",
}

# Functions that call one that raises, with arguments for which it does not.
NEVER_RAISE = {"name_of_size"}

# What is not yet documented: how many remarks about each room. It may only shrink.
STILL_MISSING: dict[str, int] = {}

_SECTION = re.compile(r"^(\w[\w ]*):$")
_ENTRY = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): ?(.*)$")
_SHAPE = re.compile(r"\((\)|[^()]*,[^()]*\))|[Ss]calars?\b|\bnumbers?\b|\bnames?\b|\bshape\b|\blike `|\bas in `")
_SOURCE = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\.|https?://|^(Reference|References|Source):", re.MULTILINE)


class Doc:
    """A docstring in parts: the summary, and the sections with their entries."""

    def __init__(self, text):
        self.text = inspect.cleandoc(text or "")
        self.summary = self.text.split("\n\n")[0]
        self.sections, name = collections.defaultdict(list), None
        for line in self.text.splitlines():
            heading = _SECTION.match(line)
            if heading:
                name = heading[1]
            elif line and not line.startswith(" "):
                name = None
            if name:
                self.sections[name].append(line)

    def section(self, *names):
        return "\n".join(line for name in names for line in self.sections.get(name, ())[1:])

    def entries(self, *names):
        """What a section says of each argument: a dict."""
        entries, found = {}, ()
        text = re.sub(
            r"^((?:\*{0,2}\w+, )*\*{0,2}\w+,)\n +", r"\1 ", textwrap.dedent(self.section(*names)), flags=re.MULTILINE
        )
        for line in text.splitlines():
            entry = _ENTRY.match(line)
            if entry:
                found = [name.strip("* ") for name in entry[1].split(",")]
                entries.update(dict.fromkeys(found, entry[2]))
            else:
                for name in found:
                    entries[name] += " " + line.strip()
        return entries


def is_ours(thing):
    return getattr(thing, "__module__", "").startswith("keras_diffusion")


def room_of(thing):
    return thing.__module__.split(".")[1]


def tables():
    """All tables of names."""
    for name, module in list(sys.modules.items()):
        if name.startswith("keras_diffusion."):
            yield from {id(v): v for v in vars(module).values() if isinstance(v, Registry)}.values()


@functools.cache
def registered():
    return list(dict.fromkeys(cls for table in tables() for cls in table.classes() if is_ours(cls)))


def public():
    """All public classes and functions, each once."""
    found = [getattr(kd, name) for name in kd.__all__]
    for room in ROOMS:
        module = importlib.import_module(f"keras_diffusion.{room}")
        found += [getattr(module, name) for name in getattr(module, "__all__", ())]
    for room in MODULES:
        for path in sorted((PACKAGE / room).glob("[a-z]*.py")):
            module = importlib.import_module(f"keras_diffusion.{room}.{path.stem}")
            own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
            found += [value for value in own if not value.__name__.startswith("_")]
    found += registered()
    things = [thing for thing in found if is_ours(thing) and (inspect.isclass(thing) or inspect.isroutine(thing))]
    return list({id(thing): thing for thing in things}.values())


def methods(cls):
    """Public methods and properties that this library defines: (the class that does, the name)."""
    for owner in cls.__mro__:
        if is_ours(owner):
            for name, value in vars(owner).items():
                plain = inspect.unwrap(value.__func__ if isinstance(value, classmethod | staticmethod) else value)
                if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(value, property)):
                    yield owner, name


def function_of(value):
    value = value.fget if isinstance(value, property) else getattr(value, "func", value)
    return inspect.unwrap(getattr(value, "__func__", value))


@functools.cache
def tree_of(function):
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None


def nodes(function):
    """The nodes of a function, less those of the functions in it."""
    todo = list(getattr(tree_of(function), "body", ()))
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo += ast.iter_child_nodes(node)


def returns_something(function):
    found = (node for node in nodes(function) if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom))
    return any(node.value is not None and not _is_none(node.value) for node in found)


def _is_none(node):
    return isinstance(node, ast.Constant) and node.value is None


def raised(function):
    """Names of the exceptions that a function raises itself; None among them if it calls another that raises."""
    names = {_name_raised(node) for node in nodes(function) if isinstance(node, ast.Raise) and node.exc is not None}
    for node in nodes(function):
        called = _resolve(node.func, function) if isinstance(node, ast.Call) else None
        if (
            called is not None
            and function.__name__ not in NEVER_RAISE
            and any(isinstance(inner, ast.Raise) and inner.exc for inner in nodes(called))
        ):
            names.add(None)
    return {name for name in names if name is None or (name != "NotImplementedError" and name[0].isupper())}


def _name_raised(node):
    exc = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    name = exc.attr if isinstance(exc, ast.Attribute) else getattr(exc, "id", None)
    return name if name and name[0].isupper() else None


def _resolve(node, function):
    """The function of this library that a call in `function` means, by the names of its module."""
    space = getattr(function, "__globals__", {})
    if isinstance(node, ast.Name):
        called = space.get(node.id)
    elif (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and inspect.ismodule(space.get(node.value.id))
    ):
        called = getattr(space[node.value.id], node.attr, None)
    else:
        return None
    called = inspect.unwrap(called) if inspect.isfunction(called) else None
    return called if called is not None and is_ours(called) else None


def arguments(function):
    """Names of the arguments, without the object and what is not named."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind not in variable and p.name not in ("self", "cls") and p.name[0] != "_"]


def complaints_about_docs(docs, function, names, sole=False):
    """What the docstrings of a function and of those that it overrides leave out; the first is its own."""
    own = docs[0]
    if not own.text:
        yield "no docstring"
        return
    if not own.summary.endswith(".") or "\n\n" in own.summary:
        yield "the summary is no sentence with a full stop"
    entries = {}
    for doc in reversed(docs):
        entries.update(doc.entries("Args", "Attributes"))
    missing = [name for name in names if name not in entries]
    if missing:
        yield f"not in Args: {', '.join(missing)}"
    shapeless = [name for name in names if sole and name in ARRAYS & set(entries) and not _SHAPE.search(entries[name])]
    if shapeless:
        yield f"no shape: {', '.join(shapeless)}"
    sections = set().union(*(doc.sections for doc in docs))
    if sole and names and function and returns_something(function) and not sections & {"Returns", "Yields"}:
        yield "no Returns"
    text = "\n".join(doc.section("Raises") for doc in docs)
    exceptions = raised(function)
    if exceptions and not text:
        yield f"no Raises ({', '.join(sorted(filter(None, exceptions)) or ['by a check that it calls'])})"
    else:
        unnamed = [name for name in filter(None, exceptions) if name not in text]
        if unnamed:
            yield f"not in Raises: {', '.join(unnamed)}"


def complaints_about_class(cls):
    ours = [base for base in cls.__mro__ if is_ours(base)]
    docs = [Doc(vars(base).get("__doc__")) for base in ours]
    init = inspect.unwrap(cls.__init__)
    own_init = "__init__" in vars(cls)
    names = arguments(init) if is_ours(init) or hasattr(cls, "__dataclass_fields__") or hasattr(cls, "_fields") else []
    if hasattr(cls, "_fields"):
        names = list(cls._fields)
    if issubclass(cls, kd.keras.layers.Layer):
        names = [name for name in names if name not in ("name", "dtype", "trainable")]
    found = list(complaints_about_docs(docs, init if own_init else None, names, sole=True))
    call = inspect.unwrap(getattr(cls, "call" if hasattr(cls, "call") else "__call__"))
    if inspect.isfunction(call) and is_ours(call) and docs[0].text:
        known = set().union(*(doc.entries("Call arguments") for doc in docs), Doc(call.__doc__).entries("Args"))
        missing = [name for name in arguments(call) if name not in known | {"training", "mask"}]
        if missing:
            found.append(f"not in Call arguments: {', '.join(missing)}")
        if not any(doc.sections.keys() & {"Returns", "Yields"} for doc in [*docs, Doc(call.__doc__)]):
            found.append("no Returns of its call")
    if cls in registered() and cls.__name__ not in OWN_METHODS:
        if not any(_SOURCE.search(doc.text) for doc in docs if doc.text):
            found.append("no source: arXiv number, DOI, address, or `Reference:`")
    return found


def complaints_about_method(owner, name):
    value = vars(owner)[name]
    function = function_of(value)
    overridden = [vars(base)[name] for base in owner.__mro__[1:] if name in vars(base)]
    docs = [Doc(getattr(item, "__doc__", None)) for item in (value, *overridden)]
    if not docs[0].text:  # as `inspect.getdoc` has it
        docs = [doc for doc in docs if doc.text] or docs[:1]
        if overridden and not docs[0].text:
            return []  # a method of Keras that needs no words
    foreign = any(not is_ours(base) and base is not object and name in vars(base) for base in owner.__mro__)
    if foreign and not vars(owner)[name].__doc__:
        return []
    names = [] if isinstance(value, property) else arguments(function)
    return list(complaints_about_docs(docs, function, names, sole=not foreign))


@functools.cache
def complaints():
    """What is missing, as a dict from rooms to lines."""
    found, seen = collections.defaultdict(list), set()
    for thing in public():
        if inspect.isclass(thing):
            for line in complaints_about_class(thing):
                found[room_of(thing)].append(f"{thing.__name__}: {line}")
            for owner, name in methods(thing):
                if (owner, name) not in seen:
                    seen.add((owner, name))
                    lines = complaints_about_method(owner, name)
                    found[room_of(owner)] += [f"{owner.__name__}.{name}: {line}" for line in lines]
        else:
            function = inspect.unwrap(thing)
            for line in complaints_about_docs([Doc(thing.__doc__)], function, arguments(function), sole=True):
                found[room_of(thing)].append(f"{thing.__name__}: {line}")
    return dict(found)


def test_every_public_name_is_documented():
    found = complaints()
    grown = {room: lines for room, lines in found.items() if len(lines) > STILL_MISSING.get(room, 0)}
    assert not grown, "\n".join(line for lines in grown.values() for line in lines)


def test_methods_without_literature_are_still_there():
    assert set(OWN_METHODS) <= {cls.__name__ for cls in registered()}


def test_the_check_sees_what_is_missing():
    def scale(x, factor):
        """Scale without a full stop

        Args:
            x: array.
        """
        if factor < 0:
            raise ValueError(factor)
        return factor * x

    lines = list(complaints_about_docs([Doc(scale.__doc__)], scale, arguments(scale), sole=True))
    assert [line.split(":")[0].split(" (")[0] for line in lines] == [
        "the summary is no sentence with a full stop",
        "not in Args",
        "no shape",
        "no Returns",
        "no Raises",
    ]


if __name__ == "__main__":
    for room, lines in sorted(complaints().items(), key=lambda item: len(item[1])):
        print(f"\n{room}: {len(lines)}", *lines, sep="\n  ")
    print("\nmissing:", sum(map(len, complaints().values())), "in", len(public()), "names")
