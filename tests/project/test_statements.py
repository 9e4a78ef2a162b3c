"""What README and docs say that evidence shows is there in the tables that they cite."""

import ast
import re
from pathlib import Path

import pytest

from skl2rclip import L2RCLIPClassifier

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# sections whose every figure comes from the tables that they link to
CITING = {
    ("README.md", "Evidence"),
    ("evidence.md", "Evidence"),
    ("evidence.md", "What the choices rest on"),
    ("evidence.md", "What tuning changes"),
    ("method.md", "What was measured"),
    ("scaling.md", "Many images"),
    ("skl2rclip-photo.md", "What a fit makes of it"),
    ("skl2rclip-photo.md", "What it knows"),
    ("skl2rclip-tiny.md", "What it knows"),
}
TABLE = re.compile(r"\((?:\.\./)?benchmarks/([\w-]+\.md)(?:#[\w-]*)?\)")
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


def page():
    return " ".join(SECTIONS["evidence.md", "Evidence"].split())


def readme():
    return " ".join(SECTIONS["README.md", "Evidence"].split())


def test_every_section_that_cites_a_table_is_checked():
    figures = {name for name, body in SECTIONS.items() if FIGURE.findall(body)}
    citing = {name for name in figures if set(TABLE.findall(SECTIONS[name])) - {"README.md"}}
    # whose one figure is a version, and whose figures are those of its own table
    assert (
        citing - {("backbones.md", "Families of text towers"), ("cases-and-raters.md", "What combining brings")}
        == CITING
    )


@pytest.mark.parametrize("section", sorted(CITING), ids=" / ".join)
def test_figures_stand_in_the_tables_that_are_cited(section):
    body = SECTIONS[section]
    cited = "\n".join(tables(body).values())
    there = set(FIGURE.findall(cited))
    said = FIGURE.findall(body)
    assert said
    assert [figure for figure in said if figure not in there] == []


def test_what_as_published_sets_is_what_the_method_says():
    page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    [table] = re.findall(r"## As published\n.*?(\| set \|.*?)\n\n", page, flags=re.DOTALL)
    said = {name: ast.literal_eval(value) for name, value in re.findall(r"(\w+)=([^,`]+)", table)}
    default = L2RCLIPClassifier().get_params()
    made = {name: it for name, it in L2RCLIPClassifier.as_published().get_params().items() if it != default[name]}
    assert said == made


@pytest.mark.parametrize("figure", ["0.01", "98.765"])
def test_a_figure_of_no_table_is_found(figure):
    assert FIGURE.findall(f"it was {figure}, not v1.2.3 or 13 of 42.") == [figure]


def test_counts_of_cells_are_those_of_the_evidence():
    behind, level, ahead, cells, lower = re.search(
        r"behind in (\d+), level in (\d+) and ahead in (\d+) of (\d+) cells; its error is the lower one in (\d+)",
        evidence(),
    ).groups()
    none = "none" if behind == "0" else behind
    assert f"it is ahead in {ahead} of {cells} cells, level in {level} and behind in {none}" in page()
    assert f"it is ahead in {ahead} of {cells} cells, level in {level} and behind in {none}" in readme()
    assert f"its error is the lower one in {lower}" in page()
    ranked, of = re.search(r"ahead of every probe \(.*?\) in (\d+) of (\d+) cells", evidence()).groups()
    assert f"the ranked probability score is ahead of every probe's in {ranked} of {of} cells" in page()


@pytest.mark.parametrize(
    ("task", "shots", "ours", "other"),
    [
        ("ripeness", 16, "0.49", "0.85"),
        ("tilt", 16, "1.42", "2.44"),
        ("graded photographs", 64, "0.78", "0.98"),
        ("coffee leaves", 64, "0.56", "0.67"),
        ("blood cells", 8, "1.00", "0.87"),
        ("digits", 16, "2.25", "2.22"),
    ],
)
def test_the_pairs_of_the_page_are_rows_of_the_evidence(task, shots, ours, other):
    row = re.search(rf"^\| {task} \| {shots} \| ([\d.]+) \| .+? \| ([\d.]+) \|", evidence(), flags=re.MULTILINE)
    assert row.groups() == (ours, other)
    assert {ours, other} <= set(FIGURE.findall(page()))


def test_the_pairs_of_the_readme_are_rows_of_the_tables():
    row = re.search(r"^\| ripeness \| 16 \| ([\d.]+) \| .+? \| ([\d.]+) \|", evidence(), flags=re.MULTILINE)
    assert "drawn fruit by ripeness, 16 a rank: MAE {}, the best other {}".format(*row.groups()) in readme()
    photo = (ROOT / "benchmarks" / "evidence-photo.md").read_text(encoding="utf-8")
    row = re.search(
        r"^\| coffee leaves \| 32 \| ([\d.]+) \| .+? \| ([\d.]+) \|.*\| ahead \|", photo, flags=re.MULTILINE
    )
    assert "coffee leaves, 32 a rank: {} and {} (".format(*row.groups()) in readme()
    behind, ahead = re.search(r"'nothing set' is behind in (\d+), level in \d+ and ahead in (\d+) of", photo).groups()
    assert behind == "0"
    assert f"`skl2rclip-photo` it is ahead in {ahead} cells and behind in none" in " ".join(
        (ROOT / "README.md").read_text(encoding="utf-8").split()
    )


