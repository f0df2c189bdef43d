"""The table of docs/conditions.md names networks that are as it says. `make test-pages` runs its example."""

import re
from pathlib import Path

from keras_diffusion.networks.network import NETWORKS

PAGE = (Path(__file__).parent.parent / "docs" / "conditions.md").read_text(encoding="utf-8")


def test_networks_without_known_channels_are_named():
    without = {cls.__name__ for cls in NETWORKS.classes() if "concat_channels" not in NETWORKS.parameters(cls)}
    sentence = re.search(r"can take `\"concat\"`, except (.*?)\.", PAGE, re.DOTALL).group(1)
    assert set(re.findall(r"`(\w+)`", sentence)) == without
