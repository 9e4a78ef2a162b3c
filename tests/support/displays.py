"""What tests of displays share."""

import numpy as np

from skl2rclip import inspection

GRADES = ["bad", "poor", "fair", "good", "excellent"]  # sorted otherwise than by the alphabet

OF_LABELS = [inspection.OrdinalConfusionDisplay, inspection.RankPredictionDisplay]

SHEETS = [inspection.LargestErrorsDisplay, inspection.SortedPicturesDisplay]


def brightness(images):
    return np.array([[np.mean(image), np.std(image)] for image in images])


def texts_of(display):
    return [text.get_text().splitlines() for text in display.texts_]
