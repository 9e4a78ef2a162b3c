"""Features of images in blocks: which columns belong together, and what a regression sees of some of the blocks.

Blocks are centred and brought to one size, and then turned to their principal components. Everything here is NumPy on
arrays; nothing knows of ranks, or where the features come from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from scipy.linalg import eigh
from sklearn.utils.extmath import randomized_svd

from skl2rclip._utils.arguments import warn_user

EMBEDDING = "embedding"
# which blocks are read
FEATURES = (EMBEDDING, "tower", "both")
_OF_TOWER = re.compile(r"pooled|(mean|deviation)_\d+")
_MAX_COMPONENTS = 1_000
# with more images than that, components come from some of them and are not exact
_MAX_EXACT, _MAX_IMAGES = 2_000, 5_000
# of a block's rows: the inverse of what is less is no number in single precision
_MIN_LENGTH = 1e-30
# of the largest singular value: what is less is rounding
_MIN_SINGULAR_VALUE = 1e-5


@dataclass(frozen=True)
class FeatureBlocks:
    """Columns of a table of features, in blocks.

    Attributes
    ----------
    blocks : tuple of (str, int)
        Name and width of each, in the order of the columns.
    embedding : int or None
        Which of them is CLIP's embedding, which can be compared with words.
    """

    blocks: tuple[tuple[str, int], ...]
    embedding: int | None

    @classmethod
    def of_embeddings(cls, width: int) -> FeatureBlocks:
        """Embeddings of so many columns, and nothing else."""
        return cls(((EMBEDDING, width),), 0)

    @classmethod
    def of_table(cls, names: Sequence[str] | None, n_columns: int, embedding_width: int) -> FeatureBlocks:
        """Blocks of a table whose columns are in `column_order`.

        The embedding is the block of that name that is as wide as embeddings, or a table of that width without names.
        """
        prefixes = _prefixes(names or [""] * n_columns)
        blocks = tuple(Counter(prefixes).items())
        if not any(prefixes):
            return cls(blocks, 0 if n_columns == embedding_width else None)
        found = [i for i, (name, width) in enumerate(blocks) if _is_embedding(name) and width == embedding_width]
        return cls(blocks, found[0] if len(found) == 1 else None)

    @property
    def without_prefix(self) -> tuple[tuple[str, int], ...]:
        """The blocks without what all their names begin with, as a `ColumnTransformer` puts it there."""
        parts = [name.split("__") for name, _ in self.blocks]
        n_common = 0
        while all(len(each) > n_common + 1 and each[n_common] == parts[0][n_common] for each in parts):
            n_common += 1
        return tuple(("__".join(each[n_common:]), width) for each, (_, width) in zip(parts, self.blocks, strict=True))

    @property
    def shown(self) -> str:
        """Names of the first blocks, for messages."""
        more = ", ..." if len(self.blocks) > 5 else ""
        return ", ".join(repr(name) for name, _ in self.blocks[:5]) + more

    @property
    def width(self) -> int:
        """Number of all columns."""
        return sum(width for _, width in self.blocks)

    @property
    def names(self) -> list[str]:
        """Names of the columns: that of the block, and the number within it."""
        return [f"{name}__{i}" for name, width in self.blocks for i in range(width)]

    @property
    def slices(self) -> list[slice]:
        """Columns of each block."""
        ends = list(accumulate(width for _, width in self.blocks))
        return [slice(end - width, end) for end, (_, width) in zip(ends, self.blocks, strict=True)]

    @property
    def embedding_columns(self) -> slice | None:
        """Columns of the embedding."""
        return None if self.embedding is None else self.slices[self.embedding]

    @property
    def is_plain(self) -> bool:
        """Whether there are embeddings and nothing else."""
        return len(self.blocks) == 1 and self.embedding == 0

    @property
    def is_of_tower(self) -> bool:
        """Whether an image tower gives the columns, and nothing else does."""
        return all(i == self.embedding or _is_of_tower(name) for i, (name, _) in enumerate(self.blocks))

    @property
    def choices(self) -> tuple[str, ...]:
        """Which of `FEATURES` there are."""
        if self.is_plain:
            return (EMBEDDING,)
        return FEATURES if self.embedding is not None else FEATURES[1:]

    def sizes(self, features: str) -> np.ndarray:
        """Size of each block, as a root mean square of its rows, where these `FEATURES` are read; 0 leaves it out."""
        is_embedding = np.arange(len(self.blocks)) == self.embedding
        is_of_tower = np.array([_is_of_tower(name) for name, _ in self.blocks])
        # the states inside of a tower count together as much as the embedding
        sizes = np.where(is_of_tower, 1 / np.sqrt(max(is_of_tower.sum(), 1)), 1.0)
        if features == EMBEDDING:
            return np.where(is_embedding, sizes, 0.0)
        return np.where(is_embedding, 0.0, sizes) if features == "tower" else sizes


def column_order(names: Sequence[str] | None) -> np.ndarray | None:
    """Order of a table's columns in which those of a block stand together; None where they do.

    A block are the columns whose names share what stands before the last ``__``.
    """
    prefixes = _prefixes(names or [])
    first = {prefix: number for number, prefix in enumerate(dict.fromkeys(prefixes))}
    order = np.argsort([first[prefix] for prefix in prefixes], kind="stable")
    return None if np.array_equal(order, np.arange(len(order))) else order


def _prefixes(names: Sequence[str]) -> list[str]:
    return [name.rpartition("__")[0] for name in names]


def _is_of_tower(name: str) -> bool:
    return _OF_TOWER.fullmatch(name.rpartition("__")[2]) is not None


def _is_embedding(name: str) -> bool:
    return name.rpartition("__")[2] == EMBEDDING


@dataclass(frozen=True)
class Projection:
    """Map of rows of features to what is learned from: ``x = (f - mean) weight``."""

    mean: np.ndarray  # (W,), float32
    weight: np.ndarray  # (W, P), float32

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Project rows of shape (n, W), ndarray of shape (n, P), float32."""
        return (rows - self.mean) @ self.weight


