"""How a fitted classifier is handed on to what is no scikit-learn: as a module of torch, and as a file of ONNX.

What needs torch, which takes seconds to import, is imported by the methods.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from skl2rclip._settings import Settings
from skl2rclip._utils.snapshots import snapshot_of

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

        With `mirror` the mirror image is that of `images`, where `predict_proba` mirrors before it cuts the sides off:
        they differ by one pixel's shift where an odd number of columns is cut off.

        Features are rounded to half precision. Where they hardly differ between images, one that lies between two such
        numbers may count: then `predict_proba` itself changes by more than 1e-5 with the number of images in a call,
        and the module is no nearer to it than that.

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

    def export_onnx(
        self,
        path: str | os.PathLike,
        *,
        opset: int | None = None,
        precision: str = "float32",
        verify: Any = True,
    ) -> float | None:
        """Write what `to_torch` makes as a file of ONNX, for ONNX Runtime in any language, browsers and telephones.

        Its input is ``images``, uint8 of shape (n, H, W, 3), or with ``image_tower="precomputed"`` ``rows``, float32 of
        shape (n, W), with n as you like; its output is ``probabilities``. What `to_torch` has in `description` is in
        the file's metadata: strings as they are, everything else as JSON.

        A file of ONNX holds less than 2 GB. Of a larger model the weights are in a second file beside it, which is
        named after the first and their content, such as ``grades.onnx.3f2a9c1b.data``, and ``weights_file`` in the
        metadata says which. The two belong into one folder; the second keeps its name. An earlier model of this name
        stays as it was until both are there, and its own second file goes then.

        Parameters
        ----------
        path : path
            The file, which is replaced. It has this name once it has been verified.
        opset : int or None, default=None
            Version of ONNX's operators, from 18 on; None takes torch's choice. Runtimes that are older want a lower
            one.
        precision : {"float32", "float16"}, default="float32"
            Of the weights of the image tower in the file: "float16" makes it about half as large, computes as before,
            and changes probabilities by what is returned.
        verify : bool or sequence of images, default=True
            Compare probabilities under ONNX Runtime with those of the fitted model, on made images or on yours (of a
            table, rows): in single precision they may differ by 1e-4, in half precision by 0.02.

        Returns
        -------
        float or None
            The largest difference, which is ``largest_difference`` in the metadata too; None without `verify`.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidParameterError
            If an argument is wrong, or a parameter contradicts what was learned.
        FileNotFoundError, IsADirectoryError
            If `path` is in no folder, or is one.
        ImportError
            If packages are missing: ``pip install "skl2rclip[onnx]"``.
        RuntimeError
            If torch cannot export the image tower, or the exported model says something else; nothing is written.
        MissingBackboneError
            If the backbone cannot be loaded again, or has changed.
        """
        state, settings = self._to_hand_on()
        from skl2rclip._deploy.onnx_file import checked_arguments, write_onnx
        from skl2rclip._deploy.torch_module import torch_module

        target = checked_arguments(path, opset, precision)
        return write_onnx(torch_module(state, settings), target, opset, precision, verify)

    def _to_hand_on(self) -> tuple[Any, Settings]:
        """Fitted state and parameters as they are, which do not contradict each other."""
        fitted = snapshot_of(self)
        check_is_fitted(fitted)
        state, settings = fitted._state, fitted._settings()
        state.check_settings(settings, fitted.ranks, fitted.rank_names)
        return state, settings
