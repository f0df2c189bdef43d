import numpy as np
import pytest
from PIL import Image

from keras_diffusion.data import ImageFolder
from keras_diffusion.data.image_folder import read_image


def write(path, value=0, size=(6, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16") else (value,) * len(mode)).save(path)
    return path


def test_classes_are_the_sorted_sub_folders(tmp_path):
    for name, values in {"rose": (30, 40), "daisy": (10,), ".hidden": (1,)}.items():
        for value in values:
            write(tmp_path / name / f"{value}.png", value)
    (tmp_path / "tulip").mkdir()
    (tmp_path / "notes.txt").write_text("not an image")
    source = ImageFolder(tmp_path)
    assert source.class_names == ["daisy", "rose", "tulip"] and source.num_classes == 3
    assert [(int(s["labels"]), int(s["images"][0, 0, 0])) for s in (source[i] for i in range(len(source)))] == [
        (0, 10),
        (1, 30),
        (1, 40),
    ]
    assert source[0]["images"].shape == (4, 6, 3) and source[0]["images"].dtype == np.uint8


def test_a_flat_folder_has_no_labels(tmp_path):
    write(tmp_path / "b.jpg", 20)
    write(tmp_path / "a.PNG", 10)
    source = ImageFolder(tmp_path, channels=1)
    assert len(source) == 2 and source.num_classes is None
    assert set(source[0]) == {"images"} and source[0]["images"].shape == (4, 6, 1)
    assert source[0]["images"][0, 0, 0] == 10


def test_files_are_read_lazily(tmp_path):
    write(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    source = ImageFolder(tmp_path)
    assert source[0]["images"].shape == (4, 6, 3)
    with pytest.raises(ValueError, match=r"Cannot read the image '.*b\.png'"):
        source[1]


def test_cut_off_file_is_named(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.png"
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), "uint8")).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ValueError, match=r"Cannot read the image '.*a\.png'"):
        read_image(path)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 32896, 65535]], "uint16")).save(path)
    assert read_image(path, channels=1).ravel().tolist() == [0, 128, 255]


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (6, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (6, 4, 3)


@pytest.mark.parametrize(("channels", "mode"), [(1, "RGB"), (3, "L"), (4, "RGB"), (3, "RGBA")])
def test_channels_are_converted(tmp_path, channels, mode):
    assert read_image(write(tmp_path / "a.png", 7, mode=mode), channels).shape == (4, 6, channels)


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"must exist. Received: path='.*nowhere'"):
        ImageFolder(tmp_path / "nowhere")


def test_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="must hold images.*none in"):
        ImageFolder(tmp_path)


def test_images_beside_class_folders(tmp_path):
    write(tmp_path / "a.png")
    write(tmp_path / "rose" / "b.png")
    with pytest.raises(ValueError, match=r"either images or one sub-folder per class.*a\.png beside rose"):
        ImageFolder(tmp_path)


def test_bad_channels(tmp_path):
    with pytest.raises(ValueError, match="channels must be 1 .* Received: channels=2"):
        ImageFolder(tmp_path, channels=2)


def transparent(mode):
    """A picture of red garbage under transparent pixels on the left, and opaque green ones on the right."""
    pixels = np.zeros((4, 6, 4), "uint8")
    pixels[:, :3] = (255, 0, 0, 0)
    pixels[:, 3:] = (0, 255, 0, 255)
    image = Image.fromarray(pixels, "RGBA")
    if mode == "P":
        palette = Image.fromarray(np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0).astype("uint8"), "P")
        palette.putpalette([255, 0, 0, 0, 255, 0])
        palette.info["transparency"] = 0
        return palette
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_nothing_under_transparent_pixels_is_seen(tmp_path, mode):
    options = {"transparency": 0} if mode == "P" else {}
    transparent(mode).save(tmp_path / "a.png", **options)
    right = 150 if mode == "LA" else 0  # the grey of green
    for background, left in (("white", (255, 255, 255)), ("#102030", (16, 32, 48)), ((1, 2, 3), (1, 2, 3))):
        image = ImageFolder(tmp_path, background=background)[0]["images"]
        assert (image[:, :3] == left).all()
        assert (image[:, 3:] == ((right, 150, 150) if mode == "LA" else (0, 255, 0))).all()
    assert (read_image(tmp_path / "a.png", channels=1)[:, :3] == 255).all()
    four = read_image(tmp_path / "a.png", channels=4)
    assert (four[:, :3] == (255, 255, 255, 0)).all() and (four[:, 3:, 3] == 255).all()


