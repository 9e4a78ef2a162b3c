"""The further experiments of the benchmarks: fitted once, compared in pairs, and words that follow the numbers."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import evidence
import few_shots
import further
import further_report
from few_shots import state_of_library
from protocols import finished
from tasks import Part, Task
from variants import DistanceBias, TenTimesFaster

from skl2rclip._model.modules import RankFormer


def task_of(name="leaves", n_ranks=9, per_rank=40):
    part = Part(None, np.zeros((n_ranks * per_rank, 2), np.float32), np.tile(np.arange(n_ranks), per_rank))
    return Task(name, tuple(map(str, range(n_ranks))), "the rank is", part, part, part)


def jobs(*names, n_seeds=2, tasks=None):
    return list(further.planned(list(names), tasks or (task_of(),), (), n_seeds, {}))


def scores(mae=1.0, **others):
    return {"mae": mae, "rps": mae / 2, "ordinality": 1.0, "seconds": 60.0, "library": state_of_library(), **others}


# ---------------------------------------------------------------------- store


@pytest.fixture
def made(monkeypatch):
    """The fits that were made, which take no time."""
    fits = []

    def noted(fit, task):
        fits.append(fit)
        return scores()

    monkeypatch.setattr(further, "scores", noted)
    return fits


def test_a_fit_that_experiments_share_is_made_once_and_the_first_seed_comes_first(made, tmp_path):
    further.run(iter(jobs("rankformer", "adapter", "ablation")), tmp_path / "store.jsonl", 1, np.inf)
    assert len(made) == len(set(made))
    assert set(made) == {fit for fit, _ in jobs("rankformer", "adapter", "ablation")}
    assert len(jobs("rankformer", "adapter")) > len({fit for fit, _ in jobs("rankformer", "adapter")})
    assert [fit.seed for fit in made] == sorted(fit.seed for fit in made)


def test_a_run_goes_on_after_a_line_that_was_cut_off(made, tmp_path):
    store = tmp_path / "store.jsonl"
    further.run(iter(jobs("rankformer")), store, 1, np.inf)
    whole, last = store.read_bytes(), made[-1]
    store.write_bytes(whole[:-30])
    made.clear()
    further.run(iter(jobs("rankformer")), store, 1, np.inf)
    assert made == [last]
    further.run(iter(jobs("rankformer")), store, 1, np.inf)
    assert made == [last]
    assert store.read_bytes().splitlines()[-1] == whole.splitlines()[-1]


def test_no_fit_begins_after_the_deadline_and_other_parameters_are_another_fit(made, tmp_path, monkeypatch):
    store = tmp_path / "store.jsonl"
    further.run(iter(jobs("rankformer")), store, 1, time.time() - 1)
    assert made == []
    further.run(iter(jobs("rankformer")), store, 1, np.inf)
    made.clear()
    monkeypatch.setitem(further.OURS, further.WITHOUT_RANKFORMER, {"rankformer_layers": 0, "tune_ranks": False})
    further.run(iter(jobs("rankformer")), store, 1, np.inf)
    assert {fit.method for fit in made} == {further.WITHOUT_RANKFORMER}


def test_a_new_store_begins_with_the_lines_of_the_present_library(tmp_path):
    kept, store = tmp_path / "kept.jsonl", tmp_path / "new" / "store.jsonl"
    lines = [{"method": "a", "library": state_of_library()}, {"method": "b", "library": "another"}]
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines))
    further.begin_with(kept, store)
    assert finished(store) == lines[:1]
    store.write_text("")
    further.begin_with(kept, store)
    assert finished(store) == []
    further.begin_with(tmp_path / "none.jsonl", tmp_path / "other.jsonl")
    assert finished(tmp_path / "other.jsonl") == []


# ---------------------------------------------------------------------- draws


def test_what_is_drawn_and_what_counts():
    task = task_of()
    target = task.train.target
    drawn, tested = further.draw(task, further.UNSEEN, 0)
    assert tested.tolist() == [1, 4, 7]
    assert np.bincount(target[drawn], minlength=9).tolist() == [16, 0, 16] * 3
    drawn, tested = further.draw(task, further.SHIFT, 0)
    assert sorted(np.bincount(target[drawn])) == [3] * 4 + [32] * 5
    assert len(tested) == 9
    assert len(further.draw(task, further.few(4), 0)[0]) == 36
    assert sorted(drawn) != sorted(further.draw(task, further.SHIFT, 1)[0])


def test_references_on_unseen_ranks_have_the_errors_that_one_can_count():
    task = task_of()
    constant, nearest = (
        further.scores(further.fit_of(task.name, further.UNSEEN, 0, method, {}), task) for method in further.REFERENCES
    )
    assert nearest["mae"] == nearest["rps"] == 1  # each has neighbours with images
    assert constant["mae"] == constant["rps"]  # a point's score is its distance
    medians = np.median(np.repeat([0, 2, 3, 5, 6, 8], 16))
    assert constant["mae"] == pytest.approx(np.abs(np.array([1, 4, 7]) - round(medians)).mean())


# ---------------------------------------------------------------- comparisons


def cell_of(**maes):
    return {name: {seed: scores(mae) for seed, mae in enumerate(values)} for name, values in maes.items()}


def test_a_verdict_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(60):
        other = rng.uniform(1, 3, 6)
        ours = other + rng.normal(rng.uniform(-0.2, 0.2), 0.1, 6)
        counts = further_report.counts([cell_of(ours=ours, other=other)], "ours", "other", "mae")
        test = stats.ttest_rel(ours, other)
        expected = "level" if test.pvalue > 0.05 else "better" if test.statistic < 0 else "worse"
        assert counts == {"better": 0, "level": 0, "worse": 0} | {expected: 1}
        found.add(expected)
    assert len(found) == 3


def test_a_ratio_is_the_geometric_mean_over_cells_of_seeds_that_all_of_them_have():
    rng = np.random.default_rng(1)
    ours, other = rng.uniform(1, 3, (2, 4, 5))
    cells = [cell_of(ours=a, other=b) for a, b in zip(ours, other, strict=True)]
    del cells[2]["other"][4]
    logs = np.log(ours / other)[:, :4].mean(axis=0)
    low, high = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    expected = np.exp([logs.mean(), low, high])
    np.testing.assert_allclose(further_report.ratio(cells, "ours", "other", "mae"), expected)


def test_one_seed_decides_nothing():
    cells = [cell_of(ours=[1.0], other=[2.0])]
    assert further_report.counts(cells, "ours", "other", "mae")["level"] == 1
    assert further_report.ratio_text(further_report.ratio(cells, "ours", "other", "mae")) == "0.500"


# --------------------------------------------------------------------- report


def written(tmp_path, names, n_seeds, error):
    store, file = tmp_path / "store.jsonl", tmp_path / "further.md"
    fits = dict.fromkeys(fit for fit, _ in jobs(*names, n_seeds=n_seeds, tasks=(task_of("a"), task_of("b"))))
    store.write_text(
        "".join(json.dumps(vars(fit) | scores(error(fit), ordinality=1 / error(fit))) + "\n" for fit in fits)
    )
    further_report.write(store, {}, file)
    return file.read_text(encoding="utf-8")


def test_sentences_follow_the_numbers(tmp_path):
    factors = {further.WITHOUT_RANKFORMER: 1.25, "two layers": 0.8, "blend ratio 1": 1.5, "ridge": 0.5}

    def error(fit):
        return factors.get(fit.method, 1.0) * (1 + 0.1 * fit.seed) * (2 if fit.task == "a" else 1)

    text = written(tmp_path, further.EXPERIMENTS, 3, error)
    assert "With RankFormer against without it, 1 to 64 images a rank: by MAE better in 14, level in 0" in text
    assert "mean ratio 0.800 (0.800 to 0.800)" in text
    for title in ("Ablation, 4 images a rank", "Ablation, 16 images a rank"):
        expected = (
            f"{title}, mean ratio of MAE to that as it is: lower: two layers 0.800 (0.800 to 0.800); higher: without "
            "RankFormer 1.250 (1.250 to 1.250), blend ratio 1 1.500 (1.500 to 1.500); within the noise: 22 others."
        )
        assert expected in text
    assert "Unseen ranks, mean ratio of MAE to that as it is: lower: ridge 0.500" in text
    assert "Unseen ranks, the lowest MAE: a ridge (1.10; as it is 2.20); b ridge (0.55; as it is 1.10)." in text
    assert "prototypes with RankFormer against without it: higher in 14, level in 0 and lower in 0 of 14 cells." in text
    assert "Not all fits are by the library as it is" not in text


def test_a_report_of_the_first_fits_alone_is_a_report(tmp_path):
    text = written(tmp_path, ["unseen_ranks"], 1, lambda fit: 1.0)
    assert "## Unseen ranks" in text
    assert "## RankFormer" not in text
    assert "nan" not in text


# ------------------------------------------------------------------- variants


def moved(rankformer):
    """Weights that are no longer those of the start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in rankformer.blocks:
            block.attention.out_proj.weight.copy_(torch.randn(16, 16, generator=generator))
    return rankformer


