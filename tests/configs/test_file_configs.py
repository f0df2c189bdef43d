"""Configs from files make plain classes and no others; what is refused is refused before anything is
imported or made.
"""

import json
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_diffusion as kd
import keras_diffusion.text  # no test may be the first to import it
from keras_diffusion.configs import plain_classes
from keras_diffusion.configs.file_configs import build_from_file, check_values, checked_config
from keras_diffusion.configs.file_paths import FilePath, inside

made = []


@keras.saving.register_keras_serializable("strangers")
class Canary(keras.layers.Layer):
    """A class that a user has registered with Keras, and that notes when it is made."""

    def __init__(self, rate=0.5, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.inner = rate, inner
        made.append("class")

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("strangers")
def sing(x):
    """A function that a user has registered with Keras."""
    made.append("function")
    return x


@pytest.fixture(autouse=True)
def _nothing_made():
    made.clear()


def saved(value):
    """As it would come out of a file."""
    return json.loads(json.dumps(keras.saving.serialize_keras_object(value)))


def dense(**config):
    return {"module": "keras.layers", "class_name": "Dense", "config": {"units": 1, **config}, "registered_name": None}


def of(name, module="keras.layers", /, **config):
    return {"module": module, "class_name": name, "config": config, "registered_name": None}


def function(name, module="keras.activations"):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


CODE = {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}}
ATTACKS = {
    "module": of("X", "keras_hub"),
    "module_within_keras": of("X", "keras.datasets.mnist"),
    "own_module": of("X", "stranger_of_the_folder"),
    "lambda": of("Lambda", function=function("plot_image_gallery", "keras.visualization")),
    "lambda_code": of("Lambda", function=CODE),
    "registered": {"module": None, "class_name": "Canary", "config": {}, "registered_name": "strangers>Canary"},
    "registered_as_plain": {**dense(), "registered_name": "strangers>Canary"},
    "registered_as_ours": {"module": "x", "class_name": "X", "config": {}, "registered_name": "keras_diffusion>X"},
    "registered_by_class_name": {"module": "keras.layers", "class_name": "strangers>Canary", "config": {}},
    "writes": dense(activation=function("plot_image_gallery", "keras.visualization")),
    "sets": dense(activation=function("set_floatx", "keras.config")),
    "downloads": dense(activation=function("load_data", "keras.datasets.mnist")),
    "lists_files": dense(activation=function("image_dataset_from_directory", "keras.utils")),
    "function_registered": dense(activation=function("strangers>sing")),
    "function_by_text": dense(activation="strangers>sing"),
    "class_by_text": dense(activation="strangers>Canary"),
    "own_class_by_text": dense(activation="keras_diffusion>UNet"),
    "in_an_argument": dense(kernel_initializer=of("X", "keras_hub")),
    "without_a_config": dense(kernel_initializer={"module": "keras_hub", "class_name": "X"}),
    "in_a_wrapper": of("TimeDistributed", layer=of("Bidirectional", layer=of("Lambda", function="x"))),
    "in_a_list": of("StackedRNNCells", cells=[of("GRUCell", units=1), [of("X", "keras_hub")]]),
    "in_the_dtype": dense(dtype=of("X", "keras_hub")),
    "in_the_build_config": {**dense(), "build_config": {"input_shape": of("X", "keras_hub")}},
    "reads_a_file": of("StringLookup", vocabulary="/etc/passwd"),
    "saved_model": of("TFSMLayer", filepath="/tmp"),
    "jax_code": of("JaxLayer", call_fn=function("plot_image_gallery", "keras.visualization")),
    "torch_pickle": of("TorchModuleWrapper", module={"class_name": "__bytes__", "config": {"value": "gASVAAAA"}}),
    "typespec": {
        "class_name": "__typespec__",
        "spec_name": "X",
        "config": [],
        "module": "keras_hub",
        "registered_name": None,
    },
    "scan": of("Scan", "keras.src.ops.core"),
    "metric": of("Mean", "keras.metrics"),
    "huge_text_type": dense(x={"class_name": "__numpy__", "config": {"value": ["a"] * 9, "dtype": "S1000000000"}}),
    "objects": dense(x={"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "object"}}),
    "tokenizer": {"module": None, "class_name": "CLIPTokenizer", "config": {"bpe_path": "/etc/passwd"}}
    | {"registered_name": "keras_diffusion>CLIPTokenizer"},
    "no_class": {"class_name": 3, "config": {}},
    "class_in_class": {**dense(), "config": of("X", "keras_hub")},
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("place", ["alone", "first", "last", "compiled"])
def test_nothing_is_imported_or_made(name, place):
    """Also where plain layers stand before and behind it: the whole tree is looked at first."""
    attack = ATTACKS[name]
    plain = {"module": None, "class_name": "Canary", "config": {}, "registered_name": "strangers>Canary"}
    custom = None
    if place != "alone":
        custom = {"strangers>Canary": Canary}  # allowed, and would note that it was made
        if "strangers" in json.dumps(attack):
            pytest.skip("is allowed")
        layers = [attack, plain] if place == "first" else [plain, attack]
        attack = of("Sequential", "keras", name="s", layers=layers)
    if place == "compiled":
        attack = {**attack, "compile_config": {"optimizer": of("X", "keras_hub")}}
    modules, floatx = set(sys.modules), keras.config.floatx()
    with pytest.raises(ValueError, match="Received") as error:
        build_from_file(attack, custom)
    assert not made and set(sys.modules) == modules and keras.config.floatx() == floatx
    assert len(str(error.value)) < 1500


def test_a_compile_config_is_left_out():
    layer = build_from_file({**dense(), "compile_config": {"loss": of("X", "keras_hub")}})
    assert type(layer) is keras.layers.Dense


def test_the_error_says_what_to_pass_and_that_helps():
    config = saved(Canary(rate=0.25))
    with pytest.raises(ValueError, match=r"custom_objects=\{'strangers>Canary': Canary\}"):
        build_from_file(config)
    assert build_from_file(config, {"strangers>Canary": Canary}).rate == 0.25
    assert build_from_file(dense(activation=function("strangers>sing")), {"strangers>sing": sing}).activation is sing
    lambda_ = build_from_file(of("Lambda", function=function("relu", "builtins")), {"Lambda": keras.layers.Lambda})
    assert lambda_.function is keras.activations.relu
    with pytest.raises(ValueError, match="Received: '__lambda__'"):
        build_from_file(of("Lambda", function=CODE), {"Lambda": keras.layers.Lambda})


def test_a_class_that_is_not_registered_is_found_by_its_name():
    class Other(keras.layers.Layer):
        pass

    config = saved(Other(name="o"))
    with pytest.raises(ValueError, match=r"custom_objects=\{'Other': Other\}"):
        build_from_file(config)
    assert type(build_from_file(config, {"Other": Other})) is Other


@pytest.mark.parametrize("wrong", [[Canary], {"Canary": 3}, {3: Canary}])
def test_custom_objects_are_a_dict_of_classes(wrong):
    with pytest.raises(ValueError, match="`custom_objects` is a dict from names to classes"):
        build_from_file(dense(), wrong)


def test_every_plain_class_and_activation_is_where_the_list_says():
    """Fewer of them in an older Keras, but none that is something else."""
    missing = []
    for (_, name), home in plain_classes._KERAS.items():
        found = getattr(sys.modules.get(home) or __import__(home, fromlist=["x"]), name, None)
        if found is None:
            missing.append(name)
        else:
            assert found.__module__.startswith("keras.src.") and isinstance(found, type)
    assert len(missing) < 15, missing
    for name in plain_classes._ACTIVATIONS:
        if hasattr(keras.activations, name):
            assert build_from_file(function(name, "builtins")) is getattr(keras.activations, name)


def test_dangerous_classes_are_on_no_list():
    listed = {name for _, name in plain_classes._KERAS}
    for name in (
        "Lambda",
        "TFSMLayer",
        "TorchModuleWrapper",
        "JaxLayer",
        "FlaxLayer",
        "StringLookup",
        "IntegerLookup",
        "TextVectorization",
    ):
        assert name not in listed
    assert not {"Map", "Scan", "WhileLoop", "Cond", "Switch", "VectorizedMap", "ForiLoop"} & listed


def test_what_others_register_under_our_name_is_not_ours():
    @kd.configs.registry.serializable
    class Stowaway(keras.layers.Layer):
        pass

    with pytest.raises(ValueError, match="keras_diffusion>Stowaway"):
        build_from_file(saved(Stowaway()))


def functional():
    x = keras.Input((4,), name="x")
    y = keras.layers.Dense(4, activation="gelu", kernel_initializer="he_normal", dtype="float32", name="dense")(x)
    y = keras.layers.Dense(4, activation=kd.layers.activations.quick_gelu, kernel_regularizer="l2", name="quick")(y)
    y = ops.concatenate([y + np.float32(1.0), ops.silu(y) * x[:, :4]], axis=-1)
    y = keras.layers.Add(name="sum_of_both")(
        [keras.layers.TimeDistributed(keras.layers.Dense(1), name="each")(y[..., None])[..., 0], y]
    )
    return keras.Model(x, y, name="graph")


def test_a_functional_model_comes_back():
    model = functional()
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    again = build_from_file(saved(model))
    again.set_weights(model.get_weights())
    np.testing.assert_allclose(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)), atol=1e-6)
    inner = keras.Sequential([keras.Input((4,)), functional(), keras.layers.Dropout(0.5, seed=1)])
    assert len(build_from_file(saved(inner)).weights) == len(model.weights)


def test_a_functional_model_computes_nothing_while_it_is_made():
    config = saved(functional())
    layer = next(layer for layer in config["config"]["layers"] if layer["inbound_nodes"])
    layer["inbound_nodes"][0]["args"] = [
        {"class_name": "__tensor__", "config": {"value": [[1.0] * 4], "dtype": "float32"}}
    ]
    with pytest.raises(ValueError, match="inputs from other layers"):
        build_from_file(config)


def test_every_network_of_the_library_comes_back():
    config = saved(
        kd.networks.UNet(
            (8, 8, 1), widths=(8,), num_res_blocks=1, attention=False, num_middle_res_blocks=0, activation="mish"
        )
    )
    again = build_from_file(config)
    assert type(again) is kd.networks.UNet and saved(again)["config"] == config["config"]


def test_optimizers_and_schedules_come_back():
    rate = keras.optimizers.schedules.CosineDecay(1e-3, 10)
    for cls in (keras.optimizers.AdamW, keras.optimizers.SGD):
        config = kd.models.optimizers.portable_optimizer(saved(cls(rate)))
        again = build_from_file(config)
        assert isinstance(again, cls) and saved(again)["config"] == config["config"]


def test_what_cannot_be_built_is_a_value_error():
    for config in (dense(nonsense=1), of("Functional", "keras", layers=3)):
        with pytest.raises(ValueError, match="cannot be built") as error:
            build_from_file(config)
        assert len(str(error.value)) < 900


def test_the_caller_chooses_the_error():
    with pytest.raises(OSError, match="keras_hub"):
        build_from_file(of("X", "keras_hub"), error=OSError)
    deep = {}
    for _ in range(3000):
        deep = {"a": deep}
    with pytest.raises(OSError, match="nested too deeply"):
        checked_config(dense(x=deep), error=OSError)


def test_values_that_are_handed_to_constructors():
    check_values({"network": {"name": "unet", "activation": "mish"}, "null": None, "optimizer": dense()}, "config")
    with pytest.raises(ValueError, match=r"config\.network\.activation"):
        check_values({"network": {"activation": ATTACKS["writes"]["config"]["activation"]}}, "config")


def test_paths_lie_in_the_folder(tmp_path):
    folder = tmp_path / "preset"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "merges.txt").write_text("x")
    (tmp_path / "outside.txt").write_text("x")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "loop").symlink_to(folder / "loop")
    found = inside(folder, "sub/merges.txt", "path")
    assert isinstance(found, FilePath) and found == str((folder / "sub" / "merges.txt").resolve())
    wrong = [
        "../outside.txt",
        str(tmp_path / "outside.txt"),
        str(folder / "sub" / "merges.txt"),
        "link.txt",
        "zero",
        "loop",
        "sub",
    ]
    for name in [*wrong, "", "/dev/zero", "none", "a" * 5000, "a\0b", 3, ["sub"]]:
        with pytest.raises(ValueError, match="Received: path="):
            inside(folder, name, "path")
    with pytest.raises(ValueError, match="holds no paths"):
        inside(None, "sub/merges.txt", "path")


def test_a_tokenizer_reads_its_merges_beside_its_config_only(tmp_path):
    (tmp_path / "merges.txt").write_text("#version\na b\n")
    config = ATTACKS["tokenizer"]
    tokenizer = build_from_file({**config, "config": {"bpe_path": "merges.txt"}}, folder=tmp_path)
    assert tokenizer.merges == ["a b"]
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    for path in ("/etc/passwd", "../../../../../../etc/passwd", "link.txt"):
        with pytest.raises(ValueError, match="leads to a file beside it"):
            build_from_file({**config, "config": {"bpe_path": path}}, folder=tmp_path)
    # Keras's own loader comes this way.
    with pytest.raises(ValueError, match="holds its merges"):
        keras.saving.deserialize_keras_object(config)
