"""An estimator as it is at a moment, for threads that read it while another one fits it, and for fits that may fail."""

from __future__ import annotations

from typing import Any, TypeVar

_Estimator = TypeVar("_Estimator")


def snapshot_of(estimator: _Estimator) -> _Estimator:
    """Return the estimator as it is now, parameters and all, which stays so when the estimator is fitted again.

    A fit exchanges the whole ``__dict__`` and changes nothing in the earlier one, which is what the snapshot keeps.
    """
    snapshot = object.__new__(type(estimator))
    snapshot.__dict__ = estimator.__dict__
    return snapshot


def unfitted(estimator: _Estimator, **learned: Any) -> _Estimator:
    """Return the estimator without what it has learned, and with what it is to have learned instead.

    Its ``__dict__`` is a new one, for the estimator to take over in one step, which no interrupt divides.
    """
    parameters = {name: value for name, value in vars(estimator).items() if name.startswith("__") or name[-1] != "_"}
    new = object.__new__(type(estimator))
    new.__dict__ = {**parameters, **learned}
    return new
