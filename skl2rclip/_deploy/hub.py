"""A fitted model on its way to a repository of the Hugging Face hub and back: one commit up, and no file too many down.

What comes from there is read by ``_model.save``, which believes nothing of it. What is written into the card is not
known here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import GatedRepoError, HFValidationError, RevisionNotFoundError
from huggingface_hub.utils import validate_repo_id

from skl2rclip._clip.backbone import BACKBONE_FILES
from skl2rclip._clip.hub import (
    LOGIN,
    Asking,
    fetch,
    fetch_present,
    is_as_sent,
    status_of,
    unexplained,
    what_is_damaged,
    why_not_fetched,
)
from skl2rclip._clip.untrusted import read_config
from skl2rclip._deploy.card import RankModelCard
from skl2rclip._model.save import ARRAYS_FILE, DESCRIPTION_FILE, is_of_a_model, needed_files
from skl2rclip._utils.arguments import check_boolean, check_folder, check_string
from skl2rclip.errors import InvalidParameterError, MissingBackboneError, visible

_CARD = "README.md"
_MAIN = "main"
_COMMIT_MESSAGE = "Upload a fitted L2RCLIPClassifier"
_SOUGHT = "saved model of skl2rclip"
_WITHOUT_NETWORK = "Without a network there are folders that `save` has written, and models that were fetched before."
Model = TypeVar("Model")
_UPLOADING = Asking(direction="upload to", without_network="Nothing was uploaded.")


# ------------------------------------------------------------------- checking


def check_repository(name: str, value: Any) -> str:
    """Return the name of a repository, and raise for what can be none."""
    if not isinstance(value, str):
        raise InvalidParameterError(f"{name} must be a string such as 'someone/quality', got {value!r}.")
    try:
        validate_repo_id(value)
    except HFValidationError as error:
        raise InvalidParameterError(
            f"{name} must be the name of a repository, such as 'someone/quality', got {value!r}: {error}"
        ) from None
    return value


@dataclass(frozen=True)
class Upload:
    """What `L2RCLIPClassifier.push_to_hub` was told, which is checked as far as no work is needed."""

    repo_id: Any
    private: Any
    token: Any
    revision: Any
    create_pr: Any
    commit_message: Any
    replace_card: Any

    def __post_init__(self) -> None:
        check_repository("repo_id", self.repo_id)
        check_boolean("create_pr", self.create_pr)
        check_boolean("replace_card", self.replace_card)
        if self.private is not None:
            check_boolean("private", self.private)
        _check_token(self.token)
        for name, value in (("revision", self.revision), ("commit_message", self.commit_message)):
            if value is not None and not check_string(name, value).strip():
                raise InvalidParameterError(f"{name} must be None or words, got {value!r}.")
        if self.create_pr and self.revision not in (None, _MAIN):
            raise InvalidParameterError(
                f"create_pr=True opens a pull request against {_MAIN!r}, and revision={self.revision!r} names another "
                "place: leave one of them out."
            )
        self._check_login()

    def _check_login(self) -> None:
        """Raise where nothing can be uploaded, whatever the hub says."""
        if constants.HF_HUB_OFFLINE:
            raise RuntimeError("Nothing can be uploaded while HF_HUB_OFFLINE is set: unset it, and start Python again.")
        if isinstance(self.token, str):
            return
        is_sent = self.token or (self.token is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN)
        if not (is_sent and get_token()):
            raise RuntimeError(f"Nobody is logged in at {constants.ENDPOINT}: {LOGIN}, or give a token that may write.")


def _check_token(token: Any) -> None:
    if not isinstance(token, str | bool | None) or token == "":
        raise InvalidParameterError("token must be a string, True, False or None.")


# ------------------------------------------------------------------ uploading


def upload(folder: Path, how: Upload, card: RankModelCard) -> tuple[str, bool]:
    """Put the files of a folder into a repository, in one commit.

    The repository, and a branch, are made where they are not there. What an earlier upload has left of another backbone
    goes; what people have put there stays, and so does a card, unless it is to be replaced.

    Returns
    -------
    str
        Address of the commit, or of its pull request.
    bool
        Whether the card is in it.
    """
    api = HfApi(token=how.token)
    try:
        repository = api.create_repo(how.repo_id, private=how.private, exist_ok=True).repo_id
        info = _head_of(api, repository, how.revision)
        if how.private is not None and bool(info.private) != how.private:
            raise InvalidParameterError(_of_other_visibility(repository, how.private))
        there = {sibling.rfilename for sibling in info.siblings or ()}
        _refuse_foreign(repository, there)
        has_card = _CARD not in there or how.replace_card
        if has_card:
            card.of(repository).save(folder / _CARD)
        commit = api.create_commit(
            repository,
            _operations(folder, there),
            commit_message=how.commit_message or _COMMIT_MESSAGE,
            revision=how.revision,
            create_pr=how.create_pr,
            parent_commit=info.sha,  # lest a card that somebody has written meanwhile is lost
        )
    except InvalidParameterError:
        raise
    except Exception as error:  # the clients of the hub raise families of their own
        why = f"The model could not be uploaded to {how.repo_id}. {_why_not_uploaded(error)}"
        raise RuntimeError(why) from unexplained(error)
    return str(commit.pr_url or commit.commit_url), has_card


def _refuse_foreign(repository: str, there: set[str]) -> None:
    """Raise where files have the names of a saved model's and are of something else."""
    found = there & {DESCRIPTION_FILE, ARRAYS_FILE}
    if len(found) == 1:
        raise InvalidParameterError(
            f"{constants.ENDPOINT}/{repository} has a file {found.pop()!r} and is no saved model: choose another "
            "repo_id or revision. Nothing was uploaded."
        )