def read(rows: np.ndarray, blocks: FeatureBlocks, projection: Projection | None) -> np.ndarray:
    """Project rows of shape (n, W), or take their embeddings, where nothing else is read."""
    return rows[:, blocks.embedding_columns] if projection is None else projection(rows)


def fit_projection(
    rows: np.ndarray,
    weight: np.ndarray,
    blocks: FeatureBlocks,
    features: str,
    seed: int,
    most: int = _MAX_COMPONENTS,
) -> Projection:
    """Centre blocks, bring them to their sizes, and turn them to their principal components, of at most 1,000.

    What comes out has a mean square of one. Of many images the components are those of some, found by randomised
    singular value decomposition (Halko, Martinsson and Tropp 2011, as scikit-learn has it).

    Parameters
    ----------
    rows : ndarray of shape (n, W)
    weight : ndarray of shape (n,)
        Of each image; an image without weight is not looked at.
    blocks : FeatureBlocks
    features : str
        Which blocks are read, one of `FEATURES`.
    seed : int
    most : int, optional
        Components, of which the first are kept.
    """
    share, seen = weight / weight.sum(), np.flatnonzero(weight > 0)
    mean = np.einsum("i,ij->j", share, rows)  # in double precision, without a copy of the rows in it
    counted = rows if len(seen) == len(rows) else rows[seen]
    varies = counted.max(axis=0) > counted.min(axis=0)
    factor = np.zeros(rows.shape[1])
    for columns, size in zip(blocks.slices, blocks.sizes(features), strict=True):
        length = np.sqrt(share @ ((rows[:, columns] - mean[columns]) ** 2 @ varies[columns]))
        if size:
            _warn_of_hidden(counted[:, columns], varies[columns], length, blocks)
        if size and length > _MIN_LENGTH:
            factor[columns] = size / length * varies[columns]
    is_read = factor > 0
    seen, portions = _some(seen, share, seed)
    scaled = (rows[seen][:, is_read] - mean[is_read]) * (factor[is_read] * np.sqrt(portions)[:, None])
    axes, values = _principal_axes(scaled, seed)
    axes, values = axes[:, :most], values[:most]
    spread = np.sqrt((values**2).sum() / max(len(values), 1)) or 1.0
    projection = np.zeros((rows.shape[1], len(values)), np.float32)
    projection[is_read] = factor[is_read, None] * axes / spread
    return Projection(mean.astype(np.float32), projection)


def _warn_of_hidden(rows: np.ndarray, varies: np.ndarray, length: float, blocks: FeatureBlocks) -> None:
    """Warn where most columns of a table's block are hidden by a few that are larger by far."""
    if blocks.is_of_tower:
        return
    extent = (rows.max(axis=0) - rows.min(axis=0))[varies]
    n_hidden = np.count_nonzero(extent < _MIN_SINGULAR_VALUE * length)
    if 2 * n_hidden > len(extent):
        warn_user(
            f"X: {n_hidden} of {len(extent)} columns are so small beside the largest of their block that they say "
            "nothing: bring columns to one scale first, as sklearn.preprocessing.StandardScaler does."
        )


def _some(seen: np.ndarray, share: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that components come from, and how much each counts; of many some, drawn by their weight."""
    if len(seen) <= _MAX_IMAGES:
        return seen, share[seen]
    generator = np.random.default_rng([seed, 3])
    drawn = np.sort(generator.choice(seen, _MAX_IMAGES, replace=False, p=share[seen]))
    return drawn, np.full(_MAX_IMAGES, 1 / _MAX_IMAGES)


def _principal_axes(scaled: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Axes, as columns, and singular values of a centred matrix, the largest first."""
    n_rows, n_columns = scaled.shape
    if min(n_rows, n_columns) > _MAX_EXACT:
        _, values, axes = randomized_svd(scaled.astype(np.float32), _MAX_COMPONENTS, random_state=seed)
        axes = axes.T
    elif n_columns <= n_rows:
        squares, axes = eigh(scaled.T @ scaled)
        values, axes = np.sqrt(squares[::-1].clip(0)), axes[:, ::-1]
    else:
        squares, sides = eigh(scaled @ scaled.T)
        values = np.sqrt(squares[::-1].clip(0))
        axes = scaled.T @ sides[:, ::-1] / np.where(values > 0, values, 1)
    kept = np.flatnonzero(values > _MIN_SINGULAR_VALUE * values.max(initial=0))[:_MAX_COMPONENTS]
    axes, values = axes[:, kept], values[kept]
    if not len(kept):  # nothing varies, and a column of zeros says so
        return np.zeros((n_columns, 1)), np.zeros(1)
    # a decomposition leaves the signs open
    return axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(values))]), values
