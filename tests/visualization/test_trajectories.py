import numpy as np
import pytest
from matplotlib.colors import to_hex

import keras_diffusion as kd
from keras_diffusion.visualization import COLOURS, plot_trajectories

WALKS = np.random.default_rng(0).normal(size=(5, 6, 2))


def test_each_walk_is_a_line_from_its_start_to_a_dot_at_its_end(tmp_path):
    start = np.ones((6, 2))
    (axes,) = plot_trajectories(WALKS, tmp_path / "t.png", start=start, labels=[0, 1, 1, 0, 2, 2], most=4).axes
    assert (tmp_path / "t.png").stat().st_size > 5000
    lines, dots = axes.lines[::2], axes.lines[1::2]
    assert len(lines) == len(dots) == 4
    for i, (line, dot) in enumerate(zip(lines, dots, strict=True)):
        np.testing.assert_array_equal(line.get_xydata(), np.concatenate([start[None], WALKS])[:, i])
        np.testing.assert_array_equal(dot.get_xydata(), WALKS[-1:, i])
        assert to_hex(line.get_color()) == COLOURS[[0, 1, 1, 0][i]]
    plain = plot_trajectories(WALKS).axes[0]
    assert [to_hex(line.get_color()) for line in plain.lines[::2]] == list(COLOURS[:6]) and not plain.collections


def test_a_density_lies_under_them():
    """The bands of the density enclose its modes, and the limits hold it."""
    mixture = kd.denoisers.MixtureDenoiser([0.5, 0.5], [[-2.0, 0.0], [2.0, 0.0]], [0.3, 0.3])
    axes = plot_trajectories(WALKS, density=mixture.log_prob, limits=(-3, 3)).axes[0]
    (bands,) = axes.collections
    paths = bands.get_paths()
    assert any(path.contains_point((2.0, 0.0)) for path in paths)
    assert not any(path.contains_point((0.0, 2.0)) for path in paths) and axes.get_xlim() == (-3, 3)
    points = mixture.sample(50)
    axes = plot_trajectories({"a": WALKS, "b": WALKS[:2]}, density=points, title="both").axes
    assert [a.get_title() for a in axes] == ["a", "b"] and len(axes[0].collections[0].get_offsets()) == 50
    assert axes[1].get_xlim()[1] > 2.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plot_trajectories(WALKS[0]), r"\(steps, batch, 2\). Received: shape=\(6, 2\)"),
        (lambda: plot_trajectories({}), r"a trajectory to draw. Received: an empty dict"),
        (lambda: plot_trajectories(WALKS, start=WALKS[0, :3]), r"one point per walk. Received: shape=\(3, 2\) for 6"),
        (lambda: plot_trajectories(WALKS, labels=[1]), r"one class id per walk. Received: shape=\(1,\) for 6 walks"),
        (lambda: plot_trajectories(WALKS, density=np.zeros((3, 3))), r"density must be an array \(N, 2\)"),
        (lambda: plot_trajectories(WALKS, density=lambda x: 0.0), r"answers 25600 points with shape=\(\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
