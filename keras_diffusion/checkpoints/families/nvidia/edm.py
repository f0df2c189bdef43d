"""Networks of NVIDIA's EDM, `edm-cifar10-32x32-cond-vp.pkl`, and of its baselines.

    class          output F       condition c_noise    here
    EDMPrecond     EDM's          log(σ)/4             EDMPredictor, variance-exploding schedule
    VPPrecond      ε              (M − 1)·t            ε, variance-preserving schedule
    VEPrecond      −ε             log(σ/2)             ε (the last convolution negated), variance-exploding schedule
    iDDPMPrecond   ε, variance    timestep             ε, cosine table

    model          SongUNet (DDPM++, NCSN++) or DhariwalUNet (ADM)
        map_noise, map_label, map_layer0, map_layer1                  the condition vector
        enc.32x32_conv, _block0 …, enc.16x16_down, _aux_residual      levels go by their sizes
        dec.8x8_in0, _in1, _block0 …, dec.16x16_up, …                 the middle, and the way up
        block      norm0 conv0 affine norm1 conv1 skip                norm2 qkv proj: its attention

A label is a one-hot vector times a matrix there, zeros for none: here a table with a row per class.

    conventions: images in [−1, 1]; no augmentation

Reference: Karras et al. 2022, arXiv:2206.00364, tables 1 and 8. NVIDIA's weights are for non-commercial use.
"""

import re

import numpy as np

from keras_diffusion.checkpoints.families.agreement import network_notes
from keras_diffusion.checkpoints.families.family import Parts, Source, register
from keras_diffusion.checkpoints.families.nvidia.config import complete_config, read_structure
from keras_diffusion.checkpoints.families.rooted_family import RootedFamily
from keras_diffusion.checkpoints.links import Link, Tensors, layer_links, links_of
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.layers import AttentionBlock, EDMBlock
from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.networks import EDMUNet
from keras_diffusion.predictors import EDMPredictor, EpsilonPredictor
from keras_diffusion.schedulers import (
    CosineBetaNoiseSchedule,
    VarianceExplodingNoiseSchedule,
    VariancePreservingNoiseSchedule,
)

_BLOCK = {
    "norm0": "norm1",
    "conv0": "conv1",
    "affine": "time_projection",
    "norm1": "norm2",
    "conv1": "conv2",
    "skip": "shortcut",
}
_PLACE = re.compile(r"(down|up|middle)_(\d+)(?:_(\d+|downsample|upsample|path))?(?:_residual|_attention)?")
_NEEDLESS = ("model.map_augment.weight", "u")
_NO_CLASS = " (config={'label_dropout': 0.1} takes zeros for it all the same, as EDM does)."
_EDM, _EDM2 = "model.map_layer0.weight", "unet.emb_noise.weight"


@register
class NVIDIAEDM(RootedFamily):
    """Pickles of EDM, and state dicts of its networks."""

    name = "nvidia_edm"
    title = "U-Net of NVIDIA's EDM: DDPM++, NCSN++ or ADM"
    loses = "what the network made of augmentation labels, which are zeros in sampling"

    def is_mine(self, container, root):
        return bool({_EDM, _EDM2} & set(Tensors(container, root)))

    def read_config(self, container, root, config):
        tensors = Tensors(container, root)
        if _EDM2 in tensors:
            raise CheckpointError(
                "Networks here know no layers that keep magnitudes, as those of EDM2 do. Received: a network of EDM2. "
                "Those of EDM, the first, can be loaded.",
                container.path,
            )
        structure = read_structure(tensors, container, root)
        return complete_config(structure, container.config_of(root), config, container.path)

    def build(self, container, config):
        with self.describing(container), zero_kernels():  # every weight is read from the file
            network = EDMUNet(**_arguments(config))
        schedule, predictor, options = _process(config, container.metadata.get("loss_fn"))
        notes = [*config["assumed"], *network_notes(network, _NO_CLASS)]
        if config["augment_dim"]:
            notes.append("Labels of augmentations are zeros in sampling, and their weights are left out.")
        if network.num_classes is not None:
            options["condition_dropout"] = config["label_dropout"]
        # The default of EDM's generate.py: its sampler without churn. Nothing is clipped but the image at the end.
        return Parts(network, schedule, predictor, options=options, notes=tuple(notes), sampling={"sampler": "heun"})

    def sources(self, container, root, network, config):
        tensors = Tensors(container, root)
        for layer in network.layers:
            place = f"model.{_place(layer.name, config)}"
            if isinstance(layer, EDMBlock):
                links = links_of(place, {theirs: getattr(layer, ours, None) for theirs, ours in _BLOCK.items()})
            elif isinstance(layer, AttentionBlock):
                links = list(layer_links(f"{place}.norm2", layer.norm1))
                links += layer_links(f"{place}.proj", layer.out, (1, 1, *layer.out.kernel.shape))
                yield from _qkv_sources(tensors, place, layer)
            elif layer.name == "label_embedding":
                yield _label_source(tensors, place, layer, config)
                links = []
            elif layer.name == "time_embedding":
                links = [Link(variable, (f"{place}.freqs",)) for variable in layer.weights]
            else:
                links = list(layer_links(place, getattr(layer, "conv", layer)))
            negated = layer.name == "conv_out" and config["class_name"] == "VEPrecond"
            for link in links:
                source = tensors.source(link)
                yield link.variable, _negated(source) if negated else source

    def ignores(self, container, root):
        tensors = Tensors(container, root)
        needless = [name for name in tensors if name.endswith("resample_filter") or name in _NEEDLESS]
        return super().ignores(container, root) | set(tensors.names(*needless))


