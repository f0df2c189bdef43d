"""Other packages' code, imported without what it imports: torchvision, and the rest of the package."""

import contextlib
import importlib
import importlib.util
import sys
import types

import pytest


class Stub(types.ModuleType):
    """A module that has whatever it is asked for, and does nothing."""

    __path__: list = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Stub(name)

    def __call__(self, *args, **kwargs):
        return self


@contextlib.contextmanager
def modules(*forgotten, **given):
    """`sys.modules` with other entries ("__" for "."); what is imported of their packages meanwhile, and of the
    `forgotten` ones, is forgotten afterwards.
    """
    given = {name.replace("__", "."): module for name, module in given.items()}
    packages = {*forgotten, *(name.split(".")[0] for name in given)}
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in packages}
    for name in before:
        del sys.modules[name]
    sys.modules.update(given)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] in packages]:
            del sys.modules[name]
        sys.modules.update(before)


def alone(package, module, **others):
    """Imports `package.module` without running the package's `__init__`; `others` are stubs.

    Skips the test where the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    bare = types.ModuleType(package)
    bare.__path__ = list(spec.submodule_search_locations)
    with modules(**{package: bare, **others}):
        return importlib.import_module(f"{package}.{module}")
