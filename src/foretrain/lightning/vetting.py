"""Whether a user's scheduler can be tried out ahead of time: nothing outside of a copy may notice.

A scheduler is copied whole, but Python copies functions by reference: a `LambdaLR`'s function would run in
the user's own world. So its byte code is read before it is ever called. It may compute, read plain data and
call functions that pass the same reading; it may not store into anything that outlives it, nor call what is
not known to be harmless. What cannot be told is refused, and the schedule is then unknown.
"""

from __future__ import annotations

import builtins
import dis
import functools
import inspect
import math
import types
import weakref
from collections import defaultdict
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler

NOT_COPYABLE = "not copyable"
SIDE_EFFECTS = "side effects"
OUTSIDE_STATE = "outside state"

MOST_VALUES = 20_000  # looked at in one scheduler
MOST_NUMBERS = 1_000_000  # in one array

_PLAIN = (bool, int, float, complex, str, bytes, type(None), range, slice, Enum, np.generic, torch.dtype)
_CONTAINERS = (list, tuple, set, frozenset, Mapping)
_MUTABLE = (list, set, Mapping, np.ndarray)
_TRUSTED = {"torch", "lightning", "pytorch_lightning", "omegaconf", "pydantic", "argparse", "builtins"}
"""Packages whose attributes and properties may be read."""
_PURE_BUILTINS = set(
    "abs all any bool complex dict divmod enumerate float frozenset int isinstance issubclass len list "
    "max min pow range reversed round set slice sorted str sum super tuple type zip".split()
)
_PURE_NAMES = set(  # of numpy and torch
    "abs arange array asarray as_tensor clamp clip cos cosh cumprod cumsum digitize exp exp2 expm1 "
    "float32 float64 int32 int64 interp linspace log log10 log1p log2 logspace max maximum mean min "
    "minimum power pow prod round searchsorted sigmoid sin sinh sqrt square sum tan tanh tensor tile "
    "where".split()
)
_PURE_METHODS = set(
    "T as_integer_ratio astype bit_length conjugate count dtype endswith get imag index is_integer item "
    "items keys max mean min ndim numel prod real round shape size start startswith stop sum tolist "
    "values".split()
)
_MOVING = set(
    "global_step current_epoch batch_idx total_batch_idx callback_metrics logged_metrics "
    "progress_bar_metrics optimizers lr_schedulers lr_scheduler_configs should_stop".split()
)
"""What changes while a run trains: a function that reads it does not depend on the step count alone."""
_STORES = set(
    "STORE_GLOBAL DELETE_GLOBAL STORE_NAME DELETE_NAME LOAD_BUILD_CLASS GET_AWAITABLE SEND SETUP_WITH "
    "BEFORE_WITH LOAD_SPECIAL".split()
)
_STORES_INTO = set("STORE_ATTR DELETE_ATTR STORE_SUBSCR DELETE_SUBSCR STORE_SLICE LOAD_SUPER_ATTR".split())
_NOTHING = set("CACHE PUSH_NULL PRECALL NOP RESUME EXTENDED_ARG COPY_FREE_VARS MAKE_CELL".split())
_CALLED = ("step", "get_lr", "_get_closed_form_lr", "_update_lr")  # methods of a scheduler

_UNKNOWN = object()


class Doubt(Exception):
    """Why something cannot be tried out; its text is the reason, in a word or two."""


