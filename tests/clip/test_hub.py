"""The way from an empty cache to a fitted model, against a stand-in for the hub, in processes of their own."""

import errno
import itertools
import json
import re
import signal
import time

import httpx2
import pytest
from huggingface_hub import constants

from skl2rclip._clip import hub as hub_module
from skl2rclip._clip.hub import is_as_sent, unexplained, what_is_damaged, why_not_fetched
from tests.support import families
from tests.support import hub as stand_in
from tests.support.small_models import CONFIGS, VIT, write_model

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
NAME = "hf-hub:someone/tiny"
# a tag that people use, with weights in another file than most, and other pixels than CLIP's
TAG = ("ViT-B-16-SigLIP", "webli", "timm/ViT-B-16-SigLIP")
PLAIN_TAG = ("ViT-B-32", "laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K")

FIT = """
import numpy as np
from skl2rclip import L2RCLIPClassifier
X = np.random.default_rng(0).integers(0, 256, (15, 36, 44, 3), dtype=np.uint8)
y = np.tile(np.arange(5), 3)
classifier = L2RCLIPClassifier(
    "hf-hub:someone/tiny", prompt_epochs=2, n_context_tokens=4, random_state=0, device="cpu", n_jobs=1
)
classifier.fit(X, y)
print(classifier.predict_proba(X).sum(axis=0).round(4).tolist())
"""
# says what a user would read, as often as it is asked, and what is in memory afterwards; waits are skipped
ATTEMPT = """
import os, time, warnings
from pathlib import Path
time.sleep = lambda seconds: None
from huggingface_hub import constants
from skl2rclip import CLIPImageEncoder
from skl2rclip._clip import backbone
def attempt(*source):
    try:
        CLIPImageEncoder(*source, device="cpu").fit()
        print("READY")
    except (RuntimeError, ValueError) as error:
        print(f"{type(error).__name__}: {error}")
        assert not backbone._loaded, "half of a model is in memory"
    print("===")
def cached(name):
    return [path for path in Path(constants.HF_HUB_CACHE).rglob("*") if path.name == name]
def partial():
    return [path.name for path in Path(constants.HF_HUB_CACHE).rglob("*.incomplete")]
"""
# the real names of open_clip's list, of small architectures
SMALL = """
import json, open_clip
for name, config in json.loads({configs!r}).items():
    open_clip.factory._MODEL_CONFIGS[name] = config
"""


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_model(folder, CONFIGS["clip"])
    (folder / "model.safetensors").rename(folder / WEIGHTS)
    return folder


@pytest.fixture
def hub(tiny_folder):
    with stand_in.StandIn() as running:
        running.add("someone/tiny", tiny_folder)
        yield running


def said(ended):
    """What each attempt of a process has said."""
    assert ended.code == 0, ended.error
    return [part.strip() for part in ended.out.split("===")][:-1]


def test_a_fit_from_an_empty_cache_then_from_a_full_one_then_without_a_hub(hub, tmp_path):
    cold = stand_in.ask(FIT, tmp_path, hub)
    assert cold.code == 0, cold.error
    assert hub.fetched(WEIGHTS) == [None]
    assert hub.fetched(CONFIG) == [None]
    hub.asked.clear()
    cached = stand_in.ask(FIT, tmp_path, hub)
    assert cached.out == cold.out
    assert hub.asked
    assert not hub.fetched(WEIGHTS) + hub.fetched(CONFIG)
    hub.stop()
    unanswered = stand_in.ask(FIT, tmp_path, hub)
    assert (unanswered.out, unanswered.error) == (cold.out, "")
    assert stand_in.ask(FIT, tmp_path, hub, offline=True).out == cold.out


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a terminal of Unix")
def test_a_bar_is_seen_in_a_terminal_unless_the_user_wants_none(hub, tmp_path):
    seen = stand_in.ask(FIT, tmp_path / "seen", hub, terminal=True)
    assert WEIGHTS in seen.error
    assert "100%|" in seen.error
    # what the environment says of bars is read when the client is imported, here in the process itself
    silent = stand_in.ask(FIT, tmp_path / "silent", hub, terminal=True, anew=True, HF_HUB_DISABLE_PROGRESS_BARS="1")
    assert WEIGHTS not in silent.error
    assert "100%|" not in silent.error
    assert silent.out == seen.out
    assert seen.code == silent.code == 0


