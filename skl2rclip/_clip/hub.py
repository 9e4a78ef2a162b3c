"""Files of the Hugging Face hub: fetched into the cache of the hub's own client, checked, and what keeps them away.

The client asks, resumes, waits and shows its bar. Here one of several names is chosen, what came is compared with the
checksum that the hub names, and errors say what happened and what helps. What the files are for is not known.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import get_session

_log = logging.getLogger(__name__)
_SHA256 = re.compile("[0-9a-f]{64}")
# how the clients of the hub, of which the older one is requests, name that no connection came about
_NO_CONNECTION = {"ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError"}
LOGIN = "log in with 'hf auth login', or set HF_TOKEN"
_OTHER_BACKBONES = (
    "Without a network there are model_name='skl2rclip-tiny', 'skl2rclip-photo' where its package is installed, a "
    "checkpoint file (pretrained=path) and a folder (model_name='local-dir:path')."
)


@dataclass(frozen=True)
class Asking:
    """How the hub is asked for files, and what they are to be.

    Attributes
    ----------
    token : str, bool or None
        As the hub's client takes it.
    cache : str or None
        Folder of the cache; None is that of the client.
    only_cache : bool
        Whether nobody is to be asked.
    sought : str
        What is looked for.
    without_network : str
        A sentence that says what there is instead.
    direction : str
        What broke off where it does.
    """

    token: str | bool | None = None
    cache: str | None = None
    only_cache: bool = False
    sought: str = "model of open_clip"
    without_network: str = _OTHER_BACKBONES
    direction: str = "download from"

    @property
    def cache_folder(self) -> str:
        """Where files are kept."""
        return constants.HF_HUB_CACHE if self.cache is None else self.cache


_BACKBONE = Asking()


def fetch(repository: str, names: Sequence[str], revision: str | None = None, how: Asking = _BACKBONE) -> Path:
    """Return the first of several files that a repository of the hub holds, from the cache or fetched into it.

    Of a commit, by default the newest one, the cache is not asked about again. The file is in a folder that is named
    after the commit, or in a folder of that one.
    """
    where = constants.ENDPOINT, how.cache_folder
    _log.info("Fetching %s of %s from %s, unless it is in %s.", names[0], repository, *where)
    before, since = _blobs(repository, how.cache), time.monotonic()
    no_connection = None if how.only_cache else why_unreachable(repository, names[0])
    failures = [] if no_connection is None else [no_connection]
    for name in names:
        try:
            # what is not there for want of an answer need not be asked for once more under its other names
            path = _from_cache_or_hub(repository, name, revision, how, only_cache=how.only_cache or bool(failures))
        except LocalEntryNotFoundError as error:
            failures.append(error)
        except EntryNotFoundError:
            continue
        except RevisionNotFoundError:
            raise RuntimeError(
                f"{constants.ENDPOINT}/{repository} has no revision {revision!r}: name a branch, a tag or a commit."
            ) from None
        except Exception as error:  # the clients of the hub raise families of their own
            raise RuntimeError(why_not_fetched(error, how)) from unexplained(error)
        else:
            _check_download(path, repository, before, since)
            return path
    if failures:
        raise RuntimeError(why_not_fetched(failures[0], how)) from unexplained(failures[0])
    raise RuntimeError(
        f"{constants.ENDPOINT}/{repository} holds no file {' or '.join(names)}, so it is no {how.sought}: "
        "check the name."
    )


def fetch_present(repository: str, names: Sequence[str], revision: str, how: Asking) -> None:
    """Fetch into the cache those of several files that a repository holds; where nobody answers, leave it as it is."""
    if how.only_cache or why_unreachable(repository, names[0]) is not None:
        return
    before = _blobs(repository, how.cache)
    for name in names:
        since = time.monotonic()
        try:
            path = _from_cache_or_hub(repository, name, revision, how, only_cache=False)
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and not constants.HF_HUB_OFFLINE:
                raise RuntimeError(why_not_fetched(error, how)) from unexplained(error)
        except Exception as error:  # the clients of the hub raise families of their own
            raise RuntimeError(why_not_fetched(error, how)) from unexplained(error)
        else:
            _check_download(path, repository, before, since)


def _from_cache_or_hub(repository: str, name: str, revision: str | None, how: Asking, *, only_cache: bool) -> Path:
    return Path(
        hf_hub_download(
            repository,
            name,
            revision=revision,
            token=how.token,
            cache_dir=how.cache,
            local_files_only=only_cache,
        )
    )


def why_unreachable(repository: str, name: str) -> Exception | None:
    """Try once to reach the hub, for a file of it, and return what kept from it; None where it answers, or may yet.

    The client itself tries six times, which takes half a minute and helps nobody whose machine has no network.
    """
    if constants.HF_HUB_OFFLINE:  # nobody is to be asked, and the client says so
        return None
    try:
        get_session().head(hf_hub_url(repository, name), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception as error:  # the clients of the hub raise families of their own
        kinds = {kind.__name__ for kind in type(error).__mro__}
        return error if kinds & _NO_CONNECTION else None
    return None


def _blobs(repository: str, cache: str | None = None) -> set[str]:
    """Names of the files that the cache holds of a repository."""
    folder = Path(cache or constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type="model"), "blobs")
    return {path.name for path in folder.glob("*")}


def _check_download(path: Path, repository: str, before: set[str], since: float) -> None:
    """Compare what has come just now with its checksum, and keep it only where they agree."""
    blob = blob_of(path)
    if blob.name in before:
        return
    size, seconds = blob.stat().st_size, time.monotonic() - since
    _log.info("Fetched %s of %s, %.1f MB, in %.1f s.", path.name, repository, size / 1e6, seconds)
    if is_as_sent(path) is False:
        for file in {path, blob}:
            file.unlink()
        raise RuntimeError(
            f"{path.name} of {constants.ENDPOINT}/{repository} came damaged: its SHA-256 is not the one that the hub "
            "names. It was removed again; the next call begins anew."
        )


def blob_of(path: Path) -> Path:
    """Return the file behind the link that the cache has under a file's name; this one is to be deleted."""
    return Path(os.path.realpath(path))


