"""What ScalingLawMonitor costs a training run, beside Lightning's own callbacks.

One trainer for each set of callbacks trains the same model on the same data, all in one process, and they
take turns step by step, in an order drawn anew for every round; validation comes every 50 steps. So what
disturbs the machine for longer than a few steps disturbs all of them, and falls out of the ratios between
their times for the same 50 steps and the validation after them. Several such relays, with trainers made anew,
tell apart what a callback costs from where its trainer happens to lie in memory. A training step is padded
with real work, matrix products, to the length asked for. The fitting process is stopped while others have
their turn, and rationed by the monitor's own part of the time: all that it disturbs is charged to the
monitor, but for its start, once a run. Intervals are bootstraps over relays and stretches of 50 steps, of
the median of the ratios, and of the ratio of the totals, in which rare costs count fully and stalls of the
machine too. "Nothing again" is the same as nothing, and shows the noise. What a callback does once, at the
end of a fit, is a column of its own.

    python benchmarks/overhead.py                       # 10 ms steps
    python benchmarks/overhead.py --step-ms 1 10 100
    python benchmarks/overhead.py --only ScalingLawMonitor --relays 20
    python benchmarks/overhead.py --hooks --relays 24   # the last table alone: what a batch's hooks cost
    python benchmarks/overhead.py --quick               # does it run at all
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, TensorDataset

from foretrain.lightning import ScalingLawMonitor

VALIDATE_EVERY = 50
TURN = 1  # steps; must divide the above
TURNS = VALIDATE_EVERY // TURN
WARM_UP = 5  # stretches that are not counted: imports, caches, and the fitting process starting up once
BATCH = 8
WIDTH = 32
LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning")
PAD = 192  # rows of the square matrices whose products fill a step
BATCH_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
PADDING, PADDED = torch.full((2, PAD, PAD), 1.0 / PAD)  # one place in memory for all trainers


class Relay:
    """Lets one of several threads run at a time, and says which.

    Args:
        names: The runners.
        rounds: Turns for each.
        seed: Of the order, which is drawn for every round.
    """

    def __init__(self, names: list[str], rounds: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._order = [names[index] for _ in range(rounds) for index in rng.permutation(len(names))]
        self._batons = {name: threading.Semaphore(0) for name in names}
        self._turn = -1
        self.done = threading.Semaphore(0)

    def wait(self, name: str) -> None:
        """Waits for a turn."""
        self._batons[name].acquire()

    def hand_on(self) -> None:
        """Ends a turn."""
        self._turn += 1
        self.done.release()
        if self._turn < len(self._order):
            self._batons[self._order[self._turn]].release()


@dataclass
class Runner:
    """One trainer in the relay, and what was measured of it.

    Attributes:
        name: Of its set of callbacks.
        relay: Whose turn it is.
        callbacks: What is attached.
        share: Its part of the time.
        stopped: Whether its fitting process is.
        wall: Seconds of each turn: some training steps, and the validation if one is due.
        cpu: Seconds that the training thread computed in each.
        end: Seconds from the last validation to the end of training.
    """

    name: str
    relay: Relay
    callbacks: list[Any]
    share: float
    stopped: bool = False
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    end: float = 0.0

    def begin(self) -> None:
        """Waits for the turn, and starts the clocks."""
        self.relay.wait(self.name)
        self._signal(signal.SIGCONT)
        self._began = time.perf_counter(), time.thread_time()

    def close(self) -> None:
        """Stops the clocks, and hands on."""
        wall, cpu = time.perf_counter(), time.thread_time()
        self.wall.append(wall - self._began[0])
        self.cpu.append(cpu - self._began[1])
        self._signal(signal.SIGSTOP)
        self.relay.hand_on()

    def finish(self) -> None:
        """Measures what came after the last turn, and hands on."""
        self.end = time.perf_counter() - self._began[0]
        self.relay.hand_on()

    def _signal(self, number: signal.Signals) -> None:
        for callback in self.callbacks:
            if not isinstance(callback, ScalingLawMonitor) or callback._recording is None:
                continue
            session = callback._recording.session
            fitter = None if session is None else session._fitter
            if fitter is None or fitter._child is None or fitter._child._process.poll() is not None:
                continue
            if self.share:  # fits are rationed by the clock on the wall, of which this trainer has a part
                fitter._share, self.share = fitter._share * self.share, 0.0
            # An idle child sleeps; a signal would wake it, which is no cost of the monitor's.
            if fitter._asked is not None or (number == signal.SIGCONT and self.stopped):
                self.stopped = number == signal.SIGSTOP
                os.kill(fitter._child._process.pid, number)


def time_products(count: int) -> float:
    """Seconds that a number of padding products takes, the least of a few tries."""
    tries = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(count):
            torch.mm(PADDING, PADDING, out=PADDED)
        tries.append(time.perf_counter() - start)
    return min(tries)


def make_module(pl: Any, products: int, runner: Runner | None = None) -> Any:
    """A small regression with dropout, whose training step also does the padding."""

    class Module(pl.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Linear(WIDTH, 1))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            for _ in range(products):
                torch.mm(PADDING, PADDING, out=PADDED)
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))

        # The module's hooks come after those of the callbacks, so what these do is included.

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            done = batch_idx + 1
            if runner is not None and not done % TURN and done % VALIDATE_EVERY:
                runner.close()
                runner.begin()

        def on_validation_end(self) -> None:
            if runner is not None:
                runner.close()
                runner.begin()

        def on_train_end(self) -> None:
            if runner is not None:
                runner.finish()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.01)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1000)]

    return Module()


def variants(pl: Any) -> dict[str, Callable[[], list[Any]]]:
    """The callbacks that are compared, by name."""
    # `final_wait` is a choice of the user about the end of a run, not a cost per step.
    return {
        "nothing": list,
        "nothing again": list,
        "an empty callback": lambda: [pl.Callback()],
        "ScalingLawMonitor": lambda: [ScalingLawMonitor(final_wait=0)],
        "without fits": lambda: [ScalingLawMonitor(fit=False)],
        "LearningRateMonitor": lambda: [pl.callbacks.LearningRateMonitor(logging_interval="step")],
        "ThroughputMonitor": lambda: [
            pl.callbacks.ThroughputMonitor(batch_size_fn=lambda batch: batch[0].size(0))
        ],
    }


def make_loader(steps: int) -> Any:
    """Data for one pass of so many steps."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH * steps, WIDTH, generator=generator)
    y = x.sum(1, keepdim=True) + 0.1 * torch.randn(len(x), 1, generator=generator)
    return DataLoader(TensorDataset(x, y), BATCH, shuffle=True)


