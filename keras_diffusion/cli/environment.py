"""What a run was made with: versions, backend, devices."""

import datetime
import platform
import shlex
import sys

from keras_diffusion.runtime.hardware import devices, package_version
from keras_diffusion.version import __version__


def describe_environment():
    """A JSON-like dict: Python, libraries, backend, devices, platform, command line, time."""
    import keras

    backend = keras.backend.backend()
    versions = {"python": platform.python_version(), "keras_diffusion": __version__, "keras": keras.__version__}
    for package in ("numpy", *(("jax", "jaxlib") if backend == "jax" else (backend,))):
        versions[package] = package_version(package)
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["keras-diffusion", *sys.argv[1:]]),
        "backend": backend,
        "devices": devices(),
        "platform": platform.platform(),
        "versions": versions,
    }


def counted(names):
    """["cpu", "cpu"] as "2 × cpu", ["NVIDIA H100"] as it is."""
    return ", ".join(
        f"{names.count(name)} × {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names)
    )
