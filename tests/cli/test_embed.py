import sys

import numpy as np
import pytest

from skl2rclip import CLIPImageEncoder
from tests.cli.conftest import images_in


def test_embeddings_are_those_of_the_model_in_each_kind_of_file(run, saved, model, graded, tmp_path):
    pandas = pytest.importorskip("pandas")
    paths = images_in(graded)
    expected = model.transform(paths)
    for name in ("e.npy", "e.csv", "e.parquet"):
        assert run("embed", saved, graded, "--output", tmp_path / name).status == 0
    np.testing.assert_array_equal(np.load(tmp_path / "e.npy"), expected)
    for frame in (pandas.read_csv(tmp_path / "e.csv"), pandas.read_parquet(tmp_path / "e.parquet")):
        assert list(frame.columns) == ["path", *model.get_feature_names_out()]
        assert list(frame["path"]) == paths
        np.testing.assert_array_equal(frame.iloc[:, 1:].to_numpy(np.float32), expected)


def test_a_backbone_embeds_by_its_name(run, tiny, graded):
    image = str(graded / "bad" / "00.png")
    [row] = run("embed", tiny, image, "--image-features", "tower", "--device", "cpu").rows
    encoder = CLIPImageEncoder(tiny, image_features="tower", device="cpu").fit()
    assert list(row) == ["path", *encoder.get_feature_names_out()]
    np.testing.assert_array_equal(np.array(list(row.values())[1:], np.float32), encoder.transform([image])[0])


def test_rows_of_numbers_alone_stay_in_their_places(run, saved, model, graded, damaged, tmp_path):
    good = str(graded / "bad" / "00.png")
    out = tmp_path / "e.npy"
    said = run("embed", saved, good, damaged, good, "--output", out)
    assert (said.status, said.err.count("\n")) == (1, 1)
    rows = np.load(out)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]
    np.testing.assert_array_equal(rows[[0, 2]], model.transform([good, good]))
    rows = run("embed", saved, good, damaged, good).rows
    assert [row["path"] for row in rows] == [good, good]


@pytest.mark.parametrize(
    ("model", "options", "status", "words"),
    [
        ("saved", ["--output", "e.txt"], 2, "--output must end in .npy, .csv, .parquet, got e.txt"),
        ("saved", ["--image-features", "tower"], 2, "--image-features is for backbones"),
        ("saved", ["--image-features", "words"], 2, "image_features must be one of"),
        ("no-such-backbone", [], 2, "model_name must be a name from open_clip.list_models()"),
        ("./no-such-folder", [], 1, "is not a saved model"),
    ],
)
def test_a_wrong_use_is_one_line(run, request, graded, tmp_path, monkeypatch, model, options, status, words):
    monkeypatch.chdir(tmp_path)
    name = request.getfixturevalue(model) if model == "saved" else model
    said = run("embed", name, graded, *options)
    assert (said.status, said.out, said.err.count("\n")) == (status, "", 1)
    assert words in said.err


def test_parquet_without_its_package_is_refused_before_any_work(run, saved, graded, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("skl2rclip._cli.embed._embedder", lambda *_: pytest.fail("the model is loaded"))
    said = run("embed", saved, graded, "--output", tmp_path / "e.parquet")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert 'pip install "skl2rclip[tables]"' in said.err
