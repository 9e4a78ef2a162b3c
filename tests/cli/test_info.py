import json

import pytest

from skl2rclip import L2RCLIPClassifier
from tests.cli.conftest import WORDS


def test_what_a_model_is_as_json_and_as_csv(run, saved, model, tiny):
    said = run("info", saved, "--format", "json").json
    assert said["ranks"] == model.ranks_.tolist()
    assert said["rank_names"] == WORDS
    assert said["prompt"] == model.prompt_
    assert said["backbone"] == tiny
    assert said["label_noise"] == pytest.approx(model.label_noise_)
    assert said["epochs"] == model.n_iter_
    assert said["parameters"]["prompt_epochs"] == 1
    fields = {row["field"]: row["value"] for row in run("info", saved).rows}
    assert json.loads(fields["rank_names"]) == WORDS
    assert fields["parameters.prompt_epochs"] == "1"


def test_nothing_of_the_model_is_loaded(run, saved, monkeypatch):
    monkeypatch.setattr(L2RCLIPClassifier, "load", lambda *_: pytest.fail("the model is loaded"))
    assert run("info", saved).status == 0


@pytest.mark.parametrize("content", [None, "{", '{"format": "skl2rclip model", "format_version": 99}'])
def test_what_is_no_model_is_said_in_one_line(run, tmp_path, content):
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    said = run("info", tmp_path)
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert str(tmp_path) in said.err
