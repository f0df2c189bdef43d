"""`brief`: a value as an error message shows it; `clip`: a text of a limited length. Both are of checks.py."""

from keras_diffusion.core.checks import clip
from keras_diffusion.core.checks import shown as brief

__all__ = ["brief", "clip"]
