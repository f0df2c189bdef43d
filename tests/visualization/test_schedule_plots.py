import numpy as np
import pytest
from command_line import run
from PIL import Image

import keras_diffusion as kd
from keras_diffusion.visualization import plot_schedule, plot_spacing, plot_table


def lines_of(axes):
    return {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}


def test_plot_schedule_draws_what_the_schedules_say(tmp_path):
    shifted = kd.schedulers.FlowNoiseSchedule(shift=3.0)
    figure = plot_schedule(["cosine", shifted], tmp_path / "s.png", title="curves")
    t = np.linspace(0, 1, 501)
    assert figure.get_suptitle() == "curves" and [a.get_xlabel() for a in figure.axes] == ["t"] * 3
    for name, schedule in (("cosine", kd.schedulers.get("cosine")), ("FlowNoiseSchedule(shift=3.0)", shifted)):
        levels = schedule.levels(t)
        drawn = [lines_of(axes)[name] for axes in figure.axes]
        np.testing.assert_allclose(drawn[0], levels.alpha)
        np.testing.assert_allclose(drawn[1], levels.sigma)
        np.testing.assert_allclose(drawn[2][1:-1], levels.log_snr[1:-1])
        assert np.isnan(drawn[2][[0, -1]]).all()  # infinite at both ends
    with Image.open(tmp_path / "s.png") as image:
        assert image.size == (1650, 510)


def test_plot_schedule_is_logarithmic_where_the_noise_explodes():
    assert plot_schedule("cosine").axes[1].get_yscale() == "linear"
    assert plot_schedule("variance_exploding").axes[1].get_yscale() == "log"


def test_plot_spacing_draws_the_levels_of_each_step():
    figure = plot_spacing(["linspace", {"name": "karras", "rho": 5.0}], schedule="linear", num_steps=6, end=0.1)
    times, ratios = figure.axes
    assert set(lines_of(times)) == {"linspace", "KarrasSpacing(rho=5.0)"} and ratios.get_yscale() == "log"
    schedule = kd.schedulers.get("linear")
    levels = kd.schedulers.get_spacing("karras", rho=5.0).levels(schedule, 6, end=0.1)
    np.testing.assert_allclose(lines_of(times)["KarrasSpacing(rho=5.0)"], levels.t)
    np.testing.assert_allclose(lines_of(ratios)["KarrasSpacing(rho=5.0)"], levels.sigma / levels.alpha)
    clean = lines_of(plot_spacing("linspace", num_steps=3).axes[1])["linspace"]
    assert np.isnan(clean[[0, -1]]).all() and np.isfinite(clean[1:-1]).all()


def test_plot_table_draws_every_column():
    figure = plot_table("dpmpp_3m", num_steps=8)
    table = kd.samplers.get("dpmpp_3m").table(
        kd.schedulers.get_spacing("linspace").levels(kd.schedulers.get("cosine"), 8), kd.schedulers.get("cosine")
    )
    axes = {a.get_title(): a for a in figure.axes}
    assert list(axes) == ["level t", "level α", "level σ", "x0", "eps", "bend"]
    assert figure.get_suptitle() == "DPMppSampler(order=3)"
    np.testing.assert_allclose(axes["x0"].lines[0].get_ydata(), table["x0"])
    np.testing.assert_allclose(axes["level σ"].lines[0].get_ydata(), table["level"].sigma)
    for k in range(2):
        np.testing.assert_allclose(lines_of(axes["bend"])[str(k)], table["bend"][:, k])


@pytest.mark.parametrize("name", kd.samplers.names())
def test_plot_table_knows_every_sampler(name):
    """Each column is drawn whole, whatever it is made of."""
    figure = plot_table(name, num_steps=4)
    assert figure.axes and all(axes.lines for axes in figure.axes)
    drawn = sum(len(line.get_ydata()) for axes in figure.axes for line in axes.lines)
    schedule = kd.schedulers.get("cosine")
    table = kd.samplers.get(name).table(kd.schedulers.get_spacing("linspace").levels(schedule, 4), schedule)
    assert drawn == sum(np.size(column) for column in kd.keras.tree.flatten(table))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_schedule([]), r"something to draw. Received: schedules=\[\]. Pass a name"),
        (lambda: plot_schedule("cosin"), "Unknown noise schedule: 'cosin'.*Did you mean 'cosine'"),
        (lambda: plot_schedule(["cosine", 3]), "Expected a noise schedule: .* Received: 3 of type int"),
        (lambda: plot_spacing("karras", schedule=None), "Expected a noise schedule: .* Received: None"),
        (lambda: plot_spacing("karras", num_steps=0), "`num_steps` must be an integer ≥ 1. Received: num_steps=0"),
        (lambda: plot_table("dpmpp_2"), "Unknown sampler: 'dpmpp_2'.*Did you mean"),
        (lambda: plot_table("ddim", num_steps=2.5), "`num_steps` must be an integer ≥ 1. Received: num_steps=2.5"),
    ],
)
def test_what_cannot_be_drawn(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_command_line_draws_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("plot", "schedule", "cosine", '{"name": "flow", "shift": 3}').output.strip() == "schedule.png"
    assert run("plot", "spacing", "karras", "--steps", 5, "--schedule", "linear", "--out", "a/b.svg").exit_code == 0
    assert run("plot", "table", "ddim", "--spacing", "karras").exit_code == 0
    assert (tmp_path / "table.png").stat().st_size > 10_000 and "<svg" in (tmp_path / "a/b.svg").read_text()
    again = run("plot", "table", "ddim")
    assert again.exit_code == 2 and "table.png exists" in again.output and "--overwrite" in again.output
    assert run("plot", "table", "ddim", "--overwrite").exit_code == 0
    wrong = run("plot", "spacing", "karas", "--out", "c.png")
    assert wrong.exit_code == 1 and "Did you mean 'karras'?" in wrong.output and not (tmp_path / "c.png").exists()
    assert "--out is a .png, .pdf or .svg file" in run("plot", "table", "ddim", "--out", "t.txt").output