def test_a_bias_without_slope_changes_nothing_and_the_slope_learns():
    tokens = torch.randn(5, 2, 16, generator=torch.Generator().manual_seed(1))
    present = torch.tensor([[True, True]] * 4 + [[True, False]])
    plain, biased = moved(RankFormer(16, 2, 0.5)), moved(DistanceBias(16, 2, 0.5))
    biased.load_state_dict({**plain.state_dict(), "slopes": torch.zeros(2, 8)})
    torch.testing.assert_close(biased(tokens, present)[present], plain(tokens, present)[present])
    biased(tokens, present)[present].square().sum().backward()
    assert (biased.slopes.grad != 0).all()


def test_a_steep_slope_leaves_each_rank_to_itself():
    tokens = torch.randn(5, 1, 16, generator=torch.Generator().manual_seed(1))
    biased = moved(DistanceBias(16, 1, 1.0))
    with torch.no_grad():
        biased.slopes.fill_(100.0)
    other = tokens.clone()
    other[1:] = -tokens[1:]  # as large, so that the encoding stays
    torch.testing.assert_close(biased(tokens)[0], biased(other)[0])
    assert not torch.allclose(moved(RankFormer(16, 1, 1.0))(tokens)[0], moved(RankFormer(16, 1, 1.0))(other)[0])