def is_as_sent(path: Path) -> bool | None:
    """Whether a file of the cache has the checksum that the hub named; None where the hub named none."""
    blob = blob_of(path)
    if not _SHA256.fullmatch(blob.name):
        return None
    with blob.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == blob.name


def what_is_damaged(path: Path) -> str:
    """Say of a file of the cache that cannot be used where it is, and what to do about it."""
    blob = blob_of(path)
    verdict = is_as_sent(path)
    if verdict:
        return f"The file {blob} is as the hub sent it (its SHA-256 is right): it is the hub's that does not fit."
    known = "Its SHA-256 is not the one that the hub named" if verdict is False else "The hub named no SHA-256 of it"
    return f"The file is {blob}. {known}: delete it, and the next call fetches it again."


def why_not_fetched(error: BaseException, how: Asking = _BACKBONE) -> str:
    """Say in plain words what kept a file away, and what helps; whole sentences."""
    return _explained(error, how) or f"{error}. {_network(how)}"


def unexplained(error: BaseException) -> BaseException | None:
    """Return an error where `why_not_fetched` can only repeat it: else its traceback says nothing more to a reader."""
    return error if _explained(error, _BACKBONE) is None else None


def _explained(error: BaseException, how: Asking) -> str | None:
    chain = list(_chain(error))
    kinds = {kind.__name__ for each in chain for kind in type(each).__mro__}
    responses, status = _responses(error), status_of(error)
    first, endpoint, cache = chain[-1], constants.ENDPOINT, how.cache_folder
    line = (str(first).strip().splitlines() or [type(first).__name__])[0]
    if "LocalTokenNotFoundError" in kinds:
        return f"token=True, and nobody is logged in: {LOGIN}."
    if how.only_cache and "LocalEntryNotFoundError" in kinds:
        return f"It is not in the cache {cache}, and local_files_only=True asks nobody: leave that out once."
    if constants.HF_HUB_OFFLINE or "OfflineModeIsEnabled" in kinds:
        return f"It is not in the cache {cache}, and HF_HUB_OFFLINE is set, so that nobody is asked. {_network(how)}"
    if "GatedRepoError" in kinds:
        page = str(responses[0].url).split("/resolve/")[0] if responses else endpoint
        return f"{page} wants its terms to be accepted: do so there, and {LOGIN}."
    if "RepositoryNotFoundError" in kinds or status in (401, 404):
        return f"{endpoint} does not know it, or hides it from you: check the name; where it is private, {LOGIN}."
    if "HFValidationError" in kinds:
        return str(first)
    if any("Timeout" in kind for kind in kinds):
        return (
            f"{endpoint} did not answer in time: try again, or raise HF_HUB_DOWNLOAD_TIMEOUT (now "
            f"{constants.HF_HUB_DOWNLOAD_TIMEOUT} s) and HF_HUB_ETAG_TIMEOUT (now {constants.HF_HUB_ETAG_TIMEOUT} s). "
            f"{_network(how)}"
        )
    if "Consistency check failed" in str(error) or kinds & {"RemoteProtocolError", "ReadError", "ChunkedEncodingError"}:
        return f"The {how.direction} {endpoint} broke off ({line}): call again. {_network(how)}"
    if status is not None:
        return f"{endpoint} answered with the status {status} ({line}). {_network(how)}"
    if kinds & (_NO_CONNECTION | {"LocalEntryNotFoundError"}):
        return f"{endpoint} cannot be reached ({line}). {_network(how)}"
    if isinstance(first, OSError):  # a disk that is full, a folder that is not ours
        return f"It cannot be written into the cache {cache} ({first}). HF_HOME names another place for it."
    return None


def status_of(error: BaseException) -> int | None:
    """Return the status that the hub has answered with; None where it has not answered."""
    responses = _responses(error)
    return responses[0].status_code if responses else None


def _responses(error: BaseException) -> list[Any]:
    errors = [each for each in _chain(error) if isinstance(each, HfHubHTTPError)]
    return [each.response for each in errors if each.response is not None]


def concerns_the_hub(error: BaseException) -> bool:
    """Whether an error of another library came from asking the hub."""
    own = (HfHubHTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError)
    return any(isinstance(each, own) for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came from, the first cause last."""
    seen: set[int] = set()
    present: BaseException | None = error
    while present is not None and id(present) not in seen:
        seen.add(id(present))
        yield present
        present = present.__cause__ or present.__context__


def _network(how: Asking) -> str:
    is_set = any(name in os.environ for name in ("HTTPS_PROXY", "https_proxy"))
    return (
        f"{how.without_network} Python has started with HF_ENDPOINT={constants.ENDPOINT}, HF_HOME={constants.HF_HOME}, "
        f"HF_HUB_OFFLINE={int(constants.HF_HUB_OFFLINE)} and HTTPS_PROXY {'' if is_set else 'not '}set."
    )
