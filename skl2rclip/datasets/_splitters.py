"""Protocols of ordinal image classification as scikit-learn's splitters: few shots, unseen ranks, distribution shift.

They thin out the training part of another splitter and leave its test part whole. Only labels and groups are known.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.model_selection import (
    BaseCrossValidator,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    check_cv,
)
from sklearn.utils import check_random_state, indexable
from sklearn.utils.validation import _num_samples

from skl2rclip._ordinal.labels import check_labels, listing
from skl2rclip._utils.arguments import check_boolean, check_choice, check_groups, check_integer, check_real, plain_label
from skl2rclip.errors import InvalidParameterError

Split = tuple[np.ndarray, np.ndarray]
# to which ranks are classes, also where they are fractions
_STRATIFIED = (Integral, StratifiedKFold, StratifiedGroupKFold, StratifiedShuffleSplit, RepeatedStratifiedKFold)


class _ThinningSplit(BaseCrossValidator, metaclass=ABCMeta):
    """What both splitters share: the parts of another splitter, one after the other, as often as is asked for."""

    __metadata_request__split = {"groups": True}  # noqa: RUF012 - read by scikit-learn's metadata routing

    cv: Any
    n_repeats: int
    random_state: Any

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Split]:
        """Generate the indices of training and test images.

        Parameters
        ----------
        X : sequence of n images, or None
            Not looked at but for its length.
        y : array-like of shape (n,)
            Ranks.
        groups : array-like of shape (n,), optional
            Whose image each is; handed to `cv`.

        Yields
        ------
        train, test : ndarray of int
            Fold by fold of `cv`, and all folds before the next repeat.

        Raises
        ------
        ValueError
            If there are too few images of a rank; it is named.
        """
        self._check()
        if y is None:
            raise ValueError(f"{type(self).__name__} draws by rank and needs y, got None.")
        indexable(X, y, groups)
        labels = check_labels(y)
        numbers = None if groups is None else check_groups(groups, len(labels))
        rng = self.random_state
        if not isinstance(rng, np.random.Generator):
            rng = check_random_state(rng)
        for _ in range(self.n_repeats):
            is_empty = True
            for train, test in self._parts(labels, X, y, groups):
                is_empty = False
                drawn = self._drawn(labels, np.asarray(train), rng)
                yield drawn, self._left(drawn, numbers, len(labels)) if test is None else np.asarray(test)
            if is_empty:
                raise ValueError("cv has no splits left. An iterator can be gone through once only: make it a list.")

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits: of `cv`, times `n_repeats`.

        Parameters
        ----------
        X, y, groups : optional
            As for `split`; some splitters of scikit-learn count groups.

        Returns
        -------
        int
            All repeats counted.
        """
        if self.cv is None:
            return self.n_repeats
        return self.n_repeats * int(self._folds(y, groups).get_n_splits(X, y, groups))

    def _folds(self, y: Any, groups: Any) -> Any:
        if isinstance(self.cv, Integral) and groups is not None:
            return StratifiedGroupKFold(self.cv)
        return check_cv(self.cv, y, classifier=True)

    def _parts(self, labels: np.ndarray, X: Any, y: Any, groups: Any) -> Iterator[tuple[Any, Any]]:
        """Training and test part of each fold; None for a test part that depends on what is drawn."""
        if self.cv is None:
            yield np.arange(len(labels)), None
        else:
            X = labels if X is None else X
            if isinstance(self.cv, _STRATIFIED):
                y = np.unique(labels, return_inverse=True)[1]
            yield from self._folds(y, groups).split(X, y, groups)

    def _left(self, drawn: np.ndarray, groups: np.ndarray | None, n: int) -> np.ndarray:
        """All images that were not drawn, and not of a group of which one was."""
        is_left = np.ones(n, bool)
        is_left[drawn] = False
        if groups is not None:
            is_left &= ~np.isin(groups, groups[drawn])
        if not is_left.any():
            raise ValueError("Every image was drawn, or is of a group of which one was drawn: none is left to test.")
        return np.flatnonzero(is_left)

    def _check(self) -> None:
        check_integer("n_repeats", self.n_repeats, 1)

    @abstractmethod
    def _drawn(self, labels: np.ndarray, train: np.ndarray, rng: Any) -> np.ndarray:
        """Draw among the training images of a fold; their indices, rank by rank."""


