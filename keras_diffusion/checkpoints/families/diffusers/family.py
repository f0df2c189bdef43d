"""Models of diffusers: single components, and whole pipelines.

    model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/
        unet or transformer   → the network; `unet_ema` where averaged weights are asked for
        vae                   → the model's autoencoder
        text_encoder          → with tokenizer/merges.txt, text to image
        scheduler             → noise schedule, spacing and predictor

What the classes are, and what their tensors are called, is in the other files of this folder.
"""

from pathlib import Path

from keras_diffusion.checkpoints.families.agreement import network_notes
from keras_diffusion.checkpoints.families.diffusers import Tensors, component_of, read_sampling, read_schedule
from keras_diffusion.checkpoints.families.family import Parts, register
from keras_diffusion.checkpoints.families.rooted_family import RootedFamily
from keras_diffusion.checkpoints.transfer import Report, transfer
from keras_diffusion.configs.checks import shown
from keras_diffusion.containers.errors import CheckpointError
from keras_diffusion.containers.named_tensors import read_json_file
from keras_diffusion.layers.initializers import zero_kernels
from keras_diffusion.text import CLIPTokenizer

_CLASS = "_class_name"
_ROOT = "_root"


@register
class Diffusers(RootedFamily):
    """diffusers' model classes that there are networks for here."""

    name = "diffusers"
    title = (
        "models of diffusers: UNet2DModel, UNet2DConditionModel, DiTTransformer2DModel, AutoencoderKL, "
        "AutoencoderTiny, CLIPTextModel, T5EncoderModel"
    )
    loses = "safety checkers and feature extractors of pipelines"

    one_set = "There is one set of weights; diffusers does not say whether it is an average."

    def my_roots(self, container):
        found = {root: component_of(Tensors(container, root)) for root in container.roots}
        known = [root for root, component in found.items() if component is not None]
        return [root for root in known if found[root].denoises] or known[:1]

    def read_config(self, container, root, config):
        tensors = Tensors(container, root)
        component = component_of(tensors)
        config = config["config"] if isinstance(config.get("config"), dict) else config
        complete = component.complete(tensors, container.config_of(root), config, container.path)
        return {_CLASS: component.class_name, _ROOT: root, **complete}

    def build(self, container, config):
        component = _component(container, config)
        network = _build(component, config, container)
        if not component.denoises:
            return Parts(network, notes=component.assumed(container.config_of(config[_ROOT]), config))
        scheduler = container.metadata.get("scheduler")
        schedule, predictor, notes = read_schedule(scheduler, component.class_name, container.path)
        options: dict = {}
        autoencoder = None
        if config[_ROOT]:
            autoencoder, options, more = self._others(container, config[_ROOT])
            notes = [*notes, *more]
        notes = [*notes, *network_notes(network)]
        if network.num_classes is not None and network.null_labels is None:
            options["condition_dropout"] = 0.0
        known = getattr(network, "concat_channels", 0)
        if known:
            # What the network was trained to do without: InstructPix2Pix's images were left out at times, masks and
            # small images never.
            options["concat_dropout"] = None if known == network.sample_shape[-1] else 0.0
            notes.append(f"Of the channels that go in, {known} are known beside the sample: the condition “concat”.")
        sampling = read_sampling(scheduler, container.path)
        return Parts(network, schedule, predictor, autoencoder, options, tuple(notes), sampling)

    def sources(self, container, root, network, config):
        tensors = Tensors(container, root)
        for link in _component(container, config).links(network, config):
            yield link.variable, tensors.source(link)

    def ignores(self, container, root):
        component = component_of(Tensors(container, root))
        return super().ignores(container, root) | set(filter(component.needless, container.tensors))

    def _others(self, container, root):
        """The autoencoder, the text encoder and the tokenizer of a pipeline, filled; (autoencoder, options, notes)."""
        parts, notes = {}, []
        for other in container.roots:
            component = component_of(Tensors(container, other))
            if other == root or component is None or component.denoises:
                continue
            if component.folder in parts:
                notes.append(f"Of two components of the class {component.class_name}, {other!r} was left out.")
                continue
            config = self.read_config(container, other, {})
            part = _build(component, config, container)
            report = Report(str(container.path), container.format, self.name, "raw")
            transfer(
                container,
                self.sources(container, other, part, config),
                part,
                report,
                self.ignores(container, other),
                verbose=0,
            )
            parts[component.folder] = part
            notes.append(f"Loaded as well: {other}, {component.class_name}, {len(report.matched)} variables.")
        options = {}
        if "text_encoder" in parts:
            tokenizer = _tokenizer(container.path / "tokenizer", parts["text_encoder"].max_length)
            if tokenizer is None:
                notes.append("Without tokenizer/merges.txt there is no text to image; the network takes contexts.")
            else:
                options = {"text_encoder": parts["text_encoder"], "tokenizer": tokenizer}
        # As in text to image: a second copy of the weights is for training only.
        return parts.get("vae"), {**options, "ema": None}, notes


def _component(container, config):
    return component_of(Tensors(container, config[_ROOT]))


def _build(component, config, container):
    arguments = component.arguments(config)
    try:
        with zero_kernels():  # every weight is read from the file
            return component.network_class(**arguments)
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"The config of this {component.class_name} makes no network here: {error}.", container.path
        ) from error


def _tokenizer(folder, max_length):
    """The tokenizer in a pipeline's folder, or None."""
    merges = Path(folder) / "merges.txt"
    if not merges.is_file():
        return None
    tokenizer = CLIPTokenizer(merges, max_length=max_length)
    config, vocabulary = Path(folder) / "tokenizer_config.json", Path(folder) / "vocab.json"
    pad = read_json_file(config).get("pad_token") if config.is_file() else None
    pad = pad.get("content") if isinstance(pad, dict) else pad
    if not isinstance(pad, str) or not vocabulary.is_file():
        return tokenizer
    token = read_json_file(vocabulary).get(pad, tokenizer.end_token)
    if isinstance(token, bool) or not isinstance(token, int) or token < 0:
        raise CheckpointError(f"Tokens are integers ≥ 0. Received: {shown(pad)}: {shown(token)}.", vocabulary)
    return (
        tokenizer
        if token == tokenizer.end_token
        else CLIPTokenizer(merges=tokenizer.merges, max_length=max_length, pad_token=token)
    )
