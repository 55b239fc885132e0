"""Row 15: the fits of a real Trainer fail in every way; it goes on, and the last report says it is old."""

import csv
import importlib
import statistics
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fault_ledger import effort, record
from faults_run import FITTER_FAULTS, LONG, child_command, patience, said
from foretrain.fitter import BackgroundFitter
from foretrain.lightning import ScalingLawMonitor, session
from foretrain.lightning.logging import say
from foretrain.report import Report
from foretrain.tensorboard.rows import entry
from lightning_models import FLAVOURS, loader, make_module, make_trainer, only_run
from processes import children, count_starts

EPOCHS = 6
TIME_LIMITS = {"hang": 0.4, "endless loop": 0.4}
MAX_RESTARTS = 2
REASONS = {
    "exception": "ZeroDivisionError: injected",
    "hang": "it took longer than 0.4 seconds",
    "endless loop": "it took longer than 0.4 seconds",
    "segmentation fault": "SIGSEGV",
    "memory": "MemoryError",
}
REPEATS = effort(1, 4)


def use_child(monkeypatch, fault, command):
    limits = {"time_limit": TIME_LIMITS.get(fault, LONG), "max_restarts": MAX_RESTARTS, "share": 1.0}
    monkeypatch.setattr(session, "BackgroundFitter", lambda: BackgroundFitter(command=command, **limits))


def train(pl, root, logger, *, epochs=EPOCHS):
    """A run whose fits have all the time they want; the monitor, the trainer, and what it said."""
    monitor = ScalingLawMonitor(final_wait=20)
    with said() as sentences:
        callbacks = [monitor, patience(pl, monitor)]
        trainer = make_trainer(pl, root, callbacks, max_epochs=epochs, logger=logger)
        trainer.fit(make_module(pl), loader(), loader())
    return monitor, trainer, sentences


