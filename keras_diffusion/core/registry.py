"""Names for classes: `get("ddim", eta=0.5)`, `get({"name": "ddim", "eta": 0.5})`, `get(sampler)` all give a sampler.

Every registered class is also registered with Keras under the package `keras_diffusion`, so that it survives `.keras` files, unless its
table is of things that are not saved.
"""

import inspect

import keras

PACKAGE = "keras_diffusion"


def serializable(cls):
    """Class decorator: registers `cls` with Keras as `keras_diffusion>ClassName`."""
    return keras.saving.register_keras_serializable(PACKAGE)(cls)


class Registry:
    """A table from names to classes of one kind.

    Args:
        kind: what the table holds, in the singular ("sampler"); used in error messages.
        saved: whether Keras saves such objects, which then need a `get_config`. Default True.

    Example:

    >>> samplers = Registry("sampler")
    >>> @samplers.register("ddim")
    ... class DDIMSampler: ...
    >>> samplers.get("ddim", eta=0.5)
    """

    def __init__(self, kind, saved=True):
        self.kind, self.saved = kind, saved
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

    def classes(self):
        """Registered classes, each once, in order of registration."""
        return list(dict.fromkeys(cls for cls, _ in self._entries.values()))

    def get(self, identifier, **options):
        """Returns the object that `identifier` means.

        Args:
            identifier: a name, a dict `{"name": ..., **options}`, a Keras config (`{"class_name": ..., "config": ...}`), a
                registered class, or an object, which is returned as it is.
            options: constructor arguments, where `identifier` is a name, a dict with a name, or a class.

        Raises:
            ValueError: unknown name (the message lists the known ones), unknown option, or options given with a finished object.
        """
        if isinstance(identifier, dict):
            if "class_name" in identifier:
                return self.get(keras.saving.deserialize_keras_object(identifier), **options)
            if "name" not in identifier:
                raise ValueError(
                    f"A {self.kind} given as a dict needs the key 'name' (or be a Keras config). Received keys: {sorted(identifier)}"
                )
            identifier, options = identifier["name"], {**{k: v for k, v in identifier.items() if k != "name"}, **options}
        if isinstance(identifier, str):
            name = _normalize(identifier)
            name = name if name in self._entries else self._aliases.get(name)
            if name is None:
                raise ValueError(
                    f"Unknown {self.kind}: {identifier!r}. Known names: {', '.join(self.names())}. "
                    f"Pass one of them, or a {self.kind} object."
                )
            cls, defaults = self._entries[name]
            options = {**defaults, **options}
            self._check_options(cls, identifier, options)
            return cls(**options)
        if inspect.isclass(identifier):
            return self._checked(identifier(**options))
        if options:
            raise ValueError(
                f"Options are for names, not for finished objects. Received: {self.kind}={identifier!r} with options {sorted(options)}"
            )
        return self._checked(identifier)

    def options(self, name):
        """Options of what `name` means, with their defaults, a dict; KeyError for a name that `names` does not list."""
        cls, defaults = self._entries[name]
        return {**_parameters(cls), **defaults}

    def _check_options(self, cls, name, options):
        known = list(_parameters(cls))
        unknown = sorted(set(options) - set(known) - set(_parameters(self._base)) - {"name", "dtype", "trainable"})
        if unknown:
            raise ValueError(
                f"The {self.kind} {name!r} has no option {', '.join(map(repr, unknown))}. Its options: {', '.join(known) or 'none'}."
            )

    def _checked(self, value):
        if not isinstance(value, self._base):
            raise ValueError(f"Expected a {self.kind}: a name, a dict or an object. Received: {value!r} of type {type(value).__name__}")
        return value


def _parameters(cls):
    """Constructor arguments of a class and their defaults."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"}


def _normalize(name):
    return name.lower().replace("-", "_")
