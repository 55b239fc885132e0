"""What is counted in a batch, asked for at construction, and said to loggers: without a Trainer."""

import math
import types
from collections import UserDict
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from foretrain.lightning import ScalingLawMonitor
from foretrain.lightning.counting import BatchCounter, count_parameters, first_size, token_rule
from foretrain.lightning.facts import find_place
from foretrain.lightning.host import callback_bases, version_fault
from foretrain.lightning.logging import OFF_CURVE, STALE, say, scalar_names, scalars, short
from foretrain.report import JointReport, NamedProjection, Report

X = torch.zeros(8, 3)


@dataclass
class Pair:
    name: str
    x: torch.Tensor


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (X, 8),
        ((X, torch.zeros(8)), 8),
        ([["a"] * 8, X], 8),
        ({"a": X, "b": torch.zeros(4)}, 8),
        (UserDict(a=X), 8),
        ({"deep": [{"deeper": (X,)}]}, 8),
        (Pair("a", X), 8),
        ({"scale": torch.tensor(0.1), "x": X}, 8),
        (torch.nn.utils.rnn.pack_sequence([torch.zeros(3)] * 8), 8),
        (X.to_sparse(), 8),
        (torch.tensor(1.0), None),
        ([], None),
        ("text", None),
        (None, None),
        (7, None),
        (np.zeros((8, 3)), None),
        (Pair, None),
        (types.SimpleNamespace(x=X), None),
    ],
)
def test_samples_of_a_batch(batch, size):
    assert first_size(batch) == size


def test_a_generator_is_left_alone():
    generator = (x for x in [X, X])
    assert first_size(generator) is None
    assert first_size([generator, X]) == 8
    assert len(list(generator)) == 2


MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])
IDS = torch.ones(2, 3, dtype=torch.long)


@pytest.mark.parametrize(
    ("batch", "rule", "tokens"),
    [
        ({"input_ids": IDS}, "input_ids", 6),
        ({"input_ids": IDS, "attention_mask": MASK}, "attention_mask", 3),
        ({"input_ids": IDS, "attention_mask": MASK.bool()}, "attention_mask", 3),
        ({"input_ids": IDS, "attention_mask": MASK.float()}, "attention_mask", 3),
        (UserDict(input_ids=IDS), "input_ids", 6),
        ({"input_ids": IDS, "attention_mask": torch.ones(2, 1, 3, 3)}, "input_ids", 6),
    ],
)
def test_tokens_of_a_batch(batch, rule, tokens):
    name, function = token_rule(batch)
    assert name == rule
    assert int(function(batch)) == tokens


@pytest.mark.parametrize("batch", [IDS, (IDS, MASK), {"x": IDS}, {"input_ids": [1, 2]}, None])
def test_other_batches_have_no_tokens(batch):
    assert token_rule(batch) is None


def test_counts_that_are_tensors_are_read_only_when_asked(monkeypatch):
    counter = BatchCounter()
    batch = {"input_ids": IDS, "attention_mask": MASK}
    counter.add(batch)

    def wait(self):
        raise AssertionError("waited for the device on the training path")

    with monkeypatch.context() as patch:
        for name in ("item", "__int__", "__bool__", "__float__", "tolist"):
            patch.setattr(torch.Tensor, name, wait)
        for _ in range(9):
            counter.add(batch)
    assert counter.faults == {}
    assert counter.read() == counter.read() == (20, 30)
    assert MASK.sum() == 3


def test_functions_of_the_user_count():
    counter = BatchCounter(lambda batch: np.int64(5), lambda batch: torch.tensor(7))
    counter.start(processes=2)
    for _ in range(3):
        counter.add(object())
    assert counter.read() == (30, 42)
    assert counter.first == 5
    assert (
        "5 samples (batch_size_fn) and tokens (length_fn) in the first batch, times 2" in counter.describe()
    )


def test_counts_go_on_with_another_number_of_processes():
    counter = BatchCounter(None, lambda batch: 10)
    counter.start(processes=4, samples=1000, tokens=5000)
    assert counter.read() == (1000, 5000)
    counter.add(X)
    assert counter.read() == (1032, 5040)


def test_tokens_that_an_earlier_process_did_not_count_stay_unknown():
    counter = BatchCounter(None, lambda batch: 10)
    counter.start(samples=1000, tokens=None)
    counter.add(X)
    assert counter.read() == (1008, None)


def test_a_batch_that_cannot_be_counted_is_taken_to_be_like_the_last():
    counter = BatchCounter()
    for batch in (X, "?", X[:2], None):
        counter.add(batch)
    assert counter.read() == (18, None)
    assert "pass `batch_size_fn`" in counter.faults["samples"]


