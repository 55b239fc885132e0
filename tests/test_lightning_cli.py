"""LightningCLI: a YAML file sets every argument, and its help explains each of them."""

import contextlib
import importlib
import inspect
import io
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.lightning import ScalingLawMonitor
from foretrain.lightning.batches import all_tokens, first_size
from foretrain.lightning.host import inform
from lightning_models import FLAVOURS, read_study

pytest.importorskip("jsonargparse")

ARGUMENTS = tuple(inspect.signature(ScalingLawMonitor).parameters)

INIT_ARGS = {
    "monitor": "val_acc",
    "mode": "max",
    "bound": 100.0,
    "axis": "samples",
    "targets": [1.0e6, 1.0e9],
    "target_params": [7.0e9],
    "study": "widths",
    "run": "mine",
    "root": "kept",
    "batch_size_fn": "foretrain.lightning.batches.first_size",
    "length_fn": "foretrain.lightning.batches.all_tokens",
    "model_size": 100,
    "flops_per_sample": 7.0,
    "fit": False,
    "final_wait": 0.5,
    "data_policy": "hardest half",
    "name": "accuracy",
}
FLAG_ARGS = {
    "fit": True,
    "on_flag": "foretrain.lightning.host.inform",
    "action": "stop",
    "stop_at": "warning",
}
"""Every argument, each with another value than its default; those on flags need the fit."""

SCRIPT = """
import sys; sys.path.insert(0, {tests!r})
import torch
import {flavour} as pl
from {flavour}.cli import LightningCLI
from lightning_models import loader

class Model(pl.LightningModule):
    def __init__(self, width: int = 4):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return self.net(batch["input_ids"]).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", 75.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

    def train_dataloader(self):
        return loader(collate_fn=lambda items: {{"input_ids": torch.stack([x for x, _ in items])}})

    val_dataloader = train_dataloader

if __name__ == "__main__":
    LightningCLI(Model)
"""


def config(root, **changes):
    """The configuration as a user writes it."""
    monitor = {
        "class_path": "foretrain.lightning.ScalingLawMonitor",
        "init_args": {**INIT_ARGS, "root": str(root / "kept"), **changes},
    }
    trainer = {"default_root_dir": str(root), "max_epochs": 2, "accelerator": "cpu", "devices": 1}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    return {"trainer": {**trainer, **quiet, "callbacks": [monitor]}}


def write(root, name="ours.yaml", **changes):
    path = root / name
    path.write_text(yaml.safe_dump(config(root, **changes)))
    return path


def command_line(flavour, *args, run=True):
    """What LightningCLI makes of arguments in this process, and what it prints."""
    cli = importlib.import_module(f"{flavour}.cli").LightningCLI
    model = importlib.import_module(f"{flavour}.demos.boring_classes").BoringModel
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
        warnings.simplefilter("ignore")  # Lightning's, on arguments given from within Python
        try:
            return cli(model, args=list(args), run=run), printed.getvalue()
        except SystemExit as end:
            assert end.code in (0, None), printed.getvalue()
            return None, printed.getvalue()


def test_every_argument_is_set_here():
    assert {*INIT_ARGS, *FLAG_ARGS} == set(ARGUMENTS)
    defaults = {name: p.default for name, p in inspect.signature(ScalingLawMonitor).parameters.items()}
    assert [name for name, value in (FLAG_ARGS | INIT_ARGS).items() if value == defaults[name]] == []


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_file_sets_every_argument(flavour, tmp_path):
    built, _ = command_line(flavour, "--config", str(write(tmp_path)), run=False)
    (monitor,) = (c for c in built.trainer.callbacks if isinstance(c, ScalingLawMonitor))
    functions = {"batch_size_fn": first_size, "length_fn": all_tokens}
    root = {"root": str(tmp_path / "kept")}
    expected = {**INIT_ARGS, **functions, **root, "targets": (1e6, 1e9), "target_params": (7e9,)}
    assert {name: getattr(monitor.settings, name) for name in INIT_ARGS} == expected
    built, _ = command_line(flavour, "--config", str(write(tmp_path, **FLAG_ARGS)), run=False)
    (monitor,) = (c for c in built.trainer.callbacks if isinstance(c, ScalingLawMonitor))
    assert {name: getattr(monitor.settings, name) for name in FLAG_ARGS} == FLAG_ARGS | {"on_flag": inform}


