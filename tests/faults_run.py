"""What the tests of faults in a real Trainer share; as a script, a training that tests end from outside."""

import atexit
import copy
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.utils.data import Dataset

LONG = 180.0  # seconds to wait for what must come; never what a good run takes

_CHILD = """
import json, os, sys
sys.path[:] = {path!r}
from foretrain import child
from foretrain.report import NamedProjection, Report
child.NICENESS = 0
def report(self, request):
    with open({counter!r}, "ab") as file:
        file.write(b".")
    number, question = os.path.getsize({counter!r}), request["question"]
    if {first} < number <= {last}:
        {fault}
    projection = NamedProjection("2x", 5.0, 2e3, 0.5, {{"0.9": 0.4}}, {{"0.9": 0.6}})
    names = {{name: question[name] for name in ("run", "metric", "axis")}}
    told = Report(**names, step=number, status="ok", points=((1e3, 0.7),), projections=(projection,))
    return told.to_json(), 0.0
child._Answerer._report = report
child.main(memory_limit={memory}, parent={parent})
"""

FITTER_FAULTS = {
    "exception": "raise ZeroDivisionError('injected')",
    "hang": "import time; time.sleep(1000)",
    "endless loop": "while True: pass",
    "segmentation fault": "import ctypes; ctypes.string_at(0)",
    "memory": "eaten = []\n        while True: eaten.append(bytearray(2**24))",
}
"""What goes wrong in a fit, as a statement."""


def child_command(folder, fault, *, first, last=10**9, memory=2**28):
    """The program that fits, whose fits meet a fault; the others are answered at once with a small report.

    Args:
        folder: Where it counts the fits, over all its processes.
        fault: A key of `FITTER_FAULTS`.
        first: How many fits are good before the faults.
        last: Number of the last fit that meets one.
        memory: Bytes that the process may use.
    """
    counter = str(Path(folder, "fits"))
    values = {"path": [p for p in sys.path if p], "counter": counter, "first": first, "last": last}
    code = _CHILD.format(**values, fault=FITTER_FAULTS[fault], memory=memory, parent=os.getpid())
    return [sys.executable, "-I", "-S", "-c", code]


def patience(pl, monitor):
    """A callback that lets each fit come to its end, and its report be logged, before training goes on."""

    class Patience(pl.Callback):
        def on_validation_end(self, trainer, module):
            fitter = monitor._recording.session._fitter
            end = time.monotonic() + LONG
            while fitter.pending and time.monotonic() < end:
                fitter._advance()
                time.sleep(0.005)
            assert not fitter.pending
            monitor._adopt(monitor._recording, trainer)

    return Patience()


@contextmanager
def said():
    """The warnings of the monitor, as a list of sentences that is filled in the end."""
    sentences = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield sentences
    ours = ("ScalingLawMonitor", "Observations cannot", "background fit", "The disk did not", "observations")
    texts = [str(warning.message) for warning in caught]
    sentences += [text for text in texts if any(words in text for words in ours)]


class Trainings:
    """A process that has imported everything and forks one process for each training, so that each is cheap.

    Each training is a function of this module, which says in lines what it does.
    """

    def __init__(self, flavour):
        command = [sys.executable, __file__, flavour]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._newest = None

    def end_newest(self):
        """Kills a training that a failed test has left: it may go on for ever, and the next would wait."""
        if self._newest is not None and not self._newest.ended:
            os.killpg(self._newest.pid, signal.SIGKILL)
            self._newest.end()

    def close(self):
        """Ends it."""
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(LONG)

    def start(self, name, root, **options):
        """Starts a training in a new folder."""
        Path(root).mkdir()
        job = {"name": name, "root": str(root), "options": options}
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        self._newest = Training(int(self._server.stdout.readline()), Path(root), self._server.stdout)
        return self._newest


