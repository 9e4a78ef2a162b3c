import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from skl2rclip import __version__
from skl2rclip._cli.console import Console
from skl2rclip._cli.main import COMMANDS, INTERRUPTED, PIPE_CLOSED, main
from skl2rclip._cli.parsing import CommandParser, with_values_joined
from tests.cli.conftest import QUICK

ROOT = Path(__file__).parents[2]

LIGHT = """
import sys
from skl2rclip._cli.main import main
assert main(["--help"]) == 0
print(sorted({"numpy", "sklearn", "torch", "pandas", "tqdm"} & set(sys.modules)))
"""
# a command that imports nothing heavy, and does what is put there
COMMAND = """
import os, sys, time, types
from skl2rclip._cli.main import main
from skl2rclip._cli.output import rows_out
def run(options, console):
    with rows_out(None, ["row"], "csv") as rows:
        rows.write([["first"]])
        {}
    return 0
sys.modules["skl2rclip._cli.info"] = types.SimpleNamespace(add_options=lambda parser: None, run=run, __doc__="")
sys.argv = ["skl2rclip", "info"]
sys.exit(main())
"""


def started(*command):
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *command], text=True, **pipes)


def test_help_lists_the_commands_and_imports_nothing_heavy():
    with started("-c", LIGHT) as process:
        out, err = process.communicate(timeout=60)
    assert err == ""
    assert out.splitlines()[-1] == "[]"
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_module_with_help_of_its_own(run, name):
    module = importlib.import_module(f"skl2rclip._cli.{name}")
    said = run(name, "--help")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith(f"usage: skl2rclip {name} ")
    assert module.__doc__.split("\n", 1)[0].split(",")[0][:40] in said.out


