"""What is counted in a batch, asked for at construction, and said to loggers: without a Trainer."""

import math
import pickle
import types
from collections import UserDict, namedtuple
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.utils.data import DistributedSampler, RandomSampler, SequentialSampler

from foretrain.lightning import ScalingLawMonitor
from foretrain.lightning.batches import all_tokens, attended_tokens, first_size, token_rule
from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.distinct import unique_samples
from foretrain.lightning.facts import find_place, size_doubt
from foretrain.lightning.host import callback_bases, version_fault
from foretrain.lightning.logging import STALE, flag_counts, say, scalar_names, scalars, short
from foretrain.report import JointReport, NamedProjection, PastForecast, Report

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


@dataclass
class Texts:
    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None = None


@pytest.mark.parametrize(
    ("batch", "rule", "tokens"),
    [
        (({"input_ids": IDS, "attention_mask": MASK}, X), "attention_mask", 3),
        ([X, "text", {"input_ids": IDS}], "input_ids", 6),
        ([{"input_ids": IDS, "attention_mask": MASK}] * 2, "attention_mask", 6),
        # Where one has no mask all positions of all are counted: one rule for the batch.
        (({"input_ids": IDS, "attention_mask": MASK}, {"input_ids": IDS}), "input_ids", 12),
        (Texts(IDS), "input_ids", 6),
        (Texts(IDS, MASK), "attention_mask", 3),
        ((Texts(IDS, MASK), X), "attention_mask", 3),
        (namedtuple("Named", "input_ids attention_mask")(IDS, MASK), "attention_mask", 3),
    ],
)
def test_tokens_within_a_batch(batch, rule, tokens):
    name, function = token_rule(batch)
    assert name == rule
    assert int(function(batch)) == tokens


@pytest.mark.parametrize("function", [attended_tokens, all_tokens])
def test_a_later_batch_without_tokens_is_refused(function):
    with pytest.raises(ValueError, match="expected `input_ids`"):
        function((X, X))


def test_a_later_batch_without_a_mask_makes_tokens_unknown():
    counter = BatchCounter()
    counter.add({"input_ids": IDS, "attention_mask": MASK})
    counter.add({"input_ids": IDS})
    assert counter.read() == (4, None)
    assert "expected `input_ids` with an `attention_mask` of the same shape" in counter.faults["tokens"]


BAD = [IDS, (IDS, MASK), {"x": IDS}, {"input_ids": [1, 2]}, None, {"deep": {"input_ids": IDS}}, Texts]


@pytest.mark.parametrize("batch", BAD)
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
    assert counter.describe().startswith("ScalingLawMonitor counts 5 samples (batch_size_fn ")
    assert counter.describe().endswith("in the first batch, times 2 processes.")


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


def test_several_loaders_are_counted_together():
    counter = BatchCounter()
    loaders = {"a": object(), "b": [object(), object()]}
    counter.start(loader=loaders)
    counter.add({"a": X, "b": [X[:2], torch.zeros(5)]})
    counter.add({"a": None, "b": [X[:2], None]})
    assert counter.read() == (17, None)
    assert counter.first == 15
    counter.add({"a": X, "b": ["?", X]})
    assert counter.read()[0] == 19  # like the last one
    assert "expected a tensor in the batch of every loader" in counter.faults["samples"]
    assert pickle.loads(pickle.dumps(counter)).read() == (19, None)


def test_the_sizes_of_several_loaders_are_compared_together():
    def doubt(first, *sizes):
        loaders = [types.SimpleNamespace(batch_size=size) for size in sizes]
        trainer = types.SimpleNamespace(train_dataloader={"a": loaders}, num_training_batches=9)
        counter = BatchCounter()
        counter.start(loader=trainer.train_dataloader)
        counter.first = first
        return size_doubt(trainer, counter)

    assert doubt(8, 5, 3) is None
    assert doubt(8, 5, None) is None
    assert "counts 8 samples in a batch, but the data loader's `batch_size` is 9" in doubt(8, 5, 4)