def make_trainer(pl: Any, root: str, callbacks: list[Any], steps: int) -> Any:
    """A Trainer as in daily use, but without a progress bar and checkpoints."""
    return pl.Trainer(
        default_root_dir=root,
        logger=pl.loggers.CSVLogger(root),
        callbacks=callbacks,
        max_steps=steps,
        val_check_interval=VALIDATE_EVERY,
        log_every_n_steps=VALIDATE_EVERY,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
    )


def train(pl: Any, callbacks: list[Any], steps: int, products: int, runner: Runner | None = None) -> Any:
    """Trains once, from the same seed as every other time; returns the weights at the end."""
    if runner is None:
        pl.seed_everything(7)
    module = make_module(pl, products, runner)
    with tempfile.TemporaryDirectory() as root:
        trainer = make_trainer(pl, root, callbacks, steps)
        if runner is not None:
            runner.begin()
        trainer.fit(module, make_loader(steps), make_loader(2))
    return [parameter.tolist() for parameter in module.parameters()]


def run_relay(
    pl: Any, names: list[str], stretches: int, products: int, tick: Callable[[], None]
) -> list[Runner]:
    """Trains with each set of callbacks, in turns.

    The first stretches pay for imports, caches and the start of `fit` and of the fitting process, and a last
    turn for the end; they are left out of what the runners hold in `wall` and `cpu`.
    """
    rounds = TURNS * (stretches + WARM_UP) + 1
    relay = Relay(names, rounds)
    runners = [Runner(name, relay, variants(pl)[name](), 1 / len(names)) for name in names]
    faults: list[BaseException] = []

    def run(runner: Runner) -> None:
        try:
            train(pl, runner.callbacks, (stretches + WARM_UP) * VALIDATE_EVERY, products, runner)
        except BaseException as fault:  # shown by the main thread, which would wait for ever
            faults.append(fault)
            relay.hand_on()

    threads = [threading.Thread(target=run, args=(runner,), daemon=True) for runner in runners]
    for thread in threads:
        thread.start()
    relay.hand_on()
    for _ in range(rounds * len(names) + 1):
        relay.done.acquire()
        if faults:
            raise faults[0]
        tick()
    for thread in threads:
        thread.join()
    for runner in runners:
        del runner.wall[: WARM_UP * TURNS], runner.cpu[: WARM_UP * TURNS]
    return runners


