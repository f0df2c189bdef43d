import math

import pytest

from keras_diffusion.metrics import Floor, MetricResult
from keras_diffusion.metrics.result import with_error

FULL = {
    "name": "fd",
    "title": "FD",
    "better": "lower",
    "value": 12.31,
    "n_generated": 1000,
    "n_real": 1000,
    "standard_error": 0.42,
    "floor": Floor(1.9, 0.1, 1000, 5),
    "extractor": "classifier",
    "width": 64,
    "weights": "ema",
    "sampler": "dpmpp_2m",
    "num_steps": 20,
    "guidance_scale": 1.5,
    "seed": 0,
}


def test_a_result_is_one_honest_line():
    assert str(MetricResult(**FULL)) == (
        "FD 12.3 ± 0.4 (floor 1.9) · 1,000 generated against 1,000 real · classifier, 64 features · EMA · "
        "dpmpp_2m, 20 steps, guidance 1.5 · seed 0"
    )


def test_the_line_says_what_is_missing_and_what_differs():
    few = MetricResult(**{**FULL, "floor": Floor(2.5, 0.2, 719, 5), "weights": "raw", "guidance_scale": 1.0})
    assert "(floor 2.5 at 719)" in str(few) and "raw weights" in str(few) and "guidance" not in str(few)
    assert "(no floor)" in str(MetricResult(**{**FULL, "floor": None}))
    recall = {"name": "recall", "title": "recall", "better": "higher", "value": 0.61, "standard_error": None}
    assert str(MetricResult(**{**FULL, **recall, "floor": Floor(0.93, 0.01, 1000, 5)})).startswith(
        "recall 0.6100 (ceiling 0.9300)"
    )
    alone = MetricResult("vendi", "Vendi", "higher", 7.0, 500, None)
    assert str(alone) == "Vendi 7.000 (no floor) · 500 generated"


@pytest.mark.parametrize(
    "value, error, text",
    [
        (12.31, 0.42, "12.3 ± 0.4"),
        (12.31, 0.014, "12.310 ± 0.014"),
        (1234.5, 12.0, "1,234 ± 12"),
        (0.00123456, None, "0.001235"),
        (0.0, 0.0, "0 ± 0"),
        (123456.0, None, "123,456"),
        (math.nan, 0.2, "nan ± 0.2"),
        (-0.0002, 0.0013, "-0.0002 ± 0.0013"),
    ],
)
def test_numbers_have_as_many_digits_as_are_known(value, error, text):
    assert with_error(value, error) == text


def test_a_result_survives_json():
    result = MetricResult(**FULL, options={"subsets": 10})
    assert MetricResult.from_json(result.to_json()) == result
    broken = MetricResult.from_json(MetricResult(**{**FULL, "value": math.inf, "standard_error": math.nan}).to_json())
    assert broken.value == math.inf and math.isnan(broken.standard_error)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"colour": "red"}, "A result is a dict with the keys"),
        ({"value": "high"}, "'high' is no number"),
        ({"value": True}, "no number"),
        ({"floor": {"value": 1.0}}, "a floor with value, spread, n, halvings"),
        ({"floor": 3}, "a floor with value"),
        ({"better": "greener"}, "`better` is one of"),
        ({"weights": "average"}, "`weights` is one of"),
        ({"n_generated": 0}, "n_generated"),
    ],
)
def test_what_is_no_result_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MetricResult.from_dict({**MetricResult(**FULL).to_dict(), **change})


def test_better_is_lower_or_higher_and_never_nan():
    low, high = MetricResult(**FULL), MetricResult(**{**FULL, "value": 20.0})
    assert low.improves_on(None) and low.improves_on(high) and not high.improves_on(low) and not low.improves_on(low)
    assert MetricResult(**{**FULL, "better": "higher", "value": 20.0}).improves_on(low)
    nan = MetricResult(**{**FULL, "value": math.nan})
    assert not nan.improves_on(None) and not nan.improves_on(low)