class FewShotSplit(_ThinningSplit):
    """Train on a few images of each rank, test on the whole test part.

    With the same `random_state` the images of a smaller `n_per_rank` are among those of a larger one, so that curves
    over the number of shots are smooth.

    Parameters
    ----------
    n_per_rank : int or mapping, default=4
        Training images of each rank. A mapping gives them by rank; it must name every rank of y.
    n_repeats : int, default=10
        How often images are drawn anew. Scores of few shots differ much from draw to draw: report their spread.
    cv : int, splitter or list of splits, optional
        Where training and test images come from: the official folds, say. An int makes stratified folds, which keep
        the images of a group together where groups are given. By default the images that were not drawn
        are the test, without those of the groups that were drawn from.
    unseen_ranks : array-like, optional
        Ranks of which nothing is drawn, though the test has them. Give the classifier all `ranks`.
    allow_fewer : bool, default=False
        Take all images of a rank that has fewer, as the literature does with rare ages. By default that is an error.
    random_state : int, RandomState, Generator or None, default=None
        Pass an int for the same images at each call.

    See Also
    --------
    DistributionShiftSplit : Some ranks keep a share of their training images.
    sklearn.model_selection.StratifiedShuffleSplit : Few images in the proportions of the ranks.

    References
    ----------
    W. Li, X. Huang, Z. Zhu, Y. Tang, X. Li, J. Zhou, J. Lu, "OrdinalCLIP: Learning Rank Prompts for Language-Guided
    Ordinal Regression", NeurIPS 2022: 1 to 64 shots and the full test set.

    Examples
    --------
    >>> from skl2rclip.datasets import FewShotSplit
    >>> cv = FewShotSplit(1, n_repeats=2, random_state=0)
    >>> [[len(part) for part in split] for split in cv.split(None, [1, 1, 1, 2, 2, 3, 3])]
    [[3, 4], [3, 4]]
    """

    def __init__(
        self,
        n_per_rank: int | Mapping[Any, int] = 4,
        n_repeats: int = 10,
        *,
        cv: Any = None,
        unseen_ranks: Sequence[Any] | None = None,
        allow_fewer: bool = False,
        random_state: Any = None,
    ):
        self.n_per_rank = n_per_rank
        self.n_repeats = n_repeats
        self.cv = cv
        self.unseen_ranks = unseen_ranks
        self.allow_fewer = allow_fewer
        self.random_state = random_state

    def _check(self) -> None:
        super()._check()
        check_boolean("allow_fewer", self.allow_fewer)
        if isinstance(self.n_per_rank, Mapping):
            for rank, number in self.n_per_rank.items():
                check_integer(f"n_per_rank[{rank!r}]", number, 0)
        else:
            check_integer("n_per_rank", self.n_per_rank, 1)
        if self.unseen_ranks is not None and (isinstance(self.unseen_ranks, str) or np.ndim(self.unseen_ranks) != 1):
            raise InvalidParameterError(f"unseen_ranks must be a list of ranks, got {self.unseen_ranks!r}.")

    def _drawn(self, labels: np.ndarray, train: np.ndarray, rng: Any) -> np.ndarray:
        wanted = self._wanted(np.unique(labels).tolist())
        rows = {rank: train[labels[train] == rank] for rank in wanted}
        fewer = {rank: len(rows[rank]) for rank, number in wanted.items() if len(rows[rank]) < number}
        if fewer and not self.allow_fewer:
            shown = ", ".join(f"{rank!r} has {count} of {wanted[rank]}" for rank, count in list(fewer.items())[:5])
            more = f", ... ({len(fewer)} ranks in all)" if len(fewer) > 5 else ""
            raise ValueError(
                f"Too few training images to draw from: rank {shown}{more}. Lower n_per_rank, or let such ranks give "
                "what they have with allow_fewer=True."
            )
        drawn = [rng.permutation(rows[rank])[:number] for rank, number in wanted.items()]
        if not any(map(len, drawn)):
            raise ValueError("Nothing is drawn: n_per_rank and unseen_ranks leave no rank with images.")
        return np.concatenate(drawn)

    def _wanted(self, ranks: list[Any]) -> dict[Any, int]:
        """Images to draw by rank, in the order in which ranks sort."""
        if isinstance(self.n_per_rank, Mapping):
            numbers = {plain_label(rank): number for rank, number in self.n_per_rank.items()}
            missing = [rank for rank in ranks if rank not in numbers]
            if missing:
                raise ValueError(f"n_per_rank has no number for the ranks {listing(missing)} of y.")
        else:
            numbers = dict.fromkeys(ranks, self.n_per_rank)
        unseen = [] if self.unseen_ranks is None else [plain_label(rank) for rank in self.unseen_ranks]
        unknown = [rank for rank in unseen if rank not in ranks]
        if unknown:
            raise ValueError(f"unseen_ranks has ranks that y does not hold: {listing(unknown)}.")
        return {rank: 0 if rank in unseen else numbers[rank] for rank in ranks}


