"""The example of docs/conditions.md runs, and its table names networks that are as it says."""

import re
from pathlib import Path

import pytest

from keras_diffusion.networks.network import NETWORKS

PAGE = (Path(__file__).parent.parent / "docs" / "conditions.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_runs():
    pytest.importorskip("sklearn")
    names = {}
    exec(compile(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1), "docs/conditions.md", "exec"), names)
    assert names["completed"].shape == (16, 8, 8, 1)


def test_networks_without_known_channels_are_named():
    without = {cls.__name__ for cls in NETWORKS.classes() if "concat_channels" not in NETWORKS.parameters(cls)}
    sentence = re.search(r"can take `\"concat\"`, except (.*?)\.", PAGE, re.DOTALL).group(1)
    assert set(re.findall(r"`(\w+)`", sentence)) == without
