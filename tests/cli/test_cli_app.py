import subprocess
import sys

import keras
import pytest
from command_line import run

import keras_diffusion

OTHER = "torch" if keras.backend.backend() != "torch" else "jax"


def test_version():
    result = run("--version")
    assert result.exit_code == 0 and result.output == f"keras-diffusion {keras_diffusion.__version__}\n"


def test_help_lists_the_commands():
    result = run("--help")
    assert result.exit_code == 0 and all(name in result.output for name in ("train", "sample", "info", "demo"))


def test_unknown_option_is_a_usage_error():
    result = run("train", "--epoch", 3)
    assert result.exit_code == 2 and "No such option" in result.output


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"], ["train", "nothing.toml"]])
def test_quick_answers_do_not_wait_for_keras(arguments):
    code = (
        f"import sys; sys.argv = ['keras-diffusion', *{arguments}]\ntry:\n    from keras_diffusion.cli import "
        "main; main()\nfinally:\n    "
    )
    result = subprocess.run(
        [sys.executable, "-c", code + "print('keras' in sys.modules)"], capture_output=True, text=True, timeout=120
    )
    assert result.stdout.splitlines()[-1] == "False", result.stderr


@pytest.mark.slow
def test_the_command_finds_all_names_of_the_package():
    code = "import sys; sys.argv = ['keras-diffusion']; import keras_diffusion as kd\n"
    code += (
        "assert 'keras' not in sys.modules\nprint(all(hasattr(kd, name) for name in kd.__all__), "
        "kd.DiffusionModel.__name__)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert result.stdout.split() == ["True", "DiffusionModel"], result.stderr


def test_info_without_argument():
    result = run("info")
    assert result.exit_code == 0, result.output
    for word in (
        keras.__version__,
        keras.backend.backend(),
        "dpmpp_2m",
        "unet",
        "velocity",
        "variance_exploding",
        "adamw",
        "cosine_decay",
    ):
        assert word in result.output


def test_unknown_backend():
    result = run("info", "--backend", "theano")
    assert (
        result.exit_code == 2
        and "--backend is one of jax, tensorflow, torch. Received: --backend theano" in result.stderr
    )


def test_backend_after_keras_is_imported():
    result = run("info", "--backend", OTHER)
    assert (
        result.exit_code == 2
        and f"Keras is already imported, on {keras.backend.backend()}. Received: --backend {OTHER}" in result.stderr
    )


def test_errors_are_one_message_and_debug_shows_the_traceback():
    result = run("info", "nothing-here")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(
        "Error: A model is a run folder, a preset folder, a .keras file or a checkpoint of an older "
        "system. Received: 'nothing-here', which"
    )
    assert "Traceback" in run("info", "nothing-here", "--debug").stderr


def test_messages_keep_their_brackets(tmp_path):
    (tmp_path / "c.toml").write_text("[train]\nepoch = 3\n")
    assert "in [train]. Did you mean 'epochs'" in run("train", tmp_path / "c.toml").stderr