def test_a_slow_hub_is_told_of_in_the_log_and_times_out_with_the_names_of_the_settings(hub, tmp_path):
    hub.pauses[WEIGHTS] = [0.5] * 6  # the client's own retries
    code = f"""{ATTEMPT}
import logging, sys
logging.getLogger("skl2rclip").setLevel("INFO")
logging.getLogger("skl2rclip").addHandler(logging.StreamHandler(sys.stdout))
constants.HF_HUB_DOWNLOAD_TIMEOUT = 0.1
attempt({NAME!r})
constants.HF_HUB_DOWNLOAD_TIMEOUT = 10
assert not partial()
attempt({NAME!r})
"""
    slow, patient = said(stand_in.ask(code, tmp_path, hub))
    assert f"Fetching {WEIGHTS} of someone/tiny from {hub.address}, unless it is in" in slow
    assert "did not answer in time: try again, or raise HF_HUB_DOWNLOAD_TIMEOUT (now 0.1 s) and HF_HUB_ETAG_" in slow
    assert "READY" in patient
    assert f"Fetched {WEIGHTS} of someone/tiny, 6.6 MB, in" in patient


def test_nobody_answers(hub, tmp_path):
    """The error names what needs no network, and the settings."""
    hub.stop()
    [text] = said(stand_in.ask(f"{ATTEMPT}\nattempt({NAME!r})", tmp_path, hub, HTTPS_PROXY="http://secret@127.0.0.1:9"))
    assert text.startswith(f"RuntimeError: The model {NAME!r} could not be fetched. {hub.address} cannot be reached (")
    for remedy in ("model_name='skl2rclip-tiny'", "pretrained=path", "local-dir:path"):
        assert remedy in text
    for setting in (
        f"HF_ENDPOINT={hub.address}",
        f"HF_HOME={tmp_path / 'home'}",
        "HTTPS_PROXY set",
        "HF_HUB_OFFLINE=0",
    ):
        assert setting in text
    assert "secret" not in text


UNREACHABLE = """
import logging, time, traceback
import numpy as np
def refuse(seconds):
    raise AssertionError("it waits to try again")
time.sleep = refuse
from skl2rclip import L2RCLIPClassifier
for source in ("ViT-B-32", "openai"), ("hf-hub:someone/nothing", None), ("roberta-ViT-B-32", "laion2b_s12b_b32k"):
    try:
        L2RCLIPClassifier(*source, device="cpu").fit(np.zeros((2, 8, 8, 3), np.uint8), [0, 1])
    except RuntimeError as error:
        print("".join(traceback.format_exception(error)))
    print("===")
assert not logging.root.handlers
"""


def test_without_a_network_there_is_one_try_and_one_traceback(hub, tmp_path):
    """Where the name cannot be resolved: of weights, a configuration and a tokenizer."""
    hub.address = "http://nobody.invalid"
    ended = stand_in.ask(UNREACHABLE, tmp_path, hub)
    texts = said(ended)
    assert len(texts) == 3
    sentence = re.compile(r"RuntimeError: .* could not be fetched\. http://nobody\.invalid cannot be reached \(.+\)")
    for text in texts:
        assert text.count("Traceback") == 1
        assert sentence.match(text.splitlines()[-1])
    assert ended.error == ""


def test_offline_mode_with_an_empty_cache(hub, tmp_path):
    name, tag, _ = PLAIN_TAG
    code = f"{ATTEMPT}{small(PLAIN_TAG)}\nattempt({NAME!r})\nattempt({name!r}, {tag!r})"
    texts = said(stand_in.ask(code, tmp_path, hub, offline=True))
    for text in texts:
        assert "HF_HUB_OFFLINE is set, so that nobody is asked" in text
        assert f"not in the cache {tmp_path / 'home' / 'hub'}" in text
        assert "model_name='skl2rclip-tiny'" in text
    assert f"The model {name!r} with pretrained={tag!r} could not be fetched." in texts[1]
    assert not hub.asked


