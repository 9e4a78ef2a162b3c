"""The card of a model: what stands in it, whatever the words are, and what does not."""

import copy
import dataclasses
import getpass
import pickle
import re

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import mean_absolute_error

from skl2rclip import L2RCLIPClassifier
from skl2rclip.errors import InvalidParameterError

markdown_it = pytest.importorskip("markdown_it")
pytest.importorskip("matplotlib")

WORDS = ["bad|aw\\ful", "*poor* `x`", "<b>fair</b> & [so](on)", 'go: "od" 😀 $x$', "excel\nlent # --- '"]


@pytest.fixture
def model(fitted_model):
    """A fitted model that may remember a card."""
    return copy.copy(fitted_model("embedding"))


@pytest.fixture(scope="module")
def worded(fitted_model, photos):
    """A model whose ranks have words that mean something in Markdown, YAML or HTML."""
    name, words = fitted_model("embedding").model_name, dict(zip(range(5), WORDS, strict=True))
    how = {"prompt_epochs": 1, "image_features": "embedding", "random_state": 0, "device": "cpu"}
    classifier = L2RCLIPClassifier(name, rank_names=words, prompt="*a* photo", **how)
    return classifier.fit(*photos, groups=np.arange(20) // 2)


@pytest.fixture(scope="module")
def card(worded, photos):
    return copy.copy(worded).model_card(*photos, license="mit", dataset_name="crops: |a|\n*b*")


def tables(text):
    """Cells of each table as they are read, without marks."""
    tokens = markdown_it.MarkdownIt("commonmark").enable("table").parse(text)
    found, is_cell = [], False
    for token in tokens:
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            is_cell = True
        elif token.type == "inline" and is_cell:
            assert {child.type for child in token.children} <= {"text", "text_special"}, token.content
            found[-1][-1].append("".join(child.content for child in token.children))
            is_cell = False
    return found


def test_words_stand_in_tables_as_they_are(card):
    ranks, scores, by_rank = tables(card.text)
    assert [row[0] for row in ranks] == ["rank", *"01234"]
    assert [row[1] for row in ranks[1:]] == [*WORDS[:4], r"'excel\nlent # --- ''"]
    assert [row[2] for row in ranks[1:]] == ["4"] * 5
    assert {len(row) for row in ranks} == {len(row) for row in scores} == {3}
    assert len(by_rank) == 6


def test_front_matter_is_yaml_whatever_the_words_are(card):
    begin, matter, text = re.split(r"^---$", str(card), maxsplit=2, flags=re.MULTILINE)
    assert begin == ""
    data = yaml.safe_load(matter)
    assert data["library_name"] == "skl2rclip"
    assert data["pipeline_tag"] == "image-classification"
    assert data["license"] == "mit"
    assert "base_model" not in data  # a folder of this machine
    [results] = data["model-index"]
    assert results["results"][0]["dataset"]["name"] == r"'crops: |a|\n*b*'"
    assert text.strip().startswith("# From")


def test_scores_are_those_of_the_images_that_were_handed_in(worded, card, photos):
    X, y = photos
    error = mean_absolute_error(y, worded.predict(X))
    metrics = {score.metric_type: score.metric_value for score in card.data.eval_results}
    assert metrics["mae"] == pytest.approx(error, abs=1e-4)
    assert f"| Mean absolute error | {error:.2f} |" in card.text
    assert "On 20 images of" in card.text
    assert "20 images of 10 groups that belong together" in card.text


def test_the_confusion_matrix_stands_beside_it(card, tmp_path):
    card.save(tmp_path / "a" / "README.md")
    assert "![Confusion matrix in rank order](confusion.png)" in (tmp_path / "a" / "README.md").read_text()
    with Image.open(tmp_path / "a" / "confusion.png") as image:
        assert min(image.size) > 400
        assert set(image.info) <= {"Software", "dpi"}


def test_a_card_without_images_says_that_nothing_is_known(model):
    card = model.model_card()
    assert "how far the model is off is not known here" in card.text
    assert "confusion" not in card.text
    assert "model-index" not in str(card)
    assert card.files == {}
    assert card.data.license is None


def test_what_may_name_this_machine_or_its_user_is_left_out(model, photos, tmp_path):
    place = str(tmp_path / getpass.getuser())
    model.set_params(embedding_cache=place, checkpoint_dir=place)
    X, y = photos
    paths = []
    for i, image in enumerate(X):
        paths.append(str(tmp_path / f"secret-{i}.png"))
        Image.fromarray(image).save(paths[-1])
    text = str(model.model_card(paths, y))
    folder = model.model_name.removeprefix("local-dir:")
    for secret in (str(tmp_path), "secret-", folder, "/home", "/tmp"):  # noqa: S108 - none of them is to be there
        assert secret not in text
    assert f"local-dir:{folder.rpartition('/')[2]}" in text.replace("\\_", "_")


def test_it_is_remembered_as_it_was_changed_until_the_next_fit(model, photos):
    card = model.model_card()
    card.text += "\n## More\n"
    card.data["license"] = "mit"
    again = pickle.loads(pickle.dumps(model))
    assert again._card_.text.endswith("## More\n")
    assert again._card_.data.license == "mit"
    assert clone(model)._card_ is None
    again.set_params(prompt_epochs=1).fit(*photos)
    assert again._card_ is None


@pytest.mark.parametrize(
    ("source", "base"),
    [
        (("ViT-B-16", "openai"), "timm/vit_base_patch16_clip_224.openai"),
        (("hf-hub:someone/tiny", None), "someone/tiny"),
        (("skl2rclip-tiny", None), None),
        (("ViT-B-16", None), None),
        (("ViT-B-16", "/home/somebody/weights.pt"), None),
    ],
)
def test_the_base_model_is_the_hubs_repository_where_there_is_one(model, source, base):
    model.set_params(model_name=source[0], pretrained=source[1])
    card = model.model_card()
    assert card.data.base_model == base
    assert card.data.get("base_model_relation") == (None if base is None else "adapter")
    assert "somebody" not in str(card)


def test_a_fine_tuned_tower_is_said_to_be_one(model):
    model._state = dataclasses.replace(model._state, arrays={**model._state.arrays, "tower": {}})
    card = model.set_params(model_name="hf-hub:someone/tiny").model_card()
    assert card.data["base_model_relation"] == "finetune"
    assert "tower is fine-tuned" in card.text
    assert "folder `backbone`" not in card.text  # which predictions do not need


def test_zero_shot_has_learned_from_no_images():
    clf = L2RCLIPClassifier("skl2rclip-tiny", ranks=range(3), prompt="blur level").fit_zero_shot()
    text = clf.model_card().text
    assert "is zero-shot CLIP" in text
    assert "| 0 | 0 |" in text


def test_wrong_arguments_are_refused_before_any_image_is_looked_at(model, photos, monkeypatch):
    X, y = photos
    with pytest.raises(NotFittedError):
        L2RCLIPClassifier().model_card()
    with pytest.raises(InvalidParameterError, match="X and y are given together"):
        model.model_card(X)
    with pytest.raises(InvalidParameterError, match="X and y are given together"):
        model.model_card(groups=y)
    with pytest.raises(InvalidParameterError, match="license must be a string"):
        model.model_card(license=3)
    monkeypatch.setattr("skl2rclip._model.state.FittedState.logits", None)
    with pytest.raises(ValueError, match="not among the ranks"):
        model.model_card(X, y + 1)
    with pytest.raises(ValueError, match="20"):
        model.model_card(X, y[:-1])
    with pytest.raises(ValueError, match="groups has the shape"):
        model.model_card(X, y, y[:3])
    assert model._card_ is None


def test_without_matplotlib_there_is_no_matrix_and_a_warning(model, photos, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.warns(UserWarning, match=r"needs matplotlib: pip install"):
        card = model.model_card(*photos)
    assert card.files == {}
    assert "confusion.png" not in card.text


def test_a_table_has_no_card(model):
    with pytest.raises(InvalidParameterError, match=r"A card is for models that read images"):
        model.set_params(image_tower="precomputed").model_card()


def test_no_figure_of_pyplot_is_left(model, photos):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    assert "confusion.png" in model.model_card(*photos).files
    assert plt.get_fignums() == before
