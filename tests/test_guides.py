"""The how-to pages begin with a few lines that run, and what the page on compiled programs says is so."""

import importlib.util
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from pages import blocks

import keras_diffusion as kd

DOCS = Path(__file__).parent.parent / "docs"
INDEX = (DOCS / "README.md").read_text(encoding="utf-8")
PROGRAMS = (DOCS / "explanation" / "compiled-programs.md").read_text(encoding="utf-8")
MLP = {"width": 8, "depth": 1, "num_classes": 3}


@pytest.mark.parametrize("page", ["your-own-pictures", "compare", "legacy", "your-own-sampler"])
def test_what_newcomers_try_is_ten_lines_at_the_top_of_its_page(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    top = re.sub(r"<details>.*?</details>", "", text.split("\n## ")[0], flags=re.DOTALL)
    code, reason = blocks(top, "python")[0]
    assert reason is None and len([line for line in code.splitlines() if line.strip()]) <= 10
    assert f"]({page}.md)" in INDEX


def test_the_index_answers_questions_with_pages_that_are_short():
    pages = re.findall(r"^\| .* \| \[[\w.-]+\]\(([\w.-]+)\) \|$", INDEX, re.MULTILINE)
    assert len(pages) >= 12
    for page in pages:
        text = (DOCS / page).read_text(encoding="utf-8")
        assert page == "legacy.md" or len(text.splitlines()) <= 350, page
        assert re.search(r"^```", "\n".join(text.splitlines()[:60]), re.MULTILINE), page


@pytest.mark.parametrize("page", sorted((DOCS / "explanation").glob("*.md")), ids=lambda path: path.stem)
def test_each_idea_has_a_formula_or_a_table_code_and_a_picture(page):
    text = page.read_text(encoding="utf-8")
    assert "$$" in text or "\n|---" in text
    assert blocks(text, "python") and f"](../images/explanation-{page.stem}.png)" in text
    assert len(text.splitlines()) <= 110 and f"explanation/{page.name}" in INDEX


def test_the_pictures_are_made_by_the_command_that_the_pages_name(tmp_path):
    pytest.importorskip("matplotlib")
    path = DOCS.parent / "benchmarks" / "explanation.py"
    spec = importlib.util.spec_from_file_location("explanation", path)
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    assert {page.stem for page in (DOCS / "explanation").glob("*.md")} == set(pictures.PICTURES)
    pictures.main(["--out", str(tmp_path), "--only", "parameterizations"])
    assert (tmp_path / "explanation-parameterizations.png").stat().st_size > 5_000


@pytest.fixture
def compiled():
    """How many programs a call made JAX compile."""
    import jax

    from keras_diffusion.runtime.compile import compiler_options

    names = []

    def listen(event, duration, fun_name=None, **_):
        if event == "/jax/core/compile/backend_compile_duration" and fun_name == "jit(counted)":
            names.append(fun_name)

    def count(call, *arguments, **options):
        del names[:]
        call(*arguments, **options)
        return len(names)

    compiler_options()
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)


CHANGES = {
    "seed, other labels": [{"seed": 1}, {"conditions": {"labels": 2}}, {"latents": np.zeros((4, 2))}],
    "`num_steps`": [{"num_steps": 9}, {"spacing": "karras"}, {"init": np.zeros((4, 2)), "strength": 0.5}],
    "`guidance_scale` from one value to another": [{"guidance_scale": 5.0}],
    "another sampler": [{"sampler": "ddim"}],
    "guidance on or off": [{"guidance_scale": 1.0}],
    "number of samples": [{"num_samples": 5}],
}


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="counts the programs that JAX compiles")
def test_the_page_says_what_compiles(compiled):
    model = kd.DiffusionModel(kd.networks.MLP((2,), **MLP), seed=0)
    first = {"num_samples": 4, "conditions": {"labels": 1}, "num_steps": 5, "guidance_scale": 2.0, "seed": 0}
    assert compiled(model.generate, **first) == 1
    for begins, changes in CHANGES.items():
        row = next(line for line in PROGRAMS.splitlines() if line.startswith(f"| {begins}"))
        for change in changes:
            assert compiled(model.generate, **{**first, **change}) == (" | yes |" in row), (begins, change)
