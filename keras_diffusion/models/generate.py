"""Sampling from a model: the part of `DiffusionModel` that makes denoisers of the network and walks with them.

The walking itself, compiled, is in `generation.py`; here arguments are checked, conditions completed, and batches put
together.
"""

import functools
import json
import math

import numpy as np
from keras import ops

from keras_diffusion import samplers, schedulers
from keras_diffusion.configs.checks import check_array, is_whole, shown
from keras_diffusion.core.noise import check_seed
from keras_diffusion.denoisers import NetworkDenoiser
from keras_diffusion.guidance import ReplaceKnown
from keras_diffusion.models import validation
from keras_diffusion.models.arguments import check_guidance_scale, check_mask_use, check_walk, mask_of
from keras_diffusion.models.guidance_argument import read_guidance
from keras_diffusion.models.sampling_defaults import DEFAULT_SAMPLER, check_sampling_defaults
from keras_diffusion.models.sampling_loop import (
    Generator,
    check_samples,
    finish,
    initial_state,
    progress_bar,
    sampling_levels,
)
from keras_diffusion.models.weight_guard import reads_weights
from keras_diffusion.runtime import limits
from keras_diffusion.runtime.compile import as_tensor
from keras_diffusion.runtime.devices import run_batch
from keras_diffusion.samplers.tables import recorded


