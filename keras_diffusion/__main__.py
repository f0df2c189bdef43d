"""`python -m keras_diffusion` is `keras-diffusion`."""

from keras_diffusion.cli import main

main()
