"""Flags of a run under way: each is told once, given to the user's function, and may stop the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from foretrain.flags import Flag, FlagKind
from foretrain.lightning.facts import validates_fit
from foretrain.lightning.session import Session
from foretrain.lightning.settings import SEVERITIES, STOP, Settings


class Alarm:
    """What a fit has been told of its flags. Lives on rank zero while it lasts.

    Args:
        settings: What the user asked for.
        since: Optimizer step that the fit goes on from: a flag of a validation up to there is an old one.
        warn_once: Warns, unless it already did so under a key.

    Attributes:
        flags: All flags of the run, as far as they are known.
        reason: The first new flag that is grave enough to stop the run; None before there is one.
    """

    def __init__(self, settings: Settings, since: int, warn_once: Callable[[str, str], None]) -> None:
        self._settings, self._since, self._warn_once = settings, since, warn_once
        self._told: set[tuple[FlagKind, int]] = set()
        self.flags: tuple[Flag, ...] = ()
        self.reason: Flag | None = None

    def sound(self, session: Session, trainer: Any) -> None:
        """Tells the flags that are new since the last call."""
        flags = session.fetch_flags()
        if flags is None:
            return
        self.flags = flags
        new = [flag for flag in flags if flag.step > self._since and (flag.kind, flag.step) not in self._told]
        grave = SEVERITIES.index(self._settings.stop_at)
        for flag in new:
            self._told.add((flag.kind, flag.step))
            if self.reason is None and SEVERITIES.index(flag.severity.value) >= grave:
                self.reason = flag
            self._warn_once(
                f"flag {flag.kind.value} {flag.step}",
                f"ScalingLawMonitor flags {self._settings.transform.name} of {session.info.run}: "
                f"{flag.kind.value} ({flag.severity.value}). {flag.message}",
            )
            for failure in session.tell_flag(trainer, flag, flags):
                self._warn_once(failure, failure)
            self._call(flag)

    def _call(self, flag: Flag) -> None:
        if self._settings.on_flag is None:
            return
        try:
            self._settings.on_flag(flag)
        except Exception as error:
            self._warn_once(
                "on_flag",
                f"`on_flag` of ScalingLawMonitor failed ({type(error).__name__}: {error}). Training is not "
                "affected, and later flags are given to it as well.",
            )


def stop_together(
    settings: Settings, reason: Flag | None, trainer: Any, warn_once: Callable[[str, str], None]
) -> bool:
    """Ends the fit of all processes where one of them has a reason, once a checkpoint is saved.

    To be called by every process at the end of a validation, and no more after it was true: what they say to
    each other must match.

    Args:
        settings: What the user asked for.
        reason: The flag for which this process would stop; None on all but rank zero.
        trainer: The Trainer.
        warn_once: Warns, unless it already did so under a key.

    Returns:
        Whether the decision was made. Where no checkpoint could be saved training goes on nevertheless.
    """
    if settings.action != STOP or trainer.fast_dev_run or not validates_fit(trainer):
        return False
    strategy = trainer.strategy
    if not strategy.reduce_boolean_decision(reason is not None, all=False):
        return False
    path = strategy.broadcast("" if reason is None else _checkpoint_path(reason, trainer), 0)
    saved, fault = True, ""
    try:
        trainer.save_checkpoint(path)
    except Exception as error:
        saved, fault = False, f"{type(error).__name__}: {error}"
        # The others wait where this process would have come to.
        strategy.barrier("Trainer.save_checkpoint")
    if strategy.reduce_boolean_decision(saved, all=True):
        trainer.should_stop = True
        warn_once("stopped", f"ScalingLawMonitor stops the run for its flag. The checkpoint is {path}.")
    else:
        warn_once(
            "not stopped",
            f"ScalingLawMonitor does not stop the run for its flag, since the checkpoint {path} could not be "
            f"saved ({fault or 'on another process'}): make room there, or stop it yourself.",
        )
    return True


def _checkpoint_path(flag: Flag, trainer: Any) -> str:
    """Beside the run's other checkpoints; without any, under its root directory."""
    folder = getattr(trainer.checkpoint_callback, "dirpath", None)
    folder = folder or os.path.join(str(trainer.default_root_dir), "checkpoints")  # noqa: PTH118 (may be a URL)
    return f"{str(folder).rstrip('/')}/flagged-{flag.kind.value}-step={flag.step}.ckpt"
