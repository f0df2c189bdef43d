"""What all checkpoints of FlaxDiff have in common: a train state, names that say what a weight is, and the conventions
of training.

    state/params/params/ConvLayer_0/conv/kernel         raw weights, last
    state/ema_params/params/…                           their average (not in the oldest ones)
    best_state/…                                        the same of the epoch with the lowest loss (likewise)
    state/opt_state/…, state/rngs, rngs, epoch, …       not needed here

What a checkpoint does not hold: activation, frequencies of the time embedding, noise schedule, and what the network's
output means. They follow from the era of the code, which shows in the names of the weights and the date of the file;
`config` overrides them.
"""

import datetime
import re

from keras_diffusion.checkpoints.families import agreement
from keras_diffusion.checkpoints.families.family import Family, Parts, Source
from keras_diffusion.layers.activations import gelu_tanh
from keras_diffusion.predictors import EDMPredictor, EpsilonPredictor, VPredictor, X0Predictor
from keras_diffusion.schedulers import CosineBetaNoiseSchedule, VarianceExplodingNoiseSchedule

_STATES = {"best": "best_state/", "last": "state/"}
_SETS = {"ema": "ema_params/", "raw": "params/"}
# What a description of a training run says beside the network's arguments.
FACTS = (
    "era",
    "image_shape_hwc",
    "text_shape",
    "fourier_frequencies",
    "noise_schedule",
    "predictor",
    "versions",
    "conv_variant",
)
# Arguments of every FlaxDiff network that change nothing here: Keras has its dtype policies, and attention its own
# precision.
NEEDLESS = ("dtype", "precision", "force_fp32_for_softmax", "kernel_init")
# What `read_config` of its families says beside the network's arguments.
NOTED = ("kind", "names", "named_norms", "era", "facts", "assumed")
OLDEST = "2024-06"  # the era of cosine betas and v-prediction
_STATE_WORDS = {"best": "of the best epoch", "last": "of the last step"}
_SAYS = (
    "The shapes in the file say {name}={found!r}. Received: {name}={value!r} in the "
    "config. Leave it out, or check the file."
)
# Weights of Keras's layers, and what Flax calls them.
_LEAVES = {
    "kernel": "kernel",
    "bias": "bias",
    "gamma": "scale",
    "scale": "scale",
    "beta": "bias",
    "depthwise_kernel": "Conv_0/kernel",
    "pointwise_kernel": "Conv_1/kernel",
    "embeddings": "embedding",
}
_JAX_05 = datetime.date(2025, 1, 17)  # the release that changed jax.random


class FlaxDiffFamily(Family):
    """Base class of FlaxDiff's families.

    A subclass defines `is_mine`, `read_config`, `class_of`, `origin` and `layers`. Its config has the network's
    arguments, and beside them what `NOTED` lists: "facts", which `conventions` takes, and "assumed", sentences for the
    report.
    """

    loses = "optimizer and metrics, random states, epoch; weights that the old network held but did not use"

    def is_mine(self, shapes):
        """Whether a set of weights is of this family; `shapes` is a dict from names ("ConvLayer_0/conv/kernel") to
        shapes.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement is_mine(shapes)")

    def class_of(self, config):
        """The network's class."""
        raise NotImplementedError(f"{type(self).__name__} must implement class_of(config)")

    def origin(self, config):
        """A sentence for the report: of which code the arithmetic is."""
        raise NotImplementedError(f"{type(self).__name__} must implement origin(config)")

    def layers(self, network, config):
        """Pairs (built layer of `network`, its name in the file), each layer with weights once."""
        raise NotImplementedError(f"{type(self).__name__} must implement layers(network, config)")

    def recognizes(self, container):
        return bool(self._roots(container))

    def weights(self, container):
        roots = self._roots(container)
        return {name: roots[name, state] for state in ("last", "best") for name in _SETS if (name, state) in roots}

    def choose(self, container, weights, state):
        roots = self._roots(container)
        # The average of the other state is nearer to what was asked for than raw weights are.
        order = sorted(roots, key=lambda key: (key[0] != weights, key[1] != state))
        name, found = order[0]
        notes = self.set_notes(weights, name)
        if found != state:
            notes.append(f"The file has no such weights {_STATE_WORDS[state]}; these are those {_STATE_WORDS[found]}.")
        return name, roots[name, found], notes

    def build(self, container, config):
        network_class, arguments = self.class_of(config), {key: config[key] for key in config if key not in NOTED}
        with self.describing(container):
            network = network_class(**arguments)
        schedule, predictor = conventions(config["facts"], cosine=config.get("era") == OLDEST)
        notes = (self.origin(config), *config["assumed"])
        # Its pipeline and the validation of its trainer; nothing is clipped but the image at the end.
        return Parts(network, schedule, predictor, notes=notes, sampling={"sampler": "euler_ancestral"})

    def sources(self, container, root, network, config):
        for layer, name in self.layers(network, config):
            yield from layer_sources(container, layer, root + name)

    def ignores(self, container, root):
        return {name for name in container.tensors if not name.startswith(root)}

    def _roots(self, container):
        """Dict from (set, state) to the beginning of the names.

        A file of parameters alone counts as raw weights of the last step.
        """
        candidates = [
            (name, state, f"{before}{folder}params/")
            for name, folder in _SETS.items()
            for state, before in _STATES.items()
        ]
        candidates += [("raw", "last", root) for root in ("params/params/", "params/", "")]
        roots = {}
        for name, state, root in candidates:
            if (name, state) not in roots and self.is_mine(shapes_of(container, root)):
                roots[name, state] = root
        return roots


