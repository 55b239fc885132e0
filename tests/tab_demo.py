"""The synthetic runs of `docs/screenshots.py`, for the modules of tests that show them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def load_demo() -> ModuleType:
    path = Path(__file__).parent.parent / "docs" / "screenshots.py"
    spec = importlib.util.spec_from_file_location("screenshots", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = load_demo()
