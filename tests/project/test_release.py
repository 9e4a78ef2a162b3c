"""What others run and read of a release: workflows, the citation, and the steps that CONTRIBUTING.md names."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SYSTEMS = {"ubuntu": "POSIX :: Linux", "macos": "MacOS", "windows": "Microsoft :: Windows"}


def workflow(name):
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def fenced(page, heading):
    """Lines of the first block of commands under a heading."""
    text = (ROOT / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    return re.search(r"```sh\n(.*?)```", text, flags=re.DOTALL)[1].splitlines()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_has_a_limit_and_no_more_rights_than_it_needs(path):
    content = workflow(path.stem)
    assert content["permissions"] == {"contents": "read"}
    for name, job in content["jobs"].items():
        assert job["runs-on"]
        assert "timeout-minutes" in job or name == "publish", name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["fetch-depth"] == 0, "the version is that of the last tag"


def test_the_workflow_tests_every_system_and_version_that_is_promised_as_readme_says():
    jobs = workflow("tests")["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    said = {each.rpartition(" :: ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", each)}
    assert set(matrix["python"]) == said
    assert min(said) == PROJECT["requires-python"].removeprefix(">=")
    systems = {SYSTEMS[each.partition("-")[0]] for each in matrix["os"]}
    assert {f"Operating System :: {each}" for each in systems} <= set(PROJECT["classifiers"])
    install, run = fenced("README.md", "Tests")
    for name in ("tests", "spawn", "lowest"):
        assert run in commands(jobs[name])
        assert any(install in command.removeprefix("python -m ") for command in commands(jobs[name]))


def test_all_checks_before_a_change_are_run_by_the_workflow():
    jobs = workflow("tests")["jobs"]
    asked = fenced("CONTRIBUTING.md", "Before a change is done")
    assert set(asked) <= {command for name in ("checks", "tests") for command in commands(jobs[name])}


def test_nothing_is_published_but_what_was_built_of_a_tag_and_tested():
    content = workflow("release")
    assert content[True] == {"push": {"tags": ["v[0-9]*"]}}  # YAML takes "on" for true
    build, publish = content["jobs"]["build"], content["jobs"]["publish"]
    [tried] = [command for command in commands(build) if "try_sdist.py" in command]
    assert "--version" in tried
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert commands(publish) == []
    assert not re.search(r"password|token:|secrets\.", str(publish))


def test_scripts_that_workflows_run_are_there():
    for path in WORKFLOWS:
        scripts = re.findall(r"python (\S+\.py)", path.read_text(encoding="utf-8"))
        assert all((ROOT / script).is_file() for script in scripts)


def test_the_citation_names_the_paper_as_readme_does():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper, readme = citation["preferred-citation"], " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    authors = ", ".join(f"{each['given-names'][0]}. {each['family-names']}" for each in paper["authors"])
    assert f'{authors}, "{paper["title"]}"' in readme
    assert all(each["value"] in readme for each in paper["identifiers"])
    assert f"NeurIPS {paper['year']}" in readme
    assert citation["license"] == PROJECT["license"]
    assert "version" not in citation  # it would be forgotten at the next release
