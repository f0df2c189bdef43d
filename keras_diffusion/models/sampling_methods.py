"""What a trained diffusion model can do besides `fit`: the methods of `DiffusionModel` that walk with its network.

Each is a line here and a function of the model in the module of its name: `guided_denoiser.py`, `generate.py`,
`inversion.py`, `likelihood.py`.
"""

import json

from keras_diffusion.models import generate, guided_denoiser, inversion, likelihood, validation
from keras_diffusion.models.sampling_defaults import check_sampling_defaults
from keras_diffusion.models.weight_guard import reads_weights


class SamplingMethods:
    """`denoiser`, `generate`, `invert`, `log_likelihood` and `bits_per_dim` of a model with `network`, `average`,
    `predictor`, `noise_schedule`, `autoencoder`, `null_context`, `class_names`, and `programs`, a `Programs`.
    """

    @reads_weights
    def denoiser(self, conditions=None, guidance_scale=1.0, weights="ema", guidance=None):
        """The trained network as a `Denoiser`.

        Args:
            conditions: dict of conditions with one row per sample of the batch that will be denoised ("labels" `(B,)`,
                "context" `(B, L, D)`, "concat" `(B, ..., K)`); conditions left out are null.
            guidance_scale: w of guidance; 1 (default) is off.
            weights: "ema" (default), the average, where there is one; or "raw".
            guidance: as in `generate`, but None leaves the model's own out: what the network says, unchanged.

        Returns:
            `Denoiser`: (x, level) → (x0, ε).
        """
        return guided_denoiser.denoiser(self, conditions, guidance_scale, weights, guidance)

    @reads_weights
    def generate(
        self,
        num_samples=None,
        conditions=None,
        num_steps=50,
        sampler=None,
        guidance_scale=1.0,
        seed=None,
        init=None,
        strength=1.0,
        mask=None,
        trajectory=False,
        weights="ema",
        verbose="auto",
        spacing=None,
        guidance=None,
        batch_size=None,
        clip="auto",
        dtype="float32",
        noise=None,
        on_step=None,
        latents=None,
        negative_conditions=None,
        size=None,
    ):
        """Samples from the model.

        Args:
            num_samples: number of samples N; default: as many as the conditions have rows, else 1.
            conditions: dict: "labels", ints or `(N,)`, or class names where the model has `class_names`; "context",
                `(L, D)` or `(N, L, D)`; "concat", what is known beside the sample, `(..., K)` or `(N, ..., K)`, float
                in [−1, 1] or uint8, of the latents' size where there is an autoencoder. Conditions left out are null;
                zeros for "concat".
            num_steps: number of steps ≥ 1. Default 50.
            sampler: `Sampler`, its name, or a dict with options. None (default): the model's own (`sampling_defaults`,
                which loaded checkpoints have), else "dpmpp_2m".
            guidance_scale: w of guidance, for classifier-free: uncond + w·(cond − uncond). 1 (default) is off. "concat"
                is known to both predictions, unless it is the only condition given.
            seed: int; sample i depends on (seed, i) alone, not on the batch nor the backend. None (default) takes a new
                one.
            init: images to start from instead of pure noise, `(N, ...)` or one for all, float in [−1, 1] or uint8.
                Where there is an autoencoder, it encodes them.
            strength: how far back `init` is noised, in [0, 1]: the walk starts at t = strength. 0 returns `init`.
                Default 1.
            mask: `(H, W)`, `(H, W, 1)`, `(N, H, W)` or `(N, H, W, 1)`: 1 where `init` is to be kept, 0 where the model
                fills in. Where there is an autoencoder, of the pictures' size or of the latents'.
            trajectory: also return something of every step: True or "x" for x after it, "x0" for the network's x0 in
                it, "both". Where there is an autoencoder these are latents, which its `decode` shows.
            weights: "ema" (default), the average, where there is one; or "raw".
            verbose: 1 shows a progress bar, 0 does not, "auto" (default) does on a terminal.
            spacing: `Spacing`, its name, or a dict with options; None (default) takes the model's own, else the
                schedule's.
            guidance: how the two predictions are combined: "classifier_free" (default), "rescale",
                "adaptive_projected", "zero_star", "two_scales" (one for "concat", one for the rest), or a dict with
                options; what is applied after that: "static_threshold", "dynamic_threshold", a dict with options, or a
                function denoiser → denoiser, which becomes part of the compiled program; or a list of these in order.
                Whichever of the two is left out is the model's own (`sampling_defaults`), else "classifier_free" and no
                threshold. "none": no threshold.
            batch_size: samples per batch; None (default): all at once. Does not change the samples.
            clip: whether to clip the samples to [−1, 1]; "auto" (default): images yes, vectors no. False leaves out the
                thresholds of the model's own guidance too.
            dtype: "float32" (default), or "uint8" for pixels from 0 to 255.
            noise: of samplers that draw: "independent"; "brownian", of which samples change little with the number of
                steps; None (default) is the sampler's own way.
            on_step: function called after every step with a `StepInfo` (step, total, level, x, x0, first_sample), for
                looking on or, by returning an array, for changing x. Runs on the host between calls of the compiled
                step: another function is not another compilation.
            latents: noise to start from in place of the seed's, `(N, ...)` or one for all, standard normal: x starts as
                σ·latents at the first level, σ being its noise scale (plus α·init). From `invert`, or from
                `models.interpolate_noise`.
            negative_conditions: what guidance leads away from, in place of the null condition: a dict like
                `conditions`, a context as long as theirs.
            size: of the images, an int or (H, W), of videos (F, H, W), for networks that take any size. With `init`,
                `latents` or "concat" the size is theirs.

        Returns:
            array `(N, *sample_shape)` in [−1, 1] or uint8; with `trajectory`, a pair of it and of float32 `(num_steps,
            N, *sample_shape)` (for "both", three arrays). What the sampler has to report (an adaptive one: evaluations,
            rejected steps, error) is in `sampling_report`, a dict.

        Raises:
            ValueError: arguments out of range, conditions that the network does not take, unknown names.
            FloatingPointError: samples that are not finite.
        """
        arguments = generate.GenerateArguments(
            num_samples,
            conditions,
            num_steps,
            sampler,
            guidance_scale,
            seed,
            init,
            strength,
            mask,
            trajectory,
            weights,
            verbose,
            spacing,
            guidance,
            batch_size,
            clip,
            dtype,
            noise,
            on_step,
            latents,
            negative_conditions,
            size,
        )
        return generate.generate(self, arguments)

    @reads_weights
    def invert(
        self,
        samples,
        conditions=None,
        num_steps=50,
        sampler="ddim_inversion",
        guidance_scale=1.0,
        weights="ema",
        spacing=None,
        batch_size=None,
    ):
        """The noise from which `generate` makes given samples again, deterministically.

        `generate(latents=model.invert(samples), sampler="ddim")` with the same number of steps, conditions and spacing
        gives the samples back, the better the more steps; with `sampler={"name": "ddim_inversion", "iterations": 5}`
        much better. "dpmpp_2m_inversion", followed by "dpmpp_2m", needs fewer steps. With other conditions it gives
        them changed: that is editing by inversion. Inversion under guidance is less exact, as guidance makes the path
            bend.

        Args:
            samples: `(N, ...)`, float in [−1, 1] or uint8. Where there is an autoencoder, it encodes them.
            conditions: dict, as in `generate`: what the samples show.
            num_steps: number of steps ≥ 1. Default 50.
            sampler: `Sampler` that walks upwards, its name, or a dict with options. Default "ddim_inversion".
            guidance_scale: w of classifier-free guidance; 1 (default) is off.
            weights: "ema" (default), the average, where there is one; or "raw".
            spacing: as in `generate`.
            batch_size: samples per batch; None (default): all at once.

        Returns:
            float32 array `(N, *sample_shape)`: x at the noisiest level divided by its σ, which for samples that the
            model knows is about standard normal. (Where that level is not pure noise, α > 0, x there holds a rest of
            the sample, α·x0; so do the latents.)

        Raises:
            ValueError: a sampler that walks downwards, samples of another shape than the network's, or as `generate`.
            FloatingPointError: latents that are not finite.
        """
        return inversion.invert(
            self, samples, conditions, num_steps, sampler, guidance_scale, weights, spacing, batch_size
        )

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
        arguments = likelihood.LikelihoodArguments(
            data,
            conditions,
            num_steps,
            method,
            divergence,
            num_probes,
            seed,
            prior,
            data_mean,
            data_std,
            sigma_min,
            weights,
            batch_size,
            verbose,
        )
        return likelihood.log_likelihood(self, arguments)

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
        return likelihood.bits_per_dim(self, data, conditions, seed, options)

    @property
    def sampling_defaults(self):
        """What `generate` does where the caller says nothing, a dict with some of "sampler", "spacing", "guidance"."""
        return json.loads(self._sampling_defaults)

    @sampling_defaults.setter
    def sampling_defaults(self, defaults):
        # Kept as text: Keras would wrap dicts that it tracks.
        self._sampling_defaults = json.dumps(check_sampling_defaults(defaults))

    @property
    def condition_keys(self):
        """Names of the conditions that the network takes, a tuple or list of "labels", "context", "concat" and
        "augmentation", which samples have none of."""
        return validation.condition_keys_of(self.network)

    @property
    def num_classes(self):
        """Number of classes of the network's labels, or None."""
        return getattr(self.network, "num_classes", None)