def test_a_connection_that_breaks_is_gone_on_with_where_it_broke(hub, tmp_path):
    hub.cuts[WEIGHTS] = [10**6]
    piece = 2**18  # the client keeps whole pieces, of 10 MB otherwise
    code = f"{ATTEMPT}\nconstants.DOWNLOAD_CHUNK_SIZE = {piece}\nattempt({NAME!r})"
    assert said(stand_in.ask(code, tmp_path, hub)) == ["READY"]
    assert hub.fetched(WEIGHTS) == [None, f"bytes={10**6 // piece * piece}-"]


def test_a_connection_that_always_breaks_leaves_nothing_and_the_next_call_ends_well(hub, tmp_path):
    hub.cuts[WEIGHTS] = [10**6] + [0] * 6
    code = f"{ATTEMPT}\nattempt({NAME!r})\nassert not partial() and not cached({WEIGHTS!r})\nattempt({NAME!r})"
    broken, ready = said(stand_in.ask(code, tmp_path, hub))
    assert f"The model {NAME!r} could not be fetched. The download from {hub.address} broke off (peer closed" in broken
    assert "): call again." in broken
    assert ready == "READY"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a process is killed")
def test_a_process_that_is_killed_while_it_downloads_leaves_the_cache_usable(hub, tmp_path):
    hub.pauses[WEIGHTS] = [60]
    process = stand_in.begin(f"{ATTEMPT}\nattempt({NAME!r})", tmp_path, hub)
    until = time.monotonic() + 60
    while not hub.fetched(WEIGHTS) and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert hub.fetched(WEIGHTS)
    hub.pauses.clear()
    assert said(stand_in.ask(f"{ATTEMPT}\nattempt({NAME!r})", tmp_path, hub)) == ["READY"]


def test_what_comes_damaged_is_not_kept(hub, tmp_path):
    """Of the right size, with one bit turned: nothing but the checksum shows it."""
    content = hub.repositories["someone/tiny"][WEIGHTS]
    turned = bytearray(content)
    turned[-1] ^= 1
    hub.swaps[WEIGHTS] = [bytes(turned)]
    code = f"{ATTEMPT}\nattempt({NAME!r})\nassert not cached({WEIGHTS!r})\nattempt({NAME!r})"
    damaged, ready = said(stand_in.ask(code, tmp_path, hub))
    assert f"{WEIGHTS} of {hub.address}/someone/tiny came damaged: its SHA-256 is not the one" in damaged
    assert "It was removed again; the next call begins anew." in damaged
    assert ready == "READY"


def test_what_is_damaged_in_the_cache_is_named_with_its_path_and_deleted_as_told(hub, tmp_path):
    code = f"""{ATTEMPT}
attempt({NAME!r})
from skl2rclip._clip.backbone import unload_backbones
def damage(name, size):
    [file] = cached(name)
    blob = Path(os.path.realpath(file))
    os.truncate(blob, size)
    unload_backbones()
    attempt({NAME!r})
    print(blob)
    print("===")
    blob.unlink()
    attempt({NAME!r})
damage({WEIGHTS!r}, 10**6)
unload_backbones()
damage({CONFIG!r}, 20)
"""
    ready, weights, blob, again, config, config_blob, once_more = said(stand_in.ask(code, tmp_path, hub))
    assert ready == again == once_more == "READY"
    assert f"The weights of {NAME!r} do not load into this architecture, or are damaged" in weights
    assert f"The file is {blob}. Its SHA-256 is not the one that the hub named: delete it, and the next call" in weights
    assert f"model_name={NAME!r}: its {CONFIG} cannot be read" in config
    assert f"The file is {config_blob}. The hub named no SHA-256 of it: delete it" in config


def test_a_file_that_is_wrong_at_the_hub_is_said_to_be(hub, tmp_path):
    hub.repositories["someone/tiny"][WEIGHTS] = b"no weights" * 100
    [text] = said(stand_in.ask(f"{ATTEMPT}\nattempt({NAME!r})", tmp_path, hub))
    assert "do not load into this architecture, or are damaged" in text
    assert "is as the hub sent it (its SHA-256 is right): it is the hub's that does not fit" in text