def test_half_transparent_pixels_are_mixed(tmp_path):
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert abs(int(read_image(tmp_path / "a.png")[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("background", ["whitest", (1, 2), (1, 2, 256), (1.0, 2, 3), 7, None, "x" * 10_000_000])
def test_what_is_no_colour(tmp_path, background):
    write(tmp_path / "a.png")
    with pytest.raises(ValueError, match="`background` is the colour under transparent pixels.*Received: background="):
        ImageFolder(tmp_path, background=background)


def test_hidden_folders_and_files_are_no_samples(tmp_path):
    for name in (
        "a/1.png",
        "a/.ipynb_checkpoints/1-checkpoint.png",
        "a/__MACOSX/._1.png",
        "a/deeper/2.png",
        "a/._1.png",
        "b/3.png",
    ):
        write(tmp_path / name)
    write(tmp_path / "__MACOSX" / "a" / "1.png")
    write(tmp_path / ".ipynb_checkpoints" / "1.png")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"")
    source = ImageFolder(tmp_path)
    assert [str(f.relative_to(tmp_path)) for f in source.files] == ["a/1.png", "a/deeper/2.png", "b/3.png"]
    assert source.class_names == ["a", "b"]


def test_classes_with_numbers_are_in_natural_order(tmp_path):
    for i in range(12):
        write(tmp_path / str(i) / "a.png", i)
    write(tmp_path / "class 9" / "a.png", 12)
    write(tmp_path / "class 10" / "a.png", 13)
    source = ImageFolder(tmp_path)
    assert source.class_names == [*map(str, range(12)), "class 9", "class 10"]
    assert [int(source[i]["images"][0, 0, 0]) for i in range(14)] == list(range(14)) == source.labels.tolist()


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_floats(tmp_path, scale):
    Image.fromarray((np.array([[0.0, 0.5, 1.0]]) * scale).astype("float32")).save(tmp_path / "a.tiff")
    if scale == 1.0:
        assert read_image(tmp_path / "a.tiff", channels=1).ravel().tolist() == [0, 128, 255]
    else:
        with pytest.raises(
            ValueError,
            match=r"Cannot read the image '.*a\.tiff': pictures of floats are read with values from 0 to 1.*to 255",
        ):
            read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("values", [[[-1, 0]], [[0, 70000]]])
def test_integers_beyond_16_bits(tmp_path, values):
    Image.fromarray(np.array(values, "int32")).save(tmp_path / "a.tiff")
    with pytest.raises(
        ValueError, match=r"a\.tiff': pictures of integers are read with values from 0 to 65535, and these go from"
    ):
        read_image(tmp_path / "a.tiff")


def test_sixteen_bits_in_tiff_are_scaled(tmp_path):
    Image.fromarray(np.array([[0, 32896, 65535]], "uint16")).save(tmp_path / "a.tiff")
    assert read_image(tmp_path / "a.tiff", channels=1).ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L", "1"])
def test_other_kinds_of_colours(tmp_path, mode):
    path = tmp_path / (
        "a.jpg" if mode == "YCbCr" else "a.tif"
    )  # older Pillow writes TIFFs of YCbCr that it cannot read
    Image.new("RGB", (4, 2), (255, 255, 255)).convert(mode).save(path)
    assert (read_image(path) >= 254).all()


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 2), (value,) * 3) for value in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif") == 0).all()


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"II*\0\x08\0\0\0\xff\xff", b"BM\0\0", b"RIFF0000WEBP", b"text"]
)
def test_every_damaged_file_is_named(tmp_path, content):
    for ending in ("png", "tif", "gif"):
        path = tmp_path / f"broken.{ending}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"Cannot read the image '.*broken\."):
            read_image(path)


@pytest.mark.parametrize("name", ["captions.csv", "captions.json", "captions.txt"])
def test_other_tables_are_not_ignored_silently(tmp_path, name):
    write(tmp_path / "a.png")
    (tmp_path / name).write_text("a.png,a house")
    with pytest.warns(UserWarning, match=f"metadata.csv .file_name, text.. Received: 1 other tables in .*'{name}'"):
        assert len(ImageFolder(tmp_path)) == 1


def test_pictures_of_other_kinds_are_not_ignored_silently(tmp_path):
    write(tmp_path / "x" / "a.png")
    (tmp_path / "x" / "b.HEIC").write_bytes(b"")
    with pytest.warns(
        UserWarning, match="These pictures are ignored, since only .* are read.*Received: 1 files .*'b.HEIC'"
    ):
        assert len(ImageFolder(tmp_path)) == 1
