import random

import pytest

from skl2rclip._ordinal.order_inference import plain_order, spoken

PLAIN = [
    ["1930s", "1940s", "1950s", "2010s"],
    ["before 1930", "1930s", "1940s"],
    ["pre-1930", "1930", "1940"],
    ["0-2", "4-6", "8-12", "60+"],
    ["<5", "5-10", "10-20", ">20"],
    ["under 20", "20-39", "40-59", "60 and over"],
    ["0-2 years", "4-6 years", "60+ years"],
    ["$0-$10", "$10-$20", "$20+"],
    ["1,000-2,000", "2,000-3,000", "10,000-20,000"],
    ["0 to 5", "6 to 10"],
    ["(0, 10]", "(10, 20]", "(20.0, inf]"],
    ["grade 1", "grade 2", "grade 10"],
    ["grade_1", "grade_2", "grade_10"],
    ["T1", "T2", "T10"],
    ["stage 1a", "stage 1b", "stage 2"],
    ["1 star", "2 stars", "10 stars"],
    ["1st", "2nd", "3rd", "10th"],
    ["-10", "-1", "2.5", "10"],
    ["2020-01", "2020-02", "2021-01"],
    ["2020-01-05", "2020-01-15", "2020-10-01"],
    "I II III IV V VI VII VIII IX X XI XII".split(),
    [f"stage {numeral}" for numeral in "I II IV V IX X".split()],
    ["Stage IIA", "Stage IIB", "Stage IIIA"],
    ["low", "medium", "high"],
    ["Low Risk", "Medium Risk", "High Risk"],
    ["risk_low", "risk_high"],
    ["tiny", "small", "medium", "large"],
    ["XS", "S", "M", "L", "XL"],
    ["never", "rarely", "sometimes", "often", "always"],
    ["bad", "poor", "fair", "good", "excellent"],
    ["none", "low", "medium", "high"],
    ["none", "very low", "low", "high", "very high", "extreme"],
    ["none", "mild", "moderate", "severe"],
    ["Healthy", "Doubtful", "Minimal", "Moderate", "Severe"],
    ["NonDemented", "VeryMildDemented", "MildDemented", "ModerateDemented"],
    ["no-damage", "minor-damage", "major-damage", "destroyed"],
    ["No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"],
    ["absent", "weak", "strong"],
    ["normal", "early", "advanced"],
    ["clear", "light", "heavy"],
    ["small", "x-large"],
    ["rare", "medium-rare", "medium", "well done"],
    ["No DR", "Mild", "Moderate", "Severe", "Proliferative DR"],
    ["young", "middle-aged", "old"],
    ["Monday", "Wednesday", "Sunday"],
    ["jan", "feb", "dec"],
    ["zero", "two", "ten"],
    ["0 healthy", "1 very low", "2 eaten"],
    [f"{place:02d}_{word}" for place, word in enumerate("abcdefghijklm")],
]
NOT_PLAIN = [
    ["cat", "dog"],
    ["A", "B", "C"],
    ["big", "large"],  # mean the same
    ["low", "1"],
    ["0-100", "5-10"],  # one within the other
    ["-1 to 5", "0 to 3"],  # a sign or a dash
    ["1.2.3", "1.2.4"],
    ["grade 1", "stage 2"],
    ["1", "01"],
    ["2,5", "10,0"],  # decimal commas
    ["0,125", "1"],
    ["void", "dim", "mild"],
    ["light", "dark", "dense"],
    ["new", "old"],
    ["", "a"],
    ["a" * 5000, "1" * 5000],
    ["one"],
    ["1 cat", "3 dog"],  # may count them
    ["0 healthy", "1 rusty", "dead"],
]


@pytest.mark.parametrize("order", PLAIN, ids=lambda order: order[0])
@pytest.mark.parametrize("seed", [0, 1])
def test_plain_orders_are_found_however_labels_come(order, seed):
    assert plain_order(random.Random(seed).sample(order, len(order))) == order  # noqa: S311
    assert plain_order(sorted(order)) == order
    assert plain_order(order[:2][::-1]) == order[:2]


@pytest.mark.parametrize("labels", NOT_PLAIN, ids=lambda labels: labels[0][:9])
def test_where_no_order_is_plain_there_is_none(labels):
    assert plain_order(labels) is None
    assert plain_order(labels[::-1]) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["No_DR", "Mild", "Proliferate_DR"], ["No DR", "Mild", "Proliferate DR"]),
        (["0_healthy", "1_VeryMild", "2.severe"], ["healthy", "Very Mild", "severe"]),
        (["01 new", "02 worn"], ["new", "worn"]),
        (["1 star", "2 stars", "3 stars"], ["1 star", "2 stars", "3 stars"]),  # counted
        (["0 dry", "2 wet"], ["0 dry", "2 wet"]),  # no places: one is missing
        (["0 dry", "1 Dry"], ["0 dry", "1 Dry"]),  # nothing else tells them apart
        (["0", "1", "10"], ["0", "1", "10"]),
        (["McIntosh", "pH 7", "XL"], ["McIntosh", "pH 7", "XL"]),
        (["_", "a  b"], ["", "a b"]),
    ],
)
def test_names_are_said_as_words(names, said):
    assert spoken(names) == said
