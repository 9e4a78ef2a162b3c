"""What a fitted model says of images, read out of their similarities to the ranks: the predict family."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skl2rclip._ordinal.decisions import central_interval, expected_value, read_out
from skl2rclip._ordinal.labels import check_comparable, check_labels
from skl2rclip._utils.arguments import check_lengths, check_real, check_sample_weight
from skl2rclip._utils.snapshots import snapshot_of


class ReadOutMixin:
    """The predict family of a classifier of ranks, which has their scale in `_state` and gives their `_logits`."""

    _state: Any
    classes_: np.ndarray
    ranks_: np.ndarray
    decision: str

    def _logits(self, X: Any, scores: np.ndarray | None = None) -> np.ndarray:
        """Scaled similarities to the prototypes, ndarray of shape (n, K) in rank order, float64."""
        raise NotImplementedError

    def _scores(self, X: Any) -> np.ndarray:
        """How usual images are, ndarray of shape (n,), float64."""
        raise NotImplementedError

    def predict(self, X: Any) -> np.ndarray:
        """Choose a rank for each image, as `decision` says.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.

        Returns
        -------
        ndarray of shape (n,)
            Labels, of the dtype of `classes_`.
        """
        fitted = snapshot_of(self)
        probabilities = softmax(fitted._logits(X), axis=1)
        return fitted.ranks_[read_out(probabilities, fitted._state.scale.values, fitted.decision)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each label, the softmax of `decision_function`.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.

        Returns
        -------
        ndarray of shape (n, K), float64
            Columns in the order of `classes_`.
        """
        fitted = snapshot_of(self)
        return softmax(fitted._logits(X), axis=1)[:, fitted._state.scale.class_order]

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithm of `predict_proba`, exact where probabilities vanish.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.

        Returns
        -------
        ndarray of shape (n, K), float64
            Columns in the order of `classes_`.
        """
        fitted = snapshot_of(self)
        return log_softmax(fitted._logits(X), axis=1)[:, fitted._state.scale.class_order]

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits ``s_ik`` of images and ranks: scaled similarities, with their share of zero-shot CLIP's.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.

        Returns
        -------
        ndarray of shape (n, K), or (n,) for two ranks, float64
            Columns in the order of `classes_`. For two ranks the difference of the two, positive for ``classes_[1]``,
            as scikit-learn has it.
        """
        fitted = snapshot_of(self)
        logits = fitted._logits(X)[:, fitted._state.scale.class_order]
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_expectation(self, X: Any) -> np.ndarray:
        """Predict the expected value of the rank, ``sum_k p_ik v_k``.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.

        Returns
        -------
        ndarray of shape (n,), float64
            In the unit of numeric labels; for words the position along `ranks_`, from 1 to K.
        """
        fitted = snapshot_of(self)
        return expected_value(softmax(fitted._logits(X), axis=1), fitted._state.scale.values)

    def predict_interval(self, X: Any, coverage: float = 0.8) -> np.ndarray:
        """Predict the central interval of the ranks.

        Each end leaves at most half of the rest of the probability outside, so that the interval holds at least
        `coverage` of the predicted probability. It ends at whole ranks, and holds more the fewer there are: of
        probabilities that are exactly right an interval of 0.8 holds 97 to 99 % with three ranks, 95 to 97 % with five,
        90 to 93 % with eleven, 86 to 89 % with twenty-one and 81 to 82 % with a hundred. So `coverage` means about what
        it says from some twenty ranks on; with less than ten, read which neighbouring ranks are possible.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.
        coverage : float, default=0.8
            Probability that the interval is to hold, in (0, 1).

        Returns
        -------
        ndarray of shape (n, 2)
            Labels, of the dtype of `classes_`: the lowest and the highest rank of the interval, in rank order.

        Raises
        ------
        InvalidParameterError
            If `coverage` is out of range.
        """
        check_real("coverage", coverage, 0, 1, open_ends=True)
        fitted = snapshot_of(self)
        logits = fitted._logits(X)  # first, for it tells what is not fitted
        return fitted.ranks_[central_interval(softmax(logits, axis=1), float(coverage))]

    def score_samples(self, X: Any) -> np.ndarray:
        """Tell how usual images are beside those of the fit: the higher the more.

        It is minus the logarithm of an image's leverage, in a ridge regression on the embeddings of the training images
        (of a table without embeddings, on what is read of it). ``score_samples(X) < offset_`` holds for 1% of the
        training images, each scored by a fit without it, and for about as many new ones of the same origin. A label
        that is predicted of an image far below is a guess. What looks unusual to the image tower is not all that can
        be wrong with an image: one that is upside down may not.

        `partial_fit` leaves it as it was, and with ``image_tower="finetune"`` takes it away. There is none of a model
        that was made by `fit_zero_shot`, by `partial_fit` alone, without epochs, or from a single image or group, nor
        of one that was saved before there were scores.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.

        Returns
        -------
        ndarray of shape (n,), float64
            The higher, the more usual.

        Raises
        ------
        NotFittedError
            Before `fit`, and where the model has no scores.
        """
        fitted = snapshot_of(self)
        check_is_fitted(fitted)
        if not hasattr(fitted, "offset_"):
            raise NotFittedError(
                "score_samples: this model does not know what its training images looked like. It was made by "
                "fit_zero_shot, by partial_fit alone or with image_tower='finetune', without epochs (prompt_epochs=0), "
                "from a single image or group (copies of one image, say), or saved before models had scores: fit again."
            )
        return fitted._scores(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy of `predict`, which by default is the median and not the likeliest rank.

        The median has the least absolute error and hits the very rank less often than the likeliest one: compare
        accuracies with ``decision="argmax"``, and errors with `sklearn.metrics.mean_absolute_error`, or where labels
        are words `skl2rclip.metrics.mean_absolute_rank_error`. Searches and cross-validation compare errors by
        ``scoring="neg_mean_absolute_error"`` or `skl2rclip.metrics.neg_mean_absolute_rank_error_scorer`, and this
        accuracy without it.

        Parameters
        ----------
        X : sequence of n images, or with ``image_tower="precomputed"`` array-like of shape (n, W)
            Images, as `fit` takes them.
        y : array-like of shape (n,)
            True labels.
        sample_weight : array-like of shape (n,), optional
            How much each image counts; all count the same by default.

        Returns
        -------
        float
            In [0, 1].

        Raises
        ------
        ValueError
            If `y` holds words where the labels of the fit are numbers, or the reverse.
        """
        fitted = snapshot_of(self)
        check_is_fitted(fitted)
        labels = check_labels(y)
        check_comparable(labels, "y", fitted.classes_, "the labels of the fit")
        predicted = fitted.predict(X)
        check_lengths(predicted, labels)
        # not accuracy_score, which refuses ranks such as 2.5
        return float(np.average(predicted == labels, weights=check_sample_weight(sample_weight, len(labels))))
