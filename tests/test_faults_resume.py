"""A training that is killed and resumed again and again: its fitted set is that of one that was not."""

import itertools
import random
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fault_ledger import effort, record
from foretrain.reporting.comparison import each_once
from foretrain.reporting.points import run_curve, usable
from lightning_models import FLAVOURS
from resume_run import EVERY, HOOKS, Attempt, Processes, loss, rate, runs

KILLS, FAR = effort(2, 20), 9  # kills of one run, and how far beyond a checkpoint each is at most, in steps
STEPS = 12 * KILLS + 36  # so that no attempt comes to the end
WAYS = [*itertools.product(FLAVOURS, [True, False], [7, 0])]
"""Lightning's name; whether the run is named, or its logger's new version each time; when it is saved."""


@pytest.fixture(scope="module")
def processes():
    served = Processes()
    yield served
    served.close()


def fitted(run):
    """What a law is fitted to: step, samples, value and learning rate."""
    kept, excluded = usable(run, "val_loss", "samples")
    assert excluded == {}
    return [(o.counts.steps, o.counts.samples, o.value, o.lr) for _, o in kept]


def truth():
    """The same by what the training does, without any of our code."""
    steps = range(EVERY, STEPS + 1, EVERY)
    return [(step, 4 * step, float(torch.tensor(loss(step))), rate(step)) for step in steps]


def checkpoint_step(root):
    return torch.load(root / "ckpt" / "last.ckpt", weights_only=True)["global_step"]


def draw_kill(rng, root, save):
    """A step and a place within reach of the last checkpoint, but not one where Lightning loses a validation.

    Where a checkpoint was saved at a step before the validation there, and that validation was cut short,
    Lightning (2.6, not 2.2) goes on without it: the measurement is never made, with us or without.
    """
    while True:
        step = checkpoint_step(root) + rng.randrange(FAR)
        hook, place = rng.choice(HOOKS), rng.choice(["before", "after"])
        cut = hook.startswith("on_validation") and (hook, place) != ("on_validation_end", "after")
        if not (save and cut and any(s % save == 0 and s % EVERY == 0 for s in range(step, step + EVERY))):
            return step, hook, place


@pytest.mark.parametrize(("flavour", "named", "save"), WAYS[:: effort(3, 1)])
def test_a_training_killed_and_resumed_has_the_points_of_one_that_was_not(
    processes, tmp_path, flavour, named, save
):
    """Real kills in new processes, under one name and with the logger's new version each time."""
    whole, root = tmp_path / "whole", tmp_path / "killed"
    name = "mine" if named else None
    assert processes.run(Attempt(flavour, str(whole), STEPS, name, save=save))[0] == 0
    rng, killed, stopped, resume = random.Random(f"{flavour} {named} {save}"), 0, 0, None
    (root / "ckpt").mkdir(parents=True)
    while killed < KILLS:
        kill = draw_kill(rng, root, save) if resume else (FAR, "on_train_batch_end", "before")
        code, log = processes.run(Attempt(flavour, str(root), STEPS, name, resume, kill, save))
        killed += code == -signal.SIGKILL
        stopped += code not in (0, -signal.SIGKILL)
        assert code == -signal.SIGKILL, log
        resume = "last"
    code, log = processes.run(Attempt(flavour, str(root), STEPS, name, "last", save=save))
    stopped += code != 0
    kept = runs(root)
    said = {int(step) for step in Path(root, "said").read_text().split()}
    newest = max(kept.values(), key=lambda run: len(run.observations))
    lost = len(said - {step for step, *_ in fitted(newest)})
    how = f"SIGKILL and resume, {'one name' if named else 'a new version each'}, {flavour}"
    how += f", checkpoints {'every 7 steps' if save else 'at validations'}"
    record(9, how, killed, KILLS, lost=lost, stopped=stopped)
    assert (stopped, lost) == (0, 0), log
    (uninterrupted,) = runs(whole).values()
    assert newest.state == uninterrupted.state == "finished"
    assert fitted(newest) == fitted(uninterrupted) == truth()
    assert newest.schedule.rates(STEPS) == pytest.approx(uninterrupted.schedule.rates(STEPS), abs=2e-5)
    # To the study it is one run, whatever the loggers called its parts.
    curves = [run_curve(run, "val_loss", "samples")[0] for run in kept.values()]
    points = run_curve(uninterrupted, "val_loss", "samples")[0].points
    assert [(found.run, found.points) for found in each_once(curves)] == [(newest.info.run, points)]
    assert (len(kept) == 1) == named


@pytest.mark.parametrize("flavour", FLAVOURS[: effort(1, 2)])
def test_a_job_that_is_queued_again_has_the_points_of_one_that_was_not(processes, tmp_path, flavour):
    """SLURM's signal after a hook: Lightning saves, the job is killed, and the next one finds the save."""
    last, places = 24, [(10, "on_train_batch_end", "after"), (8, "on_validation_end", "after")]
    places += [(5, "on_train_epoch_end", "after"), (15, "on_train_epoch_end", "before")]
    points = [point for point in truth() if point[0] <= last]
    signalled = stopped = lost = 0
    found = []
    for number, kill in enumerate(places):
        root = tmp_path / str(number)
        attempt = Attempt(flavour, str(root), last, "mine", None, kill, 50, requeue=True)
        code, log = processes.run(attempt)
        assert code == -signal.SIGKILL, log
        assert (root / "hpc_ckpt_1.ckpt").is_file(), log
        signalled += 1
        code, log = processes.run(replace(attempt, kill=None))
        stopped += code != 0
        (run,) = runs(root).values()
        found.append((run.info.continues["step"], fitted(run)))
        lost += len(set(points) - set(fitted(run)))
    record(9, f"SLURM requeue, {flavour}", signalled, len(places), lost=lost, stopped=stopped)
    assert found == [(kill[0], points) for kill in places]
