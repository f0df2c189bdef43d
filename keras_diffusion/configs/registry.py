"""Names for classes: `get("ddim", eta=0.5)`, `get({"name": "ddim", "eta": 0.5})`, `get(sampler)` all give a sampler.

Every registered class is also registered with Keras under the package `keras_diffusion`, so that it survives `.keras`
files, unless its table is of things that are not saved.
"""

import inspect

import keras

from keras_diffusion.configs.checks import shown, suggestion
from keras_diffusion.configs.file_configs import check_values
from keras_diffusion.configs.plain_classes import PACKAGE

_GET = """Returns a {kind}, whichever way it is given.

Args:
    identifier: a name, see `{names}()`; a dict `{{"name": ..., **options}}`; a Keras config; a class; or an object,
        which is returned unchanged.
    options: constructor arguments, where `identifier` is a name, a dict with a name, or a class.

Returns:
    the {kind}, an object.

Raises:
    ValueError: unknown name or option (the message lists the known ones), a missing option, options given with a
        finished object, or something else than a {kind}.
"""


def serializable(cls):
    """Class decorator: registers `cls` with Keras as `keras_diffusion>ClassName`."""
    return keras.saving.register_keras_serializable(PACKAGE)(cls)


class Registry:
    """A table from names to classes of one kind.

    Args:
        kind: what the table holds, in the singular ("sampler"); used in error messages.
        saved: whether Keras saves such objects, which then need a `get_config`. Default True.
        default: the name that `get(None)` means. None (default): it means nothing, and is refused.

    Example:

    >>> samplers = Registry("sampler")
    >>> @samplers.register("ddim")
    ... class DDIMSampler: ...
    >>> samplers.get("ddim", eta=0.5)
    """

    def __init__(self, kind, saved=True, default=None):
        self.kind, self.saved, self.default = kind, saved, default
        self._base = object
        self._entries = {}
        self._aliases = {}

    def base(self, cls):
        """Class decorator: `get` refuses objects that are no instances of `cls`."""
        self._base = cls
        return cls

    def register(self, *names):
        """Class decorator: the first of `names` is the one that lists show; the class's own name works as well."""

        def decorate(cls):
            cls = serializable(cls) if self.saved else cls
            self._entries[names[0]] = (cls, {})
            for alias in (*names[1:], cls.__name__):
                self._aliases[_normalize(alias)] = names[0]
            return cls

        return decorate

    def variant(self, name, cls, *aliases, **options):
        """Registers `name` as `cls` with other defaults: `variant("euler_ancestral", DDIMSampler, eta=1.0)`."""
        self._entries[name] = (cls, options)
        for alias in aliases:
            self._aliases[_normalize(alias)] = name

    def names(self):
        """Known names, sorted."""
        return sorted(self._entries)

    def functions(self, of=None):
        """`get` and `names` of this table as functions with docstrings, for the room that it is in.

        Args:
            of: what they are called after in a room of several tables: "spacing" for `get_spacing`, `spacing_names`.

        Example:

        >>> get, names = samplers.functions()
        """

        def get(identifier, **options):
            return self.get(identifier, **options)

        def names():
            return self.names()

        get.__name__, names.__name__ = (f"get_{of}", f"{of}_names") if of else ("get", "names")
        get.__doc__ = _GET.format(kind=self.kind, names=names.__name__)
        names.__doc__ = f"The names that `{get.__name__}` knows, a sorted list."
        return get, names

    def __contains__(self, name):
        """Whether `get` knows `name`."""
        return isinstance(name, str) and (_normalize(name) in self._entries or _normalize(name) in self._aliases)

    def classes(self):
        """Registered classes, each once, in order of registration."""
        return list(dict.fromkeys(cls for cls, _ in self._entries.values()))

    def get(self, identifier, **options):
        """Returns the object that `identifier` means.

        Args:
            identifier: a name, a dict `{"name": ..., **options}`, a Keras config (`{"class_name": ..., "config":
                ...}`), a registered class, or an object, which is returned as it is.
            options: constructor arguments, where `identifier` is a name, a dict with a name, or a class.

        Raises:
            ValueError: unknown name (the message lists the known ones), unknown or missing option, options given with a
                finished object, or a config of a class that is not registered as one of this kind.
        """
        identifier = self.default if identifier is None else identifier
        if isinstance(identifier, dict):
            if "class_name" in identifier:
                return self.get(self._from_config(identifier), **options)
            if "name" not in identifier:
                raise ValueError(
                    f"A {self.kind} given as a dict needs the key 'name' (or be a Keras config). "
                    f"Received keys: {shown(sorted(map(str, identifier)))}, Received: {shown(identifier)}"
                )
            identifier, options = (
                identifier["name"],
                {**{k: v for k, v in identifier.items() if k != "name"}, **options},
            )
        if isinstance(identifier, str):
            name = _normalize(identifier)
            name = name if name in self._entries else self._aliases.get(name)
            if name is None:
                raise ValueError(
                    f"Unknown {self.kind}: {shown(identifier)}. Known names: {', '.join(self.names())}. Pass one of "
                    f"them, or a {self.kind} object. Received: "
                    f"{shown(identifier)}{suggestion(identifier, self._spellings())}"
                )
            cls, defaults = self._entries[name]
            options = {**defaults, **options}
            self._check_options(cls, identifier, options)
            return cls(**options)
        if inspect.isclass(identifier) and issubclass(identifier, self._base):
            if identifier in self.classes():
                self._check_options(identifier, identifier.__name__, options)
            return self._checked(identifier(**options))
        if options:
            raise ValueError(
                "Options are for names, not for finished objects. "
                f"Received: {self.kind}={shown(identifier)} with options {shown(sorted(map(str, options)))}"
            )
        return self._checked(identifier)

    def options(self, name):
        """Options of what `name` means, with their defaults, a dict; KeyError for a name that `names` does not list."""
        cls, defaults = self._entries[name]
        return {**_parameters(cls), **defaults}

    def _from_config(self, config):
        """The object of a Keras config.

        Its class is looked up among those that are registered, and nothing is imported for it.
        """
        name, registered = config["class_name"], config.get("registered_name")
        known = {cls.__name__: cls for cls in self.classes()}
        cls = known.get(name) if isinstance(name, str) else None
        for other in (registered, name):  # one of the caller's own, registered with Keras
            if cls is None and isinstance(other, str):
                cls = keras.saving.get_registered_object(other)
        if not (inspect.isclass(cls) and issubclass(cls, self._base)):
            raise ValueError(
                f"A config's class must be a {self.kind} that is registered: {', '.join(sorted(known))}, or one of "
                "your own with `@keras.saving.register_keras_serializable()`. Received: "
                f"class_name={shown(name)}{suggestion(name, known)}"
            )
        arguments = config.get("config") or {}
        if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
            raise ValueError(
                f"The config of a {self.kind} is a dict of its arguments. Received: config={shown(arguments)}"
            )
        # Within it, what Keras would deserialize is checked first: it may name what is registered, and nothing else.
        check_values(arguments, f"the config of a {self.kind}", keras.saving.get_custom_objects())
        try:
            return cls.from_config(dict(arguments))
        except TypeError as error:
            raise ValueError(
                f"The config does not fit a {cls.__name__}: {error}. Received: config={shown(arguments)}"
            ) from error

    def _spellings(self):
        return [
            *(cls.__name__ for cls in self.classes()),
            *self._entries,
        ]  # of two that differ in case, the last counts

    def parameters(self, identifier):
        """Constructor arguments, with their defaults, of the class that a known name or class means, a dict."""
        if inspect.isclass(identifier):
            return _parameters(identifier)
        name = _normalize(identifier)
        return _parameters(self._entries[name if name in self._entries else self._aliases[name]][0])

    def _check_options(self, cls, name, options):
        parameters = _parameters(cls)
        known = list(parameters)
        unknown = sorted(
            {str(key) for key in options} - set(known) - set(_parameters(self._base)) - {"name", "dtype", "trainable"}
        )
        if unknown:
            raise ValueError(
                f"The {self.kind} {shown(name)} has no option {', '.join(map(shown, unknown))}. Its options: "
                f"{', '.join(known) or 'none'}. Received: "
                f"{unknown[0][:100]}={shown(options.get(unknown[0]))}{suggestion(unknown[0], known)}"
            )
        missing = [
            key for key, default in parameters.items() if default is inspect.Parameter.empty and key not in options
        ]
        if missing:
            raise ValueError(
                f"The {self.kind} {shown(name)} needs {', '.join(missing)}. Received: options {shown(sorted(options))}"
            )

    def _checked(self, value):
        if not isinstance(value, self._base):
            raise ValueError(
                f"Expected a {self.kind}: a name, a dict or an object. Received: {shown(value)} of type "
                f"{type(value).__name__}"
            )
        return value


def _parameters(cls):
    """Constructor arguments of a class and their defaults."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"}


def _normalize(name):
    return name.lower().replace("-", "_")
