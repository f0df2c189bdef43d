"""transformers' T5EncoderModel, and the encoder of a whole T5 ↔ `text.T5Encoder`."""

from keras_diffusion.checkpoints.families.diffusers.clip_text import NEEDLESS_OF_TEXT
from keras_diffusion.checkpoints.families.diffusers.component import Component, activation_name, register
from keras_diffusion.checkpoints.links import Link
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.text import T5Encoder

_TOKENS, _COPY = "shared.weight", "encoder.embed_tokens.weight"
_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_GATED = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
_NEEDLESS = frozenset(
    "num_decoder_layers dropout_rate classifier_dropout n_positions output_past scale_decoder_outputs".split()
)
_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out": "o"}


@register
class T5EncoderModel(Component):
    """The component. Of a whole T5, the decoder stays behind."""

    class_name, network_class, folder = "T5EncoderModel", T5Encoder, "text_encoder"
    weights_file, library = "model.safetensors", "transformers"
    needless_keys = NEEDLESS_OF_TEXT | _NEEDLESS
    defaults = {
        "vocab_size": 32128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_heads": 8,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu",
        "pad_token_id": 0,
        # Both follow from `feed_forward_proj`.
        "dense_act_fn": None,
        "is_gated_act": None,
    }
    same = {
        "vocab_size": "vocabulary_size",
        "d_model": "width",
        "d_kv": "head_dim",
        "d_ff": "hidden_dim",
        "num_layers": "depth",
        "num_heads": "num_heads",
        "relative_attention_num_buckets": "num_buckets",
        "relative_attention_max_distance": "max_distance",
        "layer_norm_epsilon": "norm_epsilon",
        "pad_token_id": "pad_token",
    }

    def recognizes(self, tensors):
        return _BIAS in tensors

    def guess(self, tensors):
        vocabulary_size, width = tensors.shape(_TOKENS if _TOKENS in tensors else _COPY)
        buckets, heads = tensors.shape(_BIAS)
        gated = _GATED in tensors
        inner, _ = tensors.shape("encoder.block.0.layer.0.SelfAttention.q.weight")
        first = _GATED if gated else _GATED.replace("wi_0", "wi")
        return {
            "vocab_size": vocabulary_size,
            "d_model": width,
            "d_kv": inner // heads,
            "d_ff": tensors.shape(first)[0],
            "num_layers": tensors.count("encoder.block.{}."),
            "num_heads": heads,
            "relative_attention_num_buckets": buckets,
            "feed_forward_proj": "gated-gelu" if gated else "relu",
        }

    def complete(self, tensors, told, given, path):
        config = super().complete(tensors, told, {key: given[key] for key in given if key in self.defaults}, path)
        if tensors.count("encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.") > 1:
            raise CheckpointError(
                "The blocks of a T5 share one bias of distances. Received: a bias for each block, as UMT5 has them.",
                path,
            )
        return {**config, "copy": _TOKENS not in tensors}

    def arguments(self, config):
        gated, _, activation = config["feed_forward_proj"].rpartition("-")
        # transformers: "gated-gelu" is the approximation by tanh, "gated-silu" and "relu" what they say.
        activation = "gelu_tanh" if gated and activation == "gelu" else activation_name(activation)
        equal = {ours: config[theirs] for theirs, ours in self.same.items()}
        return {**equal, "activation": activation, "gated": gated == "gated"}

    def config(self, network):
        has = network.get_config()
        equal = {theirs: has[ours] for theirs, ours in self.same.items()}
        activation = {"gelu_tanh": "gelu", "swish": "silu"}.get(has["activation"], has["activation"])
        kind = f"gated-{activation}" if network.gated else activation
        notes = {"architectures": [self.class_name], "model_type": "t5"}
        derived = {"dense_act_fn": None, "is_gated_act": None}
        config = {**self.defaults, **equal, "feed_forward_proj": kind}
        return {**notes, **{key: value for key, value in config.items() if key not in derived}}

    def links(self, network, config):
        yield Link(network.token_embedding.weights[0], (_COPY if config.get("copy") else _TOKENS,), table=True)
        yield Link(network.distance_bias.weights[0], (_BIAS,), table=True)
        for i, block in enumerate(network.blocks):
            attention, feed_forward = (f"encoder.block.{i}.layer.{j}" for j in (0, 1))
            for ours, theirs in _ATTENTION.items():
                yield Link(getattr(block, ours)._kernel, (f"{attention}.SelfAttention.{theirs}.weight",))
            yield Link(block.norm1.weights[0], (f"{attention}.layer_norm.weight",))
            first = ("wi_1", "wi_0") if network.gated else ("wi",)  # values, gates
            names = tuple(f"{feed_forward}.DenseReluDense.{name}.weight" for name in first)
            yield Link(block.feed_forward1._kernel, names)
            yield Link(block.feed_forward2._kernel, (f"{feed_forward}.DenseReluDense.wo.weight",))
            yield Link(block.norm2.weights[0], (f"{feed_forward}.layer_norm.weight",))
        yield Link(network.norm.weights[0], ("encoder.final_layer_norm.weight",))

    def needless(self, name):
        return name.startswith(("decoder.", "lm_head.")) or name == _COPY