def test_ten_times_faster_starts_where_rankformer_does_and_makes_steps_ten_times_as_long():
    tokens = torch.randn(5, 1, 16, generator=torch.Generator().manual_seed(1))
    steps = []
    for kind in (RankFormer, TenTimesFaster):
        torch.manual_seed(0)
        rankformer = kind(16, 1, 0.5)
        torch.manual_seed(0)
        torch.testing.assert_close(rankformer(tokens), RankFormer(16, 1, 0.5)(tokens))
        optimizer = torch.optim.AdamW(rankformer.parameters(), lr=1e-4, weight_decay=0.0)
        before = rankformer.blocks[0].attention.out_proj.weight.detach().clone()
        rankformer(tokens).square().sum().backward()
        optimizer.step()
        steps.append(rankformer.blocks[0].attention.out_proj.weight.detach() - before)
    torch.testing.assert_close(steps[1], 10 * steps[0], rtol=1e-3, atol=1e-7)


def test_the_report_that_is_shown_is_that_of_the_fits_beside_it(tmp_path):
    chosen = {
        name: settings for name, settings in evidence.chosen_for("skl2rclip-tiny").items() if name in few_shots.TUNED
    }
    further_report.write(evidence.HERE / further.FILE, chosen, tmp_path / "further.md")

    def without_the_note_of_age(file):
        return [
            part
            for part in file.read_text(encoding="utf-8").split("\n\n")
            if not part.startswith("**Not all fits are by")
        ]

    assert without_the_note_of_age(tmp_path / "further.md") == without_the_note_of_age(evidence.HERE / "further.md")