def _operations(folder: Path, there: set[str]) -> list[CommitOperationAdd | CommitOperationDelete]:
    """List what a commit does: it adds the files of a folder, and removes those of an earlier model."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    stale = sorted(name for name in there - set(files) if is_of_a_model(name))
    return [
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path)) for name, path in files.items()),
        *(CommitOperationDelete(path_in_repo=name) for name in stale),
    ]


def _head_of(api: HfApi, repository: str, revision: str | None) -> Any:
    """Ask what a branch holds, which is made where there is none."""
    try:
        return api.model_info(repository, revision=revision)
    except RevisionNotFoundError:
        assert revision is not None
        api.create_branch(repository, branch=revision, exist_ok=True)
        return api.model_info(repository, revision=revision)


def _of_other_visibility(repository: str, private: bool) -> str:
    here, wanted = ("public", "private") if private else ("private", "public")
    return (
        f"private={private}, and {constants.ENDPOINT}/{repository} is {here}: make it {wanted} in its settings, or "
        "leave private out. Nothing was uploaded."
    )


def _why_not_uploaded(error: Exception) -> str:
    """Say in plain words what kept a model from being uploaded, and what helps."""
    status = status_of(error)
    if isinstance(error, GatedRepoError):
        return why_not_fetched(error, _UPLOADING)
    if status == 401:
        return f"{constants.ENDPOINT} does not know the token: {LOGIN}."
    if status == 403:
        return (
            f"The token may not write there: take one that may ({constants.ENDPOINT}/settings/tokens), or open a pull "
            "request with create_pr=True."
        )
    if status == 412:
        return "Somebody has changed the repository meanwhile: call again."
    if isinstance(error, OSError) and error.filename is not None:  # of the files that are uploaded
        return f"{error}."
    return why_not_fetched(error, _UPLOADING)


# ----------------------------------------------------------------- downloading


def load_from(
    repo_or_folder: Any,
    load: Callable[[Path], Model],
    *,
    revision: Any,
    token: Any,
    cache_dir: Any,
    local_files_only: Any,
) -> Model:
    """Load a saved model by `load` from a folder of this machine, or of the cache with what a repository holds of it.

    Nothing but the files that belong to a model is fetched, once ``model.json`` has been checked.
    """
    _check_token(token)
    check_boolean("local_files_only", local_files_only)
    if revision is not None and not check_string("revision", revision):
        raise InvalidParameterError("revision must be None, or a branch, a tag or a commit, got ''.")
    how = Asking(token, check_folder("cache_dir", cache_dir), bool(local_files_only), _SOUGHT, _WITHOUT_NETWORK)
    if isinstance(repo_or_folder, os.PathLike) or (isinstance(repo_or_folder, str) and os.path.exists(repo_or_folder)):
        if revision is not None:
            raise InvalidParameterError(
                f"revision={revision!r} is of a repository, and {visible(os.fspath(repo_or_folder))} is on this "
                "machine: leave it out."
            )
        return load(Path(repo_or_folder))
    check_repository("repo_or_folder, where it is no folder of this machine,", repo_or_folder)
    try:
        folder = fetch(repo_or_folder, [DESCRIPTION_FILE], revision, how).parent
        with _helping(folder, []):
            names, inside = needed_files(folder)
        _fetch_files(repo_or_folder, folder, names, inside, how)
    except RuntimeError as error:
        which = f"{repo_or_folder!r} is no folder of this machine, and the model could not be fetched."
        raise RuntimeError(f"{which} {error}") from error.__cause__
    with _helping(folder, names):
        return load(folder)


def _fetch_files(repository: str, folder: Path, names: list[str], inside: str | None, how: Asking) -> None:
    """Fetch the files that belong to a ``model.json``, of its commit, beside it."""
    for name in names:
        fetch(repository, [name], folder.name, how)
    if inside is not None and _has_own_tokenizer(folder / inside):
        tokenizer = [f"{inside}/{name}" for name in BACKBONE_FILES if f"{inside}/{name}" not in names]
        fetch_present(repository, tokenizer, folder.name, how)


@contextlib.contextmanager
def _helping(folder: Path, names: list[str]) -> Iterator[None]:
    """Add to what is said of a damaged model what helps, for the cache would keep it as it is."""
    try:
        yield
    except (ValueError, MissingBackboneError) as error:
        damaged = [folder / name for name in names if is_as_sent(folder / name) is False]
        if not damaged and (isinstance(error, MissingBackboneError) or "damaged" not in str(error)):
            raise
        kind = MissingBackboneError if isinstance(error, MissingBackboneError) else ValueError
        raise kind(f"{error} {what_is_damaged([*damaged, folder / DESCRIPTION_FILE][0])}") from error


def _has_own_tokenizer(folder: Path) -> bool:
    """Whether a backbone's tokenizer is one of Hugging Face's, in files beside the configuration."""
    try:
        return bool(read_config(folder / BACKBONE_FILES[0])["model_cfg"]["text_cfg"].get("hf_tokenizer_name"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False  # what is wrong with it, its reader says
