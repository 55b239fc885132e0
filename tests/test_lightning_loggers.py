"""Loggers, each read back from what it wrote: TensorBoard, CSV, Weights & Biases, MLflow."""

import csv
import importlib
import json
import math
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.lightning import ScalingLawMonitor
from foretrain.lightning.facts import find_place
from foretrain.lightning.logging import introduce, show
from lightning_models import FLAVOURS, a_report, loader, make_module, make_trainer, only_run, read_study
from lightning_models import use_fake_fitter as fake_fitter

LAST = 14  # three epochs of five batches, and loggers count from 0

ENVIRONMENT = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # refused by default since MLflow 3
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


def available():
    """The logger libraries that are installed."""
    return [name for name in ("wandb", "mlflow") if importlib.util.find_spec(name)]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """One fit with all loggers at once and a stand-in for the fitter: the loggers by name, and its folder."""
    root = tmp_path_factory.mktemp("loggers")
    pl = importlib.import_module(FLAVOURS[1])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "WANDB_DIR": str(root)}.items():
            patch.setenv(name, value)
        patch.chdir(root)
        fake_fitter(patch)
        loggers = {"tensorboard": pl.loggers.TensorBoardLogger(root), "csv": pl.loggers.CSVLogger(root)}
        if "wandb" in available():
            loggers["wandb"] = pl.loggers.WandbLogger(project="p", save_dir=root, offline=True)
        if "mlflow" in available():
            loggers["mlflow"] = pl.loggers.MLFlowLogger("e", save_dir=str(root / "mlruns"))
        trainer = make_trainer(
            pl, root, ScalingLawMonitor(targets=[1e6]), logger=list(loggers.values()), max_epochs=3
        )
        trainer.fit(make_module(pl), loader(), loader())
        if "wandb" in loggers:
            wandb = importlib.import_module("wandb")
            wandb.finish()
            wandb.teardown()
        yield loggers, root


def needs(logged, name):
    loggers, root = logged
    if name not in loggers:
        pytest.skip(f"{name} is not installed: pip install 'foretrain[loggers-test]'")
    return loggers[name], root


def check(series):
    """What every logger should hold: (step, value) by name, of the scalars of three reports.

    The stand-in's reports rest on a point at 1,000 samples and project .5 (.4 to .6) everywhere; 1e6 samples
    they do not know.
    """
    steps = [4, 9, LAST]
    for stem in ("2x", "10x", "100x", "end"):
        for end, value in (("", 0.5), ("_lower", 0.4), ("_upper", 0.6)):
            found = series.pop(f"scaling/projected_{stem}{end}")
            assert found == [(step, pytest.approx(value)) for step in steps]
    assert series.pop("scaling/samples") == [(step, 1000.0) for step in steps]
    for severity in ("notice", "warning", "critical"):
        assert series.pop(f"scaling/flags/{severity}") == [(step, 0.0) for step in steps]
    assert series.pop("scaling/stale") == [(step, 0.0) for step in steps]
    # Named in the first call, and no more said of them.
    for name in ("track_inside", *(f"projected_1e6_samples{end}" for end in ("", "_lower", "_upper"))):
        ((step, value),) = series.pop(f"scaling/{name}")
        assert step == 4 and math.isnan(value)
    assert series == {}


def test_csv(logged):
    logger, _ = needs(logged, "csv")
    series = {}
    with Path(logger.log_dir, "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if name.startswith("scaling") and text:
                    series.setdefault(name, []).append((int(row["step"]), float(text)))
    check(series)


def test_tensorboard(logged):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger, _ = needs(logged, "tensorboard")
    events = accumulator.EventAccumulator(logger.log_dir)
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name.startswith("scaling")]
    check({name: [(e.step, e.value) for e in events.Scalars(name)] for name in names})
    assert set(events.PluginTagToContent("foretrain")) == {"foretrain/report/val_loss"}


