"""Where a backbone comes from: a name of open_clip's, a folder, a hub, a checkpoint file, or random numbers."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from skl2rclip._clip.embedded import EMBEDDED_NAMES
from skl2rclip._utils.arguments import warn_user

LOCAL_DIR_PREFIX = "local-dir:"
HUB_PREFIX = "hf-hub:"
CONFIG_FILE = "open_clip_config.json"


@dataclass(frozen=True)
class BackboneSource:
    """Where a backbone comes from."""

    model_name: str  # an open_clip name, local-dir: folder, hf-hub: id, skl2rclip-tiny or skl2rclip-photo
    # open_clip tag or checkpoint file, None for random weights; not used where the name says where they are
    pretrained: str | None = None
    seed: int = 0  # of random weights

    @property
    def has_own_weights(self) -> bool:
        """Whether `model_name` says by itself where the weights are."""
        return self.model_name in EMBEDDED_NAMES or self.model_name.startswith((LOCAL_DIR_PREFIX, HUB_PREFIX))

    @property
    def is_random(self) -> bool:
        """Whether the weights are random numbers."""
        folder = self.local_folder
        if self.pretrained is not None or (self.has_own_weights and folder is None):
            return False
        return folder is None or not weight_files(folder)

    @property
    def open_clip_name(self) -> str:
        """`model_name` as open_clip lists it."""
        return self.model_name.replace("/", "-")

    @property
    def local_folder(self) -> Path | None:
        """Folder of a ``local-dir:`` model."""
        if self.model_name.startswith(LOCAL_DIR_PREFIX):
            return Path(self.model_name.removeprefix(LOCAL_DIR_PREFIX))
        return None

    def __str__(self) -> str:
        if self.has_own_weights and not self.is_random:
            return repr(self.model_name)
        return f"{self.model_name!r} with pretrained={self.pretrained!r}"


def weight_files(folder: Path) -> list[Path]:
    """Files in a folder that may hold weights, in the order in which open_clip looks for them."""
    return [path for pattern in ("*.safetensors", "*.bin", "*.pth") for path in sorted(folder.glob(pattern))]


def absolute(source: BackboneSource) -> BackboneSource:
    """Return the source with paths that hold from any working directory."""
    if source.local_folder is not None:
        return replace(source, model_name=LOCAL_DIR_PREFIX + os.path.abspath(source.local_folder))
    if not source.has_own_weights and source.pretrained is not None and os.path.isfile(source.pretrained):
        return replace(source, pretrained=os.path.abspath(source.pretrained))
    return source


def without_folders(source: BackboneSource) -> BackboneSource:
    """Return the source with the last parts alone of paths, for those who are not to know this machine's folders."""
    name, pretrained = source.model_name, source.pretrained
    if source.local_folder is not None:
        name = LOCAL_DIR_PREFIX + _last_part(name.removeprefix(LOCAL_DIR_PREFIX))
    return replace(source, model_name=name, pretrained=pretrained and _last_part(pretrained))


def _last_part(path: str | os.PathLike) -> str:
    return os.path.basename(os.path.abspath(path))


def warn_if_random(source: BackboneSource) -> None:
    """Say loudly that a model knows nothing."""
    if source.is_random:
        warn_user(
            f"The backbone {source} has random weights: nothing that CLIP has learned is used. This is for tests, and "
            "for training a tower from scratch."
        )
