"""NVIDIA's EDM: edm.py is the family, config.py what shapes and arguments tell."""
