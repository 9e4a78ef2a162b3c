"""How a fitted classifier is handed on to what is no scikit-learn: as a module of torch.

What needs torch, which takes seconds to import, is imported by the methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from skl2rclip._settings import Settings

if TYPE_CHECKING:
    from skl2rclip._deploy.torch_module import ImageModule, TableModule


class ExportMixin:
    """Ways out of a classifier, which has its fitted `_state` and gives its `_settings`."""

    _state: Any
    ranks: Any
    rank_names: Any

    def _settings(self) -> Settings:
        raise NotImplementedError

    def to_torch(self) -> ImageModule | TableModule:
        """Make the fitted model a `torch.nn.Module`: from pixels to probabilities, and nothing of scikit-learn.

        It holds all that predicts: the arithmetic of the preprocessing, the image tower with what is read of it,
        projection, adapter, prototypes, zero-shot's share, and with `mirror` the mirror image. Its input is `images` of
        shape (n, H, W, 3), channels last as files are decoded, at the size of the tower: uint8, or floating from 0 to
        255, and then it has gradients. `skl2rclip.input_pixels` brings images to that size, and
        docs/putting-to-work.md says in words what it does.

        With ``image_tower="precomputed"`` it is the head alone, from rows of the table, columns as in the fit, to
        probabilities.

        Returns
        -------
        torch.nn.Module
            On the CPU, in evaluation mode and single precision, whatever `device` and `precision` are, with weights of
            its own that ask for no gradient. It returns a tensor of shape (n, K), that of `predict_proba` to 1e-5, in
            the order of `classes`, which are `classes_` as a list. `description` is a dict of JSON's own types.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidParameterError
            If a parameter that was set since the fit is wrong, or contradicts what was learned.
        MissingBackboneError
            If the backbone cannot be loaded again, or has changed.
        ValueError
            If the model was fitted on a table of other columns than its backbone's tower gives, and is to read images.

        Examples
        --------
        >>> import numpy as np, torch
        >>> from skl2rclip import L2RCLIPClassifier, input_pixels
        >>> blur = L2RCLIPClassifier("skl2rclip-tiny", ranks=range(5), prompt="a photo with blur level").fit_zero_shot()
        >>> module = blur.to_torch()
        >>> pixels = input_pixels([np.zeros((300, 200, 3), np.uint8)], module)
        >>> module(torch.from_numpy(pixels)).shape
        torch.Size([1, 5])
        """
        from skl2rclip._deploy.torch_module import torch_module

        return torch_module(*self._to_hand_on())

    def _to_hand_on(self) -> tuple[Any, Settings]:
        """Fitted state and parameters as they are, which do not contradict each other."""
        check_is_fitted(self)
        settings = self._settings()
        self._state.check_settings(settings, self.ranks, self.rank_names)
        return self._state, settings
