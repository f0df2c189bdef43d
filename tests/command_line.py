"""The command line, run within the process of a test."""

from typer.testing import CliRunner

from keras_diffusion.cli.app import app


def run(*arguments):
    """The result of `keras-diffusion ARGUMENTS…`: `exit_code` and `output`, whose lines are not broken."""
    return CliRunner(env={"COLUMNS": "400"}).invoke(app, [str(argument) for argument in arguments])
