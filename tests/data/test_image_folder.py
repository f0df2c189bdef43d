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
    assert [(int(s["labels"]), int(s["images"][0, 0, 0])) for s in (source[i] for i in range(len(source)))] == [(0, 10), (1, 30), (1, 40)]
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