def test_mlflow(logged):
    logger, root = needs(logged, "mlflow")
    tracking = importlib.import_module("mlflow.tracking")
    client = tracking.MlflowClient(f"file:{root / 'mlruns'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "e")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == logger.run_id
    names = [name for name in run.data.metrics if name.startswith("scaling")]
    history = {name: client.get_metric_history(run.info.run_id, name) for name in names}
    check({name: [(m.step, m.value) for m in found] for name, found in history.items()})


def wandb_records(folder):
    """The records of an offline run: protocol buffers in LevelDB's log format behind a header of 7 bytes."""
    messages = importlib.import_module("wandb.proto.wandb_internal_pb2")
    (path,) = Path(folder).glob("wandb/offline-run-*/*.wandb")
    data, at, block, whole = path.read_bytes(), 7, 32768, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block  # the rest of a block is padding
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = messages.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def test_weights_and_biases(logged):
    logger, root = needs(logged, "wandb")
    series, rows, axes = {}, 0, {}
    for record in wandb_records(root):
        if record.WhichOneof("record_type") == "metric":
            metric = record.metric
            axes[metric.glob_name or metric.name] = metric.step_metric
        if record.WhichOneof("record_type") != "history":
            continue
        row = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
        }
        if not any(name.startswith("scaling") for name in row):
            continue
        rows += 1
        assert "scaling/samples" in row  # without it a point of another scalar would have no place
        for name, value in row.items():
            if name.startswith("scaling"):
                series.setdefault(name, []).append((row["trainer/global_step"], float(value)))
    assert rows == 3
    check(series)
    assert axes["scaling/*"] == "scaling/samples"
    assert axes["*"] == "trainer/global_step"
    exact = {name: step for name, step in axes.items() if name.startswith("scaling/") and "*" not in name}
    assert set(exact.values()) <= {"scaling/samples"}
    assert logger.version


def test_the_observations_lie_beside_an_mlflow_store(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    pl = importlib.import_module(FLAVOURS[0])
    logger = pl.loggers.MLFlowLogger("e", save_dir="mlruns")
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(fit=False), logger=logger)
    trainer.fit(make_module(pl), loader(), loader())
    run = only_run(tmp_path)
    assert run.info.run == f"{logger.experiment_id}/{logger.run_id}"
    assert {p.name for p in tmp_path.iterdir()} == {"mlruns", "foretrain"}
    folders = {p.name for p in (tmp_path / "mlruns").iterdir() if p.is_dir() and not p.name.startswith(".")}
    assert folders <= {"0", "models", logger.experiment_id}  # all of them MLflow's own


# Which loggers are asked for their experiment, and when.


class Service:
    """A logger of a service: every look at its experiment may call a server."""

    save_dir = name = version = log_dir = None

    def __init__(self, experiment=None):
        self.looks, self.calls, self._experiment = 0, [], experiment

    @property
    def experiment(self):
        self.looks += 1
        return self._experiment

    def log_metrics(self, metrics, step=None):
        self.calls.append(dict(metrics))


class Run:
    """What Weights & Biases has as experiment: it can be told an x axis."""

    def __init__(self):
        self.defined = []

    def define_metric(self, name, step_metric=None):
        self.defined.append((name, step_metric))


REPORT = a_report({"question": {"run": "r", "metric": "val_loss", "axis": "tokens"}})


def test_a_service_is_not_asked_for_an_event_file():
    service = Service()
    assert show([service], REPORT, 3) == []
    assert service.looks == 0


def test_an_x_axis_is_told_by_method_not_by_class():
    runs = [Run(), object(), None]
    loggers = [Service(run) for run in runs]
    introduce(loggers, "scaling/val_acc/", "tokens")
    assert runs[0].defined == [("scaling/val_acc/*", "scaling/val_acc/tokens")]
    assert [logger.looks for logger in loggers] == [1, 1, 1]


def test_a_logger_that_has_a_directory_is_not_told_an_x_axis(tmp_path):
    service = Service(Run())
    service.log_dir = str(tmp_path)
    introduce([service], "scaling/", "tokens")
    assert service.looks == 0


