"""What tests of displays share."""

import numpy as np
from matplotlib.text import Text

from skl2rclip import inspection

GRADES = ["bad", "poor", "fair", "good", "excellent"]  # sorted otherwise than by the alphabet

OF_LABELS = [inspection.OrdinalConfusionDisplay, inspection.RankPredictionDisplay]

SHEETS = [inspection.LargestErrorsDisplay, inspection.SortedPicturesDisplay]


def brightness(images):
    return np.array([[np.mean(image), np.std(image)] for image in images])


def texts_of(display):
    return [text.get_text().splitlines() for text in display.texts_]


def drawn_of(name, estimator, X, y, **options):
    """The display of this name, of one classifier, or of it beside itself where it compares."""
    display = getattr(inspection, name)
    if hasattr(display, "from_estimators"):
        return display.from_estimators({"one": estimator, "other": estimator}, X, y, **options)
    return display.from_estimator(estimator, X, y, **options)


def drawn_texts(figure):
    """All that is written in a figure, and as what: text, whether it is read as mathematics."""
    figure.canvas.draw()
    return [(text.get_text(), text.get_parse_math()) for text in figure.findobj(Text) if text.get_visible()]
