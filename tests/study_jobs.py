"""Trainings of one point that the tests of studies send to other processes, and what they should leave."""

import os
import signal
import time
from pathlib import Path

from foretrain.axes import Counts
from foretrain.observation import Observation


def loss(config, step=3):
    """A learning curve that depends on all of a point."""
    return 3 / config["size"] + 20 / config["data"] + 0.1 / step + 0.01 * config["seed"]


def observe(config):
    """The curve as observations."""
    return [
        Observation(
            config["run"],
            "val_loss",
            loss(config, step),
            Counts(samples=step * config["data"], steps=step, params=10 * config["size"]),
        )
        for step in (1, 2, 3)
    ]


def train(config):
    """Trains a point; leaves one file for each time that it was begun."""
    folder = Path(config["root"], "begun")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{config['run']}.{os.getpid()}.{time.monotonic_ns()}").touch()
    time.sleep(config.get("seconds", 0))
    return observe(config)


def fails_at_size_8(config):
    if config["size"] == 8:
        raise RuntimeError("out of paper")
    return train(config)


class Odd(Exception):
    """An exception that cannot be made anew from its arguments, as pickle would."""

    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


def raises_oddly(config):
    raise Odd("no", "luck")


def exits(config):
    raise SystemExit(3)


def dies_once(config):
    """The process of size 8, seed 0 is killed the first time that it is trained."""
    marker = Path(config["root"], "died")
    first = config["size"] == 8 and config["seed"] == 0 and not marker.exists()
    told = train(config)
    if first:
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return told


def always_dies_at_size_8(config):
    if config["size"] == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return train(config)


def dies(config):
    os.kill(os.getpid(), signal.SIGKILL)


def begun(root):
    """How often each run was begun."""
    names = [path.name.rsplit(".", 2)[0] for path in Path(root, "begun").glob("*")]
    return {name: names.count(name) for name in names}
