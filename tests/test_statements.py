"""What README and docs say that evidence shows is there in the tables that they cite."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# sections whose every figure comes from the tables that they link to
CITING = {
    ("README.md", "Evidence"),
    ("method.md", "What was measured"),
    ("scaling.md", "Many pictures"),
    ("when-to-use.md", "What the figures say"),
}
TABLE = re.compile(r"\((?:\.\./)?benchmarks/(\w+\.md)\)")
# a number with decimals
FIGURE = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)")


def sections(page):
    """Headings and texts, without code."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {
        heading.partition(" [")[0]: re.sub(r"`[^`]*`", "", body)
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


SECTIONS = {(page.name, heading): body for page in PAGES for heading, body in sections(page).items()}


def tables(body):
    return {name: (ROOT / "benchmarks" / name).read_text(encoding="utf-8") for name in set(TABLE.findall(body))}


def evidence():
    return (ROOT / "benchmarks" / "evidence.md").read_text(encoding="utf-8")


def readme():
    return " ".join(SECTIONS["README.md", "Evidence"].split())


def test_every_section_that_cites_a_table_is_checked():
    figures = {name for name, body in SECTIONS.items() if FIGURE.findall(body)}
    citing = {name for name in figures if set(TABLE.findall(SECTIONS[name])) - {"README.md"}}
    # whose one figure is a version
    assert citing - {("backbones.md", "Backbones")} == CITING


@pytest.mark.parametrize("section", sorted(CITING), ids=" / ".join)
def test_figures_stand_in_the_tables_that_are_cited(section):
    body = SECTIONS[section]
    cited = "\n".join(tables(body).values())
    there = set(FIGURE.findall(cited))
    said = FIGURE.findall(body)
    assert said
    assert [figure for figure in said if figure not in there] == []


@pytest.mark.parametrize("figure", ["0.01", "98.765"])
def test_a_figure_of_no_table_is_found(figure):
    assert FIGURE.findall(f"it was {figure}, not v1.2.3 or 13 of 42.") == [figure]


def test_counts_of_cells_are_those_of_the_evidence():
    behind, level, ahead, cells, lower = re.search(
        r"behind in (\d+), level in (\d+) and ahead in (\d+) of (\d+) cells; its error is the lower one in (\d+)",
        evidence(),
    ).groups()
    none = "none" if behind == "0" else behind
    assert f"it is ahead in {ahead} of {cells} cells, level in {level} and behind in {none}" in readme()
    assert f"its error is the lower one in {lower}" in readme()
    ranked, of = re.search(r"ahead of every probe \(.*?\) in (\d+) of (\d+) cells", evidence()).groups()
    assert f"the ranked probability score is ahead of every probe's in {ranked} of {of} cells" in readme()


@pytest.mark.parametrize(
    ("task", "shots", "ours", "other"),
    [
        ("ripeness", 16, "0.57", "0.85"),
        ("tilt", 16, "2.05", "2.44"),
        ("graded photographs", 64, "0.79", "0.98"),
        ("coffee leaves", 64, "0.69", "0.67"),
        ("blood cells", 8, "0.98", "0.87"),
        ("digits", 16, "2.39", "2.29"),
    ],
)
def test_the_pairs_of_the_readme_are_rows_of_the_evidence(task, shots, ours, other):
    row = re.search(rf"^\| {task} \| {shots} \| ([\d.]+) \| .+? \| ([\d.]+) \|", evidence(), flags=re.MULTILINE)
    assert row.groups() == (ours, other)
    assert {ours, other} <= set(FIGURE.findall(readme()))


def test_no_task_of_real_photographs_is_said_to_be_ahead():
    rows = re.findall(r"^\| (coffee leaves|blood cells) \| \d+ \|.*\| (\w+) \|$", evidence(), flags=re.MULTILINE)
    assert len(rows) > 10
    verdicts = {verdict for _, verdict in rows}
    assert ("on both sets of real photographs no cell is ahead" in readme()) == ("ahead" not in verdicts)
