"""What a process computes on: devices of the backend, versions of packages, and the most memory that it has held."""

import importlib.metadata
import sys
from pathlib import Path


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
        accelerators = [
            tf.config.experimental.get_device_details(d).get("device_name", d.name)
            for d in found
            if d.device_type == "GPU"
        ]
        return accelerators or sorted({d.device_type.lower() for d in found})
    import torch

    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["mps" if torch.backends.mps.is_available() else "cpu"]


def jax_platform():
    """What JAX runs on, such as "cpu"; None on another backend."""
    import keras

    if keras.backend.backend() != "jax":
        return None
    import jax

    return jax.devices()[0].platform


def package_version(package):
    """Version of an installed package, or None."""
    # TensorFlow and JAX come in packages of several names.
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def peak_memory():
    """The most memory held so far, as `{"bytes": int, "of": "process" or "device"}`.

    On an accelerator, what the backend has allocated there; else the resident memory of the process, libraries included
    (0 where the operating system does not say).
    """
    import keras

    on_device = {"jax": _jax_peak, "tensorflow": _tensorflow_peak, "torch": _torch_peak}[keras.backend.backend()]()
    if on_device is not None:
        return {"bytes": on_device, "of": "device"}
    return {"bytes": _process_peak(), "of": "process"}


def _process_peak():
    # Linux: `ru_maxrss` begins with the peak of the process that started this one; "VmHWM" is of this program alone.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    if peaks:
        return 1024 * int(peaks[0])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)


def _jax_peak():
    import jax

    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    return None if None in peaks else int(sum(peaks))


def _tensorflow_peak():
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    return (
        int(sum(tf.config.experimental.get_memory_info(gpu.name.removeprefix("/device:"))["peak"] for gpu in gpus))
        if gpus
        else None
    )


def _torch_peak():
    import torch

    if not torch.cuda.is_available():
        return None
    return int(sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())))
