import shutil

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, mean_absolute_error

from skl2rclip import metrics
from skl2rclip._cli.evaluate import scores
from skl2rclip._cli.models import Predicted
from skl2rclip.datasets import load_image_folder
from tests.cli.conftest import WORDS


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr("skl2rclip._cli.evaluate._N_RESAMPLES", 40)


def values_of(said):
    return {row["score"]: float(row["value"]) for row in said.rows}


def test_scores_are_those_of_the_metrics(run, saved, model, graded):
    said = run("evaluate", saved, graded, "--coverage", 0.7)
    assert (said.status, said.err) == (0, "")
    read = load_image_folder(graded)
    y, X, ranks = read.target, read.data, read.ranks
    predicted, interval = model.predict(X), model.predict_interval(X, 0.7)
    expected = {
        "accuracy": accuracy_score(y, predicted),
        "accuracy_within_1_rank": metrics.cumulative_score(y, predicted, tolerance=1),
        "mean_absolute_error": mean_absolute_error(y, predicted),
        "mean_absolute_expectation_error": mean_absolute_error(y, model.predict_expectation(X)),
        "ranked_probability_score": metrics.ranked_probability_score(y, model.predict_proba(X), ranks=ranks),
        "interval_coverage": metrics.interval_coverage(y, interval),
        "mean_interval_width": metrics.mean_interval_width(y, interval),
        "quadratic_weighted_kappa": cohen_kappa_score(y, predicted, weights="quadratic"),
    }
    assert values_of(said) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert all(float(row["lower"]) <= float(row["value"]) <= float(row["upper"]) for row in said.rows)
    assert {row["images"] for row in said.rows} == {"40"}


