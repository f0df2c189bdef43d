"""Do metrics move the right way? Real digits are damaged in known ways, and every metric says what it thinks of them.

    KERAS_BACKEND=jax python benchmarks/metric_sanity.py

Prints the table of docs/metrics.md, in a few seconds. The 1,797 digits are cut into three parts: training data,
reference, and 300 pictures that stand for those of a perfect model. Features are pixels; the Inception Score's logits
those of a logistic regression on the training data.
"""

import io

import numpy as np

import keras_diffusion as kd

COUNT = 300
OPTIONS = {"kid": {"subsets": None}}
# Where a metric must move, and where it must not: +, −, 0; other places are not asked about.
EXPECTED = {
    "fd": {"blur": "+", "noise": "+", "JPEG": "+", "five of ten digits": "+", "copies": "0"},
    "fd_infinity": {"blur": "+", "noise": "+", "JPEG": "+", "five of ten digits": "+"},
    "kid": {"blur": "+", "JPEG": "+", "five of ten digits": "+", "copies": "0"},
    "cmmd": {"blur": "+", "noise": "+", "JPEG": "+", "five of ten digits": "+"},
    "mind": {"blur": "+", "noise": "+", "JPEG": "+", "five of ten digits": "+", "copies": "0"},
    "inception_score": {"noise": "-", "five of ten digits": "-"},
    "precision": {"noise": "-", "JPEG": "-", "five of ten digits": "0", "copies": "0"},
    "recall": {"blur": "-", "five of ten digits": "-"},
    "density": {"noise": "-", "JPEG": "-"},
    "coverage": {"noise": "-", "JPEG": "-", "five of ten digits": "-"},
    "vendi": {"blur": "-", "five of ten digits": "-"},
    "auth_pct": {"copies": "-"},
}


def parts():
    """(training images and labels, reference images, images of a perfect model and labels)."""
    batch = kd.data.load("digits", split="all", batch_size=1797, shuffle=False, drop_remainder=False)[0]
    images, labels = np.array(batch["images"]), np.array(batch["labels"])
    order = np.random.default_rng(0).permutation(len(images))
    training, reference, perfect = np.split(order, [599, 1198])
    return images[training], labels[training], images[reference], images[perfect], labels[perfect]


def damaged():
    """{damage: pictures}, COUNT of each, beginning with none; and training and reference pictures with labels."""
    training, training_labels, reference, perfect, labels = parts()
    good, rng = perfect[:COUNT], np.random.default_rng(1)
    padded = np.pad(good, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    half = perfect[labels < 5]
    sets = {
        "none": good,
        "blur": np.mean([padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)], axis=0),
        "noise": good + 0.4 * rng.standard_normal(good.shape),
        "JPEG": np.array([_jpeg(image) for image in good]),
        "five of ten digits": half[rng.permutation(len(half))[:COUNT]],
        "copies": training[rng.permutation(len(training))[:COUNT]],
    }
    return sets, training, training_labels, reference


def _jpeg(image, quality=10):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.uint8((image[..., 0] + 1.0) * 127.5)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), "float32")[..., None] / 127.5 - 1.0


def measured():
    """{metric: {damage: `Estimate`}}."""
    from sklearn.linear_model import LogisticRegression

    sets, training, training_labels, reference = damaged()
    classifier = LogisticRegression(max_iter=300).fit(_flat(training), training_labels)
    found = {}
    for name in EXPECTED:
        metric = kd.metrics.get(name, **OPTIONS.get(name, {}))
        found[name] = {}
        for damage, images in sets.items():
            seen = classifier.decision_function(_flat(images)) if metric.needs == ("logits",) else _flat(images)
            found[name][damage] = metric(seen, _flat(reference), _flat(training))
    return found


def moves(estimate, baseline):
    """How many standard errors an estimate lies above another one."""
    return (estimate.value - baseline.value) / max(np.hypot(estimate.standard_error, baseline.standard_error), 1e-12)


def _flat(images):
    return images.reshape(len(images), -1)


def main():
    found = measured()
    damages = list(next(iter(found.values())))
    print(f"| name | {' | '.join(damages)} |\n|---|{'---:|' * len(damages)}")
    for name, row in found.items():
        cells = []
        for damage, estimate in row.items():
            cell = f"{estimate.value:.3g} ± {estimate.standard_error:.2g}"
            cells.append(f"**{cell}**" if EXPECTED[name].get(damage, "0") != "0" else cell)
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
