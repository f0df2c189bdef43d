"""FlaxDiff, the JAX library that this one descends from: U-Nets, transformers, video U-Nets, of every era.

common.py               a train state in Orbax, and the conventions of training
unet.py, unet_3d.py     `FlaxDiffUNet`, `FlaxDiffUNet3D`
attention.py            attention of the U-Nets
transformers.py         `FlaxDiffTransformer`: DiT, MM-DiT, UViT and others
transformer_sizes.py    what their shapes tell
"""
