"""FlaxDiff: its own sampler, its own training step."""

import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from flaxdiff.models.simple_dit import SimpleDiT
from flaxdiff.models.simple_unet import Unet
from flaxdiff.predictors import VPredictionTransform
from flaxdiff.samplers.ddim import DDIMSampler
from flaxdiff.schedulers.cosine import CosineNoiseScheduler
from flaxdiff.utils import RandomMarkovState

from suite.worker import CONTEXT, train_data

_NETWORKS = {"Unet": Unet, "SimpleDiT": SimpleDiT}


class _Inputs:
    """What FlaxDiff asks of its input config, for texts that are embedded already."""

    sample_data_key = "images"

    def get_unconditionals(self):
        return []

    def process_conditioning(self, batch, uncond_mask):
        return [jnp.where(uncond_mask[:, None, None], 0.0, batch["context"])]


def write_weights(case, folder):
    """Random weights, as FlaxDiff's msgpack.

    Layers that start at zero are moved, or they would hide what is behind them.
    """
    model = _NETWORKS[case.network](**case.config)
    params = _new_params(model, case)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.02 * rng.standard_normal(leaf.shape).astype("float32"), params
    )
    (folder / "weights.msgpack").write_bytes(serialization.msgpack_serialize({"params": params}))


def sample(case, weights):
    return _sampling_with(*_read(case, weights), case)


def sample_new(case, weights):
    model = _NETWORKS[case.network](**case.config)
    return _sampling_with(model, _new_params(model, case), case)


def _sampling_with(model, params, case):
    schedule, inputs = CosineNoiseScheduler(1000), _Inputs()
    sampler = DDIMSampler(model, schedule, VPredictionTransform(), inputs)
    context = jnp.zeros((case.batch, *CONTEXT))

    def run():
        priors = jax.random.normal(jax.random.PRNGKey(0), (case.batch, *case.shape))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            images = sampler.generate_samples(
                params,
                case.batch,
                case.shape[0],
                diffusion_steps=case.steps,
                priors=priors,
                model_conditioning_inputs=(context,),
            )
        return np.asarray(images)

    return run


def train(case, weights, steps=10):
    from flaxdiff.trainer.diffusion_trainer import TrainState
    from flaxdiff.trainer.general_diffusion_trainer import GeneralDiffusionTrainer
    from flaxdiff.trainer.simple_trainer import Metrics

    model, params = _read(case, weights)
    # Its constructor makes a folder of checkpoints; the step needs these alone.
    trainer = GeneralDiffusionTrainer.__new__(GeneralDiffusionTrainer)
    for name, value in {
        "noise_schedule": CosineNoiseScheduler(1000),
        "model": model,
        "model_output_transform": VPredictionTransform(),
        "loss_fn": optax.l2_loss,
        "distributed_training": False,
        "autoencoder": None,
        "unconditional_prob": 0.1,
        "input_config": _Inputs(),
    }.items():
        setattr(trainer, name, value)
    step = trainer._define_train_step(case.train_batch)
    state = {
        "now": TrainState.create(
            apply_fn=model.apply,
            params=params,
            ema_params=params,
            tx=optax.adam(1e-4),
            rngs=jax.random.PRNGKey(0),
            metrics=Metrics.empty(),
            dynamic_scale=None,
        ),
        "rng": RandomMarkovState(jax.random.PRNGKey(1)),
    }
    data = train_data(case, steps)

    def run():
        for i in range(steps):
            batch = {name: values[i * case.train_batch : (i + 1) * case.train_batch] for name, values in data.items()}
            state["now"], loss, state["rng"] = step(state["now"], state["rng"], batch, jnp.zeros((1,), "int32"))
        return float(loss)

    return run


def _new_params(model, case):
    inputs = jnp.ones((1, *case.shape)), jnp.ones((1,)), jnp.ones((1, *CONTEXT))
    return jax.jit(model.init)(jax.random.PRNGKey(0), *inputs)


def _read(case, weights):
    params = serialization.msgpack_restore((weights / "weights.msgpack").read_bytes())["params"]
    return _NETWORKS[case.network](**case.config), jax.tree.map(jnp.asarray, params)