def test_the_likeliest_labels_that_the_page_warns_of_are_in_the_evidence():
    [errors] = [part for part in evidence().split("\n## ") if part.startswith("Error by images a rank")]
    likeliest = []
    for task, shots in (("blood cells", 8), ("digits", 16)):
        [table] = [table for table in errors.split("\n\n") if table.startswith(f"| {task} |")]
        rows = {cells[1]: cells for cells in ([cell.strip() for cell in row.split("|")] for row in table.splitlines())}
        likeliest.append(rows["logistic regression, argmax"][rows[task].index(str(shots))].split()[0])
    assert "is off by {} and {}.".format(*likeliest) in page()


def test_no_task_of_real_photographs_is_said_to_be_ahead():
    rows = re.findall(r"^\| (coffee leaves|blood cells) \| \d+ \|.*\| (\w+) \|$", evidence(), flags=re.MULTILINE)
    assert len(rows) > 10
    verdicts = {verdict for _, verdict in rows}
    assert ("on both sets of real photographs no cell is ahead" in page()) == ("ahead" not in verdicts)


# ------------------------------------------------------- the further experiments


def further():
    return (ROOT / "benchmarks" / "further.md").read_text(encoding="utf-8")


def figure_of(heading, row, column):
    """The figure before any interval in a cell of the one table under a heading that begins so."""
    [table] = [part for part in further().split("\n## ") if part.startswith(heading)]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    [cells] = [line for line in lines if line[0] == row]
    return cells[lines[0].index(str(column))].split(" ")[0]


def compared(beginning):
    """Counts of cells and the mean ratio of MAE in the sentence that begins so."""
    [line] = [line for line in further().splitlines() if line.startswith(f"- {beginning}")]
    counts = r"by MAE better in (\d+), level in (\d+) and worse in (\d+) of (\d+) cells, "
    found = re.search(counts + r"mean ratio ([\d.]+)(?: \(([\d.]+) to ([\d.]+)\))?", line)
    return dict(zip(("better", "level", "worse", "cells", "ratio", "low", "high"), found.groups(), strict=True))


def many_ranks_score():
    """Ratio of the ranked probability score with RankFormer to without it, and its interval, with 101 ranks."""
    sentence = (
        r"^- Many ranks, with RankFormer .* by ranked probability score .* mean ratio ([\d.]+ \([\d.]+ to [\d.]+\))\."
    )
    [found] = re.findall(sentence, further(), flags=re.MULTILINE)
    return found


def said(page, heading):
    return " ".join(SECTIONS[page, heading].split())


FINE_TUNED = "The fine-tuned tower against the frozen one, 1 to 64"
RANKFORMER = "With RankFormer against without it, 1 to 64"
UNSEEN = "Unseen ranks: every third rank without an image, 16 for the others; error on those alone: MAE"
SHIFT = "Distribution shift: a random half of the ranks keep a tenth of 32 images: MAE"
TOWER, ORDER = "Image tower: MAE", "RankFormer: ordinality"
FROZEN, TUNED = "{}: frozen tower, from pixels", "{}: fine-tuned tower"
AS_IT_IS, WITHOUT = "{}: as it is", "{}: without RankFormer"
RATIO = "ratio to as it is"


def towers(task, *shots):
    return [(TOWER, row.format(task), n) for n in shots for row in (FROZEN, TUNED)]


def orders(task, *shots):
    return [(ORDER, row.format(task), n) for n in shots for row in (AS_IT_IS, WITHOUT)]


@pytest.mark.parametrize(
    ("sentence", "cells"),
    [
        ("a tilted bar {} frozen and {} fine-tuned with 8 a rank, {} and {} with 64", towers("tilt", 8, 64)),
        ("drawn fruit {} and {}, {} and {}", towers("ripeness", 8, 64)),
        ("graded photographs, {} and {} with 64", towers("graded photographs", 64)),
        ("blood cells, {} and {} with 64", towers("blood cells", 64)),
    ],
)
def test_what_is_said_of_fine_tuning_is_in_its_table(sentence, cells):
    assert sentence.format(*(figure_of(*cell) for cell in cells)) in said("evidence.md", "What the choices rest on")


