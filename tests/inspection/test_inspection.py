"""All displays: imports, the figure that they are drawn in, and the pages that show them."""

import subprocess
import sys

import matplotlib.pyplot as plt
import pytest
from matplotlib.text import Text

from skl2rclip import inspection
from tests.support.displays import drawn_of


def test_neither_matplotlib_nor_torch_is_imported_before_it_is_needed():
    check = (
        "import sys, skl2rclip.inspection as i; assert not {'matplotlib', 'torch'} & set(sys.modules);"
        "i.OrdinalConfusionDisplay, i.RankPredictionDisplay, i.RankCalibrationDisplay, i.TrainingHistoryDisplay;"
        "assert not {'matplotlib', 'torch'} & set(sys.modules);"
        "[getattr(i, name) for name in i.__all__]; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


@pytest.mark.parametrize("name", inspection.__all__)
def test_without_matplotlib_the_error_names_the_extra_before_anything_is_asked(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf'{name} .*pip install "skl2rclip\[plot\]"'):
        drawn_of(name, None, [], [])


def test_what_is_not_there_is_an_attribute_error():
    assert {"OrdinalConfusionDisplay", *inspection.__all__} <= set(dir(inspection))
    with pytest.raises(AttributeError, match="NoSuchDisplay"):
        inspection.NoSuchDisplay  # noqa: B018


@pytest.mark.parametrize("name", inspection.__all__)
def test_every_display_draws_the_fitted_classifier_and_has_axes_and_figure(name, model, shades):
    display = drawn_of(name, model, *shades)
    display.figure_.canvas.draw()
    assert display.ax_.figure is display.figure_
    for text in display.figure_.findobj(Text):
        if any(map(str.isalpha, text.get_text())):  # ticks that are not shown are numbers
            assert display.figure_.bbox.padded(2).count_contains(text.get_window_extent().corners()) == 4
    assert isinstance(display, getattr(inspection, name))
    again = display.plot()
    assert again is display
    assert again.figure_ is not None


@pytest.mark.parametrize("name", inspection.__all__)
@pytest.mark.parametrize("with_spec", [True, False])
def test_one_axes_of_the_users_holds_every_display(name, with_spec, model, shades):
    figure = plt.figure()
    ax = figure.add_subplot(1, 2, 2) if with_spec else figure.add_axes((0.5, 0.1, 0.4, 0.8))
    display = drawn_of(name, model, *shades, ax=ax)
    figure.canvas.draw()
    assert display.figure_ is figure
    assert display.ax_.get_position().x0 > 0.4


def test_the_images_of_the_documentation_are_drawn(tmp_path, monkeypatch):
    import draw_displays

    arguments = ["draw_displays.py", "--folder", str(tmp_path), "--n-train", "40", "--n-test", "20"]
    monkeypatch.setattr(sys, "argv", arguments)
    draw_displays.main()
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert len(drawn) == len(inspection.__all__)
    assert drawn == {path.name for path in draw_displays.FOLDER.glob("*.png")}
    page = (draw_displays.ROOT / "docs" / "inspection.md").read_text(encoding="utf-8")
    assert all(f"images/{name}" in page for name in drawn)
