"""keras_diffusion: `generate` and `fit` on the backend of KERAS_BACKEND; and the floor, the bare compiled network."""

import keras
import numpy as np

import keras_diffusion as kd
from keras_diffusion import checkpoints
from keras_diffusion.runtime.compile import Compiled, as_tensors, compiler_options
from suite.worker import CONTEXT, train_data


def sample(case, weights):
    return sampling_with(network_of(case, weights), case)


def sample_new(case, weights):
    return sampling_with(new_network(case), case)


def sampling_with(network, case):
    model = kd.DiffusionModel(network, predictor="v", ema=None, seed=0)
    conditions = {"context": np.zeros((case.batch, *CONTEXT), "float32")} if case.peer == "flaxdiff" else None

    def run():
        return model.generate(case.batch, conditions, num_steps=case.steps, sampler="ddim", seed=0, verbose=0)

    return run


def train(case, weights, steps=10):
    model = kd.DiffusionModel(network_of(case, weights), predictor="v", ema=0.999, seed=0)
    model.compile(keras.optimizers.Adam(1e-4))
    data = train_data(case, steps)

    def run():
        return model.fit(data, batch_size=case.train_batch, epochs=1, shuffle=False, verbose=0)

    return run


def network_of(case, weights):
    """The network with the peer's weights."""
    config = None
    if case.peer == "flaxdiff":
        weights = weights / "weights.msgpack"
        config = {**case.config, "image_shape_hwc": list(case.shape), "fourier_frequencies": "partitionable"}
        if case.network == "SimpleDiT":
            config = {**config, "sincos_position": False, "rotary": True}  # as FlaxDiff 0.2.11 has it
    return checkpoints.load(weights, config=config, verbose=0).network


def new_network(case):
    """FlaxDiff's `Unet` as we make it, with weights drawn here."""
    if case.network != "Unet":
        raise ValueError(f"First images with new weights are measured of FlaxDiff's Unet. Received: {case.network}")
    config, attention = (
        case.config,
        {"only_pure_attention": True, "explicitly_add_residual": True, "residual": "normalized"},
    )
    return kd.networks.FlaxUNet(
        case.shape,
        widths=config["feature_depths"],
        num_res_blocks=config["num_res_blocks"],
        attention=[options and {"num_heads": options["heads"], **attention} for options in config["attention_configs"]],
        context_dim=CONTEXT[1],
        embedding_dim=config["emb_features"],
        upsample_widths="flaxdiff",
    )


def network_inputs(case, batch):
    inputs = {"x": np.ones((batch, *case.shape), "float32"), "noise_level": np.zeros((batch,), "float32")}
    if case.peer == "flaxdiff":
        inputs["context"] = np.zeros((batch, *CONTEXT), "float32")
    return as_tensors(inputs)


def network_alone(case, weights):
    """As many calls of the compiled network as sampling makes, and nothing else."""
    network = network_of(case, weights)
    inputs, values = network_inputs(case, case.batch), [variable.value for variable in network.variables]

    def bare(values, inputs):
        with keras.StatelessScope(state_mapping=list(zip(network.variables, values))):
            return network(inputs, training=False)

    call = Compiled(bare)

    def run():
        for _ in range(case.steps):
            output = call(values, inputs)
        return keras.ops.convert_to_numpy(output)

    return run


def step_alone(case, weights, steps=10):
    """The training step by hand, on JAX: gradient, optax's Adam and the average, compiled as one program."""
    import jax
    import jax.numpy as jnp
    import optax

    network = network_of(case, weights)
    optimizer = optax.adam(1e-4)
    fixed = [variable.value for variable in network.non_trainable_variables]

    def loss(weights, key, images, context):
        x0 = images.astype("float32") / 127.5 - 1.0
        t = jax.random.uniform(key, (len(x0), 1, 1, 1))
        eps = jax.random.normal(key, x0.shape)
        alpha, sigma = jnp.cos(jnp.pi / 2 * t), jnp.sin(jnp.pi / 2 * t)
        context = jnp.where(jax.random.uniform(key, (len(x0), 1, 1)) < 0.1, 0.0, context)
        inputs = {
            "x": alpha * x0 + sigma * eps,
            "noise_level": jnp.log(sigma / alpha)[:, 0, 0, 0] / 4,
            "context": context,
        }
        v, _ = network.stateless_call(weights, fixed, inputs, training=True)
        return jnp.mean(jnp.square(v - (alpha * eps - sigma * x0)))

    def step(weights, average, state, key, images, context):
        key, now = jax.random.split(key)
        value, gradient = jax.value_and_grad(loss)(weights, now, images, context)
        updates, state = optimizer.update(gradient, state)
        weights = optax.apply_updates(weights, updates)
        average = jax.tree.map(lambda a, w: 0.999 * a + 0.001 * w, average, weights)
        return weights, average, state, key, value

    compiled = jax.jit(step, donate_argnums=(0, 1, 2), compiler_options=compiler_options())
    start = [jnp.array(variable.value) for variable in network.trainable_variables]
    now = {"state": (start, [jnp.array(w) for w in start], optimizer.init(start), jax.random.PRNGKey(0))}
    data = train_data(case, steps)

    def run():
        for i in range(steps):
            rows = slice(i * case.train_batch, (i + 1) * case.train_batch)
            *now["state"], value = compiled(*now["state"], data["images"][rows], data["context"][rows])
        return float(value)

    return run
