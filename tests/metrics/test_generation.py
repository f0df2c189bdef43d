"""Models measured against real data: on vectors, whose values are the features, so that nothing has to be trained."""

import numpy as np
import pytest

import keras_diffusion as kd
from keras_diffusion.metrics import GenerationEvaluator, Reference, load_features
from keras_diffusion.metrics.real_samples import read_samples

WALK = {"num_steps": 4, "seed": 3, "batch_size": 48}


@pytest.fixture(scope="module")
def points():
    """Three classes of points in the plane, most of them of class 2."""
    labels = np.array([0, 1, 2, 2] * 50, "int32")
    centres = np.array([[-0.8, 0.0], [0.8, 0.0], [0.0, 0.8]], "float32")
    noise = np.random.default_rng(0).standard_normal((200, 2)).astype("float32")
    return {"images": centres[labels] + 0.05 * noise, "labels": labels}


@pytest.fixture(scope="module")
def model():
    kd.keras.utils.set_random_seed(0)
    model = kd.DiffusionModel(kd.networks.MLP((2,), width=16, depth=1, num_classes=3), seed=0)
    model.compile("adam")
    return model


@pytest.fixture(scope="module")
def evaluator(points):
    return GenerationEvaluator(points, metrics=["fd", "mind"], num_samples=96)


class Teller:
    """In place of a model: what `generate` was asked for, and the true distribution as samples."""

    condition_keys, sample_shape, sampling_defaults, network = ("labels",), (2,), {}, None

    def __init__(self, points):
        self.points, self.asked = points, None

    def averaged_network(self):
        return "an average"

    def generate(self, num_samples, conditions=None, **options):
        self.asked = {"num_samples": num_samples, "conditions": conditions, **options}
        return self.points["images"][np.arange(num_samples) % 200]


def test_the_samples_follow_the_data(points, evaluator):
    teller = Teller(points)
    found = evaluator(teller, **WALK, sampler={"name": "ddim", "eta": 0.5}, guidance_scale=2.0)
    labels = teller.asked["conditions"]["labels"]
    assert len(labels) == 96 and set(labels) == {0, 1, 2} and abs(np.mean(labels == 2) - 0.5) < 0.1
    assert labels.tolist() == evaluator.reference.samples["labels"][:96].tolist()
    assert teller.asked["sampler"] == {"name": "ddim", "eta": 0.5} and teller.asked["seed"] == 3
    line = str(found["mind"])
    for text in (
        "96 generated against 96 real",
        "pixels, 2 features",
        "EMA",
        "ddim, eta=0.5, 4 steps, guidance 2",
        "seed 3",
    ):
        assert text in line
    assert list(found) == ["fd", "mind"] and all(result.floor.n == 96 for result in found.values())


def test_whole_batches_are_generated_and_the_rest_is_dropped(points, evaluator):
    teller = Teller(points)
    assert evaluator.generate(teller, batch_size=40).shape == (96, 2)
    assert teller.asked["num_samples"] == 120 and len(teller.asked["conditions"]["labels"]) == 120
    evaluator.generate(teller, conditions={"labels": [1]})
    assert teller.asked["conditions"]["labels"].tolist() == [1] and teller.asked["num_samples"] == 96


def test_real_samples_are_at_the_floor_and_noise_is_above(points, evaluator):
    more = points["images"] + 0.05 * np.random.default_rng(1).standard_normal((200, 2))
    for name, result in evaluator.measure(points["images"][:96]).items():
        noise = evaluator.measure(np.random.default_rng(2).uniform(-1, 1, (96, 2)))[name]
        assert result.value < result.floor.value + 4 * result.floor.spread
        assert noise.value > 5 * result.value and noise.value > evaluator.measure(more[:96])[name].value


def test_samples_with_the_labels_of_real_ones_have_a_floor_of_such_halves(points, evaluator):
    labels = evaluator.reference.samples["labels"]
    first, second = evaluator.reference._halves(np.random.default_rng(0), 40, matched=True)
    assert not set(first) & set(second) and (labels[first] == labels[second]).sum() >= 38  # classes of odd size
    free, matched = evaluator.floor("mind"), evaluator.floor("mind", matched=True)
    assert matched.value < free.value and matched.n == free.n == 96
    teller = Teller(points)
    assert evaluator(teller, **WALK)["mind"].floor == matched
    assert evaluator(teller, conditions={"labels": [1]}, **WALK)["mind"].floor == free
    teller.condition_keys = ()
    assert evaluator(teller, **WALK)["mind"].floor == free


