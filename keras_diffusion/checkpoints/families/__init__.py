"""Families of checkpoints: whose networks are known. One file each; the import registers it."""

from keras_diffusion.checkpoints.families.family import Family, Parts, Source, families, family_of, register

__all__ = ["Family", "Parts", "Source", "families", "family_of", "register"]