def hook_costs(pl: Any, products: int, batches: int, relays: int) -> dict[str, np.ndarray]:
    """Microseconds that each callback takes of a batch, over all the hooks of a batch, by name.

    All callbacks hang in one trainer, between stamps that read the clock, so each is charged with what
    Lightning spends on calling it, in the same batches and after the same training step, which leaves the
    caches as cold as in daily use. Their order is drawn anew for each of the trainers. Every figure holds
    what the calls of one stamp cost; "nothing" is those alone.

    Returns:
        By name of the callback, shape (relays, batches).
    """
    stamps: list[int] = []

    def stamp(self: Any, *_: Any) -> None:
        stamps.append(time.perf_counter_ns())

    body: dict[str, Any] = {name: stamp for name in BATCH_HOOKS}
    Stamp = type("Stamp", (pl.Callback,), body)
    names = ["nothing", "an empty callback", "ScalingLawMonitor", "LearningRateMonitor", "ThroughputMonitor"]
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for relay in range(relays):
        order = [names[i] for i in np.random.default_rng(relay).permutation(len(names))]
        callbacks = [Stamp()]
        for name in order:
            callbacks += [*variants(pl)[name](), Stamp()]
        with tempfile.TemporaryDirectory() as root:
            trainer = make_trainer(pl, root, callbacks, WARM_UP * VALIDATE_EVERY + batches)
            loader = make_loader(WARM_UP * VALIDATE_EVERY + batches)
            stamps.clear()
            trainer.fit(make_module(pl, products), loader, make_loader(2))
        calls = np.reshape(stamps, (-1, len(BATCH_HOOKS), len(order) + 1))
        spent = np.diff(calls, axis=-1).sum(axis=1)[WARM_UP * VALIDATE_EVERY :] / 1e3
        for name, column in zip(order, spent.T, strict=True):
            found[name].append(column)
    return {name: np.array(columns) for name, columns in found.items()}


def tell_hook_costs(costs: dict[str, np.ndarray]) -> None:
    """Prints what each callback takes of a batch, beside the cheaper of Lightning's own two."""
    real = min(("LearningRateMonitor", "ThroughputMonitor"), key=lambda name: float(costs[name].mean()))
    print(
        f"\nMicroseconds of a batch in all hooks of a callback, over {costs[real].size} batches; {real} "
        "is the cheaper of Lightning's own two; all include the stamps, whose cost is that of nothing"
    )
    print(f"{'':20}{'median':>9}{'mean':>9}{'mean / ' + real:>36}")
    for name, spent in costs.items():
        ratio = interval(spent, costs[real], lambda ours, theirs: ours.mean(-1) / theirs.mean(-1))
        print(f"{name:20}{np.median(spent):9.2f}{spent.mean():9.2f}{ratio:>36}")


def own_share(pl: Any, products: int, steps: int) -> tuple[float, dict[str, float]]:
    """The part of a training's wall clock that our hooks take, and the median microseconds of each."""
    spent: dict[str, list[float]] = {}

    class Timed(ScalingLawMonitor):
        """Adds up the time in every hook."""

    def timed(name: str) -> Callable[..., Any]:
        hook = getattr(ScalingLawMonitor, name)
        times = spent.setdefault(name, [])

        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return hook(self, *args, **kwargs)
            finally:
                times.append(time.perf_counter() - start)

        return run

    for name in ("on_train_batch_end", "on_before_optimizer_step", "on_validation_end"):
        setattr(Timed, name, timed(name))
    start = time.perf_counter()
    train(pl, [Timed(final_wait=0)], steps, products)
    whole = time.perf_counter() - start
    medians = {name: 1e6 * statistics.median(times) for name, times in spent.items()}
    return sum(map(sum, spent.values())) / whole, medians