def shapes_of(container, root):
    """Shapes of the weights under `root`, a dict from the rest of their names."""
    return {name[len(root) :]: tuple(info.shape) for name, info in container.tensors.items() if name.startswith(root)}


def layer_sources(container, layer, name):
    """Pairs (variable, `Source`) of one Keras layer.

    Args:
        container: the opened checkpoint.
        layer: built layer without sublayers: dense, convolution, normalization.
        name: what Flax calls it, from the tree's root.

    Kernels of attention are (in, heads, d) and (heads, d, out) in the file, (in, heads·d) and (heads·d, out) here; 1×1
    convolutions may be dense layers here. Separable convolutions are `Conv_0`, channel by channel, and `Conv_1`.
    """
    for variable in layer.weights:
        tensor, shape = f"{name}/{_LEAVES[variable.name]}", tuple(variable.shape)
        found = container.tensors[tensor].shape if tensor in container.tensors else shape
        if variable.name == "depthwise_kernel":
            yield variable, Source((tensor,), lambda array: array.swapaxes(2, 3))
        elif tuple(found) != shape and merges(found, shape):
            yield variable, Source((tensor,), lambda array, shape=shape: array.reshape(shape))
        else:
            yield variable, Source((tensor,))


def merges(shape, target):
    """Whether `target` is `shape` with neighbouring axes merged, so that reshaping keeps the meaning."""
    sizes = list(shape)
    for size in target:
        product = 1
        while sizes and (product < size or sizes[0] == 1):
            product *= sizes.pop(0)
        if product != size:
            return False
    return not sizes


def split_config(container, config, known, title):
    """What the user says, as (the network's arguments, facts beside them).

    Args:
        container: the opened checkpoint, for errors.
        config: constructor arguments in FlaxDiff's words, alone or as "constructor" (or "model", as in FlaxDiff's logs)
            of a dict that describes the run; such a dict may hold anything else.
        known: names of arguments.
        title: the network in words, for errors.

    Raises:
        CheckpointError: unknown argument.
    """
    run = next((key for key in ("constructor", "model") if isinstance(config.get(key), dict)), None)
    arguments = dict(config if run is None else config[run])
    facts = {key: config[key] for key in FACTS if config.get(key) is not None}
    words = f"Unknown argument of a {title}: {{quoted}}. Known: {{known}}."
    agreement.check_known(set(arguments) - set(NEEDLESS), (*known, *FACTS), words, container.path)
    return {key: value for key, value in arguments.items() if key in known}, facts


def must_agree(container, name, value, found):
    """CheckpointError unless what the user says of an argument is what the shapes say."""
    agreement.must_agree(name, value, found, container.path, _SAYS)


def must_agree_on(container, arguments, found, names):
    """`must_agree` for each of the user's arguments that is in `names`, pairs (FlaxDiff's name, name in `found`)."""
    for name, key in names:
        if name in arguments:
            must_agree(container, name, arguments[name], found[key])


def beside(facts, assumed):
    """What a config has beside the network's arguments: see `NOTED`."""
    return {"facts": {key: facts[key] for key in ("noise_schedule", "predictor") if key in facts}, "assumed": assumed}


def pairs(prefix, parts):
    """Pairs (layer, name in the file) of several layers.

    Args:
        prefix: what their names begin with.
        parts: dict from the rest of their names to the layers, None where there is none.
    """
    return [(layer, f"{prefix}/{name}") for name, layer in parts.items() if layer is not None]