class Vetting:
    """Looks through a scheduler, at every part of it once.

    Args:
        optimizer: The scheduler's; it is replaced in the copy, and not looked at.

    Attributes:
        shared: Objects that a copy shares with the original, by id: modules whose methods it calls.
    """

    def __init__(self, optimizer: Any = None) -> None:
        self.shared: dict[int, Any] = {}
        self._optimizer = optimizer
        self._seen: dict[int, Any] = {}  # holds what it has seen, so that no id is used twice
        self._read: set[tuple[Any, int]] = set()

    def look(self, value: Any) -> None:
        """Passes a value that can be copied, and the functions in it that can be run.

        Raises:
            Doubt: If it cannot, or that cannot be told.
        """
        if isinstance(value, _PLAIN) or id(value) in self._seen or value is self._optimizer:
            return
        self._seen[id(value)] = value
        if len(self._seen) > MOST_VALUES:
            raise Doubt(NOT_COPYABLE)
        if isinstance(value, torch.Tensor | np.ndarray):
            if math.prod(value.shape) > MOST_NUMBERS or getattr(value, "requires_grad", False):
                raise Doubt(NOT_COPYABLE)
        elif isinstance(value, _CONTAINERS):
            if isinstance(value, defaultdict):  # stores what it is asked for
                raise Doubt(SIDE_EFFECTS)
            for item in list(value.items()) if isinstance(value, Mapping) else list(value):
                self.look(item)
        elif isinstance(value, LRScheduler):
            for cls in type(value).__mro__:
                for name in _CALLED if _root(cls) not in ("torch", "builtins") else ():
                    if isinstance(vars(cls).get(name), types.FunctionType):
                        self.read(vars(cls)[name], value, own=True)
            self.look(vars(value))
        elif isinstance(value, types.MethodType):
            self.run(value)
            if isinstance(value.__self__, torch.nn.Module):
                self.shared[id(value.__self__)] = value.__self__  # what was read only looks at it
            else:
                self.look(value.__self__)
        elif isinstance(value, functools.partial):
            self.run(value)
        elif callable(value) and not isinstance(value, torch.nn.Module):
            self.run(value)
            if not isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
                self._look_inside(value)
        elif not isinstance(value, weakref.ref):
            self._look_inside(value)

    def _look_inside(self, value: Any) -> None:
        foreign = isinstance(value, torch.nn.Module | torch.optim.Optimizer) or _root(type(value)) in _TRUSTED
        if foreign or not hasattr(value, "__dict__"):
            raise Doubt(NOT_COPYABLE)
        self.look(vars(value))

    def run(self, function: Any) -> None:
        """Passes what can be called without a trace.

        Raises:
            Doubt: If it cannot, or that cannot be told.
        """
        while isinstance(function, functools.partial):
            self.look(function.args)
            self.look(function.keywords)
            function = function.func
        if isinstance(function, functools._lru_cache_wrapper):
            function = function.__wrapped__
        if _is_pure(function):
            return
        bound: Any = _UNKNOWN
        if isinstance(function, types.MethodType):
            function, bound = function.__func__, function.__self__
        elif not isinstance(function, types.FunctionType | type | torch.nn.Module):
            function, bound = inspect.getattr_static(type(function), "__call__", None), function
        if not isinstance(function, types.FunctionType):
            raise Doubt(SIDE_EFFECTS)
        self.read(function, bound)

    def read(self, function: types.FunctionType, bound: Any = _UNKNOWN, *, own: bool = False) -> None:
        """Passes a function, bound to an object or not, whose code leaves no trace.

        Args:
            function: The function.
            bound: What its first argument is.
            own: Whether it may store into objects, as methods of a scheduler do, which run in its copy.

        Raises:
            Doubt: If it may leave one.
        """
        if (function, id(bound)) in self._read or _is_pure(function):
            return
        self._read.add((function, id(bound)))
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self.look(default)
        code = function.__code__
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        first = code.co_varnames[0] if code.co_argcount and bound is not _UNKNOWN else None
        _Reader(self, function.__globals__, cells, first, bound, own).read(code, outermost=True)


