"""Carry an error of `workers/errors.py` from one process to another as itself.

What crosses is the class, the plain fields and the text of the cause, which the log shows. Any
other exception is a bug of the process that raised it: that process logs it, and the other one
receives an internal error.
"""

from __future__ import annotations

from msgspec import Struct

from workers import errors
from workers.errors import GatewayError


class Fault(Struct, array_like=True, frozen=True):
    """An error on its way: the name of its class, its fields and the text of its cause."""

    name: str
    fields: dict[str, str | int | float | bool | None]
    cause: str | None = None


class RemoteCause(Exception):
    """The cause of an error, as the other process described it."""


def fault_of(error: GatewayError) -> Fault:
    """Return what crosses of an error."""
    plain = {
        name: value
        for name, value in vars(error).items()
        if value is None or isinstance(value, str | int | float)
    }
    cause = error.__cause__
    return Fault(type(error).__name__, plain, None if cause is None else str(cause))


def error_of(fault: Fault) -> GatewayError:
    """Return the error that a fault describes; an internal error for an unknown class."""
    kind = CLASSES.get(fault.name)
    if kind is None:
        return GatewayError()
    # Not by its constructor: those of the subclasses differ, and the fields say everything.
    error = kind.__new__(kind)
    Exception.__init__(error, fault.fields.get("message"))
    vars(error).update(fault.fields)
    if fault.cause is not None:
        error.__cause__ = RemoteCause(fault.cause)
    return error


CLASSES: dict[str, type[GatewayError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, GatewayError)
}
"""Every class of `workers/errors.py` by its name."""