def interval(
    ours: np.ndarray, none: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> str:
    """A statistic of two sets of times, shape (relays, stretches), and its 95 % interval.

    A bootstrap of whole relays, and of stretches within them: where a trainer's objects lie in memory makes
    it faster or slower by half a per cent for as long as it lives.
    """
    relays, stretches = ours.shape
    rng = np.random.default_rng(0)
    relay = rng.integers(0, relays, (4000, relays, 1))
    stretch = rng.integers(0, stretches, (4000, relays, stretches))
    drawn = (values[relay, stretch].reshape(4000, -1) for values in (ours, none))
    lower, upper = np.quantile(statistic(*drawn), [0.025, 0.975])
    return f"{float(statistic(ours.ravel(), none.ravel())):.4f} [{lower:.4f}, {upper:.4f}]"


def median_speed(ours: np.ndarray, none: np.ndarray) -> np.ndarray:
    """Median over the stretches of the speed with callbacks over that without."""
    return np.median(none / ours, axis=-1)


def total_speed(ours: np.ndarray, none: np.ndarray) -> np.ndarray:
    """Speed over all stretches together."""
    return none.sum(axis=-1) / ours.sum(axis=-1)


def compare(pl: Any, step_ms: float, names: list[str], relays: int, stretches: int, console: Console) -> None:
    """Runs all relays for one length of step, and prints the table."""
    one = max(time_products(50) / 50, 1e-9)
    products = max(1, round(step_ms / 1e3 / one))
    columns = (
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        turns = relays * ((TURNS * (stretches + WARM_UP) + 1) * len(names) + 1)
        task = progress.add_task(f"{step_ms:g} ms steps", total=turns)
        runs: list[dict[str, Runner]] = []
        for number in range(relays):
            order = [names[i] for i in np.random.default_rng(number).permutation(len(names))]
            found = run_relay(pl, order, stretches, products, lambda: progress.advance(task))
            runs.append({runner.name: runner for runner in found})
    part, medians = own_share(pl, products, 40 * VALIDATE_EVERY if relays > 2 else VALIDATE_EVERY)
    weights = {name: train(pl, variants(pl)[name](), 4 * VALIDATE_EVERY, 1) for name in names}

    def times(name: str, clock: str) -> np.ndarray:
        return np.array([np.reshape(getattr(run[name], clock), (stretches, TURNS)).sum(1) for run in runs])

    wall = {name: times(name, "wall") for name in names}
    cpu = {name: times(name, "cpu") for name in names}
    none = names[0]
    print(
        f"\nSteps of about {step_ms:g} ms, {relays} relays of {stretches} stretches of {VALIDATE_EVERY} "
        "and a validation"
    )
    print(row("", "ms/stretch", "speed / nothing", "over all", "processor time", "end, ms", "weights"))
    for name in names:
        same = "identical" if weights[name] == weights[none] else "DIFFERENT"
        print(
            row(
                name,
                f"{1e3 * np.median(wall[name]):.1f}",
                interval(wall[name], wall[none], median_speed),
                interval(wall[name], wall[none], total_speed),
                interval(cpu[none], cpu[name], median_speed),
                f"{1e3 * statistics.median(run[name].end for run in runs):.1f}",
                same,
            )
        )
    told = ", ".join(f"{name} {value:.0f} us" for name, value in medians.items())
    print(f"Inside the monitor's own hooks: {100 * part:.2f} % of the wall clock (medians: {told})")


def row(name: str, *cells: str) -> str:
    """A line of the table."""
    widths = (11, 25, 25, 25, 9, 11)
    return f"{name:20}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step-ms", type=float, nargs="+", default=[10.0], help="length of a training step")
    parser.add_argument("--relays", type=int, default=8, help="each with trainers of its own")
    parser.add_argument("--stretches", type=int, default=20, help="of 50 steps, in each relay")
    parser.add_argument("--only", nargs="+", help="sets of callbacks, beside nothing and nothing again")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument(
        "--flavour", default="lightning.pytorch", choices=["lightning.pytorch", "pytorch_lightning"]
    )
    parser.add_argument("--hooks", action="store_true", help="only measure the hooks of a batch")
    parser.add_argument("--quick", action="store_true", help="a short run that measures nothing of use")
    options = parser.parse_args(arguments)
    if options.quick:
        options.step_ms, options.relays, options.stretches = [0.2], 2, 3
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    pl = importlib.import_module(options.flavour)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    console = Console(stderr=True)
    names = list(variants(pl))
    if options.only:
        if unknown := set(options.only) - set(names):
            parser.error(f"expected --only to name some of {names}, got {sorted(unknown)}")
        names = [name for name in names if name in {*names[:2], *options.only}]
    for step_ms in [] if options.hooks else options.step_ms:
        compare(pl, step_ms, names, options.relays, options.stretches, console)
    products = max(1, round(options.step_ms[0] / 1e3 / max(time_products(50) / 50, 1e-9)))
    few = options.quick
    tell_hook_costs(hook_costs(pl, products, 50 if few else 500, 2 if few else options.relays))


if __name__ == "__main__":
    main()