@pytest.mark.parametrize("bad", [-1, 1.5, math.nan, "many", None])
def test_a_function_that_counts_nonsense_is_a_fault(bad):
    counter = BatchCounter(lambda batch: bad, lambda batch: bad)
    counter.add(X)
    assert counter.read() == (0, None)
    assert set(counter.faults) == {"samples", "tokens"}


def test_functions_that_raise_are_a_fault():
    counter = BatchCounter(lambda batch: 1 // 0, lambda batch: batch.no)
    counter.add(X)
    assert "ZeroDivisionError" in counter.faults["samples"]
    assert "returns the tokens of the whole batch" in counter.faults["tokens"]


def test_parameters():
    module = torch.nn.Module()
    module.a = torch.nn.Linear(3, 3)
    module.b = torch.nn.Linear(3, 3)
    assert count_parameters(module) == (24, 24)
    module.b.weight = module.a.weight
    assert count_parameters(module) == (15, 15)
    module.a.bias.requires_grad_(False)
    assert count_parameters(module) == (12, 15)
    module.c = torch.nn.LazyLinear(2)
    assert count_parameters(module) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": ""}, "Expected `monitor` to be a text"),
        ({"monitor": None}, "Expected `monitor` to be a text"),
        ({"axis": "params"}, "Expected `axis` to be one of samples, tokens"),
        ({"axis": "examples"}, "got 'examples'"),
        ({"targets": 1e9}, "put it in brackets"),
        ({"targets": "1e9"}, "put it in brackets"),
        ({"targets": [1e9, -1]}, "Expected `targets` to be positive and finite, got -1"),
        ({"target_params": [math.inf]}, "Expected `target_params` to be positive and finite"),
        ({"study": " "}, "Expected `study` to be a text"),
        ({"run": ""}, "Expected `run`"),
        ({"root": ""}, "Expected `root`"),
        ({"batch_size_fn": 8}, "Expected `batch_size_fn` to be a function"),
        ({"length_fn": 8}, "Expected `length_fn` to be a function"),
        ({"model_size": 0}, "Expected `model_size` to be positive"),
        ({"flops_per_sample": math.nan}, "Expected `flops_per_sample` to be positive"),
        ({"final_wait": -1}, "Expected `final_wait` to be a number of seconds"),
        ({"final_wait": math.inf}, "pass 0 not to wait"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        ScalingLawMonitor(**arguments)


def test_monitors_are_apart_in_a_checkpoint():
    monitors = [ScalingLawMonitor(), ScalingLawMonitor("val_acc"), ScalingLawMonitor(axis="steps")]
    assert len({monitor.state_key for monitor in monitors}) == 3


def test_the_callback_is_at_home_in_both():
    assert issubclass(ScalingLawMonitor, callback_bases())


def test_without_any_lightning_both_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"foretrain\[lightning\]` or `foretrain\[pytorch-lightning"
    ):
        callback_bases()


@pytest.mark.parametrize(
    ("version", "words"),
    [("2.1.4", "2.2 or later, got 2.1.4"), ("2.6.2", "withdrawn"), ("2.6.3", "withdrawn"), ("2.6.6", None),
     ("2.2.0", None), ("2.7.0.dev0", None), ("3.0", None)],
)  # fmt: skip
def test_versions(monkeypatch, version, words):
    monkeypatch.setattr("importlib.metadata.version", lambda package: version)
    trainer = type("Trainer", (), {"__module__": "pytorch_lightning.trainer.trainer"})()
    fault = version_fault(type("Mine", (type(trainer),), {"__module__": "mine"})())
    assert fault is None if words is None else words in fault


def logger(**parts):
    return types.SimpleNamespace(**{"name": "n", "version": "v", "log_dir": None, **parts})


@pytest.mark.parametrize(
    ("loggers", "root", "run"),
    [
        ([logger(save_dir="/l", log_dir="/l/logs/version_0")], "/l/foretrain", "logs/version_0"),
        ([logger(save_dir="/l", log_dir="/l/a/b/sub")], "/l/foretrain", "a/b/sub"),
        ([logger(save_dir="/l/x", log_dir="/l/x")], "/l/x/foretrain", "x"),
        ([logger(save_dir="/l", log_dir="/other/run1")], "/l/foretrain", "run1"),
        ([logger(save_dir=".", log_dir="./a/version_3")], "foretrain", "a/version_3"),
        ([logger(save_dir="/l", name="project", version="id7")], "/l/foretrain", "project/id7"),
        ([logger(save_dir="/l", name="project", version=0)], "/l/foretrain", "project/0"),
        ([logger(save_dir=None), logger(save_dir="/m", log_dir="/m/r")], "/m/foretrain", "r"),
        ([logger(save_dir="s3://bucket/l", log_dir="s3://bucket/l/r/version_0")],
         "s3://bucket/l/foretrain", "r/version_0"),
        ([logger(save_dir="$HOME_OF_LOGS", log_dir="/home/logs/r")], "/home/logs/foretrain", "r"),
        ([], "/default/foretrain", None),
        ([logger(save_dir=None)], "/default/foretrain", None),
    ],
)  # fmt: skip
def test_places(monkeypatch, loggers, root, run):
    monkeypatch.setenv("HOME_OF_LOGS", "/home/logs")
    trainer = types.SimpleNamespace(loggers=loggers, default_root_dir="/default")
    place = find_place(trainer, root=None, run=None)
    assert (place.root, place.named) == (root, run is not None)
    if run is None:
        assert place.run != find_place(trainer, root=None, run=None).run
    else:
        assert place.run == run
    assert find_place(trainer, root="/mine", run="me").root == "/mine"
    assert find_place(trainer, root="/mine", run="me").run == "me"


def test_a_logger_that_does_not_know_where_it_is_is_passed_over():
    class Lost:
        @property
        def save_dir(self):
            raise OSError("offline")

    loggers = [Lost(), types.SimpleNamespace(save_dir="/k"), logger(save_dir="/m", log_dir="/m/r")]
    trainer = types.SimpleNamespace(loggers=loggers, default_root_dir="/default")
    assert find_place(trainer, root=None, run=None).root == "/m/foretrain"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1"),
        (300000, "300000"),
        (1e6, "1e6"),
        (1.5e9, "1.5e9"),
        (7e12, "7e12"),
        (1e-7, "1e-7"),
        (2.5, "2.5"),
    ],
)
def test_short_numbers(number, text):
    assert short(number) == text


