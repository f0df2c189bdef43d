"""The command line, `keras-diffusion`: train, sample, inspect, convert, demo, info.

`keras-diffusion --help` and every check of a configuration file answer before Keras is imported, which takes seconds.
The commands import what they need; that is also why `--backend` can still choose.
"""

from keras_diffusion.cli.app import main

__all__ = ["main"]
