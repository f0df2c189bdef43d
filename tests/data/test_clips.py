"""Clips in folders, arrays and videos: which frames are read, and that training takes them."""

from pathlib import Path

import keras
import numpy as np
import pytest
from command_line import run
from PIL import Image

import keras_diffusion as kd
from keras_diffusion import data
from keras_diffusion.cli.building import resolve
from keras_diffusion.cli.config import ConfigError
from keras_diffusion.cli.sampling import _walk, _write
from keras_diffusion.cli.training import _sample_options
from keras_diffusion.data.clip_file import open_clip
from keras_diffusion.runtime import limits


def frames(count, size=(8, 12), offset=0):
    """Frame i is of the value 10·i + offset on the left, and 5 more on the right."""
    clip = np.empty((count, *size, 3), "uint8")
    clip[:] = (10 * np.arange(count) + offset)[:, None, None, None]
    clip[:, :, size[1] // 2 :] += 5
    return clip


def as_folder(path, clip):
    path.mkdir(parents=True)
    for i, frame in enumerate(clip):
        Image.fromarray(frame).save(path / f"{i}.png")  # 10.png comes after 9.png
    return path


def as_array(path, clip):
    path = path.with_suffix(".npy")
    np.save(path, clip)
    return path


def as_gif(path, clip):
    path = path.with_suffix(".gif")
    first, *rest = [Image.fromarray(frame) for frame in clip]
    first.save(path, save_all=True, append_images=rest)
    return path


def as_video(path, clip, suffix=".mkv", codec="ffv1", pixels="bgr0", **options):
    av = pytest.importorskip("av")
    path = path.with_suffix(suffix)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = clip.shape[2], clip.shape[1], pixels
        for frame in clip:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return path


WRITERS = (as_folder, as_array, as_gif, as_video)


@pytest.mark.parametrize("write", WRITERS)
def test_each_kind_gives_its_frames(tmp_path, write):
    clip = frames(12)
    opened = open_clip(write(tmp_path / "clip", clip))
    assert len(opened) == 12
    for numbers in ([0, 1, 2], [3, 7, 11], [5]):
        np.testing.assert_array_equal(opened.frames(np.array(numbers)), clip[numbers])
    with (
        limits.raised(image_pixels=3 * 8 * 12 * 3 - 1),
        pytest.raises(ValueError, match="above the limit image_pixels"),
    ):
        opened.frames(np.arange(3))


def test_a_frame_is_found_among_those_that_are_stored_out_of_order(tmp_path):
    clip = frames(20, (32, 48))
    path = as_video(tmp_path / "a", clip, ".mp4", "libx264", "yuv420p", bf="3", g="7")
    opened = open_clip(path, channels=1)
    for numbers in ([0, 1, 2, 3], [6, 13, 19], [17]):
        got = opened.frames(np.array(numbers))
        assert got.shape == (len(numbers), 32, 48, 1)
        assert np.abs(got[:, 5, 5, 0] - 10.0 * np.array(numbers)).max() < 4


def test_what_is_no_clip(tmp_path):
    for name, content, message in [
        ("a.npy", b"x", "Cannot read"),
        ("b.gif", b"GIF89a", "Cannot read the clip"),
        ("c.gif", as_gif(tmp_path / "whole", frames(9)).read_bytes()[:-80], "Cannot read"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            clip = open_clip(tmp_path / name)
            clip.frames(np.arange(len(clip)))
    np.save(tmp_path / "flat.npy", np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match=r"A clip is an array \(frames, height, width, channels\)"):
        open_clip(tmp_path / "flat.npy")
    folder = as_folder(tmp_path / "sizes", frames(2))
    Image.new("RGB", (3, 3)).save(folder / "9.png")
    with pytest.raises(ValueError, match="Frames of a clip have one size"):
        open_clip(folder).frames(np.arange(3))


def test_a_video_that_is_none_opens_no_other_file(tmp_path):
    whole = as_video(tmp_path / "whole", frames(4))
    for name, content in [
        ("list.mp4", b"ffconcat version 1.0\nfile whole.mkv\n"),
        ("list.webm", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nwhole.mkv\n#EXT-X-ENDLIST\n"),
        ("half.mkv", whole.read_bytes()[:100]),
        ("empty.avi", b""),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"Cannot read the clip .*{name}"):
            open_clip(tmp_path / name)


@pytest.fixture
def folder(tmp_path):
    """Four clips of 9 frames, a kind each, with captions."""
    path = tmp_path / "clips"
    path.mkdir()
    for i, write in enumerate((as_folder, as_array, as_gif, as_folder)):
        written = write(path / f"clip{i}", frames(9, offset=i))
        written.with_suffix(".txt").write_text(f"the clip {i}")
    return path


def starts(batch):
    """(number of the first frame, number of the clip) of each sample."""
    values = np.round((batch["images"][:, 0, 0, 0, 0] + 1) * 127.5).astype(int)
    return [divmod(int(value), 10) for value in values]


def test_frames_are_drawn_for_training_and_those_of_the_middle_otherwise(folder):
    options = {"frames": 3, "stride": 2, "batch_size": 4, "captions": True}
    train = data.load(folder, seed=5, **options)
    assert train.image_shape == (3, 8, 12, 3)
    seen = []
    for train.epoch in range(12):
        batch = train[0]
        assert batch["captions"].tolist() == [f"the clip {clip}" for _, clip in starts(batch)]
        steps = np.diff(batch["images"][:, :, 0, 0, 0], axis=1) * 127.5
        np.testing.assert_allclose(steps, 20, atol=0.1)
        seen.append(starts(batch))
    assert {first for batch in seen for first, _ in batch} == {0, 1, 2, 3, 4}, "every place in some epoch"
    again = data.load(folder, seed=5, **options)
    again.epoch, again.rows = 7, np.array([2, 0])
    assert starts(again[0]) == [seen[7][2], seen[7][0]], "a function of seed, epoch and place, in another process too"
    held_out = data.load(folder, split="test", validation_fraction=0.5, **options)
    assert {first for first, _ in starts(held_out[0])} == {2}


def test_clips_are_resized_and_flipped_whole(folder):
    batch = data.load(folder, frames=4, image_size=4, batch_size=4, horizontal_flip=True, seed=1)[0]
    assert batch["images"].shape == (4, 4, 4, 4, 3)
    left, right = batch["images"][..., 0, 0, 0], batch["images"][..., 0, -1, 0]
    flipped = left > right
    assert (flipped == flipped[:, :1]).all() and 0 < flipped[:, 0].sum() < 4
    still = np.random.default_rng(0).integers(0, 255, (4, 1, 8, 8, 3), dtype="uint8").repeat(3, axis=1)
    for layer in (keras.layers.RandomFlip("horizontal"), keras.layers.RandomTranslation(0.4, 0.4)):
        images = data.load(still, frames=3, batch_size=4, augment=layer, shuffle=False)[0]["images"]
        np.testing.assert_array_equal(images[:, 1:], images[:, :2])
        assert (images != still / np.float32(127.5) - 1).any(), "the frames of a clip move together"


def test_arrays_of_clips(tmp_path):
    clips = np.stack([frames(9, offset=i) for i in range(4)])
    np.savez(tmp_path / "clips.npz", images=clips, captions=np.array(list("abcd")))
    np.save(tmp_path / "clips.npy", clips)
    batches = [
        data.load(source, frames=2, stride=3, batch_size=4, image_size=4, seed=3)[0]
        for source in (clips, tmp_path / "clips.npz", tmp_path / "clips.npy", list(clips))
    ]
    assert len({first for first, _ in starts(batches[0])}) > 1
    for batch in batches[1:]:
        np.testing.assert_array_equal(batch["images"], batches[0]["images"])
    assert data.load(clips, frames="all", stride=4, batch_size=2).image_shape == (3, 8, 12, 3)
    with pytest.raises(ValueError, match="frames= is for clips"):
        data.load("digits", frames=2)[0]


def test_short_and_broken_clips_are_left_out(folder):
    (folder / "clip1.npy").write_bytes(b"x")
    as_folder(folder / "clip9", frames(4))
    batches = data.load(folder, frames=5, batch_size=5, on_error="skip", shuffle=False, captions=True)
    with pytest.warns(UserWarning, match="clip1.npy"):
        batch = batches[0]
    assert [clip for _, clip in starts(batch)] == [0, 2, 2, 3, 0] and sorted(batches.source.skipped) == [1, 4]
    assert batch["captions"].tolist()[1] == "the clip 2"
    assert "needs as many frames as are asked for. Received: 4 frames in" in batches.source.skipped[4]


def test_classes_and_wrong_folders(tmp_path, folder):
    source = data.load(tmp_path, frames=2, batch_size=1).source
    assert source.class_names == ["clips"] and source[3]["labels"] == 0 and source.captions[1] == "the clip 1"
    as_folder(tmp_path / "clip", frames(2))
    (tmp_path / "empty").mkdir()
    for path, message in [
        (tmp_path, "either clips or one sub-folder per class.*clip beside clips"),
        (folder / "clip0", "whose pictures are frames: name the folder above it"),
        (tmp_path / "empty", "must hold clips: files .*mp4"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.load(path, frames=2)
    for options, message in [({"frames": 0}, "frames is the number of frames"), ({"stride": 2}, "stride is for clips")]:
        with pytest.raises(ValueError, match=message):
            data.load(folder, **options)
    with pytest.raises(ValueError, match="Received: none in .* For videos, pass frames=16"):
        data.load(tmp_path / "empty")


@pytest.mark.slow
def test_a_network_for_videos_trains_on_every_kind(tmp_path):
    network = kd.networks.UNet3D((2, 4, 4, 3), widths=(4,), num_heads=1, num_res_blocks=1, attention=[False])
    model = kd.DiffusionModel(network, predictor=kd.predictors.VPredictor(condition="timestep"), seed=0)
    model.compile("adam")
    clips = [frames(5, (4, 4), offset=i) for i in range(2)]
    sources = [np.stack(clips)]
    for write in WRITERS:
        sources.append(tmp_path / write.__name__)
        sources[-1].mkdir()
        for i, clip in enumerate(clips):
            write(sources[-1] / f"clip{i}", clip)
    for source in sources:
        loss = model.fit(data.load(source, frames=2, batch_size=2), epochs=1, verbose=0).history["loss"]
        assert np.isfinite(loss).all(), source


def test_the_commands(folder, tmp_path):
    result = run("data", "inspect", folder, "--frames", "3", "--out", tmp_path / "sheet.png")
    assert result.exit_code == 0 and "readable   4 of 4" in result.stdout, result.output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.asarray(sheet)[10, 10, 0] == 40, "the middle one of the frames 3, 4 and 5 of the first clip"
    config = {
        "data": {"source": str(folder), "frames": 2, "image_size": 8, "batch_size": 2},
        "network": {"widths": [8, 16], "num_heads": 2},
    }
    resolved, train, _ = resolve(config)
    assert resolved["network"]["name"] == "unet_3d" and resolved["network"]["input_shape"] == [2, 8, 8, 3]
    assert resolved["model"]["predictor"] == {"name": "v", "condition": "timestep"}
    assert train[0]["images"].shape == (2, 2, 8, 8, 3)
    assert _sample_options(resolved)["num_samples"] > 0, "training draws clips too"


def test_samples_of_clips_are_written(tmp_path):
    clips = np.stack([frames(5, offset=i) for i in range(3)])
    _write(tmp_path / "a.png", clips, [0, 1, 0], None, ["one", "two"])
    with Image.open(tmp_path / "a.png") as strip:
        assert strip.size[0] > 5 * 12 and strip.size[1] > 3 * 8
    _write(tmp_path / "a.gif", clips, None, None)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 5 and film.info["duration"] == 120  # hundredths of a second, 8 in a second
    assert _walk(Path("a.gif"), False, (5, 8, 12, 3)) is False and _walk(Path("a.gif"), False, (8, 12, 3)) == "both"
    with pytest.raises(ConfigError, match="--film shows the steps of images"):
        _walk(Path("a.png"), True, (5, 8, 12, 3))