def test_an_answer_of_another_length_than_announced(hub, tmp_path):
    hub.swaps[WEIGHTS] = [hub.repositories["someone/tiny"][WEIGHTS][:-100]]
    code = f"{ATTEMPT}\nattempt({NAME!r})\nassert not partial() and not cached({WEIGHTS!r})"
    [text] = said(stand_in.ask(code, tmp_path, hub))
    assert "broke off (Consistency check failed: file should be of size" in text


def test_what_is_absent_or_hidden_is_told_apart(hub, tmp_path, tiny_folder):
    for repository in ("someone/gated", "someone/other", "someone/without"):
        hub.add(repository, tiny_folder)
    hub.gated.add("someone/gated")
    del hub.repositories["someone/other"][CONFIG]
    del hub.repositories["someone/without"][WEIGHTS]
    names = ["someone/nobody", "someone/gated", "someone/other", "someone/without", "../escape"]
    code = ATTEMPT + "".join(f"\nattempt('hf-hub:{name}')" for name in names)
    nobody, gated, other, without, escape = said(stand_in.ask(code, tmp_path, hub))
    assert (
        f"{hub.address} does not know it, or hides it from you: check the name; where it is private, log in" in nobody
    )
    assert f"{hub.address}/someone/gated wants its terms to be accepted: do so there, and log in with 'hf auth" in gated
    assert f"{hub.address}/someone/other holds no file {CONFIG}, so it is no model of open_clip" in other
    assert f"someone/without holds no file {WEIGHTS} or open_clip_pytorch_model.bin, so it is no model" in without
    assert "'../escape'" in escape
    for text in (nobody, gated, other, without, escape):
        assert "HTTPS_PROXY" not in text  # of no help here


def test_a_hub_in_trouble_is_named_with_its_status(hub, tmp_path):
    hub.status = 503
    [text] = said(stand_in.ask(f"{ATTEMPT}\nattempt({NAME!r})", tmp_path, hub))
    assert f"{hub.address} answered with the status 503" in text
    assert "HF_ENDPOINT" in text


def small(*tags, config=None):
    """Code that gives the names of some tags a small architecture."""
    return SMALL.format(configs=json.dumps({name: config or CONFIGS["clip"] for name, *_ in tags}))


SAME = """
import io, torch
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._clip.fingerprint import fingerprint
ours = load_backbone(BackboneSource({name!r}, {tag!r}))
theirs = open_clip.create_model({name!r}, pretrained={tag!r}, force_quick_gelu=ours.config["quick_gelu"])
print(ours.fingerprint == fingerprint(theirs), ours.model.visual.preprocess_cfg == theirs.visual.preprocess_cfg)
print(ours.preprocessing.mean, ours.config["quick_gelu"])
"""


@pytest.mark.parametrize(
    ("tag", "file", "mean", "quick"),
    [
        (PLAIN_TAG, WEIGHTS, 0.48145466, False),
        (PLAIN_TAG, "open_clip_pytorch_model.bin", 0.48145466, False),
        (("ViT-B-16", "openai", "timm/vit_base_patch16_clip_224.openai"), WEIGHTS, 0.48145466, True),
        (TAG, WEIGHTS, 0.5, False),
    ],
)
def test_a_tag_gives_what_open_clip_itself_would_load(hub, tmp_path, tiny_folder, tag, file, mean, quick):
    """From a repository under its real name, with weights in either form."""
    name, label, repository = tag
    hub.add(repository, tiny_folder)
    if file != WEIGHTS:
        content = hub.repositories[repository].pop(WEIGHTS)
        hub.repositories[repository][file] = as_pickle(content)
    ended = stand_in.ask(ATTEMPT + small(tag) + SAME.format(name=name, tag=label), tmp_path, hub)
    assert ended.code == 0, ended.error
    same, values = ended.out.splitlines()
    assert same == "True True"
    assert values == f"{(mean,) + ((0.4578275, 0.40821073) if mean != 0.5 else (0.5, 0.5))} {quick}"
    assert hub.fetched(file) == [None]


def as_pickle(content):
    """The same weights as torch's own file."""
    import io

    import torch
    from safetensors.torch import load

    file = io.BytesIO()
    torch.save(load(content), file)
    return file.getvalue()


