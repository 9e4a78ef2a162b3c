"""What tests of displays share."""

import numpy as np
import pandas as pd
from matplotlib.text import Text

from skl2rclip import inspection

GRADES = ["bad", "poor", "fair", "good", "excellent"]  # sorted otherwise than by the alphabet

OF_LABELS = [inspection.OrdinalConfusionDisplay, inspection.RankPredictionDisplay]

SHEETS = [inspection.LargestErrorsDisplay, inspection.SortedPicturesDisplay]


def brightness(images):
    return np.array([[np.mean(image), np.std(image)] for image in images])


def texts_of(display):
    return [text.get_text().splitlines() for text in display.texts_]


def copies_of(*sets):
    """A frame as `find_duplicates` returns it, of sets of indices."""
    rows = [(number, row, 0.0, "exact") for number, members in enumerate(sets) for row in members]
    return pd.DataFrame(rows, columns=["set", "index", "distance", "kind"])


def drawn_of(name, estimator, X, y, **options):
    """The display of this name, of one classifier, of it beside itself where it compares, or of the images alone."""
    display = getattr(inspection, name)
    if hasattr(display, "from_frame"):
        return display.from_frame(copies_of([0, 1], [2, 4, 5]), X, y, **options)
    if hasattr(display, "from_estimators"):
        return display.from_estimators({"one": estimator, "other": estimator}, X, y, **options)
    return display.from_estimator(estimator, X, y, **options)


def drawn_texts(figure):
    """All that is written in a figure, and as what: text, whether it is read as mathematics."""
    figure.canvas.draw()
    return [(text.get_text(), text.get_parse_math()) for text in figure.findobj(Text) if text.get_visible()]
