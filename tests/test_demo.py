"""The demo, small: its data, its order of events, and what it leaves behind."""

import json
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from foretrain.store import ObservationStore, StudyReader

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import demo
import stdlib_lm


def test_the_text_is_real_and_split_by_file():
    train, validation = stdlib_lm.read_sources()
    assert len(train) > 8_000_000
    assert 0.01 < len(validation) / len(train) < 0.15
    held_out = {line for line in validation.split(b"\n") if len(line) > 60}
    shared = held_out & set(train.split(b"\n"))
    assert len(shared) < 0.1 * len(held_out)


def test_too_little_text_is_said(tmp_path):
    (tmp_path / "a.py").write_text("pass")
    with pytest.raises(RuntimeError, match="use a Python installed with its standard library's sources"):
        stdlib_lm.read_sources(tmp_path)


def test_windows_do_not_overlap_and_batches_are_their_rows():
    windows = stdlib_lm.Windows(bytes(range(200)) * 10, limit=None)
    assert windows.windows.shape == (2000 // 65, 65)
    assert torch.equal(windows.windows.flatten()[:400] % 200, torch.arange(400) % 200)
    assert torch.equal(windows.__getitems__([3, 1]), torch.stack([windows[3], windows[1]]))
    assert len(stdlib_lm.Windows(bytes(65 * 100), limit=7)) == 7


def test_size_counts_the_head_and_leaves_the_embeddings_out():
    model = stdlib_lm.ByteLM(24)
    outside = sum(p.numel() for part in (model.byte, model.place, model.norm) for p in part.parameters())
    assert model.size() == sum(p.numel() for p in model.parameters()) - outside
    assert model.size() == 12 * 24**2 + 4 * 24 + 256 * 24
    assert float(model.loss(torch.zeros(2, 65, dtype=torch.uint8))) == pytest.approx(
        5.545, abs=0.01
    )  # ln 256


def test_the_largest_is_predicted_before_it_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "WIDTHS", (8, 16, 24, 32, 40))
    monkeypatch.setattr(demo, "BROKEN_WIDTH", 16)
    monkeypatch.setattr(demo, "VALIDATE_EVERY", 3)
    console = Console(quiet=True)
    runs, prediction = demo.run_demo(tmp_path, seed=0, steps=30, console=console)
    study = StudyReader(ObservationStore(tmp_path / "foretrain").study_dir).read()
    assert list(study.runs) == sorted(run.name for run in runs) and len(runs) == 6
    for run in runs:
        record = study.runs[run.name]
        assert record.state == "finished"
        assert len(record.observations) == 10
        assert record.observations[-1].counts.tokens == 30 * 32 * 64
        assert record.observations[-1].value == run.final
    assert prediction.written < study.runs["width-40"].info.started
    assert json.loads((tmp_path / "prediction.json").read_text())["median"] == prediction.median
    assert prediction.lower[-1] < prediction.median[-1] < prediction.upper[-1]
    shown = Console(record=True, width=160)
    with shown.capture() as told:
        demo.show(runs, prediction, shown)
    assert "outcome" in told.get() and all(run.name in told.get() for run in runs)
