"""A fitted model to a stand-in for the hub and back, in this process: what is uploaded, fetched and believed."""

import copy
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import close_session, constants
from sklearn.exceptions import NotFittedError

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import unload_backbones
from skl2rclip.errors import InvalidParameterError, MissingBackboneError
from tests.support import hub as stand_in
from tests.support.pages import page_block

TOKEN, READER = "hf_writes", "hf_reads"
REPOSITORY = "me/quality"
SAVED = {"model.json", "model.safetensors"}
WEIGHTS = "backbone/open_clip_model.safetensors"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that this process asks, whose cache is empty, and where `me` is logged in."""
    with stand_in.StandIn() as running:
        running.writers[TOKEN] = "me"
        running.readers.add(READER)
        stand_in.ask_it(monkeypatch, running, tmp_path / "cache")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


@pytest.fixture
def model(fitted_model):
    """A fitted model whose backbone is a folder, and which may be changed."""
    return copy.copy(fitted_model("embedding"))


@pytest.fixture(scope="module")
def images(photos):
    return photos[0][:3]


@pytest.fixture(scope="module")
def fitted_by_words():
    return L2RCLIPClassifier("skl2rclip-tiny", ranks=range(5), prompt="blur level", device="cpu").fit_zero_shot()


@pytest.fixture
def by_words(fitted_by_words):
    """A model whose backbone comes with the package."""
    return copy.copy(fitted_by_words)


def at(hub, repository=REPOSITORY):
    return hub.repositories[repository]


def asked_for(hub):
    """Names of the files whose content was asked for."""
    paths = [path for method, path, _ in hub.asked if method == "GET"]
    return {path.partition("/resolve/")[2].partition("/")[2] for path in paths if "/resolve/" in path}


def end(hub):
    """Let the hub answer no more, on connections that are open neither."""
    hub.stop()
    close_session()


# ------------------------------------------------------------------------ up


def test_one_commit_takes_a_model_there_and_back(hub, by_words, images, photos):
    card = by_words.model_card(*photos)
    address = by_words.push_to_hub(REPOSITORY, commit_message="Grades")
    [commit] = hub.commits
    assert address == f"{hub.address}/{REPOSITORY}/commit/{hub.head(REPOSITORY)}"
    assert commit["header"]["summary"] == "Grades"
    assert set(commit["files"]) == {*SAVED, "README.md", "confusion.png"}
    assert commit["files"]["confusion.png"] == card.files["confusion.png"]
    text = at(hub)["README.md"].decode()
    assert f'from_pretrained("{REPOSITORY}")' in text
    assert "- name: quality\n" in text
    assert "YOUR-" not in text
    assert "YOUR-NAME" in str(card)  # which may go elsewhere too
    loaded = L2RCLIPClassifier.from_pretrained(REPOSITORY)
    np.testing.assert_array_equal(loaded.predict_proba(images), by_words.predict_proba(images))
    assert loaded.get_params().keys() == by_words.get_params().keys()
    assert loaded._state.n_images == (0, 0, 0, 0, 0)


def test_the_lines_of_the_page_run(hub, by_words, photos):
    names = {"clf": by_words, "X_test": photos[0], "y_test": photos[1]}
    exec(page_block("putting-to-work.md", "push_to_hub").replace("you/", "me/"), names)
    exec(page_block("putting-to-work.md", "from_pretrained").replace("you/", "me/"), names)
    np.testing.assert_array_equal(names["clf"].predict(photos[0]), by_words.predict(photos[0]))


def test_nothing_that_is_uploaded_names_a_folder_of_this_machine(hub, model, photos, tmp_path):
    model.set_params(embedding_cache=tmp_path / "a", checkpoint_dir=str(tmp_path / "b"))
    model.model_card(*photos)
    model.push_to_hub(REPOSITORY, include_backbone=True)
    backbone = model.model_name.removeprefix("local-dir:")
    secrets = [str(tmp_path), backbone, str(Path(backbone).parent), str(Path.home()), str(Path.cwd())]
    for name, content in hub.commits[0]["files"].items():
        assert [secret for secret in secrets if secret.encode() in content] == [], name
    params = json.loads(at(hub)["model.json"])["params"]
    assert params["model_name"] == f"local-dir:{Path(backbone).name}"
    assert params["embedding_cache"] is params["checkpoint_dir"] is None
    assert model.get_params()["embedding_cache"] == tmp_path / "a"


def test_a_backbone_that_is_a_folder_goes_along_or_is_warned_of(hub, model, images, tmp_path):
    with pytest.warns(UserWarning, match=r"is on this machine.*include_backbone=True"):
        model.push_to_hub(REPOSITORY)
    lacking = L2RCLIPClassifier.from_pretrained(REPOSITORY)
    unload_backbones()
    with pytest.raises(MissingBackboneError, match="set_params"):
        lacking.predict(images)
    expected = model.predict_proba(images)
    found = lacking.set_params(model_name=model.model_name)
    np.testing.assert_array_equal(found.predict_proba(images), expected)
    model.push_to_hub(REPOSITORY, include_backbone=True)
    assert WEIGHTS in at(hub)
    unload_backbones()
    whole = L2RCLIPClassifier.from_pretrained(REPOSITORY)
    np.testing.assert_array_equal(whole.predict_proba(images), expected)
    whole.save(tmp_path / "again", include_backbone=True)
    assert (tmp_path / "again" / WEIGHTS).is_file()


def test_what_an_earlier_model_has_left_goes_and_what_people_have_put_there_stays(hub, model):
    model.push_to_hub(REPOSITORY, include_backbone=True)
    at(hub).update({"backbone/notes.txt": b"mine", "data.pkl": b"mine too", "model-old.safetensors": b"mine"})
    with pytest.warns(UserWarning, match="on this machine"):
        model.push_to_hub(REPOSITORY)
    assert set(hub.commits[1]["deleted"]) == {WEIGHTS, "backbone/open_clip_config.json"}
    assert {"backbone/notes.txt", "data.pkl", "model-old.safetensors", ".gitattributes"} <= set(at(hub))


@pytest.mark.parametrize("name", sorted(SAVED))
def test_a_model_of_another_kind_is_not_written_over(hub, by_words, name):
    hub.repositories[REPOSITORY] = {name: b"theirs"}
    with pytest.raises(InvalidParameterError, match=f"has a file '{name}' and is no saved model: choose another"):
        by_words.push_to_hub(REPOSITORY)
    assert hub.commits == []


def test_a_card_that_is_there_stays_unless_it_is_to_be_replaced(hub, by_words):
    by_words.push_to_hub(REPOSITORY)
    at(hub)["README.md"] = b"---\nlicense: mit\n---\n# Mine"
    by_words.push_to_hub(REPOSITORY)
    assert at(hub)["README.md"].endswith(b"# Mine")
    by_words.model_card().text += "\n## Ours\n"
    with pytest.warns(UserWarning, match=r"README\.md, which stays as it is: replace_card=True"):
        by_words.push_to_hub(REPOSITORY)
    assert at(hub)["README.md"].endswith(b"# Mine")
    by_words.push_to_hub(REPOSITORY, replace_card=True)
    assert at(hub)["README.md"].endswith(b"## Ours\n")


def test_a_card_that_is_written_meanwhile_is_not_lost(hub, by_words):
    by_words.push_to_hub(REPOSITORY)

    def write():
        lines = [{"key": "header", "value": {}}]
        hub.commit(REPOSITORY, "main", lines)
        at(hub)["README.md"] = b"# Mine"

    hub.before_commit = write
    with pytest.raises(RuntimeError, match=f"uploaded to {REPOSITORY}. Somebody has changed the repository meanwhile"):
        by_words.push_to_hub(REPOSITORY, replace_card=True)
    assert at(hub)["README.md"] == b"# Mine"


def test_what_is_to_be_private_is_never_shown(hub, by_words):
    by_words.push_to_hub("me/secret", private=True)
    assert "me/secret" in hub.private
    by_words.push_to_hub("me/secret")
    hub.repositories["me/shown"] = {}
    n_commits = len(hub.commits)
    with pytest.raises(InvalidParameterError, match=r"private=True, and .*/me/shown is public: make it private in its"):
        by_words.push_to_hub("me/shown", private=True)
    with pytest.raises(InvalidParameterError, match=r"private=False, and .*/me/secret is private"):
        by_words.push_to_hub("me/secret", private=False)
    assert len(hub.commits) == n_commits
    with pytest.raises(RuntimeError, match="does not know it, or hides it from you"):
        L2RCLIPClassifier.from_pretrained("me/secret", token=False)
    assert L2RCLIPClassifier.from_pretrained("me/secret").classes_.tolist() == [0, 1, 2, 3, 4]


def test_a_pull_request_is_opened_where_one_may_not_write(hub, by_words):
    hub.repositories["others/quality"] = {"README.md": b"# Theirs"}
    with pytest.raises(RuntimeError, match=r"The token may not write there: .* or open a pull request with create_pr="):
        by_words.push_to_hub("others/quality")
    address = by_words.push_to_hub("others/quality", create_pr=True)
    assert address == f"{hub.address}/others/quality/discussions/1"
    assert set(hub.commits[0]["files"]) == SAVED
    assert hub.repositories["others/quality"] == {"README.md": b"# Theirs"}


def test_a_branch_is_made_where_it_is_not_there(hub, by_words):
    by_words.push_to_hub(REPOSITORY)
    before = dict(at(hub))
    by_words.set_params(mirror=True).push_to_hub(REPOSITORY, revision="with/mirror")
    assert at(hub) == before
    loaded = L2RCLIPClassifier.from_pretrained(REPOSITORY, revision="with/mirror")
    assert loaded.mirror
    assert str(loaded.model_card()) == str(by_words.model_card())
    assert not L2RCLIPClassifier.from_pretrained(REPOSITORY, revision=hub.head(REPOSITORY)).mirror


def test_who_may_not_upload_is_told_why(hub, by_words, monkeypatch):
    with pytest.raises(RuntimeError, match="The token may not write there"):
        by_words.push_to_hub(REPOSITORY, token=READER)
    with pytest.raises(RuntimeError, match="does not know the token: log in with 'hf auth login'"):
        by_words.push_to_hub(REPOSITORY, token="hf_" + "wrong")
    hub.status = 503
    with pytest.raises(RuntimeError, match=r"uploaded to me/quality\. .* answered with the status 503 .* Nothing was"):
        by_words.push_to_hub(REPOSITORY)
    hub.status = None
    end(hub)
    with pytest.raises(RuntimeError, match=r"cannot be reached \(.*\)\. Nothing was uploaded\."):
        by_words.push_to_hub(REPOSITORY)
    hub.asked.clear()
    monkeypatch.delenv("HF_TOKEN")
    for token in (None, True, False):
        with pytest.raises(
            RuntimeError, match=r"Nobody is logged in at .*: log in with 'hf auth login', or set HF_TOKEN"
        ):
            by_words.push_to_hub(REPOSITORY, token=token)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RuntimeError, match="HF_HUB_OFFLINE is set: unset it"):
        by_words.push_to_hub(REPOSITORY, token=TOKEN)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repo_id": "a/b/c"}, "repo_id must be the name of a repository.*'a/b/c'"),
        ({"repo_id": "white space"}, "repo_id must be the name"),
        ({"repo_id": None}, "repo_id must be a string"),
        ({"repo_id": Path("a")}, "repo_id must be a string"),
        ({"private": "yes"}, "private must be True or False"),
        ({"token": 3}, "token must be a string, True, False or None"),
        ({"token": ""}, "token must be a string"),
        ({"revision": ""}, "revision must be None or words"),
        ({"create_pr": None}, "create_pr must be True or False"),
        ({"create_pr": True, "revision": "v2"}, "leave one of them out"),
        ({"commit_message": " "}, "commit_message must be None or words"),
        ({"include_backbone": 1}, "include_backbone must be True or False"),
        ({"replace_card": "no"}, "replace_card must be True or False"),
    ],
)
def test_wrong_arguments_are_refused_before_the_hub_is_asked(hub, by_words, arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        by_words.push_to_hub(**{"repo_id": REPOSITORY, **arguments})
    assert hub.asked == []


def test_what_is_no_model_of_images_is_refused_before_the_hub_is_asked(hub, fitted_model):
    with pytest.raises(NotFittedError):
        L2RCLIPClassifier().push_to_hub(REPOSITORY)
    model = copy.copy(fitted_model("embedding")).set_params(image_tower="precomputed")
    with pytest.raises(InvalidParameterError, match=r"reads a table.*set_params\(image_tower='frozen'\)"):
        model.push_to_hub(REPOSITORY)
    model = copy.copy(fitted_model("embedding")).set_params(image_adapter="linear")
    with pytest.raises(InvalidParameterError, match="contradicts the fitted model"):
        model.push_to_hub(REPOSITORY)
    assert hub.asked == []


# ---------------------------------------------------------------------- down


@pytest.fixture
def uploaded(hub, by_words):
    """A model that is there, beside files that have nothing to do with it, and nothing asked yet."""
    by_words.push_to_hub(REPOSITORY)
    at(hub).update({"evil.pkl": b"cos\nsystem\n", "backbone/extra.bin": b"x", "code.py": b"raise SystemExit"})
    hub.asked.clear()
    return hub


def test_nothing_is_fetched_but_what_belongs_to_a_model(uploaded, tmp_path):
    L2RCLIPClassifier.from_pretrained(REPOSITORY)
    assert asked_for(uploaded) == SAVED
    assert {path.name for path in (tmp_path / "cache").rglob("*") if path.is_symlink()} == SAVED
    uploaded.asked.clear()
    L2RCLIPClassifier.from_pretrained(REPOSITORY)
    assert asked_for(uploaded) == set()


def test_a_cache_of_ones_own_is_used(uploaded, tmp_path):
    L2RCLIPClassifier.from_pretrained(REPOSITORY, cache_dir=tmp_path / "mine")
    assert not (tmp_path / "cache").exists()
    end(uploaded)
    L2RCLIPClassifier.from_pretrained(REPOSITORY, cache_dir=tmp_path / "mine")
    with pytest.raises(
        RuntimeError, match=r"cannot be reached \(.*\)\. Without a network there are folders that `save`"
    ):
        L2RCLIPClassifier.from_pretrained(REPOSITORY)


def test_without_an_answer_the_cache_is_taken_where_it_has_the_model(uploaded, monkeypatch, tmp_path):
    with pytest.raises(
        RuntimeError, match=r"not in the cache .*, and local_files_only=True asks nobody: leave that out"
    ):
        L2RCLIPClassifier.from_pretrained(REPOSITORY, local_files_only=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RuntimeError, match="token=True, and nobody is logged in: log in with"):
        L2RCLIPClassifier.from_pretrained(REPOSITORY, token=True)
    uploaded.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RuntimeError, match=r"not in the cache .*, and HF_HUB_OFFLINE is set"):
        L2RCLIPClassifier.from_pretrained(REPOSITORY)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert uploaded.asked == []
    L2RCLIPClassifier.from_pretrained(REPOSITORY)
    uploaded.asked.clear()
    assert L2RCLIPClassifier.from_pretrained(REPOSITORY, local_files_only=True).classes_.tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert L2RCLIPClassifier.from_pretrained(REPOSITORY).classes_.tolist() == [0, 1, 2, 3, 4]
    assert uploaded.asked == []


def test_what_is_not_there_is_told_apart(uploaded, by_words):
    uploaded.repositories["someone/else"] = {"README.md": b""}
    uploaded.repositories["someone/gated"] = {}
    uploaded.gated.add("someone/gated")
    said = {
        (
            "someone/nothing",
            None,
        ): "does not know it, or hides it from you: check the name; where it is private, log in",
        ("someone/gated", None): "/someone/gated wants its terms to be accepted: do so there",
        ("someone/else", None): "someone/else holds no file model.json, so it is no saved model of skl2rclip",
        (REPOSITORY, "v9"): f"/{REPOSITORY} has no revision 'v9': name a branch, a tag or a commit",
    }
    for (name, revision), message in said.items():
        with pytest.raises(RuntimeError) as caught:
            L2RCLIPClassifier.from_pretrained(name, revision=revision)
        assert str(caught.value).startswith(
            f"{name!r} is no folder of this machine, and the model could not be fetched. "
        )
        assert message in str(caught.value)


def test_what_is_wrong_in_a_model_is_refused_as_in_a_folder(uploaded):
    description = json.loads(at(uploaded)["model.json"])
    faults = {
        "checksum is another": {**description, "library_version": "9"},
        "format version": {**description, "format_version": 99},
        "unknown part": {**description, "code": "import os"},
        "includes_backbone": {**description, "includes_backbone": "../../backbone"},
    }
    for number, (message, content) in enumerate(faults.items()):
        repository = f"someone/fault-{number}"
        text = json.dumps(content, indent=2) + "\n"
        uploaded.repositories[repository] = {**at(uploaded), "model.json": text.encode()}
        with pytest.raises(ValueError, match=message):
            L2RCLIPClassifier.from_pretrained(repository)
    uploaded.repositories["someone/short"] = {**at(uploaded), "model.safetensors": b"no weights"}
    with pytest.raises(ValueError, match=r"model\.safetensors is missing or damaged"):
        L2RCLIPClassifier.from_pretrained("someone/short")


def test_what_is_damaged_in_the_cache_is_named_and_fetched_again_once_it_is_deleted(uploaded, tmp_path):
    L2RCLIPClassifier.from_pretrained(REPOSITORY)
    for name, known in (
        ("model.safetensors", "Its SHA-256 is not the one"),
        ("model.json", "The hub named no SHA-256"),
    ):
        [link] = (tmp_path / "cache").rglob(name)
        blob = link.resolve()
        blob.write_bytes(blob.read_bytes()[:-1])
        with pytest.raises(ValueError, match=r"damaged.*: delete it, and the next call fetches it again\.$") as caught:
            L2RCLIPClassifier.from_pretrained(REPOSITORY)
        assert f"The file is {blob}. {known}" in str(caught.value)
        blob.unlink()
        L2RCLIPClassifier.from_pretrained(REPOSITORY)


def test_a_backbone_that_is_damaged_in_the_cache_is_named(hub, model, tmp_path):
    model.push_to_hub(REPOSITORY, include_backbone=True)
    L2RCLIPClassifier.from_pretrained(REPOSITORY)
    [link] = (tmp_path / "cache").rglob("open_clip_model.safetensors")
    blob = link.resolve()
    blob.write_bytes(blob.read_bytes()[:-9])
    unload_backbones()
    with pytest.raises(
        MissingBackboneError, match="Its SHA-256 is not the one that the hub named: delete it"
    ) as caught:
        L2RCLIPClassifier.from_pretrained(REPOSITORY)
    assert f"The file is {blob}." in str(caught.value)
    blob.unlink()
    L2RCLIPClassifier.from_pretrained(REPOSITORY)


def test_a_tokenizer_that_comes_with_a_backbone_is_fetched_too(hub, model):
    model.push_to_hub(REPOSITORY, include_backbone=True)
    config = json.loads(at(hub)["backbone/open_clip_config.json"])
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "someone/words"
    more = {"backbone/open_clip_config.json": json.dumps(config).encode(), "backbone/tokenizer.json": b"{}"}
    at(hub).update({**more, "backbone/tokenizer.pkl": b""})
    hub.asked.clear()
    L2RCLIPClassifier.from_pretrained(REPOSITORY)
    inside = {"backbone/open_clip_config.json", WEIGHTS, "backbone/tokenizer.json"}
    assert asked_for(hub) == SAVED | inside
    end(hub)
    L2RCLIPClassifier.from_pretrained(REPOSITORY)


def test_a_backbone_of_a_hub_is_not_fetched_only_because_a_model_asks_for_it(hub, by_words):
    name = "hf-hub:someone/tiny"
    by_words._state = dataclasses.replace(by_words._state, asked_for=(name, None))
    by_words.set_params(model_name=name).push_to_hub(REPOSITORY)
    assert b"base_model: someone/tiny" in at(hub)["README.md"]
    with pytest.raises(MissingBackboneError, match="nothing is fetched only because a folder asks for it") as caught:
        L2RCLIPClassifier.from_pretrained(REPOSITORY)
    remedy = re.search(r"(L2RCLIPClassifier\.load\(.*\))\.$", str(caught.value))[1]
    assert eval(remedy).model_name == name  # noqa: S307 - as a user would paste it
    assert not [path for _, path, _ in hub.asked if "someone/tiny" in path]


def test_a_folder_goes_to_load(hub, by_words, tmp_path, monkeypatch):
    by_words.save(tmp_path / "me" / "quality")
    for place in (tmp_path / REPOSITORY, str(tmp_path / REPOSITORY)):
        assert L2RCLIPClassifier.from_pretrained(place, local_files_only=True).classes_.tolist() == [0, 1, 2, 3, 4]
    monkeypatch.chdir(tmp_path)
    assert L2RCLIPClassifier.from_pretrained(REPOSITORY).classes_.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InvalidParameterError, match="revision='v2' is of a repository, and me/quality is on this"):
        L2RCLIPClassifier.from_pretrained(REPOSITORY, revision="v2")
    with pytest.raises(FileNotFoundError, match="is not a saved model"):
        L2RCLIPClassifier.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="is a file"):
        L2RCLIPClassifier.from_pretrained(f"{REPOSITORY}/model.json")
    shutil.rmtree(tmp_path / "me")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"repo_or_folder": "/no/such/folder"},
            "where it is no folder of this machine, must be the name of a repository",
        ),
        ({"repo_or_folder": "../escape"}, "must be the name of a repository"),
        ({"repo_or_folder": 3}, "must be a string"),
        ({"revision": ""}, "revision must be None, or a branch"),
        ({"revision": 2}, "revision must be a string"),
        ({"token": b"x"}, "token must be"),
        ({"cache_dir": __file__}, "cache_dir must be None or a folder"),
        ({"local_files_only": None}, "local_files_only must be True or False"),
    ],
)
def test_what_can_be_no_model_is_refused_before_the_hub_is_asked(hub, arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        L2RCLIPClassifier.from_pretrained(**{"repo_or_folder": REPOSITORY, **arguments})
    assert hub.asked == []