class Training:
    """One training of `Trainings`: it is signalled, and then waited for."""

    def __init__(self, pid, root, answers):
        self.pid = pid
        self.ended = False
        self._log = root / "log"
        self._root = root
        self._answers = answers

    def lines(self):
        """What it has said so far, as whole lines."""
        return self._log.read_text().rpartition("\n")[0].split("\n") if self._log.exists() else []

    def wait_for(self, line, seconds=LONG):
        """Waits until it has said this; whether it has."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if line in self.lines():
                return True
            time.sleep(0.002)
        return False

    def end(self, seconds=LONG):
        """Waits for its end: how it ended and when, on the monotonic clock; killed and None if it hangs."""
        hangs = threading.Timer(seconds, os.kill, [self.pid, signal.SIGKILL])
        hangs.start()
        code, when = json.loads(self._answers.readline())
        self.ended = True
        if hangs.is_alive():
            hangs.cancel()
            return code, when
        return None, when

    def left(self, seconds=10.0):
        """Processes that it started and that are still there some seconds later."""
        mark = f"FORETRAIN_TEST_MARK={self._root}\0".encode()
        end = time.monotonic() + seconds
        while True:
            found = []
            for environment in Path("/proc").glob("[0-9]*/environ"):
                try:
                    state, _, group = environment.with_name("stat").read_text().rpartition(")")[2].split()[:3]
                    if state != "Z" and (int(group) == self.pid or mark in environment.read_bytes()):
                        found.append(environment.parent.name)
                except OSError:
                    continue
            if not found or time.monotonic() > end:
                return found
            time.sleep(0.05)


def say_line(*words):
    """One line, at once."""
    print(*words, flush=True)


def train_until_told(pl, root, *, fitter="hang", epochs=10**6, final_wait=60.0):
    """A training that says where it is: validating, saving, at its end; ended from outside."""
    from foretrain.fitter import BackgroundFitter
    from foretrain.lightning import ScalingLawMonitor, session
    from lightning_models import loader, make_module, make_trainer

    class Told(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            say_line("training")
            time.sleep(0.01)

        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            say_line("validating")
            time.sleep(0.01)

        def on_save_checkpoint(self, trainer, module, checkpoint):
            say_line("saving")
            time.sleep(0.02)

        def on_train_end(self, trainer, module):
            say_line("at the end")

    class Kept(pl.Callback):
        def on_validation_end(self, trainer, module):
            say_line("kept", trainer.global_step)

    if fitter != "real":
        command = child_command(root, fitter, first=0)
        session.BackgroundFitter = lambda: BackgroundFitter(command=command)
    monitor = ScalingLawMonitor(final_wait=final_wait)
    save = pl.callbacks.ModelCheckpoint(root, save_last=True, every_n_train_steps=1, save_top_k=0)
    callbacks = [Told(), monitor, Kept(), save]
    logger = pl.loggers.CSVLogger(root)
    options = {"enable_checkpointing": True, "logger": logger, "val_check_interval": 3}
    trainer = make_trainer(pl, root, callbacks, max_epochs=epochs, **options)
    try:
        trainer.fit(make_module(pl), loader(), loader())
    except BaseException as error:
        say_line("raised", type(error).__name__)
        raise
    say_line("returned", trainer.global_step)


class Attached(Dataset):
    """A data set that takes the trainer, and with it the monitor, into every worker, and uses both there."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.parent = os.getpid()

    def __getstate__(self):
        # A Trainer with a module of this file cannot be pickled; the monitor can.
        monitors = [callback for callback in self.trainer.callbacks if hasattr(callback, "settings")]
        kept = SimpleNamespace(callbacks=monitors, default_root_dir=self.trainer.default_root_dir)
        return {"trainer": kept, "parent": self.parent}

    def __len__(self):
        return 20

    def __getitem__(self, index):
        if os.getpid() != self.parent:
            monitor = next(c for c in self.trainer.callbacks if hasattr(c, "settings"))
            # What the training process calls, here in a worker, where none of it may write, ask or wait.
            monitor.on_train_batch_end(self.trainer, None, None, [torch.zeros(4, 4)], 0)
            monitor.state_dict()
            if monitor._recording is not None:
                monitor.on_save_checkpoint(self.trainer, None, {})
                monitor._adopt(monitor._recording, self.trainer, wait=5.0)
                monitor._recording.close("failed", self.trainer)
            copy.deepcopy(monitor)
            Path(self.trainer.default_root_dir, f"worker {os.getpid()}").touch()
        x = torch.full((4,), float(index))
        return x, x.sum().reshape(1)


def train_with_workers(pl, root, *, workers, start=None, persistent=False, epochs=3):
    """A training whose data are loaded by other processes; says what was kept, and goes on for `epochs`."""
    from foretrain.fitter import BackgroundFitter
    from foretrain.lightning import ScalingLawMonitor, session
    from lightning_models import loader, make_module, make_trainer

    class Kept(pl.Callback):
        def on_validation_end(self, trainer, module):
            time.sleep(0.05)
            say_line("kept", trainer.global_step)

    command = child_command(root, "exception", first=10**9)
    session.BackgroundFitter = lambda: BackgroundFitter(command=command)
    monitor = ScalingLawMonitor(final_wait=1.0)
    callbacks = [monitor, Kept()]
    trainer = make_trainer(pl, root, callbacks, max_epochs=epochs, logger=pl.loggers.TensorBoardLogger(root))
    options = {"num_workers": workers, "multiprocessing_context": start, "persistent_workers": persistent}
    trainer.fit(make_module(pl), loader(Attached(trainer), **options), loader())
    say_line("returned", trainer.global_step)


def _serve(flavour):
    # The last of all exit handlers, as it is the first one registered: threads have been joined and every
    # other handler has run. What is left is to free modules, which takes the interpreter seconds under load.
    atexit.register(os._exit, 0)
    pl = importlib.import_module(flavour)
    import foretrain.lightning  # noqa: F401  (before the fork, once for all)

    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)  # what it forks stays in its group; what it starts anew has the mark
            log = os.open(Path(job["root"], "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(os.open(Path(job["root"], "errors"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            os.environ["FORETRAIN_TEST_MARK"] = job["root"]
            return globals()[job["name"]](pl, job["root"], **job["options"])
        say_line(pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        say_line(json.dumps([code, time.monotonic()]))
    return None


if __name__ == "__main__":
    _serve(sys.argv[1])
