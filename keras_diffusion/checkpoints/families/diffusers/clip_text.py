"""transformers' CLIPTextModel, the text encoder of Stable Diffusion ↔ `text.CLIPTextEncoder`."""

from keras_diffusion.checkpoints.families.diffusers.component import Component, register
from keras_diffusion.checkpoints.links import Link, attention_parts, layer_links, links_of
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.text import CLIPTextEncoder

_PREFIX = "text_model."
_TOKENS = "embeddings.token_embedding.weight"
# Keys of transformers' configs that mean nothing to the text encoder alone: training, the projection behind it, and
# what every config has.
NEEDLESS_OF_TEXT = frozenset(
    """
    architectures model_type torch_dtype dtype transformers_version attention_dropout dropout initializer_factor
    initializer_range bos_token_id eos_token_id pad_token_id sep_token_id decoder_start_token_id projection_dim
    use_cache return_dict output_hidden_states output_attentions torchscript use_bfloat16 tf_legacy_loss pruned_heads
    tie_word_embeddings tie_encoder_decoder is_decoder is_encoder_decoder cross_attention_hidden_size
    add_cross_attention chunk_size_feed_forward finetuning_task id2label label2id tokenizer_class prefix
    task_specific_params problem_type max_length min_length do_sample early_stopping num_beams num_beam_groups
    diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores return_dict_in_generate
    forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens
    begin_suppress_tokens
    """.split()
)


@register
class CLIPTextModel(Component):
    """The component. Newer files lack the prefix "text_model." of its names."""

    class_name, network_class, folder = "CLIPTextModel", CLIPTextEncoder, "text_encoder"
    weights_file, library = "model.safetensors", "transformers"
    needless_keys = NEEDLESS_OF_TEXT
    defaults = {
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    }
    fixed = {"layer_norm_eps": 1e-5}
    same = {
        "vocab_size": "vocabulary_size",
        "hidden_size": "width",
        "num_hidden_layers": "depth",
        "num_attention_heads": "num_heads",
        "max_position_embeddings": "max_length",
    }
    activation_key = "hidden_act"

    def recognizes(self, tensors):
        return _TOKENS in tensors or _PREFIX + _TOKENS in tensors

    def guess(self, tensors):
        prefix = _prefix(tensors)
        vocabulary_size, width = tensors.shape(prefix + _TOKENS)
        return {
            "vocab_size": vocabulary_size,
            "hidden_size": width,
            "intermediate_size": tensors.shape(f"{prefix}encoder.layers.0.mlp.fc1.weight")[0],
            "num_hidden_layers": tensors.count(f"{prefix}encoder.layers.{{}}."),
            "max_position_embeddings": tensors.shape(f"{prefix}embeddings.position_embedding.weight")[0],
            # Not in the shapes: CLIP of Stable Diffusion 1 and OpenCLIP of 2 have heads of 64 channels.
            "num_attention_heads": max(width // 64, 1),
            "hidden_act": "gelu" if width >= 1024 else "quick_gelu",
        }

    def complete(self, tensors, told, given, path):
        # The config of transformers has many keys that mean nothing to the text encoder alone.
        config = super().complete(tensors, told, {key: given[key] for key in given if key in self.defaults}, path)
        if config["intermediate_size"] != 4 * config["hidden_size"]:
            raise CheckpointError(
                "Feed-forward steps of a text encoder here are four times as wide as its tokens. Received: "
                f"intermediate_size={config['intermediate_size']}, hidden_size={config['hidden_size']}.",
                path,
            )
        return {**config, "prefix": _prefix(tensors)}

    def config(self, network):
        config = super().config(network)
        activation = {"gelu-approximate": "gelu_pytorch_tanh"}.get(config["hidden_act"], config["hidden_act"])
        own = {"intermediate_size": 4 * network.width, "hidden_act": activation}
        return {"architectures": [self.class_name], "model_type": "clip_text_model", **config, **own}

    def links(self, network, config):
        prefix = config.get("prefix", _PREFIX)
        for name in ("token_embedding", "position_embedding"):
            yield Link(getattr(network, name).weights[0], (f"{prefix}embeddings.{name}.weight",), table=True)
        for i, block in enumerate(network.blocks):
            layer = f"{prefix}encoder.layers.{i}"
            attention = attention_parts(block.attention1, ("q_proj", "k_proj", "v_proj", "out_proj"))
            yield from links_of(f"{layer}.self_attn", attention)
            norms = {"layer_norm1": block.norm1, "layer_norm2": block.norm3}
            yield from links_of(layer, {**norms, "mlp.fc1": block.feed_forward1, "mlp.fc2": block.feed_forward2})
        yield from layer_links(f"{prefix}final_layer_norm", network.norm)

    def needless(self, name):
        return name.endswith(("position_ids", "text_projection.weight"))


def _prefix(tensors):
    return _PREFIX if _PREFIX + _TOKENS in tensors else ""