def projection(name, data, *, params=5.0, value=0.5, lower=0.4, upper=0.6):
    return NamedProjection(name, params, data, value, {"0.9": lower, "0.5": 0.0}, {"0.9": upper})


def test_scalars_have_fixed_names():
    report = Report(
        run="r", metric="val_loss", axis="tokens", step=3, planned=4e3, status="ok",
        projections=(projection("2x", 2e3), projection("planned end", 4e3), projection("mine", 1.5e9)),
        joint=JointReport(
            "ok",
            projections=(
                projection("7e+09 parameters", 4e3, params=7e9, value=0.3),
                projection("2x size", 4e3, params=10),
            ),
        ),
    )  # fmt: skip
    found = scalars(report, [1.5e9], [7e9])
    names = scalar_names("tokens", [1.5e9], [7e9], planned=True)
    assert set(found) - set(names) == {f"scaling/projected_2x_size{end}" for end in ("", "_lower", "_upper")}
    assert found["scaling/projected_2x"] == 0.5
    assert found["scaling/projected_2x_lower"] == 0.4
    assert found["scaling/projected_end_upper"] == 0.6
    assert found["scaling/projected_1.5e9_tokens"] == 0.5
    assert found["scaling/projected_7e9_params"] == 0.3
    assert found[OFF_CURVE] == 0.0
    assert "scaling/projected_10x" not in found
    assert "scaling/projected_10x_lower" in names
    assert len(names) == len(set(names)) == 20
    assert not any("end" in name for name in scalar_names("tokens", [], [], planned=False))
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_./-") for name in names)


def test_scalars_leave_out_what_is_not_known():
    report = Report(run="r", metric="m", axis="samples", step=3)
    assert scalars(report, [], []) == {}
    bare = NamedProjection("2x", None, 2e3, 0.5)
    report = Report(run="r", metric="m", axis="samples", step=3, status="ok", projections=(bare,))
    assert scalars(report, [], []) == {"scaling/projected_2x": 0.5, OFF_CURVE: 0.0, STALE: 0.0}
    assert scalars(replace(report, status="too_few_points"), [], []) == {}


def test_a_report_in_words():
    report = Report(
        run="logs/version_0", metric="val_loss", axis="unique_samples", step=3, status="ok",
        points=((1e3, 0.7),), projections=(projection("2x", 2e3), projection("10x", 1e4)),
    )  # fmt: skip
    assert say(report) == (
        "val_loss of logs/version_0 is 0.7 at 1000 unique samples; projected 0.5 (90 %: 0.4 to 0.6) "
        "at 2x (2000 unique samples) and 0.5 (90 %: 0.4 to 0.6) at 10x (10000 unique samples)."
    )
    assert say(replace(report, status="short_range", sentence="Wait.")).endswith(
        "(10000 unique samples). Wait."
    )
    few = Report(run="r", metric="m", axis="samples", step=3, sentence="Wait for 4 points.")
    assert say(few) == "m of r has no points yet; no projection yet. Wait for 4 points."
