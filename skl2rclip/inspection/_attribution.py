"""Where a classifier looked: how much each part of an image moves the expected rank, laid over the image.

By occlusion with Captum, on the module that ``to_torch`` makes. Nothing is known of what is inside of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from skl2rclip._embedding.embedder import decoded_pixels
from skl2rclip._images.levels import WhiteLevel
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip._ordinal.labels import check_labels
from skl2rclip._utils.arguments import check_integer, check_lengths, check_real
from skl2rclip._utils.devices import explain_out_of_memory, resolve_device
from skl2rclip.errors import InvalidParameterError
from skl2rclip.inspection._contact_sheet import ContactSheet
from skl2rclip.inspection._drawing import AS_IT_IS, display_names, pyplot, short, styled
from skl2rclip.inspection._responses import as_sequence, before_last, learned_by, ordered_scale, rows_of
from skl2rclip.inspection._thumbnails import Thumbnail, check_images, thumbnails_of

_SIDE = 320  # pixels of the images that are shown
_BATCH = 32  # images of one pass of the tower
# of the window's side: steps of its half show a place by four windows, and cost a quarter of steps of a quarter
_STEP = 0.5
_OPACITY = 0.85


class AttributionDisplay(ContactSheet):
    """How much each part of an image moves the expected rank, laid over the image.

    Make one with `from_estimator`. A window of the image's mean colour is laid over each place in turn; what the
    expected rank loses by it is what is seen there: positive where the part makes for higher ranks, negative for lower
    ones. A pixel has the mean of the windows that cover it.

    Parameters
    ----------
    indices : ndarray of shape (m,)
        Index in X of each image that is shown.
    attributions : list of m ndarray of shape (H, W), float64
        In the pixels of the image as it is shown.
    thumbnails : list of m Thumbnail
        Small images, or why there is none.
    expectations : ndarray of shape (m,)
        What `predict_expectation` says, in float32 whatever `precision` is.
    y_pred, y_true : sequence of m labels, optional
        Predicted and true labels, for the captions.
    title : str
        What the figure is headed by.
    display_labels : dict of label to str, optional
        Words for the ranks.
    ends : tuple of two str
        Words of the ranks of the lowest and of the highest value.

    Attributes
    ----------
    attributions_ : list of m ndarray of shape (H, W), float64
        In the pixels of the image as it is shown, in the unit of `predict_expectation`: ranks for words, else that of
        the labels. NaN where the classifier does not look, because its preprocessing cuts that off. They do not add up
        to anything: two places that show the same may each be worth nothing alone.
    thumbnails : list of m ndarray of shape (H, W, 3), uint8
        The images as they are shown.
    images_ : list of AxesImage
    overlays_ : list of AxesImage
    texts_ : list of Text
        Captions.
    ax_ : Axes
    figure_ : Figure

    See Also
    --------
    RankDistributionDisplay : All that is predicted of one image.

    References
    ----------
    Occlusion: M. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, as Captum has
    it. That maps must change with weights and labels: J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS
    2018.

    Examples
    --------
    >>> from skl2rclip import L2RCLIPClassifier
    >>> from skl2rclip.datasets import make_graded_photographs
    >>> from skl2rclip.inspection import AttributionDisplay
    >>> photos = make_graded_photographs(5, random_state=0)
    >>> clf = L2RCLIPClassifier("skl2rclip-tiny", ranks=photos.ranks, prompt=photos.prompt).fit_zero_shot()
    >>> display = AttributionDisplay.from_estimator(clf, photos.data[:2])
    >>> [values.shape for values in display.attributions_]
    [(64, 64), (64, 64)]
    """

    def __init__(
        self,
        indices: np.ndarray,
        attributions: list[np.ndarray],
        *,
        thumbnails: list[Thumbnail],
        expectations: np.ndarray,
        y_pred: Any = None,
        y_true: Any = None,
        title: str = "What moves the expected rank",
        display_labels: dict[Any, str] | None = None,
        ends: tuple[str, str] = ("lower", "higher"),
    ):
        self._hold(indices, thumbnails, title, y_true, y_pred, display_labels)
        self.attributions_, self.expectations = attributions, expectations
        self.ends = ends

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        n_images: int = 8,
        window: float = 0.25,
        display_labels: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> AttributionDisplay:
        """Cover images part by part, and draw what that changes.

        Parameters
        ----------
        estimator : fitted L2RCLIPClassifier
            It may stand at the end of a pipeline, or be found by a search; what comes before it in a pipeline has to
            give images.
        X : sequence of n images
            What it predicts from, of any size.
        y : array-like of shape (n,), optional
            True labels, for the captions.
        n_images : int, default=8
            The first so many images are shown, and no others are looked at.
        window : float, default=0.25
            Side of the window as a share of the shorter side of what the classifier sees, in (0, 1]. A smaller one
            shows smaller things and takes longer: a quarter passes each image 49 times through the tower, an eighth 225
            times. What is larger than the window and the same all over is seen less.
        display_labels : sequence of K str, mapping from label to str, or "ranks", optional
            Words for the ranks; by default those that the classifier knows (`rank_names_`), else the labels.
            ``"ranks"`` shows the labels.
        ax : Axes, optional
            Where to draw; by default in a new figure.
        **kwargs
            For `plot`.

        Returns
        -------
        AttributionDisplay

        Raises
        ------
        ImportError
            If matplotlib or Captum is missing: ``pip install "skl2rclip[attribution]"``.
        ValueError
            If the estimator holds no `L2RCLIPClassifier`, or one that reads a table and no images.
        UnreadableImagesError
            If images cannot be read; names index, path and reason.
        """
        who = cls.__name__
        pyplot(who)
        _captum(who)
        check_integer("n_images", n_images, 1)
        _check_window(window)
        X = as_sequence(X)
        classifier = learned_by(who, estimator, "prototypes_")
        _refuse_tables(who, classifier)
        scale = ordered_scale(classifier, None, None)
        labels = None if y is None else check_labels(y)
        if labels is not None:
            check_lengths(X, labels)
            scale.encode(labels)  # which names those that are no ranks
        indices = np.arange(min(n_images, len(X)))
        images = before_last(estimator, rows_of(X, indices)) if len(X) else X
        check_images(who, images, None, "give the images themselves as X")
        occluded = _Occluded(classifier, images, window)
        thumbnails = thumbnails_of(images, indices, _SIDE, WhiteLevel(classifier.white_level))
        ranks, names = scale.ranks.tolist(), display_names(scale, display_labels)
        return cls(
            indices,
            [occluded.map_on(row, each.pixels) for row, each in enumerate(thumbnails)],
            thumbnails=thumbnails,
            expectations=occluded.expectations,
            y_pred=classifier.predict(images).tolist(),
            y_true=None if labels is None else labels[indices].tolist(),
            title=f"What moves the expected rank: {len(indices)} of {len(X)} images",
            display_labels=dict(zip(ranks, names, strict=True)),
            ends=(names[int(scale.values.argmin())], names[int(scale.values.argmax())]),
        ).plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        n_columns: int | None = None,
        text_kw: dict[str, Any] | None = None,
        im_kw: dict[str, Any] | None = None,
    ) -> AttributionDisplay:
        """Draw it.

        Parameters
        ----------
        ax : Axes, optional
            Where; by default in a new figure, which grows with the number of images.
        n_columns : int, optional
            Images in a row; by default as many as make a sheet that is a little wider than high.
        text_kw : dict, optional
            For `Axes.text` of the captions.
        im_kw : dict, optional
            For `Axes.imshow` of what is laid over the images.

        Returns
        -------
        AttributionDisplay
            Itself.
        """
        strongest = max([float(np.nanmax(np.abs(each), initial=0)) for each in self.attributions_], default=0.0)
        self._limit = strongest or 1.0
        super().plot(ax, n_columns=n_columns, text_kw=text_kw)
        self.overlays_ = [self._laid_over(place, image, im_kw) for place, image in enumerate(self.images_) if image]
        if self.overlays_:
            self._draw_scale()
        return self

    def _caption(self, place: int) -> list[str]:
        part = self.attributions_[place]
        low, high = float(np.nanmin(part, initial=0)), float(np.nanmax(part, initial=0))
        return [
            *self._file(place),
            f"index {self.indices[place]}",
            *self._line("predicted", self.y_pred, place),
            *self._line("true", self.y_true, place),
            f"expected {self.expectations[place]:.4g}",
            f"parts {low:+.2g} to {high:+.2g}",
        ]

    def _laid_over(self, place: int, image: Any, im_kw: dict[str, Any] | None) -> Any:
        """Draw an image in shades of grey, and the attributions over it, the more opaque the larger they are."""
        from matplotlib.image import AxesImage

        ax, part = self.ax_, self.attributions_[place]
        grey = np.asarray(self.thumbnails[place], np.float64) @ (0.299, 0.587, 0.114) / 255  # luma of ITU-R BT.601
        is_seen = np.isfinite(part)
        image.set_data(np.repeat(np.where(is_seen, grey, (1 + grey) / 2)[:, :, None], 3, axis=2))
        strength = np.abs(np.where(is_seen, part, 0)) / self._limit
        style = {"cmap": "PuOr_r", "vmin": -self._limit, "vmax": self._limit, "alpha": _OPACITY * np.sqrt(strength)}
        limits = ax.get_xlim(), ax.get_ylim()
        shown = {**styled(style, im_kw, AxesImage), "extent": image.get_extent()}
        overlay = ax.imshow(np.where(is_seen, part, 0.0), **shown)
        ax.set(xlim=limits[0], ylim=limits[1])
        return overlay

    def _draw_scale(self) -> None:
        """Draw what the colours mean, below the sheet."""
        from matplotlib.cm import ScalarMappable

        overlay, ax = self.overlays_[0], self.ax_
        inch = ax.figure.dpi / max(ax.get_window_extent().height, 1)
        bar = self.figure_.colorbar(
            ScalarMappable(overlay.norm, overlay.cmap),
            cax=ax.inset_axes((0.25, -0.12 * inch, 0.5, 0.1 * inch)),
            orientation="horizontal",
        )
        low, high = (f"{-self._limit:.2g}", f"{self._limit:+.2g}")
        ends = [f"{low}\ntowards {short(self.ends[0], 14)}", "0", f"{high}\ntowards {short(self.ends[1], 14)}"]
        bar.set_ticks([-self._limit, 0, self._limit], labels=ends)
        for label in bar.ax.get_xticklabels():
            label.set(fontsize="small", **AS_IT_IS)
        self.colorbar_ = bar


class ExpectedValue(torch.nn.Module):
    """Expected value of what a module says of images, tensor of shape (n,), from the lowest value on.

    Parameters
    ----------
    module : torch.nn.Module
        As ``to_torch`` makes it.
    """

    def __init__(self, module: Any):
        super().__init__()
        self.values: torch.Tensor
        self.module, described = module, module.description
        of_rank = dict(zip(described["ranks"], described["values"], strict=True))
        values = np.array([of_rank[label] for label in described["classes"]])
        self.lowest = float(values.min())  # single precision would lose differences of dates
        self.register_buffer("values", torch.tensor(values - self.lowest, dtype=torch.float32))  # (K,)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.module(images) @ self.values


class _Occluded:
    """What windows over images change: maps of shape (H, W) of what the tower takes, and the expectations.

    Parameters
    ----------
    classifier : L2RCLIPClassifier
    images : sequence of n images
    window : float
        Share of the shorter side.
    """

    def __init__(self, classifier: Any, images: Any, window: float):
        module = classifier.to_torch()
        described, device = module.description, resolve_device(classifier.device, strict=False)
        self.preprocessing = Preprocessing.from_config(described["preprocessing"])
        white = WhiteLevel(described["white_level"])
        pixels = decoded_pixels(images, self.preprocessing, white, classifier.n_jobs)
        expected = ExpectedValue(module).to(device)
        with torch.inference_mode(), explain_out_of_memory(None, "covering images", ("set device='cpu'",)):
            said = [self._of(expected, torch.from_numpy(each).to(device).float()[None], window) for each in pixels]
        self.maps = [each for each, _ in said]
        self.expectations = np.array([expectation for _, expectation in said])

    @staticmethod
    def _of(expected: ExpectedValue, image: torch.Tensor, window: float) -> tuple[np.ndarray, float]:
        """Map of one image of shape (1, H, W, 3), and what is expected of it."""
        side = max(1, round(window * min(image.shape[1:3])))
        step = max(1, round(_STEP * side))
        changes = (
            _captum("AttributionDisplay")
            .Occlusion(expected)
            .attribute(
                image,
                (side, side, 3),
                (step, step, 3),
                baselines=image.mean(dim=(1, 2), keepdim=True).expand_as(image),
                perturbations_per_eval=_BATCH,
            )
        )
        return changes[0, :, :, 0].cpu().double().numpy(), float(expected(image)) + expected.lowest

    def map_on(self, row: int, shown: np.ndarray | None) -> np.ndarray:
        """Bring a map to the pixels of an image of shape (H, W, 3); NaN where the tower sees nothing of it."""
        assert shown is not None  # all were decoded before
        height, width = shown.shape[:2]
        left, top, right, bottom = self.preprocessing.box_of((width, height))
        own = self.maps[row]
        down = (np.arange(height) + 0.5 - top) / (bottom - top)  # from 0 to 1 where it is seen
        across = (np.arange(width) + 0.5 - left) / (right - left)
        places = np.meshgrid(down * own.shape[0] - 0.5, across * own.shape[1] - 0.5, indexing="ij")
        laid = map_coordinates(own, places, order=1, mode="nearest")
        laid[(down < 0) | (down > 1), :] = np.nan
        laid[:, (across < 0) | (across > 1)] = np.nan
        return laid


def _captum(who: str) -> Any:
    """Import Captum's methods for `who`, or say how to get them."""
    try:
        import captum.attr
    except ImportError as error:
        raise ImportError(
            f'{who} covers images with Captum, which is not installed: pip install "skl2rclip[attribution]".'
        ) from error
    return captum.attr


def _check_window(window: float) -> None:
    try:
        is_share = check_real("window", window, 0, 1) > 0
    except InvalidParameterError:
        is_share = False
    if not is_share:
        raise InvalidParameterError(f"window must be in (0, 1], got {window!r}: 0.25 is a quarter of the side.")


def _refuse_tables(who: str, classifier: Any) -> None:
    if classifier.image_tower == "precomputed":
        raise ValueError(
            f"{who} shows where in an image a classifier looked, and this one reads a table "
            "(image_tower='precomputed'), which has no images. Of a table that CLIPImageEncoder made, "
            "clf.set_params(image_tower='frozen') lets the classifier read images themselves: give these."
        )
