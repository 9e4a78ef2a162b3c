"""How a fitted classifier gets to the Hugging Face hub and back, and the card that tells of it there.

What needs torch, which takes seconds to import, is imported by the methods.
"""

from __future__ import annotations

import importlib.util
import io
import os
from typing import TYPE_CHECKING, Any, Self

from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted

from skl2rclip._ordinal.decisions import read_out
from skl2rclip._ordinal.labels import check_comparable, check_labels
from skl2rclip._ordinal.ranks import RankScale
from skl2rclip._settings import Settings
from skl2rclip._utils.arguments import check_boolean, check_groups, check_lengths, check_string, warn_user
from skl2rclip.errors import InvalidParameterError

if TYPE_CHECKING:
    from skl2rclip._deploy.card import RankModelCard
    from skl2rclip._deploy.evaluation import Evaluation


class HubMixin:
    """Ways of a classifier to the hub and back, which has its fitted `_state`, and saves and loads folders."""

    _state: Any
    _settings: Any
    _fitted: Any
    get_params: Any
    load: Any
    ranks: Any
    rank_names: Any
    _card_: RankModelCard | None = None

    def model_card(
        self,
        X: Any = None,
        y: Any = None,
        groups: Any = None,
        *,
        license: str | None = None,
        dataset_name: str | None = None,
    ) -> RankModelCard:
        """Write a card for the Hub, `README.md`: what the model knows of itself, and how far it is off on images.

        It is a `huggingface_hub.ModelCard`, so that ``print(card)`` shows it, ``card.text`` and ``card.data`` can be
        changed, and ``card.save("README.md")`` writes it, with the confusion matrix beside it. The classifier
        remembers it: the next `push_to_hub` uploads it, with your changes, until another one is made or the
        classifier is fitted again.

        Parameters
        ----------
        X : sequence of n images, optional
            Images that it has not learned from. Without them the card says that nothing is known of its errors.
        y : array-like of shape (n,), optional
            True labels.
        groups : array-like of shape (n,), optional
            What an image belongs to, as in `fit`: the bounds of the scores are then those of groups that are drawn
            again.
        license : str, optional
            Of the model, as the Hub names it, such as ``"mit"``.
        dataset_name : str, optional
            What the images are called.

        Returns
        -------
        huggingface_hub.ModelCard
            With `files`, those that stand beside it by their names.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidParameterError
            If an argument is wrong, or the model reads a table (``image_tower="precomputed"``).
        ValueError
            If labels are no ranks, or numbers of images differ.
        UnreadableImagesError
            If images cannot be read; names index, path and reason.

        Examples
        --------
        >>> from skl2rclip import L2RCLIPClassifier
        >>> blur = L2RCLIPClassifier("skl2rclip-tiny", ranks=range(5), prompt="a photo with blur level").fit_zero_shot()
        >>> card = blur.model_card(license="mit")
        >>> card.data.license
        'mit'
        """
        settings = self._of_images("A card")
        for name, value in (("license", license), ("dataset_name", dataset_name)):
            if value is not None:
                check_string(name, value)
        if (X is None) != (y is None) or (X is None and groups is not None):
            raise InvalidParameterError(
                "X and y are given together, and groups with them: images, and their true labels."
            )
        from skl2rclip._deploy.card import make_card

        evaluation = None if X is None else self._evaluated(X, y, groups)
        matrix = None if evaluation is None else _drawn_matrix(evaluation, self._state.scale)
        self._card_ = make_card(
            self._state, settings, evaluation, matrix=matrix, license=license, dataset_name=dataset_name
        )
        return self._card_

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        include_backbone: bool = False,
        replace_card: bool = False,
    ) -> str:
        """Upload the fitted model to the Hugging Face hub, in one commit, with the card that `model_card` has made.

        What is uploaded is the folder that `save` writes, without the folders of this machine: of a backbone's path the
        last part alone stays, `embedding_cache` and `checkpoint_dir` are left out.

        Parameters
        ----------
        repo_id : str
            The repository, such as ``"someone/quality"``, which is made where it is not there.
        private : bool, optional
            Whether only you are to see it. None is the hub's own choice for a new one; one that is there must be as it
            is said here.
        token : str or bool, optional
            By default that of ``hf auth login``, or of ``HF_TOKEN``.
        revision : str, optional
            The branch, which is made where it is not there; by default ``"main"``.
        create_pr : bool, default=False
            Open a pull request, for a repository that others write.
        commit_message : str, optional
            What the commit says; by default which model it is.
        include_backbone : bool, default=False
            Upload the whole open_clip model too, so that the repository needs nothing else. Its licence has to allow
            it.
        replace_card : bool, default=False
            Whether to write the card anew where there is one. By default what people have written there stays.

        Returns
        -------
        str
            Address of the commit, or of the pull request.

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidParameterError
            If an argument is wrong, the model reads a table (``image_tower="precomputed"``), a parameter contradicts
            what was learned, or the repository is there and not as `private` says, or holds another kind of model.
        MissingBackboneError
            If the backbone is to be included and cannot be loaded.
        RuntimeError
            If nobody is logged in, the token may not write there, or the hub does not answer.
        """
        settings = self._of_images("push_to_hub")
        check_boolean("include_backbone", include_backbone)
        from skl2rclip._deploy.card import make_card
        from skl2rclip._deploy.hub import Upload, upload
        from skl2rclip._utils.scratch import scratch_folder

        how = Upload(
            repo_id=repo_id,
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
            replace_card=replace_card,
        )
        with scratch_folder() as scratch:
            self._save_for_others(scratch / "model", settings, include_backbone)
            card = self._card_ or make_card(self._state, settings, None)
            address, has_card = upload(scratch / "model", how, card)
        if self._card_ is not None and not has_card:
            warn_user(f"{repo_id} has a README.md, which stays as it is: replace_card=True writes the card anew.")
        return address

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | os.PathLike,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """Load a fitted model from the Hugging Face hub, or from a folder.

        The files that belong to a model are fetched into the cache of the hub's client, once, and no others; they are
        read by `load`, which believes nothing unchecked, unpickles nothing and runs no code that came with them.

        Parameters
        ----------
        repo_or_folder : str or path
            A repository, such as ``"someone/quality"``. A folder of this machine comes first, and goes to `load`.
        revision : str, optional
            A branch, a tag or a commit of the repository; by default ``"main"``. A commit stays what it is.
        token : str or bool, optional
            By default that of ``hf auth login``, or of ``HF_TOKEN``.
        cache_dir : path, optional
            By default that of the hub's client, in ``HF_HOME``.
        local_files_only : bool, default=False
            Take what was fetched before, and ask nobody.

        Returns
        -------
        L2RCLIPClassifier
            Fitted. A backbone that was uploaded along is loaded at once, any other at the first prediction.

        Raises
        ------
        InvalidParameterError
            If an argument is wrong, or is neither a folder nor the name of a repository.
        RuntimeError
            If the repository or the revision is not there or wants a login, or the hub does not answer and nothing was
            fetched before.
        ValueError
            If the model is damaged, contradicts itself, or is of an unknown format version; names the field.
        MissingBackboneError
            If its backbone is a model of a hub that is not in this machine's cache; says how to fetch it.

        Examples
        --------
        >>> from skl2rclip import L2RCLIPClassifier
        >>> clf = L2RCLIPClassifier.from_pretrained("someone/quality")  # doctest: +SKIP
        """
        from skl2rclip._deploy.hub import load_from

        return load_from(
            repo_or_folder,
            cls.load,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )

    def _of_images(self, what: str) -> Settings:
        """Return the parameters as they are, of a fitted model that reads images."""
        check_is_fitted(self)
        settings: Settings = self._settings()
        self._state.check_settings(settings, self.ranks, self.rank_names)
        if settings.is_precomputed:
            raise InvalidParameterError(
                f"{what} is for models that read images, and this one reads a table (image_tower='precomputed'). Where "
                "the table is what a tower gives, set_params(image_tower='frozen') makes it one that does; else save() "
                "writes a folder to hand on."
            )
        self._state.check_reads_images(settings)
        return settings

    def _evaluated(self, X: Any, y: Any, groups: Any) -> Evaluation:
        """Compare what is predicted of images with their labels."""
        from skl2rclip._deploy.evaluation import evaluate

        scale, labels = self._state.scale, check_labels(y)
        check_comparable(labels, "y", scale.ranks, "the labels of the fit")
        true = scale.encode(labels)
        state, data, settings = self._fitted(X)
        check_lengths(data, labels)
        of_images = None if groups is None else check_groups(groups, len(labels))
        probabilities = softmax(state.logits(data, settings), axis=1)
        predicted = read_out(probabilities, scale.values, settings.decision)
        return evaluate(scale, true, predicted, probabilities, of_images)

    def _save_for_others(self, path: Any, settings: Settings, include_backbone: bool) -> None:
        """Save the model as a folder that says nothing of this machine, and warn where others lack the backbone."""
        from skl2rclip._clip.backbone import is_of_this_machine
        from skl2rclip._model.save import portable_parameters, save, without_places

        state = self._state
        backbone = state.load_backbone(state.source(settings)) if include_backbone else None
        source = state.named_source(settings)
        if backbone is None and state.needs_backbone and is_of_this_machine(source):
            warn_user(
                f"The backbone {source} is on this machine, and whoever loads the model needs it too: "
                "include_backbone=True uploads it along."
            )
        parameters = portable_parameters(self.get_params(deep=False), state.scale)
        save(path, *without_places(state, parameters), backbone)


def _drawn_matrix(evaluation: Evaluation, scale: RankScale) -> bytes | None:
    """Draw the confusion matrix as a PNG, where matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        warn_user('The card has no confusion matrix, which needs matplotlib: pip install "skl2rclip[plot]".')
        return None
    from matplotlib.figure import Figure

    from skl2rclip.inspection import OrdinalConfusionDisplay

    size = 6 + min(3.0, 0.1 * len(scale.ranks))
    figure = Figure(figsize=(1.15 * size, size), layout="constrained")  # none of pyplot's, which a notebook would show
    OrdinalConfusionDisplay.from_predictions(
        scale.ranks[evaluation.true],
        scale.ranks[evaluation.predicted],
        ranks=scale.ranks,
        display_labels=list(scale.names),
        ax=figure.subplots(),
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()
