import numpy as np
import pytest

import keras_diffusion as kd

pytestmark = pytest.mark.slow  # names, on any backend


def small(**options):
    network = kd.networks.UNet(
        (8, 8, 1), widths=(8,), num_res_blocks=1, num_middle_res_blocks=0, attention=False, num_classes=2
    )
    return kd.DiffusionModel(network, seed=0, **options)


def test_labels_by_name_are_the_labels():
    model = small(class_names=["china", "flower"])
    samples = [
        model.generate(conditions={"labels": labels}, num_steps=1, seed=0) for labels in (["flower", "china"], [1, 0])
    ]
    np.testing.assert_array_equal(*samples)
    with pytest.raises(
        ValueError, match=r"Unknown class name. Received: 'flour'. Did you mean 'flower'\? Known: 0 china, 1 flower"
    ):
        model.generate(conditions={"labels": "flour"})


def test_a_model_without_names_says_so():
    with pytest.raises(ValueError, match="does not know its classes by name"):
        small().generate(conditions={"labels": ["china"]})
    assert "class_names" not in small().get_config()


def test_names_are_saved(tmp_path):
    model = small(class_names=("china", "flower"))
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    assert kd.DiffusionModel.from_preset(tmp_path / "preset").class_names == ["china", "flower"]
    loaded = kd.checkpoints.load(tmp_path / "model.keras", verbose=0)
    assert loaded.diffusion_model().class_names == ["china", "flower"]


def test_names_need_classes():
    with pytest.raises(ValueError, match="one name per class of the network, which has 2. Received: 1 names"):
        small(class_names=["china"])
    with pytest.raises(ValueError, match="one name per class of the network, which has 0"):
        kd.DiffusionModel(kd.networks.MLP((2,), width=8, depth=1), class_names=["china"])
