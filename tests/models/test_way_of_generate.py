"""How many files of the package one `generate` goes through before a sampler's step."""

import sys
from pathlib import Path

import keras_diffusion as kd
from keras_diffusion.models.generate import GenerateArguments
from keras_diffusion.models.likelihood import LikelihoodArguments

PACKAGE = Path(kd.__file__).parent


class Looking(kd.samplers.DPMppSampler):
    """Notes the files of the package on the stack in its steps, from the call inwards."""

    def step(self, denoise, x, row, state, noise):
        frame, files = sys._getframe(1), []
        while frame:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(PACKAGE):
                files.append(str(path.relative_to(PACKAGE)))
            frame = frame.f_back
        type(self).files = list(dict.fromkeys(reversed(files)))
        return super().step(denoise, x, row, state, noise)


def test_at_most_eight_files_between_the_call_and_the_step(make_model):
    model = make_model(ema=None)
    model.generate(2, num_steps=2, sampler=Looking(), guidance_scale=2.0, conditions={"labels": 1}, verbose=0)
    assert {"models/generate.py", "models/sampling_loop.py", "samplers/walk.py"} <= set(Looking.files)
    assert len(Looking.files) <= 8, Looking.files


def test_arguments_are_those_of_the_methods():
    for method, arguments in (("generate", GenerateArguments), ("log_likelihood", LikelihoodArguments)):
        code = getattr(kd.DiffusionModel, method).__wrapped__.__code__
        assert code.co_varnames[1 : code.co_argcount] == arguments._fields
