"""diffusers' DiTTransformer2DModel ↔ `networks.DiTTransformer2D`."""

from keras_diffusion.checkpoints.families.diffusers.component import Component, register, size_pair
from keras_diffusion.checkpoints.links import attention_parts, layer_links, links_of
from keras_diffusion.networks import DiTTransformer2D

_LABELS = "norm1.emb.class_embedder.embedding_table.weight"


@register
class DiTTransformer2DModel(Component):
    """The component."""

    class_name, network_class, folder, denoises = "DiTTransformer2DModel", DiTTransformer2D, "transformer", True
    # Of Transformer2DModel, which DiT was a case of.
    obsolete = {
        **{
            "double_self_attention": False,
            "only_cross_attention": False,
            "use_linear_projection": False,
            "attention_type": "default",
        },
        "use_additional_conditions": False,
    }
    defaults = {
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "in_channels": 4,
        "out_channels": None,
        "num_layers": 28,
        "dropout": 0.0,
        "norm_num_groups": 32,
        "attention_bias": True,
        "sample_size": 32,
        "patch_size": 2,
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": 1000,
        "upcast_attention": False,
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
        "norm_eps": 1e-5,
    }
    fixed = {"norm_type": "ada_norm_zero", "norm_elementwise_affine": False}
    same = {
        "patch_size": "patch_size",
        "num_layers": "depth",
        "num_attention_heads": "num_heads",
        "attention_head_dim": "head_dim",
        "num_embeds_ada_norm": "num_classes",
        "out_channels": "out_channels",
        "attention_bias": "use_bias",
        "norm_eps": "norm_epsilon",
        "dropout": "dropout",
    }
    activation_key = "activation_fn"

    def recognizes(self, tensors):
        return "pos_embed.proj.weight" in tensors and f"transformer_blocks.0.{_LABELS}" in tensors

    def guess(self, tensors):
        width, channels, patch_size, _ = tensors.shape("pos_embed.proj.weight")
        # Not in the shapes: DiT-XL has heads of 72 channels, the smaller ones of 64.
        head_dim = 72 if width == 1152 else next(dim for dim in (64, width) if width % dim == 0)
        return {
            "in_channels": channels,
            "patch_size": patch_size,
            "out_channels": tensors.shape("proj_out_2.weight")[0] // patch_size**2,
            "num_layers": tensors.count("transformer_blocks.{}."),
            "attention_head_dim": head_dim,
            "num_attention_heads": width // head_dim,
            "num_embeds_ada_norm": tensors.shape(f"transformer_blocks.0.{_LABELS}")[0] - 1,
            "attention_bias": "transformer_blocks.0.attn1.to_q.bias" in tensors,
        }

    def arguments(self, config):
        shape = [*size_pair(config["sample_size"]), config["in_channels"]]
        return {**super().arguments(config), "input_shape": shape}

    def config(self, network):
        height, width, channels = network.sample_shape
        size = height if height == width else [height, width]
        return {**super().config(network), "sample_size": size, "in_channels": channels}

    def links(self, network, config):
        has = network.get_config()
        patch = network.get_layer("patch_embedding")
        kernel = (has["patch_size"], has["patch_size"], has["input_shape"][-1], patch.units)
        yield from layer_links("pos_embed.proj", patch, kernel)
        for i in range(has["depth"]):
            block, prefix = network.get_layer(f"block_{i}"), f"transformer_blocks.{i}"
            parts = {
                "norm1.emb.timestep_embedder.linear_1": network.get_layer(f"block_{i}_time_dense1"),
                "norm1.emb.timestep_embedder.linear_2": network.get_layer(f"block_{i}_time_dense2"),
                _LABELS.removesuffix(".weight"): network.get_layer(f"block_{i}_label_embedding").table,
                "norm1.linear": block.modulation,
                **{f"attn1.{name}": layer for name, layer in attention_parts(block.attention).items()},
                "ff.net.0.proj": block.feed_forward1,
                "ff.net.2": block.feed_forward2,
            }
            yield from links_of(prefix, parts)
        yield from layer_links("proj_out_1", network.get_layer("modulation_out"))
        yield from layer_links("proj_out_2", network.get_layer("project_out"))
