"""Log-likelihood under a trained model, compiled: the part of `DiffusionModel` that measures. The maths is in
`samplers/likelihood.py`.

The network is evaluated from σ/α = `sigma_min` up to the end of the schedule, and the density is that of the data with
this little noise.
"""

import math

import numpy as np
from keras import ops

from keras_diffusion.configs.checks import check_array, check_number
from keras_diffusion.core.levels import Levels
from keras_diffusion.core.noise import check_seed, philox
from keras_diffusion.core.precision import solver_dtype
from keras_diffusion.models import validation
from keras_diffusion.models.arguments import check_batch_size, check_verbose
from keras_diffusion.models.guidance_argument import read_guidance
from keras_diffusion.models.sampling_loop import check_samples, progress_bar, progress_lines
from keras_diffusion.models.weight_guard import reads_weights
from keras_diffusion.runtime.compile import Compiled, as_tensors, loop_bound
from keras_diffusion.runtime.devices import BatchPlacement
from keras_diffusion.samplers.likelihood import ProbabilityFlow, check_probes, is_exact, make_probes, standard_error
from keras_diffusion.samplers.sampler import Walk
from keras_diffusion.samplers.tables import padded, to_tensors
from keras_diffusion.schedulers.time_spacing import check_steps

_ROWS = 256  # rows that a table is padded to; longer ones to the next multiple