def _arguments(config):
    """Arguments of `EDMUNet`."""
    song, width, rows = config["model_type"] == "SongUNet", config["model_channels"], config["label_dim"]
    variance = config["class_name"] == "iDDPMPrecond"
    sizes = [config["img_resolution"] >> i for i in range(len(config["channel_mult"]))]
    return {
        "input_shape": [config["img_resolution"]] * 2 + [config["img_channels"]],
        "widths": [int(mult * width) for mult in config["channel_mult"]],
        "base_width": width,
        "num_res_blocks": config["num_blocks"],
        "attention": [size in config["attn_resolutions"] for size in sizes],
        "architecture": "song" if song else "adm",
        "time_embedding": "fourier" if config["embedding_type"] == "fourier" else "sinusoidal",
        "time_features": int(config["channel_mult_noise"] * width),
        "time_dim": int(config["channel_mult_emb"] * width),
        "encoder": config["encoder_type"],
        "resample_filter": config["resample_filter"],
        "num_classes": rows or None,
        "null_class": config["label_dropout"] > 0,
        "out_channels": 2 * config["img_channels"] if variance else None,
        "dropout": config["dropout"],
    }


def _process(config, loss):
    """(noise schedule, predictor, options of `DiffusionModel`)."""
    name, steps = config["class_name"], config["M"]
    if name == "VPPrecond":
        low = config["beta_min"]
        schedule = VariancePreservingNoiseSchedule(low, low + config["beta_d"])
        return schedule, EpsilonPredictor(condition="continuous_timestep", timesteps=steps), {}
    if name == "VEPrecond":
        schedule = VarianceExplodingNoiseSchedule(config["sigma_min"], config["sigma_max"])
        return schedule, EpsilonPredictor(condition="log_half_sigma"), {}
    if name == "iDDPMPrecond":
        schedule = CosineBetaNoiseSchedule(steps, offset=config["C_2"], max_beta=1.0 - config["C_1"])
        return schedule, EpsilonPredictor(condition="timestep", timesteps=steps), {}
    loss = loss if isinstance(loss, dict) else {}
    levels = {"name": "log_normal_sigma", "mean": loss.get("P_mean", -1.2), "std": loss.get("P_std", 1.2)}
    schedule = VarianceExplodingNoiseSchedule(max(0.002, config["sigma_min"]), min(80.0, config["sigma_max"]))
    return schedule, EDMPredictor(sigma_data=config["sigma_data"]), {"time_distribution": levels}


def _place(name, config):
    """ "up_0_1_residual" of a network for 32 × 32 → "dec.32x32_block1"."""
    size, depth, song = config["img_resolution"], len(config["channel_mult"]), config["model_type"] == "SongUNet"
    ends = {
        "conv_in": f"enc.{size}x{size}_conv",
        "norm_out": f"dec.{size}x{size}_aux_norm" if song else "out_norm",
        "conv_out": f"dec.{size}x{size}_aux_conv" if song else "out_conv",
        "middle_attention": f"dec.{size >> depth - 1}x{size >> depth - 1}_in0",
        **{
            "time_embedding": "map_noise",
            "label_embedding": "map_label",
            "time_dense1": "map_layer0",
            "time_dense2": "map_layer1",
        },
    }
    match = _PLACE.fullmatch(name)
    if name in ends or match is None:
        return ends.get(name, name)
    way, level, part = match.groups()
    size >>= depth - 1 if way == "middle" else int(level)
    half = "enc" if way == "down" else "dec"
    kinds = {"downsample": "down", "upsample": "up", "path": "aux_residual", None: f"in{level}"}
    return f"{half}.{size}x{size}_{kinds.get(part, f'block{part}')}"


def _qkv_sources(tensors, place, layer):
    """Of the outputs of `qkv`, which are [heads, d, (q, k, v)] there and [(q, k, v), heads, d] here."""

    def combine(array):
        rows = array.reshape(array.shape[0], -1).astype("float32")
        rows = rows.reshape(layer.heads, -1, 3, rows.shape[-1]).transpose(2, 0, 1, 3).reshape(rows.shape)
        return np.ascontiguousarray(rows.T) if array.ndim > 1 else rows[:, 0]

    for variable, leaf in zip(layer.qkv.weights, ("weight", "bias"), strict=True):
        yield variable, Source(tensors.names(f"{place}.qkv.{leaf}"), combine)


def _label_source(tensors, place, layer, config):
    """The table of labels: what the matrix, and in SongUNet the bias, makes of each one-hot vector, and of zeros."""
    song, null_class = config["model_type"] == "SongUNet", layer.null_class

    def combine(matrix, bias=0.0):
        scale = np.sqrt(matrix.shape[1]) if song else 1.0  # there, one-hot vectors are scaled to a mean square of 1
        rows = scale * matrix.T.astype("float32")
        rows = np.concatenate([rows, np.zeros_like(rows[:1])]) if null_class else rows
        return (rows + bias).astype("float32")

    names = [f"{place}.weight", f"{place}.bias"] if song else [f"{place}.weight"]
    return layer.table.weights[0], Source(tensors.names(*names), combine)


def _negated(source):
    return Source(source.names, lambda *arrays: -source.combine(*arrays))