def test_a_model_is_measured_and_repeats_itself(model, points):
    options = {"metrics": ["mind"], "num_samples": 96, "floor_halvings": 2, **WALK}
    first = model.evaluate_generation(points, **options)["mind"]
    again = model.evaluate_generation(kd.data.Batches(points, 32, seed=5, horizontal_flip=False), **options)["mind"]
    assert first.value == again.value and first.floor == again.floor  # however the data are given
    assert first.weights == "raw" and first.sampler == "dpmpp_2m" and first.num_steps == 4  # nothing is averaged yet
    assert model.evaluate_generation(points, **{**options, "seed": 4})["mind"].value != first.value


def test_too_few_samples_are_refused_before_any_is_generated(points):
    wide = {"images": np.random.default_rng(0).uniform(-1, 1, (90, 64)).astype("float32")}
    with pytest.raises(ValueError, match="FD of 64 features needs at least 65 samples.*singular.*50 generated"):
        GenerationEvaluator(wide, metrics="fd", num_samples=50)
    few = GenerationEvaluator(wide, metrics=["fd"], num_samples=70)  # 70 suffice, halves of 45 do not
    result = few.measure(wide["images"][:70])["fd"]
    assert result.floor is None and "(no floor)" in str(result)
    half = GenerationEvaluator(wide, metrics=["mind"], num_samples=70).measure(wide["images"][:70])["mind"]
    assert half.floor.n == 45 and " at 45)" in str(half)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"metrics": ["fd", "fid"]}, "each once"),
        ({"metrics": []}, "`metrics` are some of"),
        ({"metrics": "fdd"}, "Unknown metric.*Did you mean 'fd'"),
        ({"num_samples": 1}, "num_samples"),
        ({"extractor": "classifier", "data": np.zeros((40, 4, 4, 1))}, "trained on labels"),
        ({"data": np.zeros((40, 4, 4, 1), "int32")}, "uint8"),
        ({"data": {"labels": np.zeros(3)}}, "samples"),
        ({"data": []}, "Data to measure against"),
        ({"data": {"images": np.zeros((4, 2)), "labels": np.zeros(3)}}, "one length"),
        ({"data": np.full((40, 2), np.nan)}, "finite"),
        ({"extractor": lambda images: np.zeros(len(images)), "data": np.zeros((40, 4, 4, 1))}, r"\(N, "),
    ],
)
def test_mistakes_are_explained(points, options, message):
    options = {"data": points, "metrics": ["mind"], "num_samples": 20, **options}
    with pytest.raises(ValueError, match=message):
        GenerationEvaluator(**options)


def test_the_reference_is_the_same_however_it_is_asked(points):
    part = read_samples(points, 50)
    assert part["images"].shape == (50, 2) and part["images"].tolist() == read_samples(points)["images"][:50].tolist()
    batches = kd.data.Batches(points, 32, seed=1)
    assert read_samples(batches, 50)["labels"].tolist() == part["labels"].tolist()
    grey = np.arange(4 * 16, dtype="uint8").reshape(4, 4, 4, 1)
    assert np.abs(read_samples(grey)["images"]).max() <= 1.0 and len(read_samples([grey, grey], 6)["images"]) == 6


def test_captions_and_pictures_without_chance():
    pictures = np.random.default_rng(0).uniform(-1, 1, (8, 4, 4, 1)).astype("float32")
    source = {"images": pictures, "labels": np.arange(8) % 2, "captions": [("a dog", "dog")] * 4 + ["cat"] * 4}
    batches = kd.data.Batches(source, 4, horizontal_flip=True, augment=lambda images, rng: -images, captions=True)
    batches.transform = lambda batch: {"tokens": 0}
    found = batches.samples([5, 0])
    assert found["captions"].tolist() == ["cat", "a dog"] and found["labels"].tolist() == [1, 0]
    np.testing.assert_array_equal(found["images"], pictures[[5, 0]])