class LikelihoodMixin:
    """`log_likelihood` and `bits_per_dim`, for a model that can `generate`."""

    @reads_weights
    def log_likelihood(
        self,
        data,
        conditions=None,
        num_steps=50,
        method="rk4",
        divergence="auto",
        num_probes=2,
        seed=None,
        prior="gaussian",
        data_mean=0.0,
        data_std=0.5,
        sigma_min=0.002,
        weights="ema",
        batch_size=None,
        verbose="auto",
    ):
        """Log-densities of samples under the model.

        Args:
            data: samples `(N, ...)`, float in [−1, 1]; uint8 is scaled as for training; latents where there is an
                autoencoder.
            conditions: dict, as in `generate`; conditions left out are null.
            num_steps: steps ≥ 1 of the integration. Default 50.
            method: "euler", "heun", "rk4" (default), or another Runge–Kutta sampler; "rk4" evaluates the network 4
                times per step.
            divergence: "exact", one derivative per element and evaluation; "hutchinson", one per probe; or "auto"
                (default): exact for samples of up to 16 elements.
            num_probes: probes of Hutchinson's estimate ≥ 1; from two on its standard error is known. Default 2.
            seed: int, of the probes; sample i's depend on (seed, i) alone. None (default) takes a new one.
            prior: "gaussian" (default), or a function of (x, level): see `samplers.log_likelihood`.
            data_mean, data_std: moments of the data for the prior. Without effect where the schedule ends at pure
                noise. Default 0, 0.5.
            sigma_min: σ/α of the cleanest level, > 0; a schedule's own, where that is higher. Default 0.002.
            weights: "ema" (default), the average, where there is one; or "raw".
            batch_size: samples per batch; None (default): all at once.
            verbose: 1 shows a progress bar, 0 does not; "auto" (default) does on a terminal, and elsewhere writes a
                line every half minute.

        Returns:
            float64 array `(N,)`, in nats: densities over the space of the samples, with values in [−1, 1]. How sure
                they are is in
            `likelihood_report`, a dict: "divergence" ("exact" or "hutchinson"), "num_probes", and "standard_error"
            `(N,)` of the estimate in nats, None where one probe cannot tell.

            The defaults are measured: on a digits model of 8×8 pixels, 50 steps of "rk4" are 0.05 bits per dimension
            from what 200 give, and 100 steps 0.01, while one probe scatters by 0.2 for one image. The error falls with
            more steps, the scatter with more probes and images. A step costs 4 · (1 + num_probes) passes through the
            network.

        Raises:
            ValueError: arguments out of range, samples of another shape than the network's, unknown names.
        """
        data = check_array("data", data, finite=False)
        shape = self._sizes_known(data)
        data = validation.start_images(
            data, len(data) if np.ndim(data) > len(shape) else 1, shape, "data", pictures=self.autoencoder is None
        )
        conditions, num_samples = validation.generation_conditions(
            conditions, len(data), self.network, self.class_names
        )
        flow, seed, batch_size = ProbabilityFlow(method), check_seed(seed), check_batch_size(batch_size)
        for name, value in (("data_mean", data_mean), ("data_std", data_std), ("sigma_min", sigma_min)):
            check_number(name, value)
        check_steps(num_steps)
        check_verbose(verbose)
        check_probes(divergence, num_probes)
        levels = flow.check(likelihood_levels(self.noise_schedule, num_steps, sigma_min))
        plan = BatchPlacement(1).copies(
            to_tensors(padded(flow.table(levels, self.noise_schedule), _ROWS * math.ceil(num_steps / _ROWS)))
        )
        values, size, parts = self._weight_values(weights), batch_size or num_samples, []
        total = num_steps * -(-num_samples // size)
        bar = progress_bar(verbose, total)
        if bar is None and verbose == "auto":
            bar = progress_lines(total, "Likelihood")
        errors = []
        chunk = math.ceil(num_steps / 20) if bar else num_steps
        for batch, first in enumerate(range(0, num_samples, size)):
            rows = slice(first, min(first + size, num_samples))
            place = BatchPlacement(rows.stop - rows.start)  # under a `keras.distribution`: each device its share
            x = ops.convert_to_tensor(place.batch((levels.alpha[0] * data[rows]).astype(solver_dtype())))
            probes = place.like(x, make_probes(x.shape, divergence, num_probes, seed, first))
            given = as_tensors((values, place.batch({key: value[rows] for key, value in conditions.items()})))
            integral = ops.convert_to_tensor(place.batch(np.zeros((place.size, probes.shape[0]), solver_dtype())))
            for start in range(0, num_steps, chunk):
                stop = min(start + chunk, num_steps)
                bounds = place.copies((loop_bound(start), loop_bound(stop)))
                x, integral = self._likelihood_program(flow)(given, x, integral, probes, plan, *bounds)
                if bar:
                    place.to_host(integral)  # wait for the chunk, or the bar would run ahead
                    bar(batch * num_steps + stop)
            x, integral = (ops.convert_to_tensor(place.to_host(tensor)) for tensor in (x, integral))
            errors.append(standard_error(integral))
            parts.append(flow.log_density(Walk(x, {"integral": integral}, ()), levels, prior, data_mean, data_std))
        self.likelihood_report = _report(probes, math.prod(shape), divergence, errors)
        # From the density of α·data to that of the data.
        result = np.concatenate(parts).astype("float64") + math.prod(shape) * math.log(levels.alpha[0])
        check_samples(result, flow, num_steps, values, "Log-likelihoods")
        return result

    @reads_weights
    def bits_per_dim(self, data, conditions=None, seed=None, **options):
        """Bits per element that an ideal code based on the model needs for images of 256 levels.

        uint8 images are dequantized: noise uniform within a level, drawn from `seed`, makes densities of probabilities,
        and the mean of the result over the noise is an upper bound on the bits of a lossless code. Float data in [−1,
        1] is taken as it is, its density expressed per level of 1/127.5: it is comparable with others only if it was
        dequantized before.

        Args:
            data: images `(N, ...)`, uint8, or float in [−1, 1].
            conditions: dict, as in `generate`.
            seed: int, of dequantization and probes; None (default) takes a new one.
            options: as in `log_likelihood`.

        Returns:
            float64 array `(N,)`: −log₂ p(image in [0, 255])/d. "standard_error" in `likelihood_report` is in the same
                unit.

        Reference:
            Theis, van den Oord & Bethge 2016, arXiv:1511.01844, section 3.1 (dequantization).
        """
        seed, data = check_seed(seed), check_array("data", data, finite=False)
        if data.dtype == np.uint8:
            data = data if data.ndim > len(self.sample_shape) else data[None]
            noise = [philox(seed, i).random(image.shape) for i, image in enumerate(data)]
            data = ((data + np.stack(noise) - 0.5) / 127.5 - 1.0).astype("float32")
        nats = self.log_likelihood(data, conditions, seed=seed, **options)
        dims = math.prod(self._sizes_known(data))
        if self.likelihood_report["standard_error"] is not None:
            self.likelihood_report["standard_error"] /= dims * math.log(2.0)
        return -nats / (dims * math.log(2.0)) + math.log2(127.5)

    def _likelihood_program(self, flow):
        key = flow.name_of_method

        def make():
            def walk_up(given, x, integral, probes, plan, start, stop):
                denoise = self._make_denoiser(read_guidance(None, 1.0), *given, np.float32(1.0), {}, guided=False)
                walk = Walk(x, {"integral": integral, "probes": probes}, ())
                walk, _ = flow.run(walk, {}, denoise, plan, None, start, stop)
                return walk.x, walk.state["integral"]

            return Compiled(walk_up)

        return self._likelihood_programs.get(key, make)


def _report(probes, dims, divergence, errors):
    """What `likelihood_report` holds."""
    exact = is_exact(divergence, dims)
    if exact:
        error = np.zeros(sum(map(len, errors)))
    else:
        error = np.concatenate(errors).astype("float64") if probes.shape[0] > 1 else None
    return {
        "divergence": "exact" if exact else "hutchinson",
        "num_probes": None if exact else int(probes.shape[0]),
        "standard_error": error,
    }


def likelihood_levels(schedule, num_steps, sigma_min):
    """A grid from noise down to σ/α = `sigma_min`, geometric in σ/(α+σ): even in log σ near the data, and finite at
    pure noise.

    Args:
        schedule: `NoiseSchedule`; of a discrete one, the first level is the lowest that there can be.
        num_steps: n ≥ 1.
        sigma_min: σ/α > 0 of the cleanest level.

    Returns:
        host `Levels`, n + 1, falling.
    """
    check_steps(num_steps)
    ends = schedule.levels([1.0, 1.0 / schedule.timesteps if schedule.timesteps else 0.0])
    top, lowest = ends.sigma / (ends.alpha + ends.sigma)
    low = max(lowest, sigma_min / (1.0 + sigma_min)) if sigma_min > 0 else 0.0
    if not 0 < low < top:
        raise ValueError(
            f"`sigma_min` is the σ/α of the cleanest level, positive and below the noisiest. Received: "
            f"sigma_min={sigma_min}"
        )
    position = np.geomspace(top, low, num_steps + 1)
    t = np.append(1.0, schedule.time(-2.0 * np.log(position[1:] / (1.0 - position[1:]))))
    return Levels(*schedule.levels(np.clip(t, 0.0, 1.0)))
