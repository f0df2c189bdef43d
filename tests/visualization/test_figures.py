import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from keras_diffusion.visualization import COLOURS, STYLE, loss_curve, plot_schedule, use_style
from keras_diffusion.visualization.figures import TEXT


def luminance(colour):
    """Relative luminance of WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("page", ["#ffffff", "#131416", "#0d1117", "#1e1e1e"])  # white, and dark greys
def test_every_colour_reads_on_light_and_dark_pages(page):
    for colour in (*COLOURS, TEXT):
        darker, lighter = sorted((luminance(colour), luminance(page)))
        assert (lighter + 0.05) / (darker + 0.05) >= 3.0, (colour, page)


def test_nothing_but_middle_tones_is_painted(tmp_path):
    """Also not by what is made late, when the figure is written without the style around it."""
    figure = loss_curve({"loss": [3.0, 2.0], "val_loss": [3.5, 2.5]}, title="losses")
    figure.savefig(tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGBA")).reshape(-1, 4)
    assert (pixels[:, 3] == 0).mean() > 0.5  # the page shows through
    solid = pixels[pixels[:, 3] > 200, :3] / 255.0
    light = [luminance(colour) for colour in np.unique(solid, axis=0)]
    assert len(solid) > 1000 and min(light) > 0.1 and max(light) < 0.4


def test_settings_are_as_before_after_a_plot_and_after_an_error():
    with matplotlib.rc_context({"text.color": "red", "figure.facecolor": "blue"}):
        before = dict(matplotlib.rcParams)
        plot_schedule("cosine")
        with pytest.raises(ValueError, match="Unknown noise schedule"):
            plot_schedule("nothing")
        assert dict(matplotlib.rcParams) == before


def test_use_style_is_for_plots_of_ones_own():
    with matplotlib.rc_context():
        use_style()
        assert matplotlib.rcParams["text.color"] == TEXT
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == list(COLOURS)
        assert matplotlib.rcParams["figure.facecolor"] == STYLE["figure.facecolor"] == "none"
