import json

import pytest

from keras_diffusion.runtime.optional import import_optional


def test_returns_the_module():
    assert import_optional("json", extra="data", purpose="reading") is json


def test_missing_package_names_purpose_and_extra():
    with pytest.raises(
        ImportError, match=r"'no_such_package' is needed for drawing cats.*pip install \"keras-diffusion\[viz\]\""
    ):
        import_optional("no_such_package.sub", extra="viz", purpose="drawing cats")
