"""Shared by all tests."""

import contextlib
import ctypes
import gc
import os
import sys
import tarfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

import keras_diffusion as kd

# What computes nothing on a backend: byte formats, configs, files, sources of data, pages, metrics in float64 on the
# host, drawing. One backend is enough.
_WITHOUT_BACKEND = {
    ".": "architecture architecture_page compare_page conditions_page configuration_page docstrings features_page "
    "flaxdiff_names links lora_page pictures readme rooms",
    "configs": "*",
    "containers": "*",
    "data": "array_record captions emoji hugging_face image_folder inspection loading non_leaking packing parquet "
    "shapes sizes sources tar_shards tfds tfds_folder url_list values",
    "docs": "*",
    "metrics": "clip_score feature_metric feature_statistics frechet inception_score kernel_distance manifold "
    "metric_peers metric_sanity metrics_page neighbours picture_quality preprocessing result sliced vectors vendi",
    "runtime": "files limits optional",
    "visualization": "animation figures grid lettering",
}


def pytest_collection_modifyitems(config, items):
    """Leaves out, on TensorFlow and torch, what the JAX run has already seen."""
    if keras.backend.backend() == "jax" or config.option.file_or_dir:
        return
    left_out = [item for item in items if _is_without_backend(item.path.relative_to(Path(__file__).parent))]
    config.hook.pytest_deselected(items=left_out)
    dropped = set(left_out)
    items[:] = [item for item in items if item not in dropped]


def _is_without_backend(path):
    names = _WITHOUT_BACKEND.get(path.parts[0] if len(path.parts) > 1 else ".", "").split()
    return "*" in names or path.stem.removeprefix("test_") in names


@pytest.fixture(scope="session", autouse=True)
def shared_compilations(tmp_path_factory):
    """On JAX, tests, and the processes that they start, share what they compile.

    Most programs run once, so that compiling them costs more than running them: the compiler optimizes little, which
    saves about a quarter of the time.
    """
    if keras.backend.backend() == "jax":
        import jax

        base = tmp_path_factory.getbasetemp()
        shared = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled")
        options = {
            "jax_compilation_cache_dir": shared,
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }
        for name, value in options.items():
            jax.config.update(name, value)
            os.environ[name.upper()] = str(value)
        jax.config.update("jax_disable_most_optimizations", True)
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"


_ROOM = 1.5e9  # bytes that a process may grow to before it gives back what it can
_held_after_last_release = 0.0


@pytest.fixture(autouse=True)
def released_memory():
    """A process that has grown by much within a module gives back what no test needs any more."""
    yield
    _release(above=max(_ROOM, _held_after_last_release + 0.4e9))


@pytest.fixture(scope="module", autouse=True)
def bounded_memory():
    """Between modules, so does one that is large; no module may add 2 GB to what its process held.

    TensorFlow keeps what XLA has compiled for as long as the process lives, about 70 MB for a model that was trained
    and sampled, whatever is released: its processes grow from module to module.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is other modules'
    held = _memory("VmRSS")
    yield
    _release(above=_ROOM)
    taken = _memory("VmHWM") - held
    assert taken < 2e9, f"this module has taken {taken / 1e9:.1f} GB: make it smaller, or see what it keeps"


def _release(above):
    """Frees compiled programs and what else nothing refers to, if this process holds more bytes than `above`.

    Two processes at a time have to fit the machine. What is compiled anew comes out of the shared folder of
    compilations. Freed memory that the system does not get back is used again: hence often, rather than at a peak.
    """
    global _held_after_last_release
    if _memory("VmRSS") <= above:
        return
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
    elif keras.backend.backend() == "tensorflow":
        keras.backend.clear_session(free_memory=False)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    _held_after_last_release = _memory("VmRSS")


def _memory(kind):
    """Bytes of this process: VmRSS, what it holds now, or VmHWM, the most that it has held. 0 where Linux is not."""
    if not sys.platform.startswith("linux"):
        return 0
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def optimized():
    """For tests that run long, or compare with processes of their own: JAX compiles as users do."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", False)
    os.environ.pop("JAX_DISABLE_MOST_OPTIMIZATIONS")
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"


@pytest.fixture(scope="session")
def keras2(tmp_path_factory):
    """Folder with the checkpoints of the two Keras examples; golden/README.md says what is in it."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(Path(__file__).parent / "golden" / "keras2.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "keras2"


@pytest.fixture
def make_model():
    """A function that makes a small compiled model of vectors; the same weights every time."""

    def make(num_classes=3, optimizer="adam", learning_rate=1e-2, seed=0, shape=(2,), compile_options=None, **options):
        keras.utils.set_random_seed(0)
        network = kd.networks.MLP(shape, width=16, depth=2, num_classes=num_classes)
        model = kd.DiffusionModel(network, seed=seed, **options)
        if optimizer is not None:
            model.compile(
                keras.optimizers.get({"class_name": optimizer, "config": {"learning_rate": learning_rate}}),
                **(compile_options or {}),
            )
        return model

    return make


@pytest.fixture
def blobs():
    """Three classes of points in the plane: {"images": float32 (96, 2), "labels": int32 (96,)}."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 96).astype("int32")
    centres = np.array([[-0.8, 0.0], [0.8, 0.0], [0.0, 0.8]], "float32")
    return {"images": centres[labels] + 0.05 * rng.standard_normal((96, 2)).astype("float32"), "labels": labels}


def weights_of(model):
    """All weights as NumPy arrays."""
    return [keras.ops.convert_to_numpy(w) for w in model.weights]


@pytest.fixture
def difference():
    """The largest difference of two models' weights."""

    def largest(a, b):
        pairs = zip(weights_of(a), weights_of(b), strict=True)
        return max(np.abs(p.astype("float64") - q).max() for p, q in pairs)

    return largest
