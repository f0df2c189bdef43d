"""Errors of `keras-diffusion compare`, each one line. The command itself runs in tests/comparison/test_run.py."""

import pytest
from command_line import run


@pytest.mark.parametrize(
    "options, message",
    [
        (["nowhere"], "takes a run folder, a preset folder, a .keras file or a configuration"),
        (["nowhere", "--backend", "jax,numpy"], "Backends are jax, tensorflow, torch. Received: --backend numpy"),
        (
            ["nowhere", "--backend", "torch", "--backend", "tensorflow"],
            "one of the backends compared: torch, tensorflow. Received: --reference jax",
        ),
    ],
)
def test_errors_are_one_line(options, message):
    result = run("compare", *options)
    assert result.exit_code == 2 and message in result.output and "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_settings_and_folders_are_checked_before_any_process_starts(make_model, tmp_path):
    make_model().save_to_preset(tmp_path / "preset")
    result = run("compare", tmp_path / "preset", "--steps", 1, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "`--steps` must be an integer ≥ 2" in result.output
    assert not (tmp_path / "out").exists()
    result = run("compare", tmp_path / "preset", "--out", tmp_path / "preset")
    assert result.exit_code == 1 and "only folders of comparisons are overwritten" in result.output


def test_help_says_what_it_does():
    result = run("compare", "--help")
    assert (
        result.exit_code == 0 and "--reference" in result.output and "Example: keras-diffusion compare" in result.output
    )
