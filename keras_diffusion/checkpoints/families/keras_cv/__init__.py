"""KerasCV's Stable Diffusion: stable_diffusion.py reads the files, variables.py says where each weight goes."""
