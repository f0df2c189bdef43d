"""The examples of docs/sampling.md run, one after the other, as a reader pastes them."""

from pathlib import Path

import numpy as np
import pytest
from pages import blocks

pytestmark = pytest.mark.usefixtures("optimized")


@pytest.mark.slow
def test_the_examples_run(capsys):
    pytest.importorskip("sklearn")
    page = (Path(__file__).parent.parent / "docs" / "sampling.md").read_text(encoding="utf-8")
    names = {"__name__": "__main__"}
    exec(compile("\n".join(code for code, _ in blocks(page, "python")), "sampling.md", "exec"), names)
    assert names["latents"].shape == (4, 8, 8, 1) and names["again"].shape == (4, 8, 8, 1)
    assert len(capsys.readouterr().out.splitlines()) >= 50
    whole = names["sampler"].sample(names["x"], names["denoise"], names["levels"], schedule=names["schedule"])
    np.testing.assert_allclose(names["samples"], whole, atol=1e-5)