def activation_of(value):
    """A Keras activation for what FlaxDiff or its logs call one ("swish", "jax._src.nn.functions.silu")."""
    words = re.split(r"[^a-z0-9_]+", value.lower()) if isinstance(value, str) else []
    if "gelu" in words:
        return gelu_tanh
    return next((word for word in words if word in ("swish", "silu", "mish", "relu", "tanh", "elu")), value)


def code_date(container, facts):
    """The day of the code that wrote the checkpoint, as far as it is known, or None for the present code.

    Args:
        container: the opened checkpoint; Orbax notes when it saved.
        facts: of `split_config`: the first date in "era" decides.
    """
    said = facts.get("era")
    if said is not None:
        found = re.search(r"(\d{4})-(\d\d)(?:-(\d\d))?", str(said))
        return datetime.date(int(found[1]), int(found[2]), int(found[3] or 1)) if found else None
    nanoseconds = container.metadata.get("init_timestamp_nsecs") or container.metadata.get("commit_timestamp_nsecs")
    return datetime.datetime.fromtimestamp(int(nanoseconds) / 1e9, datetime.UTC).date() if nanoseconds else None


def fourier_stream(container, facts, old=False):
    """Which table of frequencies the network was trained with: (stream of `FlaxFourierEmbedding`, sentences for the
    report).

    Args:
        container: the opened checkpoint.
        facts: of `split_config`: "fourier_frequencies" decides, then JAX's version in "versions".
        old: whether the code is older than JAX 0.5.
    """
    said, version = facts.get("fourier_frequencies"), dict(facts.get("versions") or {}).get("jax")
    if said is not None:
        return str(said).split("_", 1)[0], ()
    if version is not None:
        major, minor = (int(part) for part in re.findall(r"\d+", str(version))[:2])
        return "original" if (major, minor) < (0, 5) else "partitionable", ()
    date = code_date(container, facts)
    stream = "original" if old or (date is not None and date < _JAX_05) else "partitionable"
    versions = "up to 0.4" if stream == "original" else "from 0.5 on"
    other = "partitionable" if stream == "original" else "original"
    return stream, (
        f"Assumed: trained with a JAX {versions}, whose random numbers are the frequencies of the time embedding "
        f"(else: config={{'fourier_frequencies': {other!r}}}).",
    )


def conventions(facts, cosine=False):
    """(noise schedule, predictor) that the network was trained with.

    Args:
        facts: of `split_config`: "noise_schedule" and "predictor", FlaxDiff's class names, decide; a dict with "class"
            has options.
        cosine: what holds without them: EDM's σ and the Karras predictor (False, default), or the cosine table that
            ends at ᾱ = 0, with v-prediction and timesteps as input (True).
    """
    said = facts.get("noise_schedule")
    options = dict(said) if isinstance(said, dict) else {"class": said}
    name = str(options.get("class"))
    # The flag "cosine" of FlaxDiff's command line says nothing: its trainer took EDM's schedule all the same. Names of
    # classes do.
    discrete = name in ("CosineNoiseSchedule", "CosineNoiseScheduler") or (cosine and "Noise" not in name)
    timesteps = int(options.get("timesteps", 1000)) if discrete else 1000
    condition = {"condition": "timestep" if discrete else "c_noise", "timesteps": timesteps}
    predictor = str(facts.get("predictor") or ("v" if discrete else "karras")).lower()
    if discrete:
        # The last level of a table that ends at ᾱ = 0 is useless to a network that predicts ε: there it ends just
        # above.
        limit = options.get("beta_end", 1.0)
        schedule = CosineBetaNoiseSchedule(
            timesteps, max_beta=min(limit, 0.999) if predictor.startswith("epsilon") else limit
        )
    else:
        schedule = VarianceExplodingNoiseSchedule(options.get("sigma_min", 0.002), options.get("sigma_max", 80.0))
    if predictor.startswith("karras"):
        number = re.search(r"sigma_data=([0-9.]+)", predictor)
        sigma_data = float(number.group(1)) if number else options.get("sigma_data", 0.5)
        return schedule, EDMPredictor(sigma_data, **condition)
    kinds = {"epsilon": EpsilonPredictor, "direct": X0Predictor, "v": VPredictor}
    kind = next((cls for start, cls in kinds.items() if predictor.startswith(start)), VPredictor)
    return schedule, kind(**condition)
