import json
import re

import keras
import numpy as np
import pytest
from PIL import Image

from keras_diffusion import DiffusionModel
from keras_diffusion.cli.config import ConfigError
from keras_diffusion.cli.demo import CONFIG, SAMPLING, _balanced, run_demo
from keras_diffusion.cli.run_folder import RunFolder
from keras_diffusion.metrics import MetricResult

pytestmark = pytest.mark.usefixtures("optimized")

jax_only = pytest.mark.skipif(keras.backend.backend() != "jax", reason="the demo trains on the JAX CPU")


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "run"
    return out, run_demo(out, quick=True)


@pytest.mark.slow
@jax_only
class TestQuickRun:
    def test_results_are_returned_and_saved(self, quick_run):
        out, results = quick_run
        assert results["quick"] is True
        assert json.loads((out / "results.json").read_text()) == results
        assert [c["name"] for c in results["columns"]] == ["guidance 1", "guidance 2", "held-out real digits"]
        assert [c["digits"] for c in results["columns"]] == [100, 100, 359]

    def test_the_judge_tells_noise_from_digits(self, quick_run):
        generated, _, real = quick_run[1]["columns"]
        assert real["accuracy"] >= 0.98
        assert generated["accuracy"] < 0.5  # a quick run learns nothing: a judge that praised it would be broken
        assert generated["distance_median"] > 1.5 * real["distance_median"] > 1.0
        assert real["share_nearer_than_95_percent_of_real"] == pytest.approx(0.05, abs=0.01)

    def test_distances_of_features_have_held_out_digits_as_their_floor(self, quick_run):
        generated, _, real = quick_run[1]["columns"]
        for name in ("fd", "mind"):
            found, floor = MetricResult.from_dict(generated[name]), real[name]["value"]
            assert found.floor.value == floor and found.value > 5.0 * floor > 0.0
            assert (found.extractor, found.n_real, found.weights) == ("classifier", 1438, "ema")
            assert found.n_generated == 100 and real[name]["floor"] is None

    def test_the_table_holds_the_numbers(self, quick_run):
        out, results = quick_run
        table = (out / "results.md").read_text()
        assert "| guidance 1 | guidance 2 | held-out real digits |" in table
        assert f"{results['columns'][2]['accuracy']:.1%}" in table
        assert re.search(r"\| FD \| [\d.,]+ ± [\d.]+ \| [\d.,]+ ± [\d.]+ \| [\d.]+ ± [\d.]+ \(floor\) \|", table)

    def test_pictures(self, quick_run):
        out, _ = quick_run
        sizes = {name: Image.open(out / name).size for name in ("digits-grid.png", "film-strip.png", "loss.png")}
        assert sizes["digits-grid.png"] == (10 * 52 + 4, 10 * 52 + 4)
        assert sizes["film-strip.png"] == (5 * 52 + 4, 4 * 52 + 4)  # as many columns as steps
        assert np.asarray(Image.open(out / "digits-grid.png")).std() > 10
        assert len(list((out / "samples").glob("epoch-*.png"))) == 2

    def test_the_folder_is_a_run_that_can_be_used_and_replaced(self, quick_run):
        out, _ = quick_run
        run = RunFolder(out)
        assert run.is_run and run.finished
        assert len(run.metrics.read_text().splitlines()) == run.epochs_done == run.config["train"]["epochs"] == 3
        assert DiffusionModel.from_preset(run.model).network.num_classes == 10
        run.check_free(overwrite=True)  # nothing in it that --overwrite would not delete

    def test_an_existing_run_is_not_touched(self, quick_run):
        before = (quick_run[0] / "results.json").stat().st_mtime_ns
        with pytest.raises(ConfigError, match="--overwrite"):
            run_demo(quick_run[0], quick=True)
        assert (quick_run[0] / "results.json").stat().st_mtime_ns == before


def test_digits_are_taken_in_equal_numbers_of_each_class():
    labels = np.repeat(np.arange(10), 100)
    some = _balanced(labels, 359)
    assert sorted(np.bincount(labels[some]).tolist()) == [35] + 9 * [36] and len(set(some)) == 359


def test_a_folder_with_other_things_is_never_deleted(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty"):
        run_demo(tmp_path)
    with pytest.raises(ConfigError, match="only deletes folders made by"):
        run_demo(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_the_demo_measures_a_thousand_digits_with_both_guidance_scales():
    assert 10 * SAMPLING["per_digit"] >= 1000 and SAMPLING["guidance_scales"] == [1.0, 2.0]
    assert "augment" not in CONFIG["data"] and not CONFIG["data"].get("horizontal_flip")  # a mirrored 2 is no 2