def distinct(sampler, processes, *, size=4, length=20):
    """The distinct samples after one epoch and after two, in so many processes."""
    batches = math.ceil(len(sampler) / size)
    loader = types.SimpleNamespace(
        dataset=range(length), sampler=sampler, batch_size=size, batch_sampler=None
    )
    trainer = types.SimpleNamespace(
        train_dataloader=loader, num_training_batches=batches, reload_dataloaders_every_n_epochs=0,
        fit_loop=types.SimpleNamespace(total_batch_idx=batches - 1, batch_idx=batches - 1), current_epoch=0,
        max_epochs=9, max_steps=-1,
    )  # fmt: skip
    counter = BatchCounter()
    counter.start(processes=processes)
    for batch in range(batches):
        counter.add(torch.zeros(min(size, len(sampler) - batch * size)))
    counter.began = (0, 0)
    samples = counter.read()[0]
    return [unique_samples(trainer, n * samples, counter) for n in (1, 2)]


class Wrapper(DistributedSampler):
    """Such as Lightning puts around a sampler of any kind."""


DATA = range(20)


@pytest.mark.parametrize(
    ("sampler", "processes", "known"),
    [
        (DistributedSampler(DATA, 2, 0), 2, [20, 20]),
        (DistributedSampler(range(23), 2, 0), 2, [23, 23]),
        (DistributedSampler(range(23), 2, 0, drop_last=True), 2, [22, None]),
        (DistributedSampler(range(23), 2, 0, drop_last=True, shuffle=False), 2, [22, 22]),
        (Wrapper(DATA, 2, 0), 2, [None, None]),
        (DistributedSampler(DATA, 4, 0), 2, [None, None]),
        # Without one of its own each process may draw the same.
        (SequentialSampler(DATA), 2, [None, None]),
        (RandomSampler(DATA), 2, [None, None]),
        (SequentialSampler(DATA), 1, [20, 20]),
    ],
)
def test_distinct_samples_in_several_processes(sampler, processes, known):
    length = len(getattr(sampler, "dataset", DATA))
    assert distinct(sampler, processes, length=length) == known


def test_functions_that_raise_are_a_fault():
    counter = BatchCounter(lambda batch: 1 // 0, lambda batch: batch.no)
    counter.add(X)
    assert "ZeroDivisionError" in counter.faults["samples"]
    assert "returns the tokens of the whole batch" in counter.faults["tokens"]


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
        ({"model_size": "embedding"}, 'pass "trainable", "total", "non_embedding", a number'),
        ({"flops_per_sample": math.nan}, "Expected `flops_per_sample` to be positive"),
        (
            {"flops_per_sample": "counted"},
            "got 'counted': pass the training FLOPs of one sample, or \"measured\"",
        ),
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
    assert found["scaling/flags/warning"] == 0.0
    assert "scaling/projected_10x" not in found
    assert "scaling/projected_10x_lower" in names
    assert len(names) == len(set(names)) == 24
    assert not any("end" in name for name in scalar_names("tokens", [], [], planned=False))
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_./-") for name in names)


def test_scalars_leave_out_what_is_not_known():
    report = Report(run="r", metric="m", axis="samples", step=3)
    assert scalars(report, [], []) == {}
    bare = NamedProjection("2x", None, 2e3, 0.5)
    report = Report(run="r", metric="m", axis="samples", step=3, status="ok", projections=(bare,))
    assert scalars(report, [], []) == {"scaling/projected_2x": 0.5, STALE: 0.0, **flag_counts(())}
    assert scalars(replace(report, status="too_few_points"), [], []) == {}
    track = tuple(PastForecast(0.5, 1.0, {"0.9": 0.9}, {"0.9": 1.1}, came) for came in (1.0, 1.05, 1.2, 0.95))
    assert scalars(replace(report, track=track), [], [])["scaling/track_inside"] == 0.75


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
