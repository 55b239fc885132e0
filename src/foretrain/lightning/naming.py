"""Names for functions of the user, by which two runs tell whether they were counted alike."""

from __future__ import annotations

import functools
import hashlib
import types
from typing import Any

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def function_name(function: Any) -> str:
    """A function's module and name, the same in every process, and another for another function.

    The settings of a `functools.partial` are part of it. Functions without a name of their own, such as
    lambdas, get a digest of their code and of the plain values that it uses from around it. Of a method or
    an object that can be called it is the name of the class: what the object holds may change as it is used.
    """
    if isinstance(function, functools.partial):
        settings = [repr(value) for value in function.args if isinstance(value, _PLAIN)]
        settings += [f"{k}={v!r}" for k, v in function.keywords.items() if isinstance(v, _PLAIN)]
        return f"{function_name(function.func)}({', '.join(settings)})"
    named = function if hasattr(function, "__qualname__") else type(function)
    home = getattr(named, "__module__", None)  # methods of C have none
    name = named.__qualname__ if home is None else f"{home}.{named.__qualname__}"
    plain = getattr(function, "__func__", function)
    if "<" in name and isinstance(plain, types.FunctionType):
        name += f" {hashlib.sha256(_describe(plain).encode()).hexdigest()[:8]}"
    return name


def _describe(function: types.FunctionType) -> str:
    around = []
    for cell in function.__closure__ or ():
        try:
            around.append(_value(cell.cell_contents))
        except ValueError:  # not bound yet
            around.append("")
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return repr((_value(function.__code__), around, [_value(value) for value in defaults]))


def _value(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return value.co_code, value.co_names, [_value(constant) for constant in value.co_consts]
    if isinstance(value, tuple | list):
        return [_value(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(repr(_value(item)) for item in value)
    if isinstance(value, types.FunctionType):
        return f"{value.__module__}.{value.__qualname__}"  # no further: it may be itself
    return value if isinstance(value, _PLAIN) else type(value).__qualname__
