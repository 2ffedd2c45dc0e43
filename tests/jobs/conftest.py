import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fake_verbs():
    spec = importlib.util.spec_from_file_location("fake_verbs", Path(__file__).with_name("fake_verbs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