def test_an_experiment_that_cannot_be_had_stops_nothing():
    class Broken(Service):
        @property
        def experiment(self):
            raise ConnectionError("no server")

    run = Run()
    introduce([Broken(), Service(run)], "scaling/", "tokens")
    assert run.defined == [("scaling/*", "scaling/tokens")]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_service_is_asked_for_its_experiment_once_in_a_fit(flavour, tmp_path, monkeypatch):
    pl = importlib.import_module(flavour)
    fake_fitter(monkeypatch)
    run = Run()

    class Hosted(pl.loggers.logger.Logger, Service):
        name = version = save_dir = log_dir = None
        experiment = Service.experiment

        def __init__(self):
            super().__init__()
            Service.__init__(self, run)

        log_metrics = Service.log_metrics

        def log_hyperparams(self, *args, **kwargs):
            pass

    looks = []
    for monitor in (None, ScalingLawMonitor()):
        logger = Hosted()
        trainer = make_trainer(pl, tmp_path, monitor, logger=logger, max_epochs=3)
        trainer.fit(make_module(pl), loader(), loader())
        looks.append(logger.looks)
    told = [call for call in logger.calls if "scaling/projected_2x" in call]
    assert len(told) == 3
    assert all("scaling/samples" in call for call in told)
    assert looks[1] == looks[0] + 1  # the others are Lightning's own
    assert run.defined == [("scaling/*", "scaling/samples")]


def test_a_development_run_tells_no_logger(tmp_path, monkeypatch):
    pl = importlib.import_module(FLAVOURS[0])
    fake_fitter(monkeypatch)
    logger = pl.loggers.CSVLogger(tmp_path)
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(), logger=logger, fast_dev_run=True)
    trainer.fit(make_module(pl), loader(), loader())
    assert not Path(logger.log_dir).exists()


# Where the observations lie, by the logger that says so.


class Fake:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def place(*loggers, root=None, run=None):
    trainer = Fake(loggers=list(loggers), default_root_dir="/default")
    return find_place(trainer, root=root, run=run)


def test_a_logger_without_a_version_names_no_run():
    """A project's name alone would make all of its runs one."""
    found = [place(Fake(save_dir="/logs", log_dir=None, name="project", version=None)) for _ in range(2)]
    assert {one.root for one in found} == {"/logs/foretrain"}
    assert not any(one.named for one in found)
    assert found[0].run != found[1].run
    known = place(Fake(save_dir="/logs", log_dir=None, name="project", version="ab12"))
    assert (known.run, known.named) == ("project/ab12", True)


@pytest.mark.parametrize("save_dir", ["/logs/mlruns", "/logs/mlruns/"])
def test_any_class_of_that_name_is_a_tracking_store(save_dir):
    kind = type("MLFlowLogger", (Fake,), {})
    derived = type("Ours", (kind,), {})
    for cls in (kind, derived):
        found = place(cls(save_dir=save_dir, name="7", version="ab"))
        assert (found.root, found.run) == ("/logs/foretrain", "7/ab")


def test_a_service_without_a_folder_is_not_asked_its_name():
    class Remote:
        save_dir = None

        @property
        def name(self):
            raise AssertionError("a server was asked")

        version = name

    found = place(Remote(), Fake(save_dir="/logs", log_dir="/logs/a/version_3"))
    assert (found.root, found.run) == ("/logs/foretrain", "a/version_3")


def test_studies_of_both_lightnings_share_their_names(tmp_path):
    for flavour in FLAVOURS:
        pl = importlib.import_module(flavour)
        logger = pl.loggers.CSVLogger(tmp_path, name="sweep")
        trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(fit=False), logger=logger)
        trainer.fit(make_module(pl), loader(), loader())
    assert set(read_study(tmp_path / "foretrain").runs) == {"sweep/version_0", "sweep/version_1"}
