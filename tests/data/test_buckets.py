import keras
import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.data.buckets import bucket_shapes, nearest, unlike_first
from keras_diffusion.data.image_file import read_image, read_size

SIZES = [(20, 40), (40, 20), (30, 30), (24, 40), (33, 30), (50, 20), (30, 60), (16, 16)]


def pictures(n=40):
    """Pictures of several sizes; the first value of each is its number."""
    rng = np.random.default_rng(0)
    made = [rng.integers(0, 255, (*SIZES[i % len(SIZES)], 3), "uint8") for i in range(n)]
    return [{"images": image, "labels": i % 4} for i, image in enumerate(made)]


def load(n=40, **options):
    return kd.data.load(
        pictures(n), **{"image_size": 32, "batch_size": 4, "buckets": True, "num_classes": 4, **options}
    )


def digest(batches):
    return [(batch["images"].shape, batch["labels"].tolist(), float(batch["images"].sum())) for batch in batches]


@pytest.mark.parametrize(("side", "step"), [(64, None), (512, None), (64, 16), (256, 64)])
def test_buckets_have_nearly_one_area_and_sides_that_halve(side, step):
    shapes = bucket_shapes(True, (side, side), step)
    assert (side, side) in shapes and {(w, h) for h, w in shapes} == set(shapes)
    for height, width in shapes:
        assert height % (step or side // 8) == width % (step or side // 8) == 0
        assert abs(height * width / side**2 - 1) < 0.15 and max(height, width) <= 2 * min(height, width)
    assert len({height for height, _ in shapes}) == len(shapes)


def test_each_picture_goes_to_the_nearest_ratio():
    shapes = [(8, 16), (11, 11), (16, 8)]
    assert nearest([(10, 30), (10, 13), (10, 15), (30, 10)], shapes).tolist() == [0, 1, 0, 2]
    # A bucket that no batch fills is closed.
    assert nearest([(10, 10)] * 3 + [(10, 20)] * 2 + [(20, 10)] * 4, shapes, least=3).tolist() == [1] * 5 + [2] * 4


def test_a_batch_holds_one_shape_and_a_pass_each_picture_once():
    batches = load(41, drop_remainder=False)
    shapes = list(batches.bucket_counts)
    seen = []
    for epoch in range(2):
        batches.epoch = epoch
        found = [batch for batch in batches]
        assert len(found) == len(batches) and {b["images"].shape[1:3] for b in found} == set(shapes)
        assert sum(len(b["images"]) for b in found) == 41 == sum(batches.bucket_counts.values())
        assert sorted(len(b["images"]) for b in found if len(b["images"]) < 4) == sorted(batches.remainders)
        seen.append(digest(found))
    assert seen[0] != seen[1] and batches.image_shape == (None, None, 3)


def test_what_is_left_out_differs_from_pass_to_pass():
    batches = load(13, buckets=[(16, 16), (8, 24)], batch_size=4)
    assert len(batches) == sum(count // 4 for count in batches.bucket_counts.values()) and batches.remainders == []
    drawn = []
    for epoch in range(2):
        batches.epoch = epoch
        assert all(len(batch["images"]) == 4 for batch in batches)
        drawn.append(sorted(round(float(image.sum()), 3) for batch in batches for image in batch["images"]))
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("options", [{}, {"batches_per_epoch": 3}, {"crop": "random"}])
def test_the_order_is_a_function_of_seed_and_epoch(options):
    one, other = load(seed=3, **options), load(seed=3, **options)
    other.epoch, other.start = 2, 2
    for epoch in (0, 1, 2):
        one.epoch = epoch
        whole = digest(one)
    assert digest([other[i] for i in range(2, len(other))]) == whole[2:]
    assert digest(load(seed=4, **options)) != digest(load(seed=3, **options))


@pytest.mark.parametrize("crop", ["center", "random"])
def test_processes_read_their_rows_of_each_batch(crop):
    whole, parts = load(crop=crop), [load(crop=crop) for _ in range(2)]
    for part, rows in zip(parts, ([0, 1], [2, 3])):
        part.rows = np.array(rows)
    for i, batch in enumerate(whole):
        for key in ("images", "labels"):
            np.testing.assert_array_equal(batch[key], np.concatenate([part[i][key] for part in parts]))


def test_an_epoch_begins_with_two_shapes_that_differ_in_both_axes():
    groups, shapes = np.array([0, 0, 1, 2]), [(8, 8), (8, 16), (16, 8)]
    batches = [np.array([i]) for i in range(4)]
    assert [int(b[0]) for b in unlike_first(batches, groups, shapes)] == [2, 3, 0, 1]
    for options in ({}, {"batches_per_epoch": 5}):
        data = load(**options)
        for epoch in range(5):
            data.epoch, data.start = epoch, 3
            first, second = (data[i]["images"].shape for i in (0, 1))
            assert first[1] != second[1] and first[2] != second[2]


def test_sizes_come_from_headers(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    import tarfile

    for turn in range(1, 9):
        exif = image.Exif()
        exif[0x0112] = turn
        picture = image.fromarray(np.zeros((10, 20, 3), "uint8"))
        for kind in ("jpg", "png", "webp"):
            picture.save(tmp_path / f"{turn}.{kind}", exif=exif)
            assert read_size(tmp_path / f"{turn}.{kind}") == read_image(tmp_path / f"{turn}.{kind}").shape[:2]
    (tmp_path / "tar").mkdir()
    with tarfile.open(tmp_path / "tar" / "a.tar", "w") as archive:
        for file in sorted(tmp_path.glob("*.*")):
            archive.add(file, f"{file.stem}-{file.suffix[1:]}{file.suffix}")
    monkeypatch.setattr("keras_diffusion.data.image_folder.read_image", None)
    monkeypatch.setattr("keras_diffusion.data.tar_shards.read_image", None)
    folder, tar = (
        kd.data.load(path, image_size=32, buckets=True, batch_size=8, split="all")
        for path in (tmp_path, tmp_path / "tar")
    )
    assert folder.bucket_counts == tar.bucket_counts == {(24, 40): 12, (40, 24): 12}


def test_broken_pictures(tmp_path):
    pytest.importorskip("PIL.Image")
    for i, item in enumerate(pictures(8)):
        kd.visualization.save_png(tmp_path / f"{i}.png", item["images"] / np.float32(127.5) - 1)
    (tmp_path / "3.png").write_bytes(b"no picture")
    options = {"image_size": 32, "buckets": True, "batch_size": 2}
    with pytest.raises(ValueError, match="3.png"):
        kd.data.load(tmp_path, **options)
    with pytest.warns(UserWarning, match="left out"):
        batches = kd.data.load(tmp_path, on_error="skip", **options)
    assert sum(len(batch["images"]) for batch in batches) == 8 and set(batches.source.source.skipped) == {3}


def test_a_report_counts_buckets():
    report = kd.data.inspect(load(16))
    assert sum(report.buckets.values()) == 16 and "buckets    " in str(report)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"image_size": None}, "without image_size"),
        ({"image_size": 20}, "multiples of bucket_step.*image_size=\\(20, 20\\), bucket_step=8"),
        ({"buckets": [(8, 8), (8, 8)]}, "different"),
        ({"buckets": "all"}, "True, or a list"),
        ({"buckets": [(8, 8)], "bucket_step": 8}, "with a list"),
        ({"buckets": None, "bucket_step": 8}, "without buckets"),
        ({"batch_size": 64}, "number of samples, 40"),
    ],
)
def test_errors(options, match):
    with pytest.raises(ValueError, match=match):
        load(**options)


def test_a_unet_trains_on_them_with_one_program_per_shape():
    batches = load(20, buckets=[(8, 16), (16, 8)])
    network = kd.networks.UNet(batches.image_shape, widths=(4,), num_res_blocks=1, attention=False, num_classes=4)
    model = kd.DiffusionModel(network, ema=None)
    model.compile("adam")
    shapes, programs = len(batches.bucket_counts), []
    if keras.backend.backend() == "jax":
        import jax

        def listen(event, duration, fun_name=None, **_):
            if event == "/jax/core/compile/backend_compile_duration" and "step" in str(fun_name):
                programs.append(fun_name)

        jax.monitoring.register_event_duration_secs_listener(listen)
    model.fit(batches, epochs=2, verbose=0)
    assert shapes == 2 and batches.epoch == 2
    if keras.backend.backend() == "jax":
        jax.monitoring.unregister_event_duration_listener(listen)
        assert len(programs) == shapes
