"""Trains in two processes, and lets each write down what it saw; started by test_lightning_distributed.py.

Every scenario trains twice, with the monitor and without. Each process leaves one file for each training:
what it trained on by each validation, and how often it called the functions of `torch.distributed`.
"""

import functools
import importlib
import json
import os
import signal
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from foretrain.lightning import ScalingLawMonitor
from foretrain.lightning.host import guarded

COLLECTIVES = (
    *("all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "all_to_all", "barrier"),
    *("broadcast", "broadcast_object_list", "gather", "gather_object", "irecv", "isend", "monitored_barrier"),
    *("recv", "reduce", "reduce_scatter", "reduce_scatter_tensor", "scatter", "scatter_object_list", "send"),
)
HIDDEN = 32
PARAMETERS = 4 * HIDDEN + HIDDEN + HIDDEN + 1


class Numbered(Dataset):
    """Samples that know their number; the i-th is a text with 1 + 3 i % 8 real tokens of 8."""

    def __init__(self, length, texts=False):
        self.length, self.texts = length, texts

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        sample = {"index": torch.tensor(index), "x": torch.full((4,), float(index) / self.length)}
        if self.texts:
            sample["input_ids"] = torch.full((8,), index)
            sample["attention_mask"] = (torch.arange(8) < 1 + 3 * index % 8).long()
        return sample


class Stream(IterableDataset):
    """The same samples for every process: nobody shards it."""

    def __iter__(self):
        return (Numbered(10)[index] for index in range(10))


def train_loader(scenario):
    if scenario.get("stream"):
        return DataLoader(Stream(), 4)
    return DataLoader(Numbered(scenario.get("samples", 20), scenario.get("texts", False)), 4)


def count_collectives():
    """Wraps the functions that communicate; gives the counts, which go on."""
    counts = dict.fromkeys(COLLECTIVES, 0)
    from torch.distributed import distributed_c10d

    def wrap(name, function):
        @functools.wraps(function)
        def counted(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        return counted

    for name in COLLECTIVES:
        wrapped = wrap(name, getattr(distributed_c10d, name))
        for module in (distributed_c10d, torch.distributed):
            setattr(module, name, wrapped)
    return counts


def make_module(pl, scenario):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.validations = 0
            self.net = None
            if not scenario.get("mesh"):
                self.net = build()

        def configure_model(self):
            if self.net is None:
                self.net = shard(build(), self.device_mesh)

        def training_step(self, batch, batch_idx):
            fail_as_told(self, scenario)
            loss = ((self.net(batch["x"]) - batch["x"].sum(1, keepdim=True)) ** 2).mean()
            self.log("train_loss", loss, on_epoch=True, sync_dist=scenario.get("sync_dist", False))
            return loss

        def validation_step(self, batch, batch_idx):
            # Another value on each process.
            value = 1.0 + self.global_rank + 0.25 * self.validations
            self.log(
                "val_loss", value, sync_dist=scenario.get("sync_dist", False), batch_size=len(batch["x"])
            )

        def on_validation_epoch_end(self):
            self.validations += not self.trainer.sanity_checking

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01, foreach=False)

    # Spawned processes find the class by its name.
    Module.__qualname__ = Module.__name__ = "Module"
    Module.__module__ = __name__
    globals()["Module"] = Module
    return Module()


def build():
    return torch.nn.Sequential(torch.nn.Linear(4, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1))


def shard(net, mesh):
    """Cuts the parameters over the data-parallel processes, or over the tensor-parallel ones."""
    if mesh["data_parallel"].size() > 1:
        from torch.distributed._composable.fsdp import fully_shard

        for layer in (net[0], net[2], net):
            fully_shard(layer, mesh=mesh["data_parallel"])
        return net
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    return parallelize_module(net, mesh["tensor_parallel"], {"0": ColwiseParallel(), "2": RowwiseParallel()})


class Fault(Exception):
    """What a test makes the user's code raise."""


def fail_as_told(module, scenario):
    fault = scenario.get("fault")
    if fault is None or fault["rank"] != module.global_rank or module.global_step < fault["step"]:
        return
    leave_mark(fault["root"], fault["rank"])
    if fault["kind"] == "raise":
        raise Fault(f"on rank {module.global_rank}")
    if fault["kind"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def make_truth(pl, path, counts):
    class Truth(pl.Callback):
        """What this process trained on, by the end of each validation."""

        def __init__(self):
            self.indices, self.tokens, self.validated = [], 0, []

        def on_train_start(self, trainer, module):
            self.before = dict(counts)

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.indices += batch["index"].tolist()
            if "attention_mask" in batch:
                self.tokens += int(batch["attention_mask"].sum())

        def on_validation_end(self, trainer, module):
            if trainer.sanity_checking:
                return
            value = float(trainer.callback_metrics["val_loss"])
            self.validated.append({**self.seen(trainer), "value": value, "indices": list(self.indices)})
            # In one call: the processes share the pipe, and lines in pieces would mix.
            os.write(1, f"validated {trainer.global_rank} {trainer.global_step}\n".encode())

        def seen(self, trainer):
            return {"samples": len(self.indices), "tokens": self.tokens, "steps": trainer.global_step}

        def on_train_end(self, trainer, module):
            calls = {name: counts[name] - self.before[name] for name in counts}
            told = {"validated": self.validated, "end": self.seen(trainer), "calls": calls}
            Path(f"{path}_rank{trainer.global_rank}.json").write_text(json.dumps(told))

    Truth.__qualname__, Truth.__module__ = "Truth", __name__
    globals()["Truth"] = Truth
    return Truth()


class BrokenMonitor(ScalingLawMonitor):
    """Fails on one rank alone, in each of its main hooks."""

    broken_rank = None
    root = None


def break_hook(name):
    """Makes a hook fail on the rank told, inside the guard that every hook has."""
    whole = getattr(ScalingLawMonitor, name)

    def hook(self, trainer, *args, **kwargs):
        if trainer.global_rank == self.broken_rank:
            leave_mark(self.root, trainer.global_rank)
            raise Fault(f"on rank {trainer.global_rank}")
        return whole(self, trainer, *args, **kwargs)

    hook.__name__ = name
    setattr(BrokenMonitor, name, guarded(hook))


BROKEN_HOOKS = ("setup", "on_train_start", "on_train_batch_end", "on_validation_end", "on_train_end")
for each in BROKEN_HOOKS:
    break_hook(each)


def leave_mark(root, rank):
    """Says that a fault was injected, and by the file's time when."""
    Path(root, f"failed_on_rank{rank}").touch()


def train(pl, root, scenario, counts, *, monitored, devices=2):
    callbacks = [make_truth(pl, root / f"{scenario['name']}_{monitored}", counts)]
    if monitored:
        kind = BrokenMonitor if "broken_rank" in scenario else ScalingLawMonitor
        monitor = kind(fit=False, run=scenario["name"])
        monitor.broken_rank, monitor.root = scenario.get("broken_rank"), root
        callbacks.append(monitor)
    if scenario.get("save"):
        save = pl.callbacks.ModelCheckpoint(
            root / f"{scenario['name']}_{monitored}", save_last=True, every_n_train_steps=1, save_top_k=0
        )
        callbacks.append(save)
    strategy = scenario["strategy"]
    if scenario.get("mesh"):
        strategies = importlib.import_module(f"{pl.__name__}.strategies")
        data, tensor = scenario["mesh"]
        strategy = strategies.ModelParallelStrategy(
            data_parallel_size=data, tensor_parallel_size=tensor, process_group_backend="gloo"
        )
    trainer = pl.Trainer(
        default_root_dir=str(root),
        callbacks=callbacks,
        strategy=strategy,
        devices=devices,
        accelerator="cpu",
        max_epochs=scenario.get("epochs", 2),
        val_check_interval=scenario.get("interval"),
        use_distributed_sampler=scenario.get("sampler", True),
        enable_checkpointing=bool(scenario.get("save")),
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        num_sanity_val_steps=1,
    )
    trainer.fit(
        make_module(pl, scenario),
        train_loader(scenario),
        DataLoader(Numbered(8), 4),
        ckpt_path=scenario.get("ckpt_path"),
    )
    return trainer


def main(flavour, root, scenarios):
    warnings.filterwarnings("ignore", message=".*num_workers.*")
    pl = importlib.import_module(flavour)
    counts = count_collectives()
    for scenario in json.loads(scenarios):
        for monitored in scenario.get("monitored", [True, False]):
            train(pl, Path(root), scenario, counts, monitored=monitored)


if __name__ == "__main__":
    main(*sys.argv[1:])