class SamplingMixin:
    """`denoiser` and `generate`, for a model with `network`, `average`, `predictor`, `noise_schedule`, `autoencoder`
    and `null_context`.
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
        guidance_scale = check_guidance_scale(guidance_scale)
        guiding = read_guidance(guidance, guidance_scale)
        given, _ = validation.generation_conditions(conditions, None, self.network, self.class_names)
        check_two_scales(guiding, given)
        tensors = {key: ops.convert_to_tensor(value) for key, value in given.items()}
        return self._make_denoiser(
            guiding, self._weight_values(weights), tensors, guidance_scale, {}, guided=guidance_scale != 1.0
        )

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
                fills in. Of the latents' size where there is an autoencoder.
            trajectory: also return something of every step: True or "x" for x after it, "x0" for the network's x0 in
                it, "both".
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
        plain = check_walk(
            guidance_scale, strength, batch_size, clip, dtype, verbose, trajectory, noise, on_step, weights
        )
        guidance_scale, strength, batch_size = plain
        init = None if init is None else check_array("init", init, finite=False)
        latents = None if latents is None else check_array("latents", latents, finite=False)
        if latents is not None and num_samples is None and np.ndim(latents) > len(self.sample_shape):
            num_samples = len(latents)
        conditions, negative, num_samples = self._checked_conditions(
            conditions, negative_conditions, num_samples, guidance_scale
        )
        if init is None and (strength != 1.0 or mask is not None):
            raise ValueError(
                f"`strength` and `mask` act on `init`: pass the images too. Received: strength={strength}, init=None"
            )
        own = self.sampling_defaults
        guiding = read_guidance(guidance, guidance_scale, own.get("guidance"), own_wrappers=clip is not False)
        check_two_scales(guiding, conditions)
        sampler = samplers.get(own.get("sampler", DEFAULT_SAMPLER) if sampler is None else sampler)
        if sampler.ascends:
            raise ValueError(
                f"Samples are made walking down; for the way up call `invert`. Received: "
                f"sampler={type(sampler).__name__}"
            )
        check_mask_use(sampler, mask)
        spacing = self._spacing(spacing)
        seed = check_seed(seed)
        at_once = batch_size or num_samples
        init = self._encoded(init, "init")
        concat = conditions.get("concat")
        shape = self._sizes_known(latents if init is None else init, size, concat)
        limits.check(math.prod(shape), "image_pixels", "The number of values of a sample")
        validation.check_concat_size(concat, shape)
        if init is not None:
            init = validation.start_images(init, num_samples, shape, pictures=self.autoencoder is None)
            mask = None if mask is None else mask_of(mask, num_samples, shape)
        if latents is not None:
            latents = validation.start_images(latents, num_samples, shape, "latents", pictures=False)
        levels = sampling_levels(self.noise_schedule, spacing, num_steps, strength or 1.0)
        values = self._weight_values(weights)
        kept = recorded(trajectory)
        parts, self.sampling_report = [], {}
        bar = progress_bar(verbose, num_steps * -(-num_samples // at_once))
        for k, first in enumerate(range(0, num_samples, at_once)):
            rows = slice(first, min(first + at_once, num_samples))
            start = None if init is None else init[rows]
            if strength == 0:
                parts.append((start, *(np.repeat(start[None], num_steps, axis=0) for _ in kept)))
                continue
            x = initial_state(
                levels, seed, range(num_samples)[rows], shape, start, None if latents is None else latents[rows]
            )
            extra = {} if mask is None else {"known": start, "mask": mask[rows] if len(mask) == num_samples else mask}
            if guiding.numbers:
                extra["guidance"] = {key: np.float32(value) for key, value in guiding.numbers.items()}
            if negative:
                extra["negative"] = {key: value[rows] for key, value in negative.items()}
            given = {key: value[rows] for key, value in conditions.items()}
            scale = np.float32(guidance_scale)
            progress = bar and (lambda done, total, k=k: bar(num_steps * (k + done / total)))
            x, recordings, self.sampling_report = self._guided_generator(guiding).run(
                sampler,
                levels,
                self.noise_schedule,
                x,
                values,
                given,
                scale,
                extra,
                guidance_scale != 1.0,
                seed,
                first,
                trajectory,
                progress,
                noise,
                on_step,
            )
            parts.append((x, *recordings))
        x = np.concatenate([part[0] for part in parts])
        if self.autoencoder is not None:
            x = np.concatenate(
                [run_batch(self.autoencoder.decode, x[i : i + at_once]) for i in range(0, num_samples, at_once)]
            )
        check_samples(x, sampler, num_steps, values)
        x = finish(x, x.ndim > 2 if clip == "auto" else clip, dtype)
        recordings = (np.concatenate([part[1 + k] for part in parts], axis=1) for k in range(len(kept)))
        return (x, *recordings) if kept else x

    def _checked_conditions(self, conditions, negative_conditions, num_samples, guidance_scale):
        """(conditions, negative conditions, number of samples), the first two dicts of arrays with one row
        per sample.
        """
        conditions, num_samples = validation.generation_conditions(
            conditions, num_samples, self.network, self.class_names
        )
        if guidance_scale != 1.0 and not conditions:
            raise ValueError(
                "Guidance strengthens a condition, and none is given. "
                f"Received: guidance_scale={guidance_scale}; the network's conditions are: "
                f"{', '.join(self._condition_keys) or 'none'}"
            )
        negative, _ = validation.generation_conditions(negative_conditions, num_samples, self.network, self.class_names)
        if guidance_scale == 1.0 and negative:
            raise ValueError(
                "Negative conditions are what guidance leads away from, and a scale of 1 is no guidance. "
                f"Received: guidance_scale=1, negative_conditions={shown(negative_conditions)}. Give a guidance_scale "
                f"as well"
            )
        validation.check_negative(negative, conditions)
        self._check_null_class(conditions, negative, guidance_scale)
        return conditions, negative, num_samples

    def _make_denoiser(self, guiding, values, conditions, scale, extra, guided):
        """The denoiser that `generate` walks with, made of tensors; runs inside the compiled program."""
        null = self._null_conditions(like=conditions)

        def denoiser_of(given):
            return NetworkDenoiser(self.network, self.predictor, {**null, **given}, values)

        denoiser = denoiser_of(conditions)
        if guided:
            # Guidance exaggerates labels and words. Known channels are facts: they stay, unless they are all there is
            # to exaggerate.
            facts = {"concat": conditions["concat"]} if "concat" in conditions and len(conditions) > 1 else {}
            negative = extra.get("negative", {})
            unconditional = denoiser_of({**facts, **negative})
            empty = denoiser_of({key: value for key, value in negative.items() if key != "concat"})
            denoiser = guiding.combine(denoiser, unconditional, scale, extra.get("guidance", {}), empty)
        return guiding.wrap(ReplaceKnown(denoiser, extra["known"], extra["mask"]) if "mask" in extra else denoiser)

    def _guided_generator(self, guiding):
        return self._guided_generators.get(
            guiding.structure, lambda: Generator(functools.partial(self._make_denoiser, guiding))
        )

    @property
    def sampling_defaults(self):
        """What `generate` does unless told otherwise, a dict with some of "sampler", "spacing" and "guidance"."""
        return json.loads(self._sampling_defaults)

    @sampling_defaults.setter
    def sampling_defaults(self, defaults):
        self._sampling_defaults = json.dumps(
            check_sampling_defaults(defaults)
        )  # as text: Keras would wrap dicts that it tracks

    def _spacing(self, spacing):
        """The `Spacing` that is asked for; for None the model's own, else the schedule's."""
        choices = (spacing, self.sampling_defaults.get("spacing"), self.noise_schedule.spacing)
        return schedulers.get_spacing(next(choice for choice in choices if choice is not None))

    @property
    def _condition_keys(self):
        return validation.condition_keys_of(self.network)

    @property
    def num_classes(self):
        """Number of classes of the network's labels, or None."""
        return getattr(self.network, "num_classes", None)

    def _null_conditions(self, like=()):
        """One row of each of the network's conditions that means "no condition"; a context as long as the one in
        `like`.
        """
        null = {}
        if "labels" in self._condition_keys and self.network.null_labels is not None:
            null["labels"] = as_tensor(np.full((1,), self.network.null_labels, "int32"))
        if "context" in self._condition_keys:
            context = np.zeros(self.network.context_dim, "float32") if self.null_context is None else self.null_context
            context = context if context.ndim == 2 else context[None]
            length = like["context"].shape[1] if "context" in like else len(context)
            null["context"] = as_tensor(np.broadcast_to(context, (1, length, context.shape[1])))
        if "concat" in self._condition_keys:  # one position, which stands for all of them
            null["concat"] = as_tensor(
                np.zeros((1,) * len(self.sample_shape) + (validation.concat_channels_of(self.network),), "float32")
            )
        return null

    def _check_null_class(self, conditions, negative, guidance_scale):
        """Networks without a label for "no class" need one for every sample, and one to lead away from."""
        if "labels" not in self._condition_keys or self.network.null_labels is not None:
            return
        if "labels" not in conditions or (guidance_scale != 1.0 and "labels" not in negative):
            raise ValueError(
                "Labels left out, and guidance without a negative label, mean “no class”, which this network does not "
                "know. Received: "
                f"conditions={sorted(conditions)}, guidance_scale={guidance_scale}. Pass labels, and for guidance "
                f"`negative_conditions`"
            )

    def _weight_values(self, weights):
        if weights not in ("ema", "raw"):
            raise ValueError(f"`weights` must be 'ema' or 'raw'. Received: weights={weights!r}")
        if weights == "raw":
            return [variable.value for variable in self.network.variables]
        # The average is float32 throughout, the network's own weights may be half precision.
        pairs = zip(self.averaged_network().variables, self.network.variables, strict=True)
        return [
            ops.cast(variable.value, like.dtype) if variable.dtype != like.dtype else variable.value
            for variable, like in pairs
        ]

    def _encoded(self, images, name):
        """What the network sees of images: they themselves, or their latents."""
        if images is None or self.autoencoder is None:
            return images
        images = np.asarray(images)
        images = images[None] if images.ndim == len(self.sample_shape) else images
        images = validation.start_images(images, len(images), (None,) * len(self.sample_shape), name)
        return run_batch(self.autoencoder.encode, images)

    def _sizes_known(self, init, size=None, concat=None):
        """The network's sample shape: free axes are taken from `init`, from `size`, which is that of the images, or
        from `concat`.
        """
        shape = self.sample_shape
        if init is not None:
            return tuple(np.shape(init)[-len(shape) :]) if None in shape else shape
        if size is None and concat is not None and None in shape:
            return (*np.shape(concat)[1:-1], shape[-1])
        if size is not None:
            axes, factor = len(shape) - 1, getattr(self.autoencoder, "size_multiple", 1)
            wanted = tuple(size) if isinstance(size, (list, tuple)) else (size,) * axes
            if len(wanted) != axes or not all(is_whole(n) and n >= factor and n % factor == 0 for n in wanted):
                multiples = f", multiples of {factor} with this autoencoder" if factor > 1 else ""
                raise ValueError(f"`size` is an int, or {axes} of them{multiples}. Received: size={shown(size)}")
            wanted = (*(int(n) // factor for n in wanted), shape[-1])
            if any(known not in (None, n) for known, n in zip(shape, wanted, strict=True)):
                raise ValueError(f"This network makes samples of the shape {shape}. Received: size={size!r}")
            return wanted
        if None in shape:
            raise ValueError(
                "The network takes samples of any size: pass `size`, or `init`, `latents` or a condition “concat” of "
                "the size that is "
                f"wanted. Its shape: {shape}"
            )
        return shape


def check_two_scales(guiding, conditions):
    """Raises ValueError where guidance has a scale for known channels and another for the rest, and one of these is not
    given.
    """
    if guiding.needs_empty and not ("concat" in conditions and len(conditions) > 1):
        raise ValueError(
            "Two scales are for known channels, “concat”, and for another condition beside them. "
            f"Received: guidance={guiding.name!r}, conditions={sorted(conditions)}. For one of these, pass "
            f"guidance_scale alone"
        )