def test_fit_from_a_file(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent), flavour=FLAVOURS[0]))
    command = [sys.executable, str(script), "fit", "--config", str(write(tmp_path))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    run = read_study(tmp_path / "kept", "widths").runs["mine"]
    assert [(o.metric, o.value, o.logged) for o in run.observations] == [("100 - val_acc", 25.0, 75.0)] * 2
    assert [o.counts.samples for o in run.observations] == [20, 40]
    assert [o.counts.tokens for o in run.observations] == [80, 160]
    assert [o.counts.params for o in run.observations] == [100, 100]
    assert [o.counts.flops for o in run.observations] == [140.0, 280.0]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_printed_configuration_can_be_used_again(flavour, tmp_path):
    _, first = command_line(flavour, "fit", "--config", str(write(tmp_path)), "--print_config")
    printed = yaml.safe_load(first)
    (monitor,) = printed["trainer"]["callbacks"]
    given = config(tmp_path)["trainer"]["callbacks"][0]["init_args"]
    assert monitor["init_args"] == given | {"on_flag": None, "action": "warn", "stop_at": "critical"}
    again = tmp_path / "again.yaml"
    again.write_text(first)
    _, second = command_line(flavour, "fit", "--config", str(again), "--print_config")
    assert yaml.safe_load(second) == printed


def test_wrong_types_are_refused_where_they_are_written(tmp_path, capsys):
    for name, value in [("mode", "upwards"), ("targets", "many"), ("final_wait", "long")]:
        path = write(tmp_path, **{name: value})
        cli = importlib.import_module(f"{FLAVOURS[0]}.cli").LightningCLI
        model = importlib.import_module(f"{FLAVOURS[0]}.demos.boring_classes").BoringModel
        with warnings.catch_warnings(), pytest.raises(SystemExit):
            warnings.simplefilter("ignore")
            cli(model, args=["--config", str(path)], run=False)
        told = capsys.readouterr().err
        assert "trainer.callbacks" in told
        assert value in told


def test_the_help_explains_every_argument():
    name = "foretrain.lightning.ScalingLawMonitor"
    _, told = command_line(FLAVOURS[1], "fit", f"--trainer.callbacks.help={name}")
    told = " ".join(told.split())
    documented = documented_arguments()
    for argument in ARGUMENTS:
        words = " ".join(documented[argument].split()[:4])
        assert re.search(rf"\.{argument} [^-]", told), argument
        assert words in told, f"{argument}: {words}"


def documented_arguments():
    """The text of each argument in the docstring."""
    text = inspect.getdoc(ScalingLawMonitor)
    section = text.partition("Args:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^    (?=\w+: )", section, flags=re.MULTILINE)[1:]
    return {name: " ".join(rest.split()) for name, _, rest in (e.partition(": ") for e in entries)}


def test_every_argument_is_typed_and_documented():
    signature = inspect.signature(ScalingLawMonitor)
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    documented = documented_arguments()
    assert tuple(documented) == ARGUMENTS
    assert all(len(text) > 15 for text in documented.values())


def test_the_table_in_the_documentation_has_the_arguments_of_the_monitor():
    text = (Path(__file__).parents[1] / "docs" / "monitor.md").read_text()
    section = text.partition("\n## Arguments\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", section, flags=re.MULTILINE)
    assert tuple(name for name, _, _ in rows) == ARGUMENTS
    for name, default, _ in rows:
        value = inspect.signature(ScalingLawMonitor).parameters[name].default
        if value not in (None, ()):  # of those the table says what they come to
            assert default.strip('`"') == (f"{value:g}" if type(value) is float else str(value)), name
