"""What a run was made with: versions, backend, devices."""

import importlib.metadata
import platform
import shlex
import sys


def describe_environment():
    """A JSON-like dict: Python, libraries, backend, devices, platform, command line, time."""
    import datetime

    import keras

    from keras_diffusion.version import __version__

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


def devices():
    """Names of the devices that the backend sees, for example ["cpu"] or ["NVIDIA H100"]."""
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices()]
    if backend == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices()
        accelerators = [tf.config.experimental.get_device_details(d).get("device_name", d.name) for d in found if d.device_type == "GPU"]
        return accelerators or sorted({d.device_type.lower() for d in found})
    import torch

    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["mps" if torch.backends.mps.is_available() else "cpu"]


def counted(names):
    """["cpu", "cpu"] as "2 × cpu", ["NVIDIA H100"] as it is."""
    return ", ".join(f"{names.count(name)} × {name}" if names.count(name) > 1 else name for name in dict.fromkeys(names))


def package_version(package):
    """Version of an installed package, or None."""
    # TensorFlow and JAX come in packages of several names.
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
