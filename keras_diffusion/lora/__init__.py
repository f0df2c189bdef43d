"""Low-rank adapters (LoRA): small matrices that are trained in the place of a network's weights.

    y = x·W + (α/r)·(x·A)·B + b          W frozen, A and B trained

    layers/adaptable_dense.py      the layer that can take an adapter
    network.py                     which layers of a network get one: `network.enable_lora`, `merge_lora`, `remove_lora`
    models/adapters.py             the same for a model and the average of its weights: `model.enable_lora`
    files.py                       `save_lora`, `load_lora`, which `keras_diffusion.checkpoints` offers
    pairs.py, places.py            what a file of adapters holds, and which kernels that is for

Reference: Hu et al., "LoRA: low-rank adaptation of large language models", arXiv:2106.09685.
"""
