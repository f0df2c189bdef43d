import sys

import keras
import pytest

from keras_diffusion.configs.registry import Registry

PETS = Registry("pet")


@PETS.base
class Pet:
    def __init__(self, age=1):
        self.age = age

    def get_config(self):
        return {"age": self.age}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@PETS.register("test_cat", "mouser")
class GreyCat(Pet):
    def __init__(self, age=1, colour="grey"):
        super().__init__(age)
        self.colour = colour

    def get_config(self):
        return {**super().get_config(), "colour": self.colour}


@PETS.register("test_dog")
class SmallDog(Pet):
    pass


PETS.variant("old_cat", GreyCat, "granny", age=15)


@pytest.mark.parametrize("name", ["test_cat", "TEST_CAT", "test-cat", "mouser", "GreyCat", "greycat"])
def test_names_aliases_and_class_names(name):
    assert type(PETS.get(name)) is GreyCat


def test_options_reach_the_constructor():
    assert PETS.get("test_cat", age=3).age == 3
    assert PETS.get({"name": "test_cat", "colour": "red"}).colour == "red"
    assert PETS.get({"name": "test_cat", "age": 2}, age=3).age == 3
    assert PETS.get(GreyCat, age=4).age == 4


def test_a_variant_has_other_defaults_that_can_be_overridden():
    assert PETS.get("old_cat").age == 15
    assert PETS.get("granny").age == 15
    assert PETS.get("old_cat", age=16).age == 16


def test_names_and_classes():
    assert PETS.names() == ["old_cat", "test_cat", "test_dog"]
    assert PETS.classes() == [GreyCat, SmallDog]


def test_objects_are_returned_as_they_are():
    cat = GreyCat()
    assert PETS.get(cat) is cat


def test_keras_configs_are_deserialized():
    config = keras.saving.serialize_keras_object(GreyCat(age=7))
    assert config["registered_name"] == "keras_diffusion>GreyCat"
    copy = PETS.get(config)
    assert type(copy) is GreyCat and copy.age == 7


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError,
        match="Unknown pet: 'bird'. Known names: old_cat, test_cat, test_dog. Pass one of them, or a pet object",
    ):
        PETS.get("bird")


def test_unknown_option_lists_the_known_ones():
    with pytest.raises(ValueError, match="The pet 'test_cat' has no option 'size'. Its options: age, colour"):
        PETS.get("test_cat", size=3)


def test_a_dict_needs_a_name():
    with pytest.raises(ValueError, match=r"A pet given as a dict needs the key 'name'.*Received keys: \['age'\]"):
        PETS.get({"age": 3})


def test_options_with_an_object():
    with pytest.raises(ValueError, match=r"Options are for names, not for finished objects.*\['age'\]"):
        PETS.get(GreyCat(), age=3)


def test_options_with_a_keras_config():
    with pytest.raises(ValueError, match="Options are for names, not for finished objects"):
        PETS.get(keras.saving.serialize_keras_object(GreyCat()), age=3)


@pytest.mark.parametrize("value", [None, 3, dict])
def test_objects_of_another_kind(value):
    with pytest.raises(ValueError, match="Expected a pet: a name, a dict or an object. Received:"):
        PETS.get(value)


def test_things_that_are_not_saved_need_no_config():
    toys = Registry("toy", saved=False)

    @toys.register("test_ball")
    class Ball:
        pass

    assert isinstance(toys.get("test_ball"), Ball)
    assert keras.saving.get_registered_object("keras_diffusion>Ball") is None


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "os"},
        {"class_name": "os", "module": "os", "config": {}},
        {"module": "not_there_at_all", "class_name": "X", "config": {}, "registered_name": None},
        {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}},
        {"class_name": 3},
        {"class_name": ["GreyCat"]},
        {"class_name": None, "registered_name": {}},
    ],
)
def test_configs_of_other_classes_are_refused_and_import_nothing(config):
    before = set(sys.modules)
    with pytest.raises(ValueError, match="A config's class must be a pet that is registered.*Received: class_name="):
        PETS.get(config)
    assert set(sys.modules) == before


@pytest.mark.parametrize("arguments", [[1], "age", {"age": 1, "size": 2}, {3: 1}])
def test_configs_with_other_arguments(arguments):
    with pytest.raises(ValueError, match="config.*Received: config="):
        PETS.get({"class_name": "GreyCat", "config": arguments})


@pytest.mark.parametrize("place", ["colour", "age"])
def test_what_stands_within_a_config_is_looked_at_too(place):
    """Constructors hand such dicts to Keras, which would import the module."""
    within = [{"class_name": "X", "module": "keras_hub", "config": {}, "registered_name": None}]
    with pytest.raises(ValueError, match="no code of others.*config of a pet"):
        PETS.get({"class_name": "GreyCat", "config": {place: within}})


def test_configs_of_ones_own_registered_classes():
    @keras.saving.register_keras_serializable("test_registry_own")
    class OwnPet(Pet):
        pass

    config = keras.saving.serialize_keras_object(OwnPet(age=9))
    assert type(PETS.get(config)) is OwnPet and PETS.get(config).age == 9


def test_what_was_probably_meant():
    with pytest.raises(ValueError, match="Unknown pet: 'test_cart'. Known names: .*Did you mean 'test_cat'\\?"):
        PETS.get("test_cart")
    with pytest.raises(ValueError, match="has no option 'colr'.*Received: colr='red'. Did you mean 'colour'\\?"):
        PETS.get("test_cat", colr="red")
    with pytest.raises(ValueError, match="has no option 'size'"):
        PETS.get(GreyCat, size=3)


def test_options_without_a_default_are_asked_for():
    toys = Registry("toy", saved=False)

    @toys.register("test_wheel")
    class Wheel:
        def __init__(self, spokes):
            self.spokes = spokes

    assert toys.get("test_wheel", spokes=8).spokes == 8
    with pytest.raises(ValueError, match="The toy 'test_wheel' needs spokes. Received: options"):
        toys.get("test_wheel")


def test_long_names_do_not_fill_the_screen():
    with pytest.raises(ValueError, match="Unknown pet") as error:
        PETS.get("x" * 10_000_000)
    assert len(str(error.value)) < 2000