def test_features_are_kept_by_content(tmp_path):
    pictures = np.random.default_rng(0).uniform(-1, 1, (12, 4, 4, 1)).astype("float32")
    calls = []

    def mean(images):
        calls.append(len(images))
        return images.mean(axis=(1, 2))

    def features(pictures, version="1"):
        extractor = kd.metrics.get_extractor(mean, version=version, batch_size=32)
        return Reference(pictures, extractor, cache=tmp_path / "kept").features()

    first = features(pictures)
    assert features(pictures).tolist() == first.tolist() and len(calls) == 1
    features(pictures[:6])
    features(pictures, version="2")
    assert len(calls) == 3 and len(list((tmp_path / "kept").iterdir())) == 3
    kept = next(iter((tmp_path / "kept").iterdir()))
    kept.write_bytes(b"no array")
    with pytest.raises(ValueError, match="Cannot read the arrays"):
        [features(pictures), features(pictures[:6]), features(pictures, version="2")]


def test_a_reference_can_be_saved(points, tmp_path):
    reference = Reference(points)
    path = reference.save(tmp_path / "reference.npz")
    features = load_features(path, reference.extractor)
    np.testing.assert_array_equal(features, reference.features())
    with np.load(path) as file:  # as pytorch-fid reads it
        np.testing.assert_allclose(file["mu"], features.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(file["sigma"], np.cov(features, rowvar=False), atol=1e-6)
    other = kd.metrics.get_extractor(lambda images: images, version="other")
    with pytest.raises(ValueError, match="one extractor made them"):
        load_features(path, other)
    np.savez(tmp_path / "other.npz", mu=np.zeros(3))
    with pytest.raises(ValueError, match="A reference is a .npz file"):
        load_features(tmp_path / "other.npz")


@pytest.mark.slow
def test_a_classifier_learns_from_the_labels_of_the_data(tmp_path):
    labels = np.arange(64) % 2
    images = np.random.default_rng(0).normal(labels[:, None, None, None] - 0.5, 0.2, (64, 4, 4, 1)).clip(-1, 1)
    data = {"images": images.astype("float32"), "labels": labels}
    reference = Reference(data, {"name": "classifier", "steps": 4, "features": 5}, cache=tmp_path)
    assert reference.features().shape == (64, 5) and reference.extractor.name == "classifier"
    evaluator = GenerationEvaluator(reference, ["inception_score"], num_samples=32)
    assert Reference({**data, "labels": labels * 0}).extractor.name == "pixels"  # one class tells nothing apart
    result = evaluator.measure(images[:32])["inception_score"]  # of logits
    assert 1.0 <= result.value <= 2.0 and result.n_real is None and result.floor is not None


def test_a_sampler_that_is_not_named_is_the_models_own(model):
    from keras_diffusion.metrics.generation import walk_of

    assert walk_of(model, {"sampler": kd.samplers.get("ddim", eta=1.0)})["sampler"] == "DDIMSampler(eta=1.0)"
    model.sampling_defaults = {"sampler": {"name": "ddim", "eta": 0.2}}
    assert walk_of(model, {})["sampler"] == "ddim, eta=0.2"
    model.sampling_defaults = None


@pytest.mark.slow
def test_words_are_encoded_once_each():
    encoder, tokenizer = kd.text.small_encoder(["a dog", "a cat"], width=8, depth=1, num_heads=1)
    network = kd.networks.UNet((4, 4, 1), widths=(8,), num_res_blocks=1, context_dim=8)
    model = kd.models.TextToImage(network, encoder, tokenizer, noise_schedule="cosine", predictor="v")
    data = {
        "images": np.random.default_rng(0).uniform(-1, 1, (12, 4, 4, 1)).astype("float32"),
        "captions": np.array(["a dog", "a cat", "a cat"] * 4, dtype=object),
    }
    seen = []
    generate, model.text_conditions = (
        model.text_conditions,
        lambda texts, weights="ema": seen.append(texts) or generate(texts),
    )
    evaluator = GenerationEvaluator(data, metrics=["mind"], num_samples=12, floor_halvings=0)
    result = evaluator(model, num_steps=2, guidance_scale=2.0)["mind"]
    assert sorted(seen[0]) == ["a cat", "a dog"] and seen[1:] == [""] and np.isfinite(result.value)