class DistributionShiftSplit(_ThinningSplit):
    """Take most of the training images of some ranks away, and test on the whole test part.

    Parameters
    ----------
    n_ranks : int
        How many ranks lose images.
    keep : float, default=0.1
        Share of their training images that these ranks keep, at least one image; 0 makes them unseen ranks.
    n_repeats : int, default=1
        How often images are drawn anew.
    cv : int, splitter or list of splits, default=5
        Where training and test images come from: the official folds, say. An int makes stratified folds,
        which keep the images of a group together where groups are given.
    which : {"frequent", "random"}, default="frequent"
        The ranks with the most training images lose them, as on MORPH II in the literature, or ranks that are drawn
        anew for each fold and repeat.
    random_state : int, RandomState, Generator or None, default=None
        Pass an int for the same images at each call.

    See Also
    --------
    FewShotSplit : A few images of each rank.

    References
    ----------
    W. Li, X. Huang, Z. Zhu, Y. Tang, X. Li, J. Zhou, J. Lu, "OrdinalCLIP: Learning Rank Prompts for Language-Guided
    Ordinal Regression", NeurIPS 2022: 10 to 40 ages keep 10 % or 20 % of their images.

    Examples
    --------
    >>> from skl2rclip.datasets import DistributionShiftSplit
    >>> cv = DistributionShiftSplit(1, keep=0.25, cv=2, random_state=0)
    >>> [[len(part) for part in split] for split in cv.split(None, [1] * 8 + [2] * 4)]
    [[3, 6], [3, 6]]
    """

    def __init__(
        self,
        n_ranks: int,
        keep: float = 0.1,
        *,
        n_repeats: int = 1,
        cv: Any = 5,
        which: str = "frequent",
        random_state: Any = None,
    ):
        self.n_ranks = n_ranks
        self.keep = keep
        self.n_repeats = n_repeats
        self.cv = cv
        self.which = which
        self.random_state = random_state

    def _check(self) -> None:
        super()._check()
        check_integer("n_ranks", self.n_ranks, 1)
        check_real("keep", self.keep, 0, 1)
        check_choice("which", self.which, ("frequent", "random"))
        if self.cv is None:
            raise ValueError("cv must say where training and test images come from, got None.")

    def _drawn(self, labels: np.ndarray, train: np.ndarray, rng: Any) -> np.ndarray:
        ranks, index, counts = np.unique(labels[train], return_inverse=True, return_counts=True)
        least = self.n_ranks + (self.keep == 0)
        if len(ranks) < least:
            raise ValueError(
                f"n_ranks={self.n_ranks} ranks cannot lose images: the training part has {len(ranks)} ranks"
                + (", and with keep=0 one must be left." if self.keep == 0 else ".")
            )
        order = rng.permutation(len(ranks))
        if self.which == "frequent":
            order = order[np.argsort(-counts[order], kind="stable")]  # ties in random order
        kept = counts.copy()
        thinned = order[: self.n_ranks]
        kept[thinned] = 0 if self.keep == 0 else np.maximum(1, np.rint(self.keep * counts[thinned]))
        parts = [rng.permutation(train[index == k])[: kept[k]] for k in range(len(ranks))]
        return np.concatenate(parts)


class ListedSplits(BaseCrossValidator):
    """Splits that are known beforehand, as a benchmark lists them; images may be in none or in several.

    Parameters
    ----------
    splits : list of pairs of ndarray of int
        Indices of training and test images.
    """

    def __init__(self, splits: Sequence[tuple[Any, Any]]):
        self.splits = splits

    def split(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[Split]:
        """Generate the indices of training and test images, which are of a set no longer than X."""
        listed = [(np.asarray(train), np.asarray(test)) for train, test in self.splits]
        longest = 1 + max(int(part.max(initial=-1)) for split in listed for part in split)
        given = X if X is not None else y
        if given is not None and _num_samples(given) < longest:
            raise ValueError(
                f"X has {_num_samples(given)} images, and these splits are of a set of at least {longest}: give all "
                "of data and target, in their order."
            )
        yield from listed

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits."""
        return len(self.splits)

    def __repr__(self) -> str:
        return f"ListedSplits({len(self.splits)} splits)"
