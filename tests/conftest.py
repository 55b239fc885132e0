"""What all tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def published_curves() -> Path:
    """The folder of published learning curves, named by the environment; tests that need it skip without."""
    folder = Path(os.environ.get("FORETRAIN_DATA", "shared/data"))
    if not (folder / "epoch_chinchilla").is_dir():
        pytest.skip(f"no published curves in {folder}: set FORETRAIN_DATA to the folder that holds them")
    return folder
