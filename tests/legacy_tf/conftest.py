"""The TensorFlow originals run beside the JAX suite only: they use no backend of Keras 3."""

import sys
from pathlib import Path

import keras

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # the originals are not installed

collect_ignore_glob = [] if keras.backend.backend() == "jax" else ["test_*.py"]