class _Reader:
    """Reads one function's byte code; see `Vetting.read`."""

    def __init__(
        self,
        vetting: Vetting,
        known: dict[str, Any],
        cells: dict[str, types.CellType],
        first: str | None,
        bound: Any,
        own: bool,
    ) -> None:
        self._vetting, self._globals, self._cells = vetting, known, cells
        self._first, self._bound, self._own = first, bound, own
        self._mutable = self._in_place = False

    def read(self, code: types.CodeType, *, outermost: bool = False) -> None:
        loaded = _UNKNOWN  # what lies on top of the stack, where that comes from outside
        for step in dis.get_instructions(code):
            name, argument = step.opname, step.argval
            if name in _NOTHING:
                continue
            if name in ("LOAD_ATTR", "LOAD_METHOD"):
                loaded = self._attribute(loaded, argument)
                continue
            self._pass(loaded)
            loaded = _UNKNOWN
            if "LOAD_FAST" in name:
                last = argument[-1] if isinstance(argument, tuple) else argument
                loaded = self._bound if outermost and last == self._first else _UNKNOWN
            elif name in ("LOAD_GLOBAL", "LOAD_NAME"):
                loaded = self._globals.get(argument, getattr(builtins, argument, _UNKNOWN))
            elif name in ("LOAD_DEREF", "LOAD_CLASSDEREF"):
                loaded = self._free(argument)
            elif isinstance(argument, types.CodeType):
                self.read(argument)
            elif name == "IMPORT_NAME":
                if argument.partition(".")[0] not in {"math", "cmath", "bisect", "numpy", "torch"}:
                    raise Doubt(SIDE_EFFECTS)
            elif name in ("STORE_DEREF", "DELETE_DEREF"):
                if argument in self._cells or argument == self._first:
                    raise Doubt(SIDE_EFFECTS)
            elif name in _STORES or (name in _STORES_INTO and not self._own):
                raise Doubt(SIDE_EFFECTS)
            if "STORE_FAST" in name and outermost and self._first is not None:
                if self._first in (argument if isinstance(argument, tuple) else (argument,)):
                    raise Doubt(SIDE_EFFECTS)
            if isinstance(argument, tuple) and "out" in argument:  # numpy's and torch's way to store
                raise Doubt(SIDE_EFFECTS)
            self._in_place |= name.startswith("INPLACE_") or (
                name == "BINARY_OP" and step.argrepr[-1:] == "="
            )
            if self._in_place and self._mutable:  # an alias of outside data might be added to
                raise Doubt(SIDE_EFFECTS)
        self._pass(loaded)

    def _free(self, name: str) -> Any:
        if name == self._first:
            return self._bound
        try:
            return self._cells[name].cell_contents if name in self._cells else _UNKNOWN
        except ValueError:  # not bound yet
            raise Doubt(OUTSIDE_STATE) from None

    def _attribute(self, holder: Any, name: str) -> Any:
        if isinstance(holder, types.ModuleType):
            return getattr(holder, name, _UNKNOWN)
        if isinstance(holder, torch.Tensor):
            raise Doubt(OUTSIDE_STATE)
        if self._own and holder is self._bound:
            found = inspect.getattr_static(type(holder), name, None)
            for part in (found, getattr(found, "__func__", None), getattr(found, "fget", None)):
                if isinstance(part, types.FunctionType):
                    self._vetting.read(part, holder, own=True)
            return _UNKNOWN
        if holder is _UNKNOWN or isinstance(holder, (*_PLAIN, *_CONTAINERS, np.ndarray)):
            if (
                isinstance(holder, Mapping)
                and name in holder
                and _root(type(holder)) in _TRUSTED - {"builtins"}
            ):
                return holder[name]  # such as `hparams.warmup`
            if name in _PURE_METHODS or (self._own and holder is _UNKNOWN):
                return _UNKNOWN
            raise Doubt(SIDE_EFFECTS)
        return self._attribute_of(holder, name)

    def _attribute_of(self, holder: Any, name: str) -> Any:
        """An attribute of an object of the user's, where getting it runs nothing that leaves a trace."""
        if name in _MOVING:
            raise Doubt(OUTSIDE_STATE)
        found = inspect.getattr_static(type(holder), name, None)
        if isinstance(found, property):
            owner = next(cls for cls in type(holder).__mro__ if name in vars(cls))
            if _root(owner) not in _TRUSTED and isinstance(found.fget, types.FunctionType):
                self._vetting.read(found.fget, holder)
        for hook in ("__getattr__", "__getattribute__"):
            owner = next((cls for cls in type(holder).__mro__ if hook in vars(cls)), object)
            if _root(owner) not in _TRUSTED and isinstance(vars(owner)[hook], types.FunctionType):
                raise Doubt(SIDE_EFFECTS)
        try:
            return getattr(holder, name)
        except Exception:
            raise Doubt(OUTSIDE_STATE) from None

    def _pass(self, loaded: Any) -> None:
        if loaded is _UNKNOWN or (self._own and loaded is self._bound):
            return
        if isinstance(loaded, torch.Tensor):
            raise Doubt(OUTSIDE_STATE)
        if isinstance(loaded, (*_PLAIN, *_CONTAINERS, np.ndarray)):
            self._vetting.look(loaded)
            if isinstance(loaded, _MUTABLE):
                self._mutable = True
                if self._own:
                    raise Doubt(SIDE_EFFECTS)
        elif callable(loaded):
            self._vetting.run(loaded)
        else:
            raise Doubt(SIDE_EFFECTS)


def _is_pure(function: Any) -> bool:
    """Whether it is one of the functions and classes known to leave no trace."""
    module = str(getattr(function, "__module__", None) or "")
    name = str(getattr(function, "__name__", ""))
    root = module.partition(".")[0]
    if isinstance(function, np.ufunc) or module == "torch.optim.lr_scheduler":
        return True
    if isinstance(function, type) and issubclass(function, Exception | np.generic | LRScheduler):
        return True
    if root in ("numpy", "torch"):
        return name in _PURE_NAMES and not module.startswith(("numpy.random", "torch.random"))
    if module == "builtins":
        return name in _PURE_BUILTINS and getattr(builtins, name) is function
    if name == "warn":  # of which nothing is heard while a plan is made
        return module in ("warnings", "_warnings")
    return module in ("math", "cmath") or (module == "_bisect" and name.startswith("bisect"))


def _root(item: Any) -> str:
    return str(getattr(item, "__module__", None) or "").partition(".")[0]
