"""On a GPU: no hook of ours on the training path waits for it; training is the same to the last bit."""

import copy
import importlib
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.lightning import ScalingLawMonitor
from lightning_models import FLAVOURS, Texts, loader, make_module, make_trainer, make_witness, only_run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")

PATH = ["on_train_batch_end", "on_before_optimizer_step"]
"""Our hooks on the training path; a validation may read its metric."""


def trained(pl, root, monitors, data):
    """What a training on the GPU leaves, and what random numbers come next there."""
    pl.seed_everything(5)
    module = make_module(pl)
    options = {"accelerator": "gpu", "devices": 1, "max_epochs": 3, "val_check_interval": 2}
    trainer = make_trainer(pl, root, monitors, **options)
    trainer.fit(module, loader(data, shuffle=True), loader(data))
    states = [copy.deepcopy(module.state_dict()), copy.deepcopy(trainer.optimizers[0].state_dict())]
    return states, torch.cuda.get_rng_state(), torch.get_rng_state(), torch.rand(3, device="cuda")


def flat(value):
    """The tensors and numbers of a nested state, in order."""
    if isinstance(value, dict):
        return [leaf for name in value for leaf in flat(value[name])]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in flat(item)]
    return [value.cpu()] if isinstance(value, torch.Tensor) else [value]


@pytest.mark.parametrize("kind", ["tensors", "texts"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_no_hook_on_the_training_path_waits_for_the_device(tmp_path, monkeypatch, flavour, kind):
    pl = importlib.import_module(flavour)
    data = Texts() if kind == "texts" else None
    without = flat(trained(pl, tmp_path / "without", [], data))
    calls = dict.fromkeys(PATH, 0)

    def strict(hook, name):
        def watch(self, *args, **kwargs):
            calls[name] += 1
            torch.cuda.set_sync_debug_mode("error")
            try:
                return hook(self, *args, **kwargs)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return watch

    said = []
    for name in PATH:
        monkeypatch.setattr(ScalingLawMonitor, name, strict(getattr(ScalingLawMonitor, name), name))
    monkeypatch.setattr(ScalingLawMonitor, "warn_once", lambda self, key, message: said.append(message))
    after = flat(trained(pl, tmp_path / "with", [ScalingLawMonitor(fit=False)], data))
    # The guard turns an error of the mode into a warning: none came.
    assert said == []
    assert calls == dict.fromkeys(PATH, 15)
    assert len(only_run(tmp_path / "with").observations) == 6
    assert len(after) == len(without)
    for a, b in zip(after, without, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_the_mode_finds_a_hook_that_waits():
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            torch.ones(1, device="cuda").item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


WAYS = {
    "half precision": {"precision": "16-mixed"},
    "bfloat16": {"precision": "bf16-mixed"},
    "DDP": {"strategy": "ddp"},
    "FSDP": {"strategy": "fsdp"},
    "FSDP, half precision": {"strategy": "fsdp", "precision": "16-mixed"},
    "accumulated": {"accumulate_grad_batches": 2, "precision": "16-mixed"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_is_counted_is_what_a_witness_counts(tmp_path, flavour, way):
    """Under strategies and precisions that need a GPU, with a checkpoint and a second fit that goes on."""
    pl = importlib.import_module(flavour)
    witness = make_witness(pl)
    keep = pl.callbacks.ModelCheckpoint(tmp_path / "kept", save_last=True, save_on_train_epoch_end=True)
    options = {"accelerator": "gpu", "devices": 1, "enable_checkpointing": True, "val_check_interval": 2}

    def fit(epochs, checkpoint=None):
        monitors = [ScalingLawMonitor(fit=False), witness, keep]
        trainer = make_trainer(pl, tmp_path, monitors, max_epochs=epochs, **options, **WAYS[way])
        module = make_module(pl)
        # Momentum, since Lightning cannot load an optimizer without state under FSDP.
        module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), 0.01, momentum=0.5)
        trainer.fit(module, loader(), loader(), ckpt_path=checkpoint)

    fit(2)
    first = only_run(tmp_path)
    fit(3, keep.last_model_path)
    run = only_run(tmp_path)
    assert len(first.observations) == 4
    assert [(o.counts.samples, o.counts.steps) for o in run.observations] == witness.validated
    assert run.observations[: len(first.observations)] == first.observations
    assert {o.counts.params for o in run.observations} == {
        sum(p.numel() for p in make_module(pl).parameters())
    }
