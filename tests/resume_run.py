"""A training that is killed and resumed in new processes; as a script it serves one attempt a line."""

import contextlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from foretrain.store import ObservationStore, StudyReader

BATCH, EPOCH, EVERY = 4, 5, 4
"""Samples in a batch, batches in an epoch, and optimizer steps between two validations."""

HOOKS = (
    *("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end", "on_train_epoch_end"),
    *("on_validation_start", "on_validation_batch_end", "on_validation_end", "on_save_checkpoint"),
)
"""Where an attempt is killed, before or after the monitor's own hook."""


def loss(step):
    """The metric after so many optimizer steps: no other step's, whatever data the run has seen."""
    return 2.0 + 1.0 / (step + 3)


def rate(step):
    """The learning rate of an update, counted from 1."""
    return 0.01 * (1 + math.cos(math.pi * min(step - 1, 200) / 200))


@dataclass
class Attempt:
    """One process of a run.

    Attributes:
        flavour: Lightning's import name.
        root: The Trainer's directory; checkpoints are in `root`/ckpt.
        steps: Optimizer steps of the whole run.
        run: Name of the run; that of the logger's new version if None.
        resume: Checkpoint to go on from, or "last"; from scratch if None.
        kill: Optimizer step, hook and place of a SIGKILL ("before" or "after" the monitor's hook).
        save: Steps between two checkpoints; 0 for one at the end of every validation.
        logger: The Trainer's `logger`.
        options: More keywords of the Trainer.
        requeue: Whether SLURM's signal comes before the kill, on which Lightning saves a checkpoint that the
            next attempt finds.
    """

    flavour: str
    root: str
    steps: int
    run: str | None = None
    resume: str | None = None
    kill: tuple[int, str, str] | None = None
    save: int = 7
    logger: str | bool = True
    options: dict | None = None
    requeue: bool = False


def make(pl, attempt, monitor=None):
    """The Trainer and the module of an attempt."""
    import torch

    from foretrain.lightning import ScalingLawMonitor
    from lightning_models import make_trainer

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(4, 1)

        def training_step(self, batch, batch_idx):
            return self.net(batch[0]).square().mean()

        def validation_step(self, batch, batch_idx):
            pass

        def on_validation_epoch_end(self):
            self.log("val_loss", loss(self.trainer.global_step))

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), 1.0)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: rate(done + 1))
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    class Kill(pl.Callback):
        def __init__(self, place):
            self.place = place

        @property
        def state_key(self):
            return f"Kill {self.place}"

    def hook(name):
        def call(self, trainer, *args):
            if not attempt.kill or (name, self.place) != tuple(attempt.kill[1:]):
                return
            if trainer.global_step >= attempt.kill[0] and not trainer.sanity_checking:
                if attempt.requeue:
                    attempt.kill = None  # the checkpoint calls hooks, too
                    signal.raise_signal(signal.SIGUSR1)
                os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in HOOKS:
        setattr(Kill, name, hook(name))

    class Said(pl.Callback):
        """What has certainly been kept, as the training itself knows it."""

        def on_validation_end(self, trainer, module):
            if not trainer.sanity_checking:
                with Path(attempt.root, "said").open("a") as file:
                    file.write(f"{trainer.global_step}\n")

    options = dict(attempt.options or {})
    if attempt.requeue:
        options["plugins"] = [slurm(pl)]
    when = {"every_n_train_steps": attempt.save} if attempt.save else {"save_on_train_epoch_end": False}
    save = pl.callbacks.ModelCheckpoint(
        Path(attempt.root, "ckpt"), save_last=True, save_top_k=1 if not attempt.save else 0, **when
    )
    monitor = monitor or ScalingLawMonitor(fit=False, run=attempt.run)
    trainer = make_trainer(
        pl,
        attempt.root,
        [Kill("before"), monitor, Said(), Kill("after"), save],
        max_epochs=None,
        max_steps=attempt.steps,
        val_check_interval=EVERY,
        check_val_every_n_epoch=None,
        enable_checkpointing=True,
        num_sanity_val_steps=2,
        **{"logger": attempt.logger, **options},
    )
    return trainer, Module()


def slurm(pl):
    """Lightning's SLURM, as a job of one task would have it; `scontrol requeue` does nothing."""
    names = ("JOB_ID", "NTASKS", "PROCID", "LOCALID", "NODEID")
    os.environ.update({f"SLURM_{name}": str(int(name in ("JOB_ID", "NTASKS"))) for name in names})
    os.environ["SLURM_JOB_NAME"] = "job"
    commands = Path(tempfile.mkdtemp())
    (commands / "scontrol").symlink_to("/bin/true")
    os.environ["PATH"] = f"{commands}{os.pathsep}{os.environ['PATH']}"
    fabric = "lightning.fabric" if pl.__name__.startswith("lightning.") else "lightning_fabric"
    return importlib.import_module(f"{fabric}.plugins.environments").SLURMEnvironment(auto_requeue=True)


def train(attempt):
    """Trains one attempt in this process."""
    import torch

    from lightning_models import loader, points

    torch.manual_seed(0)
    trainer, module = make(importlib.import_module(attempt.flavour), attempt)
    data = points(BATCH * EPOCH)
    path = "last" if attempt.resume == "last" else attempt.resume
    trainer.fit(module, loader(data, BATCH, shuffle=True), loader(data, BATCH), ckpt_path=path)
    return trainer


class Processes:
    """Runs attempts, each in a new process, forked from one that has only imported Lightning.

    Args:
        python: The interpreter.
    """

    def __init__(self, python=sys.executable):
        here = Path(__file__)
        path = [str(here.parent), str(here.parent.parent / "src"), os.environ.get("PYTHONPATH", "")]
        self._server = subprocess.Popen(
            [python, str(here)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
        )

    def run(self, attempt):
        """How the attempt's process ended: its exit code, negative for a signal, and what it wrote."""
        self._server.stdin.write(json.dumps(asdict(attempt)) + "\n")
        self._server.stdin.flush()
        code, log = json.loads(self._server.stdout.readline())
        return code, log

    def close(self):
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(30)


def serve():
    """Forks for each line, and answers with how the child ended."""
    import torch

    torch.set_num_threads(1)
    warm = set()
    for line in sys.stdin:
        attempt = Attempt(**json.loads(line))
        if attempt.flavour not in warm:
            warm.add(attempt.flavour)
            make(importlib.import_module(attempt.flavour), attempt)  # what this imports, no child needs to
            for name in ("torch.utils.tensorboard", "s3fs"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        log = Path(attempt.root, "log")
        log.parent.mkdir(parents=True, exist_ok=True)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(out, 1)
                os.dup2(out, 2)
                train(attempt)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        answer = [os.waitstatus_to_exitcode(status), log.read_text(errors="replace")[-4000:]]
        print(json.dumps(answer), flush=True)


def runs(root):
    """The runs kept under a Trainer's directory, by name."""
    folder = Path(root, "foretrain")
    if not folder.is_dir():
        (folder,) = Path(root).glob("*/foretrain")
    return StudyReader(ObservationStore(folder).study_dir).read().runs


if __name__ == "__main__":
    serve()
