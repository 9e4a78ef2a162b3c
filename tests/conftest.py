"""Fixtures that most tests share: small models, images whose order is plain to see, and no network."""

from __future__ import annotations

import copy
import functools
import gc
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import unload_backbones
from skl2rclip._clip.source import BackboneSource
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._embedding.encoding import ImageEncoding
from skl2rclip._training import initialization
from tests.support.small_images import shaded_images
from tests.support.small_models import CONFIGS, write_model

os.environ["HF_HUB_OFFLINE"] = "1"  # for the processes that tests start; what runs here is refused below
logging.getLogger().setLevel(logging.ERROR)  # open_clip tells the root logger about every model
# one thread for each process, those that tests start too: threads that wait for busy cores take several times as long
torch.set_num_threads(1)
threadpool_limits(1, user_api="openmp")
with ThreadPoolExecutor(1) as setting:  # while the thread that has set BLAS's number lives, no other can
    setting.submit(threadpool_limits, 1, user_api="blas").result()
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))


# of the modules that take longest, those that begin first, so that no worker waits for the others at the end
BEGIN_FIRST = (
    "test_cluster.py",
    "training/test_distributed.py",
    "project/test_examples.py",
    "clip/test_tiny.py",
    "clip/test_hub.py",
    "project/test_packaging.py",
    "test_sklearn.py",
    "clip/test_photo.py",
)


def pytest_configure(config):
    if hasattr(config.option, "loadscopereorder"):  # xdist would begin with the modules of the most tests
        config.option.loadscopereorder = False


def pytest_make_parametrize_id(config, val, argname):
    """Name long bytes by their number: colour profiles hold the second in which each process makes them."""
    return f"{len(val)} bytes" if isinstance(val, bytes) and len(val) > 20 else None


def pytest_collection_modifyitems(config, items):
    places = {config.rootpath / "tests" / name: place for place, name in enumerate(BEGIN_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish():
    gc.freeze()  # half a million objects of what was imported, which each collection would look through


@pytest.fixture(scope="session")
def model_names(tmp_path_factory):
    """``model_name`` of each small model, by kind."""
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(root / kind, copy.deepcopy(config)) for kind, config in CONFIGS.items()}


@pytest.fixture(scope="session")
def tiny(model_names):
    return model_names["clip"]


@pytest.fixture(scope="session")
def family_sources(tmp_path_factory):
    """Return the source of a small model by the name of its family of text towers, made when it is first asked for."""
    from tests.support import families

    root = tmp_path_factory.mktemp("families")

    @functools.cache
    def source_of(kind):
        folder = root / kind
        if kind in families.FAMILIES:
            return BackboneSource(families.write_family(folder, kind))
        folder.mkdir()
        return BackboneSource(f"small-{kind}", families.register_tower(folder, kind, f"small-{kind}"))

    return source_of


@pytest.fixture(autouse=True)
def addresses_asked(monkeypatch):
    """Refuse the network, and fail whatever asks for an address that is not this machine's."""
    asked = []

    def refusing(original, address_of):
        def ask(*arguments, **keywords):
            host = address_of(*arguments)
            if host not in ("127.0.0.1", "::1", "localhost", "", None, socket.gethostname()):
                asked.append(host)
                raise OSError(f"tests do not use the network ({host})")
            return original(*arguments, **keywords)

        return ask

    def host_of(connection, address, *rest):
        is_network = connection.family in (socket.AF_INET, socket.AF_INET6)
        # a datagram's socket sends nothing when it is connected, and asking for one's own address begins so
        return address[0] if is_network and connection.type & socket.SOCK_STREAM else None

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refusing(getattr(socket.socket, name), host_of), raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refusing(socket.getaddrinfo, lambda host, *rest: host))
    yield asked
    assert not asked


@pytest.fixture(autouse=True, scope="session")
def _forget_backbones():
    yield
    unload_backbones()


@pytest.fixture(scope="session")
def shades():
    """Forty images of the ranks 0 to 4, and their labels."""
    y = np.tile(np.arange(5), 8)
    return shaded_images(y), y


@pytest.fixture(scope="session")
def shade_paths(shades, tmp_path_factory):
    """The same images as files."""
    folder = tmp_path_factory.mktemp("shades")
    paths = []
    for i, pixels in enumerate(shades[0]):
        paths.append(str(folder / f"{i:02d}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture(autouse=True)
def _order_soon(request, monkeypatch):
    """Put the prompts of the small models in order with few steps, but where the full number is asked for."""
    if request.node.get_closest_marker("full_ordering") is None:
        monkeypatch.setattr("skl2rclip._training.initialization._ORDERING_STEPS", 5)


@pytest.fixture
def make_classifier(tiny):
    """Classifier over the small CLIP that fits within a second; parameters can be given."""

    def make(**parameters):
        settings = {
            "image_tower": "frozen",
            "prompt_epochs": 3,
            "image_epochs": 2,
            "n_context_tokens": 4,
            "random_state": 0,
            "device": "cpu",
        }
        return L2RCLIPClassifier(**{"model_name": tiny, **settings, **parameters})

    return make


@pytest.fixture(scope="session")
def _fitted_before():
    """Classifiers that have learned the forty images, by what they were fitted with; none of them is handed out."""
    return {}


@pytest.fixture
def fitted_classifier(make_classifier, shades, _fitted_before):
    """Return a copy of what `make_classifier` makes, fitted to the forty images; each kind is fitted once.

    With `words` these are the labels. It is for tests of what a fitted classifier does. A test of the fit itself calls
    `fit`, also for what it compares with: embeddings may have been rounded otherwise since, in another batch.
    """

    def copy_of(*, words=None, **parameters):
        kind = repr((initialization._ORDERING_STEPS, words, sorted(parameters.items())))
        if kind not in _fitted_before:
            X, y = shades
            _fitted_before[kind] = make_classifier(**parameters).fit(X, y if words is None else np.array(words)[y])
        return copy.deepcopy(_fitted_before[kind])

    return copy_of


@pytest.fixture
def zero_shot(make_classifier):
    """Classifier that trains nothing: CLIP's own zero-shot predictions."""

    def make(**parameters):
        settings = {
            "prompt_epochs": 0,
            "image_epochs": 0,
            "blend_ratio": 0.0,
            "prompt": "a photo of",
            "n_context_tokens": 3,
        }
        return make_classifier(**{**settings, **parameters})

    return make


@pytest.fixture
def through_tower(monkeypatch):
    """List of the numbers of images that pass a tower; nothing that was embedded before is remembered."""
    passed = []
    original = ImageEncoding._of_pixels

    def counted(self, pixels, batch_size):
        passed.append(len(pixels))
        return original(self, pixels, batch_size)

    monkeypatch.setattr(ImageEncoding, "_of_pixels", counted)
    forget_embeddings()
    return passed


@pytest.fixture
def torch_threads():
    """Set torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
