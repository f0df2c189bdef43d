"""The two diffusion examples of keras.io, DDIM and DDPM; common.py holds what they share."""
