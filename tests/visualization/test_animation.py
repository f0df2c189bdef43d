import numpy as np
import pytest
from PIL import Image

from keras_diffusion.visualization import save_animation

WALK = np.linspace(-0.8, 0.8, 6, dtype="float32")[:, None, None, None, None] + np.zeros((6, 4, 8, 8, 1), "float32")


@pytest.mark.parametrize(("ending", "format"), [("gif", "GIF"), ("webp", "WEBP")])
def test_frames_sizes_and_times_are_read_back(tmp_path, ending, format):
    path = save_animation(tmp_path / "new" / f"a.{ending}", WALK, scale=2, seconds=0.6, hold=1.0)
    with Image.open(path) as film:
        assert (film.format, film.n_frames, film.size) == (format, 6, (2 * 17 + 1, 2 * 17 + 1))
        assert film.info.get("loop") == 0
        greys, times = [], []
        for i in range(6):
            film.seek(i)
            film.load()
            greys.append(int(np.asarray(film.convert("L"))[4, 4]))
            times.append(film.info["duration"])
    np.testing.assert_allclose(greys, (WALK[:, 0, 0, 0, 0] + 1) * 127.5, atol=6)
    assert times[:5] == [100] * 5 and times[5] == 1100
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_x_and_x0_lie_beside_each_other_under_their_titles(tmp_path):
    alone = save_animation(tmp_path / "a.webp", WALK, scale=4)
    both = save_animation(tmp_path / "b.webp", WALK, -WALK, scale=4, titles=["x", "x0"], frames=3, background=None)
    with Image.open(alone) as one, Image.open(both) as two:
        assert two.n_frames == 3 and two.width > 2 * one.width and two.height > one.height and two.mode == "RGBA"
        pixels = np.asarray(two)
        left, right = pixels[-20, two.width // 4, 0], pixels[-20, 3 * two.width // 4, 0]
        assert abs(int(left) + int(right) - 255) < 12 and left < 60  # each is the other's negative


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: save_animation(path / "a.mp4", WALK), r"a .gif or .webp file. Received: path='.*a.mp4'"),
        (lambda path: save_animation(path / "a.gif"), r"one or more trajectories .* Received: shapes \[\]"),
        (lambda path: save_animation(path / "a.gif", WALK[0]), r"of one shape. Received: shapes \[\(4, 8, 8, 1\)\]"),
        (lambda path: save_animation(path / "a.gif", WALK, WALK[1:]), r"of one shape"),
        (lambda path: save_animation(path / "a.gif", WALK, titles=["x", "y"]), r"2 titles for 1 trajectories"),
        (lambda path: save_animation(path / "a.gif", WALK * np.nan), r"must be finite to be drawn"),
        (lambda path: save_animation(path / "a.gif", WALK, seconds=-1), r"seconds"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []
