import pickle

import h5py
import keras
import numpy as np
import pytest

from keras_diffusion.configs.arguments import ArgumentsMixin, config_value, function_config
from keras_diffusion.layers.activations import quick_gelu


class Point(ArgumentsMixin):
    def __init__(self, x, y=0.0, *, tags=("a", "b")):
        pass


@keras.saving.register_keras_serializable("test_arguments")
class Scale(ArgumentsMixin, keras.layers.Layer):
    def __init__(self, factor, activation="swish", shifts=(0.0,), **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)

    def call(self, x):
        return self.activation(self.factor * x + self.shifts[0])


@keras.saving.register_keras_serializable("test_arguments")
class Doubled(Scale):
    fixed_arguments = ("factor",)

    def __init__(self, offset=1, activation="relu", **kwargs):
        super().__init__(2.0, activation, **kwargs)


@keras.saving.register_keras_serializable("test_arguments")
class Around(ArgumentsMixin, keras.layers.Layer):
    def __init__(self, layer, times=1, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, x):
        return self.layer(x)


@keras.saving.register_keras_serializable("test_arguments")
class Net(ArgumentsMixin, keras.Model):
    def __init__(self, input_shape, widths=(4, 2), name="net", trainable=True, dtype=None):
        inputs = outputs = keras.Input(input_shape)
        for i, width in enumerate(self.widths):
            outputs = keras.layers.Dense(width, name=f"dense_{i}", dtype=dtype)(outputs)
        super().__init__(inputs, outputs, name=name, trainable=trainable)

    def get_config(self):
        return {"name": self.name, "trainable": self.trainable, **self.arguments_config()}


def own(config):
    return {key: value for key, value in config.items() if key not in ("name", "trainable", "dtype")}


def test_parameters_are_attributes_and_config():
    point = Point(1.0, tags=["c"])
    assert (point.x, point.y, point.tags) == (1.0, 0.0, ("c",))
    assert point.get_config() == {"x": 1.0, "y": 0.0, "tags": ["c"]}
    assert Point.from_config(point.get_config()).get_config() == point.get_config()


def test_values_are_plain():
    point = Point(np.float32(1.5), y=[np.int64(2), (3,)], tags={"k": np.arange(2)})
    assert type(point.x) is float and point.y == (2, (3,))
    assert point.get_config() == {"x": 1.5, "y": [2, [3]], "tags": {"k": [0, 1]}}
    given = [1]
    point = Point(given)
    given.append(2)
    assert point.x == (1,)


def test_repr_shows_what_is_not_the_default():
    assert repr(Point(1)) == "Point(1)"
    assert repr(Point([1, 2], tags=["a", "b"])) == "Point((1, 2))"
    assert repr(Point(1, tags=())) == "Point(1, tags=())"
    assert repr(Scale(2.0, name="any")) == "Scale(2.0)"
    assert repr(Scale(2.0, quick_gelu)) == "Scale(2.0, activation='quick_gelu')"
    assert repr(Around(Scale(1))) == "Around(Scale(1))"
    assert repr(Net((2,), [3])) == "Net((2,), widths=(3,))"


def test_what_is_changed_later_shows():
    layer = Scale(1.0)
    layer.factor = 3.0
    assert layer.get_config()["factor"] == 3.0 and repr(layer) == "Scale(3.0)"


def test_config_of_a_layer():
    layer = Scale(1.0, "swish", name="scale", dtype="bfloat16")
    assert own(layer.get_config()) == {"factor": 1.0, "activation": "silu", "shifts": [0.0]}
    assert layer.get_config()["name"] == "scale"
    copy = Scale.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config() and copy.compute_dtype == "bfloat16"


def test_bases_keep_the_values_that_they_are_called_with():
    layer = Doubled(shifts=(1.0,))
    assert layer.factor == 2.0
    assert own(layer.get_config()) == {"offset": 1, "activation": "relu", "shifts": [1.0]}
    assert repr(layer) == "Doubled(shifts=(1.0,))"
    doubled = Doubled.from_config(layer.get_config())(np.ones(3, "float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(doubled), 3.0)


def test_layers_within_layers():
    layer = Around(keras.layers.Dense(3), times=2)
    layer(np.ones((1, 2)))
    assert len(layer.weights) == 2
    config = layer.get_config()
    assert config["layer"]["class_name"] == "Dense" and "build_config" not in config["layer"]
    copy = Around.from_config(config)
    assert copy.layer.units == 3 and copy.get_config() == config


def test_weights_lie_in_files_where_attributes_say(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, Around(keras.layers.Dense(3, name="inner"), name="around")(inputs))
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        paths = []
        file.visit(paths.append)
    assert [path for path in paths if path.endswith("vars/0")] == ["layers/around/layer/vars/0"]


def test_methods_and_properties_keep_their_names():
    class Box(ArgumentsMixin):
        def __init__(self, size=1, volume=2):
            self.volume_given = volume

        @property
        def size(self):
            return "property"

        def volume(self):
            return "method"

    box = Box(3)
    assert (box.size, box.volume(), box.volume_given) == ("property", "method", 2)
    assert box.get_config() == {"size": 3, "volume": 2} and repr(box) == "Box(size=3)"


def test_models_and_files(tmp_path):
    net = Net((3,), widths=[4, np.int64(1)])
    assert net.get_config() == {"name": "net", "trainable": True, "input_shape": [3], "widths": [4, 1]}
    net.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(*(keras.ops.convert_to_numpy(model(x)) for model in (loaded, net)))
    assert loaded.get_config() == net.get_config()


def test_pickles():
    point = pickle.loads(pickle.dumps(Point(1, y=2)))
    assert repr(point) == "Point(1, y=2)" and point.get_config()["y"] == 2


def test_wrong_calls_get_the_errors_of_python():
    with pytest.raises(TypeError, match=r"Point.__init__\(\) missing 1 required positional argument: 'x'"):
        Point()
    with pytest.raises(TypeError, match=r"Point.__init__\(\) got an unexpected keyword argument 'z'"):
        Point(1, z=2)


def test_functions():
    assert function_config(quick_gelu) == "quick_gelu" and function_config(keras.activations.gelu) == "gelu"
    assert config_value([keras.activations.relu]) == ["relu"]