def made(n, seed=0):
    """Predictions of five ranks that are right for most images."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 5, n)
    predicted = np.clip(true + rng.integers(-1, 2, n), 0, 4)
    interval = np.stack([np.maximum(predicted - 1, 0), np.minimum(predicted + 1, 4)], axis=1)
    return true, Predicted(np.arange(5), WORDS, np.eye(5)[predicted], predicted, predicted.astype(float), interval)


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    true, said = made(400)
    found = scores(true, said, np.arange(5.0), np.arange(400), 1000)
    hits = said.predicted == true
    error = hits.std(ddof=1) / np.sqrt(400)
    value, low, high = found["accuracy"]
    assert [value - low, high - value] == pytest.approx([1.96 * error] * 2, rel=0.2)


NOT_CONSTANT = ("accuracy", "mean_absolute_error", "ranked_probability_score", "quadratic_weighted_kappa")


def test_images_that_come_in_groups_tell_less():
    true, said = made(100)
    rows = np.repeat(np.arange(100), 4)
    columns = {name: getattr(said, name)[rows] for name in ("probabilities", "predicted", "expectation", "interval")}
    repeated = Predicted(said.ranks, said.words, **columns)
    widths = []
    for groups in (np.arange(400), rows):
        found = scores(true[rows], repeated, np.arange(5.0), groups, 200)
        widths.append([high - low for _, low, high in (found[name] for name in NOT_CONSTANT)])
    assert np.median(np.divide(*widths[::-1])) == pytest.approx(2, rel=0.25)


def test_a_table_with_groups(run, saved, graded, table):
    columns = ["--image", "file", "--rank", "grade", "--group", "plant", "--root", graded]
    said = run("evaluate", saved, table, *columns, "--format", "json")
    assert said.status == 0
    plain = run("evaluate", saved, graded)
    assert {row["score"]: row["value"] for row in said.json} == values_of(plain)


def test_labels_of_the_model_may_stand_in_the_table(run, saved, graded, tmp_path):
    lines = [f"{path},{WORDS.index(path.parent.name)}" for path in sorted(graded.rglob("*.png"))]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["path,rank", *lines]))
    assert values_of(run("evaluate", saved, table)) == values_of(run("evaluate", saved, graded))


def test_numbers_that_are_no_labels_are_refused_by_what_the_model_knows(run, saved, graded, tmp_path):
    lines = [f"{path},{1 + WORDS.index(path.parent.name)}" for path in sorted(graded.rglob("*.png"))]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["path,rank", *lines]))
    said = run("evaluate", saved, table)
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert f"ranks that the model does not know, ['5']; it knows {WORDS!r}" in said.err
    assert values_of(run("evaluate", saved, table, "--ranks", "1,2,3,4,5")) == values_of(run("evaluate", saved, graded))


def shaded_table(folder, shades, shade_paths, words):
    table = folder / "t.csv"
    rows = [f"{path},{words[rank]}" for path, rank in zip(shade_paths, shades[1], strict=True) if words[rank]]
    table.write_text("\n".join(["path,rank", *rows]))
    return table


def test_ranks_that_are_words_of_some_and_labels_of_others_are_asked_for(
    run, make_classifier, shades, shade_paths, tmp_path
):
    names = ["1", "2", "3", "4", "5"]
    make_classifier(rank_names=names, prompt_epochs=1).fit(shade_paths, shades[1]).save(tmp_path / "m")
    both = shaded_table(tmp_path, shades, shade_paths, ["", "1", "2", "", ""])
    said = run("evaluate", tmp_path / "m", both)
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert "--ranks 1,2,3,4,5 takes them for words, --ranks 0,1,2,3,4 for labels" in said.err
    as_labels = values_of(run("evaluate", tmp_path / "m", both, "--ranks", "0,1,2,3,4"))
    as_words = values_of(run("evaluate", tmp_path / "m", both, "--ranks", "1,2,3,4,5"))
    assert as_labels["mean_absolute_error"] != as_words["mean_absolute_error"]
    # what only one of both can mean is that
    labels = shaded_table(tmp_path, shades, shade_paths, ["0", "1", "2", "", ""])
    assert values_of(run("evaluate", tmp_path / "m", labels)) == values_of(
        run("evaluate", tmp_path / "m", labels, "--ranks", "0,1,2,3,4")
    )
    words = shaded_table(tmp_path, shades, shade_paths, ["1", "2", "3", "", "5"])
    assert values_of(run("evaluate", tmp_path / "m", words)) == values_of(
        run("evaluate", tmp_path / "m", words, "--ranks", "1,2,3,4,5")
    )


def test_other_words_are_refused_or_said_in_the_order_of_the_model(run, saved, graded, tmp_path):
    others = ["one", "two", "three", "four", "five"]
    for word, other in zip(WORDS, others, strict=True):
        shutil.copytree(graded / word, tmp_path / "photos" / other)
    said = run("evaluate", saved, tmp_path / "photos")
    assert (said.status, said.out, said.err.count("\n")) == (1, "", 1)
    assert f"ranks that the model does not know, {sorted(others)!r}; it knows {WORDS!r}" in said.err
    said = run("evaluate", saved, tmp_path / "photos", "--ranks", ",".join(others))
    assert values_of(said) == values_of(run("evaluate", saved, graded))
    said = run("evaluate", saved, tmp_path / "photos", "--ranks", "one,two")
    assert (said.status, "--ranks must list the 5 ranks of the model, got 2" in said.err) == (2, True)


def test_one_group_says_nothing_of_others(run, saved, graded, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,rank,group\n" + "\n".join(f"{path},good,a" for path in sorted((graded / "good").iterdir())))
    rows = run("evaluate", saved, table, "--group", "group", "--format", "json").json
    assert {(row["lower"], row["upper"], row["images"]) for row in rows} == {(None, None, 8)}


def test_images_that_cannot_be_scored_are_said(run, saved, graded, damaged, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(graded, photos)
    shutil.copy(damaged, photos / "fair" / "cut.png")
    said = run("evaluate", saved, photos)
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert {row["images"] for row in said.rows} == {"40"}
    (photos / "fair" / "cut.png").write_bytes(b"no image")  # which the reader leaves out
    said = run("evaluate", saved, photos)
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "not taken: files that cannot be opened as images: 1" in said.err


def test_plots_are_drawn_all_or_none(run, saved, graded, tmp_path):
    pytest.importorskip("matplotlib")
    plots = tmp_path / "plots"
    assert run("evaluate", saved, graded, "--plots", plots).status == 0
    names = {"confusion", "predictions", "calibration", "largest-errors", "prototypes", "history"}
    assert {path.name for path in plots.iterdir()} == {f"{name}.png" for name in names}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots.iterdir())
    said = run("evaluate", saved, graded, "--plots", plots)
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert "confusion.png exists; --overwrite replaces it" in said.err


def test_plots_without_matplotlib_are_refused_before_any_work(run, saved, graded, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    monkeypatch.setattr("skl2rclip._cli.evaluate.loaded_model", lambda *_: pytest.fail("the model is loaded"))
    said = run("evaluate", saved, graded, "--plots", tmp_path / "plots")
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert 'pip install "skl2rclip[plot]"' in said.err