def test_a_tag_with_a_file_name_of_its_own_is_looked_for_under_it():
    """Of those that open_clip lists some are; without the network only their names can be looked at."""
    import open_clip

    from skl2rclip._clip import backbone

    asked = {}

    def note(repository, names, revision=None):
        asked[repository] = names
        raise RuntimeError("noted")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "fetch", note)
        for name, tag in open_clip.list_pretrained():
            with pytest.raises(RuntimeError, match="noted"):
                backbone._fetched_weights(backbone.BackboneSource(name, tag))
    places = {open_clip.get_pretrained_cfg(*pair)["hf_hub"] for pair in open_clip.list_pretrained()}
    assert set(asked) == {place.rsplit("/", 1)[0] for place in places}
    for place in places:
        repository, _, file = place.rpartition("/")
        names = asked[repository]
        assert names == (
            [file.replace(".bin", ".safetensors"), file] if file else [WEIGHTS, "open_clip_pytorch_model.bin"]
        )


def test_a_tokenizer_of_the_hub_is_fetched_too_or_named(hub, tmp_path):
    """As SigLIP's, which stands in a repository of another name than the weights."""
    config, make = families.FAMILIES["siglip"]
    folder = tmp_path / "model"
    folder.mkdir()
    families.write_tokenizer(folder, make)
    model = {"embed_dim": 24, "vision_cfg": VIT, **json.loads(json.dumps(config))}
    write_model(folder, model)
    (folder / "model.safetensors").rename(folder / WEIGHTS)
    hub.add("someone/siglip", folder)
    fit = FIT.replace(NAME, "hf-hub:someone/siglip")
    code = f"""{ATTEMPT}
try:
    exec({fit!r})
except RuntimeError as error:
    print(error)
print("===")
"""
    [text] = said(stand_in.ask(code, tmp_path / "process", hub))
    which = config["text_cfg"]["hf_tokenizer_name"]
    assert f"The tokenizer {which!r} of model_name='hf-hub:someone/siglip' could not be fetched." in text
    assert f"{hub.address} does not know it" in text
    hub.add(which, folder)
    cold = stand_in.ask(fit, tmp_path / "process", hub)
    assert cold.code == 0, cold.error
    hub.stop()
    assert stand_in.ask(fit, tmp_path / "process", hub, offline=True).out == cold.out


def test_only_what_is_explained_hides_its_traceback(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    known, unknown = httpx2.ConnectError("no route"), RuntimeError("strange")
    assert unexplained(known) is None
    assert unexplained(unknown) is unknown
    assert "strange" in why_not_fetched(unknown)


def test_causes_are_found_however_deep(tmp_path, monkeypatch):
    # of the environment as it was when the client was imported, which may be that of a worker of the tests
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def caused(*errors):
        for outer, inner in itertools.pairwise(errors):
            outer.__cause__ = inner
        return why_not_fetched(errors[0])

    wrapped = RuntimeError("could not")
    assert "did not answer in time" in caused(wrapped, OSError("no"), httpx2.ReadTimeout("slow"))
    assert "cannot be reached ([Errno 111] refused)" in caused(
        RuntimeError("could not"), httpx2.ConnectError("all attempts failed"), OSError(errno.ECONNREFUSED, "refused")
    )
    full = caused(OSError(errno.ENOSPC, "No space left on device", str(tmp_path)))
    assert "No space left on device" in full
    assert "HF_HOME names another place" in full
    assert "broke off (size 3)" in caused(OSError("Consistency check failed: file"), ValueError("size 3"))
    circle = RuntimeError("round and round")
    circle.__cause__ = circle
    assert "round and round" in why_not_fetched(circle)


def test_a_file_is_told_from_what_the_hub_sent_by_its_name_in_the_cache(tmp_path):
    import hashlib

    content = b"weights"
    blob = tmp_path / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    assert is_as_sent(blob) is True
    blob.write_bytes(b"weightz")
    assert is_as_sent(blob) is False
    assert f"The file is {blob}. Its SHA-256 is not the one" in what_is_damaged(blob)
    plain = tmp_path / "model.safetensors"
    plain.write_bytes(content)
    assert is_as_sent(plain) is None


def test_the_cache_is_that_of_the_hubs_client(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--a--b" / "blobs").mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs" / "x").touch()
    assert hub_module._blobs("a/b") == {"x"}
    assert hub_module._blobs("a/c") == set()