def reports_written(folder):
    """The reports in an event file, in order."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    from foretrain.tensorboard.metadata import metric_of

    (path,) = Path(folder).glob("events.*")
    values = [value for event in EventFileLoader(str(path)).Load() for value in event.summary.value]
    return [Report.from_json(v.tensor.string_val[0]) for v in values if metric_of(v.tag) is not None]


@pytest.mark.parametrize("fault", FITTER_FAULTS)
def test_the_last_report_stays_and_is_marked_stale(tmp_path, monkeypatch, fault):
    before, started = children(), count_starts(monkeypatch)
    injected = lost = stopped = 0
    monkeypatch.setattr(session, "SHOW_SECONDS", 0.0)
    monkeypatch.setattr(session, "SHOW_SHARE", 0.0)
    for repeat in range(REPEATS):
        # In turn, as there are two of everything: the package's name and the logger.
        pl = importlib.import_module(FLAVOURS[(repeat + list(FITTER_FAULTS).index(fault)) % 2])
        root, good = tmp_path / str(repeat), 1 + repeat % 3
        root.mkdir()
        use_child(monkeypatch, fault, child_command(root, fault, first=good))
        started.clear()
        tables, events = pl.loggers.CSVLogger(root), pl.loggers.TensorBoardLogger(root, version="tb")
        monitor, trainer, sentences = train(pl, root, [tables, events])
        stopped += not trainer.state.finished or trainer.global_step != 5 * EPOCHS
        lost += EPOCHS - len(only_run(root).observations)
        injected += Path(root, "fits").stat().st_size - good

        assert monitor.report.step == good, "the last good one"
        assert REASONS[fault] in monitor.report.stale
        assert REASONS[fault] in say(monitor.report)
        assert REASONS[fault] in entry("r", monitor.report).row["notes"][0]
        assert [sentence for sentence in sentences if "fit failed" in sentence] == sentences[:1]
        assert len(sentences) == 1
        assert len(started) <= 1 + MAX_RESTARTS
        with Path(tables.log_dir, "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["scaling/stale"]]
        told = [(float(row["scaling/stale"]), row["scaling/projected_2x"]) for row in rows]
        assert told == [(0.0, "0.5")] * good + [(1.0, "")], "values are not logged again"
        written = reports_written(events.log_dir)
        assert [bool(report.stale) for report in written] == [False] * good + [True, True]
        assert (written[-1].state, written[-1].step) == ("finished", good)
        assert REASONS[fault] in written[-1].stale
        assert children() == before
    record(15, fault, injected, REPEATS * (1 + MAX_RESTARTS), lost=lost, stopped=stopped)
    assert (lost, stopped) == (0, 0)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("exception", [[0, 1, 0, 0, 0]]),  # the second fit and the third, of which one is said
        # The second, asked again until it succeeded; a validation may come in between and say so.
        ("segmentation fault", [[0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0]]),
    ],
)
def test_the_next_good_report_is_not_stale(tmp_path, monkeypatch, fault, expected):
    pl = importlib.import_module(FLAVOURS[0])
    use_child(monkeypatch, fault, child_command(tmp_path, fault, first=1, last=3))
    logger = pl.loggers.CSVLogger(tmp_path)
    monitor, trainer, _ = train(pl, tmp_path, logger)
    assert trainer.state.finished
    assert monitor.report.stale == ""
    with Path(logger.log_dir, "metrics.csv").open() as file:
        stale = [float(row["scaling/stale"]) for row in csv.DictReader(file) if row["scaling/stale"]]
    assert stale in expected


def test_a_fit_that_fails_only_in_the_end_is_said(tmp_path, monkeypatch):
    pl = importlib.import_module(FLAVOURS[1])
    use_child(monkeypatch, "hang", child_command(tmp_path, "hang", first=0))
    monitor = ScalingLawMonitor(final_wait=20)
    with said() as sentences:
        trainer = make_trainer(pl, tmp_path, monitor, max_epochs=1)
        trainer.fit(make_module(pl), loader(), loader())
    assert monitor.report is None
    assert len(sentences) == 1
    assert "it took longer than 0.4 seconds" in sentences[0]
    assert "given up after 3 failures in a row" in sentences[0]


def steps_timed(pl, root, monitors):
    """Seconds of each training step, after the first ones."""

    class Clock(pl.Callback):
        def __init__(self):
            self.times = []

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            self.times.append(time.perf_counter())

    clock = Clock()
    trainer = make_trainer(pl, root, [*monitors, clock], max_epochs=30)
    module = make_module(pl, width=4)
    step = module.training_step
    module.training_step = lambda batch, batch_idx: (time.sleep(0.003), step(batch, batch_idx))[1]
    trainer.fit(module, loader(), loader())
    return [b - a for a, b in zip(clock.times[20:], clock.times[21:], strict=False)]


@pytest.mark.skipif(effort(0, 1) == 0, reason="times are taken by `make faults` only")
@pytest.mark.parametrize("fault", FITTER_FAULTS)
def test_steps_take_as_long_beside_a_failing_fitter(tmp_path, monkeypatch, fault):
    pl = importlib.import_module(FLAVOURS[0])
    # Niceness as shipped: the endless loop is to leave the processors to training.
    command = child_command(tmp_path, fault, first=0)
    command[-1] = command[-1].replace("child.NICENESS = 0", "")
    use_child(monkeypatch, fault, command)
    ratios = []
    for turn in range(5):
        alone = statistics.median(steps_timed(pl, tmp_path / f"alone {turn}", []))
        beside = statistics.median(
            steps_timed(pl, tmp_path / f"beside {turn}", [ScalingLawMonitor(final_wait=0)])
        )
        ratios.append(beside / alone)
    ratio = statistics.median(ratios)
    print(f"{fault}: a step takes {ratio:.3f} times as long")
    record(15, f"{fault}, step time", len(ratios), 5, stopped=int(not 0.5 < ratio < 1.5))
    assert 0.5 < ratio < 1.5


def test_the_wait_is_over_when_told(tmp_path):
    fitter = BackgroundFitter(command=[sys.executable, "-c", "import time; time.sleep(1000)"])
    fitter.submit({})
    asked = []

    def give_up():
        asked.append(time.monotonic())
        return len(asked) == 3

    assert fitter.wait(600.0, give_up=give_up) is None
    assert len(asked) == 3
    assert asked[2] - asked[0] < 5.0
    assert fitter.pending, "the child goes on, only the wait is over"
    fitter.close()
