"""docs/metrics.md says of every metric what its class says, and names tests that are there."""

import inspect
import re
from pathlib import Path

from keras_diffusion import metrics

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def table(heading):
    text = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    return {name: cells for cells in rows for name in re.findall(r"`(\w+)`", cells[0])}


def test_every_metric_has_its_row():
    rows = table("Which one")
    assert sorted(rows) == metrics.names()
    for name, (_, _, better, fewest, _) in rows.items():
        metric = metrics.get(name)
        least = str(metric.minimum(16))
        known = {"width + 1": "17", "2·(width + 1)": "34"}
        assert better == metric.better, name
        assert least in known.get(fewest, fewest.replace(",", "")), (name, least)


def test_every_metric_has_its_source_and_the_tests_exist():
    sources = table("Who agrees")
    assert sorted(sources) == metrics.names()
    for name, (_, source, _, _) in sources.items():
        cited = re.search(r"arXiv:\d{4}\.\d{5}", source)[0]
        module = inspect.getsource(inspect.getmodule(type(metrics.get(name))))
        assert cited in module, f"{name}: {cited} is not what its class cites"
    for test in set(re.findall(r"`(?:tests/metrics/)?(test_\w+\.py)`", PAGE)):
        assert (ROOT / "tests" / "metrics" / test).exists(), test
