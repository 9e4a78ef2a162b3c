import argparse
import inspect
import os
import re

import pytest

from skl2rclip import L2RCLIPClassifier
from skl2rclip._cli.parsing import CommandParser, add_parameters, listed, parameters_of, with_values_joined


def parsed(*arguments):
    parser = CommandParser("command", "")
    add_parameters(parser, L2RCLIPClassifier)
    return parameters_of(parser.parse_args(with_values_joined(arguments)))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("n_context_tokens", "8", 8),
        ("n_context_tokens", "auto", "auto"),
        ("n_context_tokens", "8.5", 8.5),  # which the estimator refuses
        ("learning_rate", "1e-3", 1e-3),
        ("learning_rate", "fast", "fast"),
        ("tune_ranks", "False", False),
        ("tune_ranks", "true", True),
        ("tune_ranks", "0", "0"),
        ("image_adapter", "None", None),
        ("decision", "None", "None"),  # it may not be None
        ("prompt", "7", "7"),  # a text, whatever it looks like
        ("prompt", "a photo, taken at None", "a photo, taken at None"),
        ("max_memory", "2GB", "2GB"),
        ("max_memory", "2000", 2000),
        ("embedding_cache", "2024", "2024"),
        ("checkpoint_dir", "~/runs", os.path.expanduser("~/runs")),
        ("device", "cpu", "cpu"),
        ("device", "cpu,cpu", ["cpu", "cpu"]),
        ("random_state", "0", 0),
        ("n_jobs", "-1", -1),
        ("ranks", "none,mild,severe", ["none", "mild", "severe"]),
        ("ranks", "-1,0,1", [-1, 0, 1]),
        ("ranks", "['a', 'b']", ["a", "b"]),
        ("rank_names", "{0: 'low', 1: 'high'}", {0: "low", 1: "high"}),
        ("class_weight", "balanced", "balanced"),
    ],
)
def test_values_are_read_by_what_the_signature_says(name, text, value):
    read = parsed(f"--{name.replace('_', '-')}", text)[name]
    assert read == value
    assert type(read) is type(value)


def test_each_parameter_is_an_option_with_its_documentation():
    parser = CommandParser("command", "")
    add_parameters(parser, L2RCLIPClassifier)
    texts = {action.option_strings[-1]: action.help for action in parser._actions}
    names = inspect.signature(L2RCLIPClassifier).parameters
    assert all(len(texts[f"--{name.replace('_', '-')}"]) > 40 for name in names)
    assert "default=0.1. Share of RankFormer's output" in " ".join(texts["--blend-ratio"].split())
    assert parser.format_help()  # whatever signs the documentation holds


def test_defaults_are_not_said_of_a_model_that_has_values():
    parser = CommandParser("command", "")
    add_parameters(parser, L2RCLIPClassifier, ["decision", "model_name"], {"model_name": "Where it is."})
    texts = {action.option_strings[-1]: action.help for action in parser._actions}
    assert set(texts) == {"--help", "--traceback", "--decision", "--model-name"}
    assert texts["--model-name"] == "str. Where it is."
    assert texts["--decision"].startswith('{"median", "argmax", "mean"}. Read-out of predict')


def test_what_is_not_given_is_not_set():
    assert parsed() == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [("a,b", ["a", "b"]), ("1, 2.5", [1, 2.5]), ("1,b", ["1", "b"]), ('"a,b",c', ["a,b", "c"]), ("a", ["a"])],
)
def test_lists_have_commas_between_their_entries(text, value):
    assert listed(text) == value


@pytest.mark.parametrize("text", ["[a", "[1, 2"])
def test_a_list_that_is_none_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="no list"):
        listed(text)


def test_negative_numbers_join_the_option_before_them_alone():
    arguments = ["--ranks", "-1,0", "-1", "--mirror", "True", "--", "--ranks", "-1"]
    assert with_values_joined(arguments) == ["--ranks=-1,0", "-1", "--mirror", "True", "--", "--ranks", "-1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mirror"], "--mirror needs a value, True or False"),
        (["--prompt"], "--prompt needs a value; one that begins with - is written --prompt=-..."),
        (["--promt", "a"], "unrecognized arguments: --promt a"),
        (["--prom", "a"], "unrecognized arguments: --prom a"),  # the next version may have another that begins so
        (["--class-weight", "{0: "], "no dictionary"),
    ],
)
def test_a_wrong_use_is_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        parsed(*arguments)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.match(r"command: error: .*; see command --help$", err)
    assert said in err