def commands_shown():
    """Command lines of README and documentation, without what a shell takes for itself."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    shown = [line.removeprefix("$ ") for line in lines if line.startswith(("skl2rclip ", "$ skl2rclip "))]
    return [line.partition(" > ")[0] for line in shown if not re.match(r"skl2rclip \w+: ", line)]


@pytest.mark.parametrize("line", commands_shown())
def test_command_lines_of_the_documentation_are_understood(line):
    _, name, *arguments = shlex.split(line)
    parser = CommandParser(name, "")
    importlib.import_module(f"skl2rclip._cli.{name}").add_options(parser)
    parser.parse_intermixed_args(with_values_joined(arguments))


@pytest.mark.filterwarnings("ignore")
def test_command_lines_of_a_page_run_one_after_the_other(run, graded, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "others"):
        (tmp_path / name).symlink_to(graded)
    page = (ROOT / "docs" / "putting-to-work.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\$ (skl2rclip .*)", page, flags=re.MULTILINE)
    for line in lines:
        # plots and exports take long, and a push wants a hub: tests of their own run them
        _, name, *arguments = shlex.split(line.replace("skl2rclip-tiny", tiny).replace("--plots plots", ""))
        if name not in ("export", "push"):
            said = run(name, *arguments, *(QUICK if name == "fit" else ()))
            assert (name, said.status) == (name, 0)
    assert {"quality", "others.npy", "quality.json"} <= {path.name for path in tmp_path.iterdir()}


def test_the_documentation_shows_every_command():
    assert {line.split()[1] for line in commands_shown()} == set(COMMANDS)


def test_the_version_is_told(run):
    assert run("--version").out == f"skl2rclip {__version__}\n"


def test_nothing_asked_for_is_help_and_a_wrong_use(run):
    said = run()
    assert (said.status, said.out) == (2, "")
    assert "commands:" in said.err


@pytest.mark.parametrize("wrong", ["predct", "--bogus"])
def test_an_unknown_command_is_one_line(run, wrong):
    said = run(wrong)
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert wrong in said.err
    assert ("perhaps predict" in said.err) == (wrong == "predct")


def test_an_unexpected_error_is_one_line_and_its_traceback_is_to_be_had(run, monkeypatch, tmp_path):
    def fail(*_):
        raise KeyError("surprise\nand more")

    monkeypatch.setattr("skl2rclip._cli.info.run", fail)
    said = run("info", tmp_path)
    assert (said.status, said.err.count("\n")) == (1, 1)
    assert "unexpected KeyError" in said.err
    assert "--traceback" in said.err
    assert "Traceback (most recent call last)" in run("info", tmp_path, "--traceback").err


def test_warnings_are_one_line_each(run, monkeypatch, tmp_path):
    def warn(*_):
        from skl2rclip._utils.arguments import warn_user

        warn_user("Of it:\n  this: 1\n  that; set image_tower='frozen'")
        return 0

    monkeypatch.setattr("skl2rclip._cli.info.run", warn)
    said = run("info", tmp_path)
    assert (said.status, said.out) == (0, "")
    assert said.err == "skl2rclip info: warning: Of it: this: 1; that; set --image-tower 'frozen'\n"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("list them, such as ranks=['a', 'b'].", "list them, such as --ranks a,b."),
        ("not in ranks=[...]: ['c']", "not in --ranks A,B,C: ['c']"),
        (
            "name it: L2RCLIPClassifier.load(path, model_name=..., pretrained=...).",
            "name it: --model-name VALUE --pretrained VALUE.",
        ),
        (
            "Name it with set_params(model_name=..., pretrained=...), or save(path, include_backbone=True).",
            "Name it with --model-name VALUE --pretrained VALUE, or fit --include-backbone.",
        ),
        ("with root=...", "with --root DIR"),
        ("such as ranks=['-x', 'a,b', 'c d']", "such as --ranks='-x,\"a,b\",c d'"),
        ("white_level=4095. Or n_jobs=-1, white_level=0.5.", "--white-level 4095. Or --n-jobs -1, --white-level 0.5."),
        ("such as rank=3/x.png; photos/rank=3; rank=3.png; device=cpu-only\\x.png",) * 2,
        ("vision_cfg.device=3 and pandas.read_csv(path, dtype={'a': str})",) * 2,
        ("learning_rate must be in (0, inf), got 'x'.",) * 2,
    ],
)
def test_messages_name_options_where_the_library_names_parameters(message, said):
    assert Console("").in_options(message) == said


def test_messages_name_paths_as_they_were_typed():
    console = Console("")
    console.arguments = ["fit", "rank=1", "--root=device=cpu", "--ranks", "a,b"]
    assert console.in_options("rank=1 is no folder; rank=... names it") == "rank=1 is no folder; --rank COL names it"
    assert console.in_options("device=cpu is no folder, device='cpu'") == "device=cpu is no folder, --device 'cpu'"


def test_the_script_that_is_installed_is_there():
    [(name, place)] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"].items()
    module, _, function = place.partition(":")
    assert (name, getattr(importlib.import_module(module), function)) == ("skl2rclip", main)


def test_it_is_a_module_too():
    with started("-m", "skl2rclip", "--version") as process:
        assert process.communicate(timeout=60) == (f"skl2rclip {__version__}\n", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_an_interrupt_ends_without_a_traceback():
    with started("-c", COMMAND.format("time.sleep(60)")) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["row\n", "first\n"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (INTERRUPTED, "", "skl2rclip info: interrupted\n")


def test_downloads_show_no_bars_where_there_is_no_terminal():
    code = COMMAND.format('rows.write([[os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]]])')
    with started("-c", code) as process:
        assert process.communicate(timeout=60) == ("row\nfirst\n1\n", "")


def test_a_pipe_that_closes_early_ends_quietly():
    with started("-c", COMMAND.format('[rows.write([["x" * 100]]) for _ in range(100_000)]')) as process:
        assert process.stdout.readline() == "row\n"
        process.stdout.close()
        err = process.stderr.read()
        assert (process.wait(timeout=60), err) == (PIPE_CLOSED, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_disk_is_one_line():
    command = [sys.executable, "-c", COMMAND.format("pass")]
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "skl2rclip info: error: No space left on device\n")
