"""The host: whichever Lightning is installed, and how to stand in its hooks without ever disturbing it."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

FLAVOURS = ("lightning.pytorch", "pytorch_lightning")
OLDEST = (2, 2)
COMPROMISED = ("2.6.2", "2.6.3")  # withdrawn releases, see Lightning-AI/pytorch-lightning#21691

log = logging.getLogger(__name__)
Hook = TypeVar("Hook", bound=Callable[..., Any])


def callback_bases() -> tuple[type, ...]:
    """The `Callback` class of every Lightning that is installed."""
    return host_classes("Callback")


def host_classes(name: str) -> tuple[type, ...]:
    """The class of this name of every Lightning that is installed.

    `lightning.pytorch.Callback` and `pytorch_lightning.Callback` are unrelated classes, and a Trainer
    refuses the other package's. A class that inherits from both is at home in either.

    Args:
        name: Such as "Callback".

    Raises:
        ModuleNotFoundError: If neither package can be imported.
    """
    bases: list[type] = []
    failures: list[str] = []
    for flavour in FLAVOURS:
        if importlib.util.find_spec(flavour.partition(".")[0]) is None:
            continue
        try:
            bases.append(getattr(importlib.import_module(flavour), name))
        except Exception as error:  # one broken installation must not take the other with it
            failures.append(f"{flavour}: {error!r}")
    if not bases:
        reason = f" ({'; '.join(failures)})" if failures else ""
        raise ModuleNotFoundError(
            "Expected PyTorch Lightning as `lightning` or as `pytorch_lightning`, found neither"
            f"{reason}: install `foretrain[lightning]` or `foretrain[pytorch-lightning]`."
        )
    return tuple(bases)


if TYPE_CHECKING:
    from lightning.pytorch import Callback

    class HostCallback(Callback):  # type: ignore[misc]
        """A callback of every Lightning that is installed."""
else:
    HostCallback = type(
        "HostCallback", callback_bases(), {"__doc__": "A callback of every Lightning that is installed."}
    )


def warn(message: str) -> None:
    """Warns on rank zero; where warnings are made errors, logs instead: a warning may not end a run."""
    try:
        rank_zero_warn(message)
    except Exception:
        log.warning(message)


def inform(message: str) -> None:
    """Tells the user something on rank zero, the way Lightning does."""
    try:
        rank_zero_info(message)
    except Exception:
        log.info(message)


def guarded(hook: Hook) -> Hook:
    """Makes a hook harmless: whatever goes wrong in it is one warning, and training goes on.

    Only `Exception`s are held back: an interrupt or an exit is the user's will and passes.
    """

    @functools.wraps(hook)
    def safe(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return hook(self, *args, **kwargs)
        except Exception as error:
            hold_back(self, hook.__name__, error)
            return None

    return guards_itself(cast(Hook, safe))


def guards_itself(hook: Hook) -> Hook:
    """Marks a hook that holds its exceptions back in its own body.

    In every training step, where caches are cold, the frame of a wrapper costs as much as the work in it.
    """
    hook.__guarded__ = True  # type: ignore[attr-defined]
    return hook


def hold_back(monitor: Any, hook: str, error: Exception) -> None:
    """Turns what went wrong in a hook into one warning."""
    monitor.warn_once(
        f"fault in {hook}",
        f"ScalingLawMonitor failed in `{hook}` ({type(error).__name__}: {error}). "
        "Training is not affected; observations or projections may be missing.",
    )
    log.debug("ScalingLawMonitor failed in `%s`", hook, exc_info=True)


def leave_out(callback: Any, cls: type, hooks: Iterable[str]) -> None:
    """Has Lightning pass over hooks of a callback: it calls what is callable, and None is not.

    A hook of a subclass, or one that was set on the callback itself, stays.

    Args:
        callback: It.
        cls: The class whose hooks have nothing to do.
        hooks: Their names.
    """
    for name in hooks:
        if getattr(type(callback), name) is getattr(cls, name):
            callback.__dict__.setdefault(name, None)


def take_back(callback: Any, hooks: Iterable[str]) -> None:
    """Undoes `leave_out`."""
    for name in hooks:
        if callback.__dict__.get(name, callback) is None:
            del callback.__dict__[name]


def version_fault(trainer: Any) -> str | None:
    """A sentence if this Trainer's Lightning is too old or a withdrawn release, else None."""
    for cls in type(trainer).__mro__:
        package = cls.__module__.partition(".")[0]
        if package in ("lightning", "pytorch_lightning"):
            break
    else:
        return None
    try:
        version = importlib.metadata.version(package.replace("_", "-"))
    except Exception:  # frozen applications have no metadata, and the disk that holds it may fail
        return None
    if version.split("+")[0] in COMPROMISED:
        return f"{package} {version} was withdrawn after a supply chain compromise: install another one."
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        return (
            f"ScalingLawMonitor expects {package} {'.'.join(map(str, OLDEST))} or later, got {version}: "
            "it may count or log wrongly here."
        )
    return None