def test_fine_tuning_is_behind_nowhere_as_is_said():
    found = compared(FINE_TUNED)
    assert found["worse"] == "0"
    assert (
        f"ahead of the frozen tower in {found['better']} of {found['cells']} cells, level in {found['level']} and "
        f"behind in none; the mean ratio of the errors is {found['ratio']}"
    ) in said("evidence.md", "What the choices rest on")
    counts = f"in {found['better']} of {found['cells']} cells, level in {found['level']} and behind in none"
    assert f"it is ahead of the frozen tower {counts}" in page()
    stayed, of, others, lower = re.search(
        r"In (\d+) of (\d+) fits the tower stayed as it was; of the (\d+) others (\d+) have a lower", further()
    ).groups()
    assert (
        f"in {stayed} of {of} fits it left the tower as it was, and of the {others} others {lower} have a lower"
        in said("evidence.md", "What the choices rest on")
    )
    assert float(found["high"]) < 1
    for n in (1, 2, 4, 8, 16, 32, 64):  # that digits were never trained on
        frozen, tuned = (figure_of(TOWER, row.format("digits"), n) for row in (FROZEN, TUNED))
        assert frozen == tuned


@pytest.mark.parametrize(
    ("sentence", "cells"),
    [
        (
            "fruit {}, ridge {}, logistic regression {}",
            [(UNSEEN, row, "ripeness") for row in ("as it is", "ridge", "logistic regression, median")],
        ),
        ("graded photographs {}, ridge {}", [(UNSEEN, row, "graded photographs") for row in ("as it is", "ridge")]),
        ("coffee leaves {}, ridge {}", [(UNSEEN, row, "coffee leaves") for row in ("as it is", "ridge")]),
        (
            "ridge {}, logistic regression {} of ours",
            [(SHIFT, row, RATIO) for row in ("ridge", "logistic regression, median")],
        ),
    ],
)
def test_what_is_said_of_missing_ranks_is_in_its_table(sentence, cells):
    figures = [figure_of(*cell) for cell in cells]
    assert sentence.format(*figures) in said("evidence.md", "What the choices rest on")


@pytest.mark.parametrize(
    ("sentence", "cells"),
    [
        ("tilt, with 8 images a rank, {} with it and {} without it", orders("tilt", 8)),
        ("digits {} and {}", orders("digits", 8)),
        ("few images of blood cells the order is the worse one: {} and {}", orders("blood cells", 8)),
        (
            "hard targets {} with 4 images a rank and {} with 16",
            [
                ("Ablation, 4 images a rank: MAE", "hard targets", RATIO),
                ("Ablation, 16 images a rank: MAE", "hard targets", RATIO),
            ],
        ),
        ("{} at one image a rank and {} at 64", [("Mean ratio", "hidden layer to linear, MAE", n) for n in (1, 64)]),
        ("to none is {} and {}", [("Mean ratio", "hidden layer to no adapter, MAE", n) for n in (1, 64)]),
    ],
)
def test_what_is_said_of_the_parts_is_in_its_table(sentence, cells):
    assert sentence.format(*(figure_of(*cell) for cell in cells)) in said("method.md", "What was measured")


def test_what_is_said_of_rankformer_is_what_was_found():
    text, found = said("method.md", "What was measured"), compared(RANKFORMER)
    assert f"{found['ratio']} over {found['cells']} cells ({found['low']} to {found['high']})" in text
    names = ("Unseen ranks", "Many ranks", "Distribution shift")
    ratios = [compared(f"{name}, with RankFormer against")["ratio"] for name in names]
    there = "on ranks without images it is {}, where ten of 101 ranks have images {}, under distribution shift {}"
    assert there.format(*ratios) in text
    assert f"the ranked probability score of those 101 ranks, on two drawn tasks: {many_ranks_score()}" in text
    order = (
        r"- 1 to 64 images a rank, the ordinality .*: higher in (\d+), level in (\d+) and lower in (\d+) of (\d+) cells"
    )
    assert "higher in {}, level in {} and lower in {} of {} cells".format(*re.search(order, further()).groups()) in text


def test_from_two_images_a_rank_on_fine_tuning_has_a_lower_error_on_average():
    assert "from two a rank on the error is lower on average" in said("when-to-use.md", "When to use what")
    [row] = re.findall(r"^\| fine-tuned to frozen tower, MAE .*$", further(), flags=re.MULTILINE)
    highest = [float(high) for high in re.findall(r"to ([\d.]+)\)", row)]
    assert len(highest) == 7
    assert max(highest[1:]) < 1


def test_the_hidden_layer_is_nowhere_behind_beyond_the_noise():
    assert "nowhere above 1 beyond the noise" in said("method.md", "What was measured")
    rows = re.findall(r"^\| hidden layer to linear, .*$", further(), flags=re.MULTILINE)
    lows = [float(low) for row in rows for low in re.findall(r"\(([\d.]+) to", row)]
    assert len(lows) == 14
    assert max(lows) < 1


def test_no_method_is_ahead_on_ranks_without_an_image():
    assert "No method has a lower error on average over the tasks" in said("evidence.md", "What the choices rest on")
    lower = re.findall(
        r"^- Unseen ranks, mean ratio of .* to that as it is: lower: (.*?);", further(), flags=re.MULTILINE
    )
    assert lower == ["nothing", "nothing"]
