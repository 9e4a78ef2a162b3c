"""The command that runs a protocol of the field: it counts as it should, resumes, and says what is missing."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import stand_ins

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import protocols  # noqa: E402

QUICK = ["--model-name", "skl2rclip-tiny", "--parameters", '{"prompt_epochs": 1, "device": "cpu"}']


def run(name, root, *options):
    store = root / "store.jsonl"
    return protocols.main([name, "--root", str(root), "--store", str(store), *QUICK, *options])


def test_the_table_has_each_method_and_what_was_published(tmp_path, capsys):
    stand_ins.adience(tmp_path)
    assert run("adience", tmp_path, "--max-splits", "1") == 0
    printed = capsys.readouterr().out
    for part in (
        *protocols.METHODS,
        "MAE in groups",
        "published: OrdinalCLIP",
        "1 of 5",
        "4 of 5 splits are missing: the same command goes on where it stopped.",
    ):
        assert part in printed


def test_the_same_command_goes_on_where_it_stopped(tmp_path, capsys):
    stand_ins.bccd(tmp_path)
    assert run("bccd", tmp_path) == 0
    store = tmp_path / "store.jsonl"
    lines = store.read_text(encoding="utf-8").splitlines()
    first = capsys.readouterr()
    store.write_text("\n".join([*lines[:2], lines[2][:40]]))  # cut off amid the third line
    assert run("bccd", tmp_path) == 0
    again = capsys.readouterr()
    assert again.err.count("split 1 of 1") == 1
    assert first.out == again.out
    assert json.loads(store.read_text(encoding="utf-8").splitlines()[-1])["method"] == protocols.METHODS[2]
    assert run("bccd", tmp_path, "--report", "--seed", "1") == 0
    assert "1 of 1 splits are missing" in capsys.readouterr().out


def test_few_shots_and_shift_are_drawn_from_the_training_images(tmp_path):
    stand_ins.bccd(tmp_path)
    assert run("bccd", tmp_path, "--shots", "2") == 0
    assert run("bccd", tmp_path, "--shift", "3", "--keep", "0.25") == 0
    counts = [
        json.loads(line)["n_train"] for line in (tmp_path / "store.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert counts == [12] * 3 + [3 * 4 + 3 * 1] * 3


def test_scores_are_what_they_are_called():
    true, predicted, spread = np.array([20, 30, 40]), np.array([20, 33, 36]), np.array([1.0, 3.0, 2.0])
    scores = protocols.scores_of(true, predicted, spread)
    assert scores["error"] == pytest.approx(7 / 3)
    assert scores["accuracy"] == pytest.approx(100 / 3)
    assert scores["epsilon"] == pytest.approx(np.mean([0, 1 - np.exp(-0.5), 1 - np.exp(-2)]))
    assert "accuracy" not in protocols.scores_of(true, predicted + 0.5, None)


def test_what_is_missing_is_said(tmp_path):
    command = [sys.executable, "-m", "benchmarks.protocols", "hci", "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("['1930s.txt', '1940s.txt', '1950s.txt', ... (5 in all)] cannot be found below")
    assert run("hci", tmp_path, "--setting", "A") == 2
