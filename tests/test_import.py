"""What importing costs: torch and open_clip, which take seconds, come when an estimator is fitted or loaded."""

import os
import subprocess
import sys

import pytest

from tests.support import processes

LIGHT = """
import sys
import skl2rclip
assert not {"sklearn", "torch", "open_clip"} & set(sys.modules), "import skl2rclip is not cheap"
import pickle
import skl2rclip.embedding_store, skl2rclip.errors, skl2rclip.metrics
import importlib
from skl2rclip._cli.main import COMMANDS
[importlib.import_module(f"skl2rclip._cli.{name}") for name in COMMANDS]
from skl2rclip.datasets import load_image_folder, read_image_table
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier, find_unreadable

assert find_unreadable(["no-such-image.png"]) == {0: "no such file"}
for made in (L2RCLIPClassifier(n_context_tokens=4), CLIPImageEncoder(batch_size=4)):
    estimator = pickle.loads(pickle.dumps(clone(made).set_params(device="cpu")))
    assert estimator.get_params()["device"] == "cpu"
    assert type(estimator).__name__ in repr(estimator) and estimator._repr_html_()
    assert get_tags(estimator).input_tags.string
    GridSearchCV(make_pipeline(estimator), {}).get_params()
    try:
        estimator.transform(["image.png"])
    except NotFittedError:
        continue
    raise AssertionError("an estimator that was not fitted has transformed")
print(sorted({"torch", "open_clip", "huggingface_hub"} & set(sys.modules)))
"""

FORKED = """
import os
from skl2rclip import L2RCLIPClassifier
import torch
torch.set_num_threads(2)
torch.relu(torch.ones(1000, 1000))  # large enough for threads, which stay behind in a fork
child = os.fork()
if not child:
    import skl2rclip._utils.devices
    torch.relu(torch.ones(1000, 1000))
    os._exit(torch.get_num_threads())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.get_num_threads())
"""


def output_of(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_estimators_are_made_cloned_printed_and_unpickled_without_torch():
    assert output_of(LIGHT) == "[]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_was_forked_before_torch_was_needed_computes_with_one_thread():
    assert processes.output_of(FORKED).strip() == "1 2"
