"""What a process runs on: the backend's devices, package versions, and the peak of its memory."""

import contextlib
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

        details = tf.config.experimental.get_device_details
        gpus = [details(gpu).get("device_name", gpu.name) for gpu in tf.config.list_physical_devices("GPU")]
        return gpus or sorted({device.device_type.lower() for device in tf.config.list_physical_devices()})
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
    for name in (package, f"{package}-cpu"):  # TensorFlow and JAX have packages of several names
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def peak_memory():
    """The peak memory so far, as `{"bytes": int, "of": "process" or "device"}`.

    On an accelerator, what the backend has allocated there; else the resident memory of the process, libraries included
    (0 if the operating system does not say).
    """
    import keras

    peaks = {"jax": _jax_peaks, "tensorflow": _tensorflow_peaks, "torch": _torch_peaks}[keras.backend.backend()]()
    if peaks and None not in peaks:
        return {"bytes": int(sum(peaks)), "of": "device"}
    return {"bytes": _process_peak(), "of": "process"}


def _process_peak():
    # On Linux, `ru_maxrss` includes the peak of the parent process; "VmHWM" is this program's alone.
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


def _jax_peaks():
    import jax

    return [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]


def _tensorflow_peaks():
    import tensorflow as tf

    gpus = [gpu.name.removeprefix("/device:") for gpu in tf.config.list_logical_devices("GPU")]
    return [tf.config.experimental.get_memory_info(gpu)["peak"] for gpu in gpus]


def _torch_peaks():
    import torch

    return [torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())]
