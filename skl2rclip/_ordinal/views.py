"""Several rows of one image: which of them are learned from, and which of them predictions see.

Everything here is NumPy on arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Views:
    """What rows of features, those of an image one after the other, are to it.

    Attributes
    ----------
    n : int
        Rows of an image.
    n_learned : int
        The first of them are learned from; they share its weight.
    n_predicted : int
        The first of them make its prediction: their mean.
    """

    n: int = 1
    n_learned: int = 1
    n_predicted: int = 1

    @classmethod
    def of(cls, n_learned: int, n_predicted: int) -> Views:
        """As many rows as are needed for both."""
        return cls(max(n_learned, n_predicted), n_learned, n_predicted)

    @property
    def predicted(self) -> Views:
        """Of the same images, the rows that make their predictions and no others."""
        return Views(self.n_predicted, self.n_predicted, self.n_predicted)

    def weights(self, weight: np.ndarray) -> np.ndarray:
        """Weights of the rows, ndarray of shape (images n,), by those of the images."""
        share = (np.arange(self.n) < self.n_learned) / self.n_learned
        return np.outer(weight, share).ravel()

    def rows(self, images: np.ndarray) -> np.ndarray:
        """Return the indices of the rows of images, ndarray of shape (images n,)."""
        return (images[:, None] * self.n + np.arange(self.n)).ravel()

    def repeated(self, of_images: np.ndarray) -> np.ndarray:
        """Give each row what its image has, ndarray of shape (images n, ...)."""
        return of_images if self.n == 1 else np.repeat(of_images, self.n, axis=0)

    def of_prediction(self, of_rows: np.ndarray, axis: int = 0) -> np.ndarray:
        """Mean over the rows that make an image's prediction; `axis` is that of the rows, and then of the images."""
        if self.n == 1:
            return of_rows
        shape = of_rows.shape
        each = of_rows.reshape(*shape[:axis], -1, self.n, *shape[axis + 1 :])
        return np.take(each, range(self.n_predicted), axis=axis + 1).mean(axis=axis + 1)


ONE_VIEW = Views()
