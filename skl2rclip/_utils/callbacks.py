"""scikit-learn's callbacks, from the version on that has them (1.9): a fit as a tree of stages and epochs.

Where ``sklearn.callback`` is missing, the estimators have no ``set_callbacks``, and nobody is told anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skl2rclip._utils.progress import FitListener

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:
    HAS_CALLBACKS = False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: this scikit-learn has no callbacks."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Leave a method as it is: this scikit-learn has no callbacks."""
        return method

else:
    HAS_CALLBACKS = True


def listener_of(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    n_stages: int = 0,
    metadata: dict[str, Any] | None = None,
    attributes_of: Callable[[Any], dict[str, Any]] = vars,
) -> FitListener:
    """Begin the task "fit" of an estimator whose method is decorated by `with_callbacks`."""
    if not HAS_CALLBACKS:
        return FitListener()
    return _CallbackListener(estimator, {"X": X, "y": y, "metadata": metadata}, n_stages, attributes_of)


class _CallbackListener(FitListener):
    """Tells the callbacks of an estimator."""

    def __init__(
        self, estimator: Any, data: dict[str, Any], n_stages: int, attributes_of: Callable[[Any], dict[str, Any]]
    ):
        self._told = {"estimator": estimator, **data}
        self._attributes_of = attributes_of
        self._fit = estimator._init_callback_context(max_subtasks=n_stages)
        self._fit.call_on_fit_task_begin(**self._told)

    def stage_begins(self, name: str, n_epochs: int) -> None:
        self._stage = self._fit.subcontext(task_name=name, max_subtasks=n_epochs)
        self._stage.call_on_fit_task_begin(**self._told)

    def epoch_begins(self) -> None:
        self._epoch = self._stage.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._told)

    def epoch_ends(self, collect: Callable[[], Any]) -> bool:
        return self._ended(self._epoch, collect)

    def stage_ends(self, collect: Callable[[], Any]) -> bool:
        return self._ended(self._stage, collect)

    def _ended(self, task: Any, collect: Callable[[], Any]) -> bool:
        # a function, which is only called where a callback asks for the estimator as it is now
        return task.call_on_fit_task_end(**self._told, reconstruction_attributes=lambda: self._attributes_of(collect()))

    def fit_ends(self) -> None:
        self._fit.call_on_fit_task_end(**self._told, reconstruction_attributes={})
