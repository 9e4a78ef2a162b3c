import logging

import numpy as np
import pytest

from skl2rclip import CLIPImageEncoder
from skl2rclip._clip.backbone import unload_backbones
from skl2rclip._utils.progress import counted, progress_bar


def test_a_bar_counts_images_and_hands_chunks_on(capsys):
    chunks = [(np.arange(3), "a"), (np.arange(4), "b")]
    assert list(counted((chunk for chunk in chunks), 7, 1)) == chunks
    assert "embedding: 100%" in capsys.readouterr().err
    assert list(counted((chunk for chunk in chunks), 7, 0)) == chunks
    assert capsys.readouterr().err == ""


def test_a_bar_of_what_fails_shows_what_was_done(capsys):
    def failing():
        yield (np.arange(3),)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(counted(failing(), 6, 1))
    assert "3/6" in capsys.readouterr().err


def test_a_silent_bar_is_never_drawn(capsys):
    with progress_bar(0, "epochs", 2, "epoch") as bar:
        bar.set_postfix({"loss": "1"})
        bar.update()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ({"early_stopping": True}, ["embedding: 100%", "prompts: 100%", "loss=", "validation_mae="]),
        ({"image_tower": "finetune"}, ["embedding: 100%", "prompts: 100%", "epoch_selection: 100%"]),
        ({"image_tower": "finetune", "image_adapter": None}, ["prompts: 100%", "image_tower: 100%"]),
        (
            {"image_tower": "finetune", "rank_targets": "hard", "prompt_epochs": 0},
            ["decoding: 100%", "image_tower: 100%"],
        ),
    ],
)
def test_verbose_shows_images_and_stages_on_the_standard_error_alone(
    make_classifier, shades, capsys, parameters, shown
):
    classifier = make_classifier(verbose=1, **parameters).fit(*shades)
    out, err = capsys.readouterr()
    assert out == ""
    assert [text for text in shown if text not in err] == []
    assert classifier.predict(shades[0]).shape == (40,)
    assert "40/40" in capsys.readouterr().err
    classifier.set_params(verbose=0).predict(shades[0])
    make_classifier(verbose=0, **parameters).fit(*shades)
    assert capsys.readouterr() == ("", "")


def test_the_encoder_shows_a_bar_where_it_is_asked_to(tiny, shades, capsys):
    CLIPImageEncoder(tiny, verbose=1).fit().transform(shades[0])
    assert "embedding: 100%" in capsys.readouterr().err
    CLIPImageEncoder(tiny).fit().transform(shades[0])
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ValueError, match="verbose must be an integer"):
        CLIPImageEncoder(tiny, verbose="yes").fit()


# ----------------------------------------------------------------------- logging


def messages(caplog, level, module):
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == level and record.name == f"skl2rclip.{module}"
    ]


def test_the_library_says_nothing_unless_somebody_listens():
    logger = logging.getLogger("skl2rclip")
    assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    assert logger.level == logging.NOTSET
    assert logger.propagate


def test_a_fit_is_logged_by_the_rooms_that_do_the_work(make_classifier, shades, tiny, caplog):
    unload_backbones()
    with caplog.at_level(logging.DEBUG, "skl2rclip"):
        classifier = make_classifier(early_stopping=True).fit(*shades)
    assert messages(caplog, logging.INFO, "_training.trainer") == ["Fit of 40 images of 5 ranks on cpu."]
    [loaded] = messages(caplog, logging.INFO, "_clip.backbone")
    assert loaded.startswith(f"Loaded {tiny!r} in ")
    assert loaded.endswith(f"begins with {classifier._state.record.fingerprint[:12]}.")
    [embedded] = messages(caplog, logging.INFO, "_embedding.embedder")
    assert embedded.startswith("40 images, 40 different ones among them")
    began, ended = messages(caplog, logging.INFO, "_training.stages")
    assert began.startswith("Stage prompts begins: at most 3 epochs of 36 images, 128 at a time, on cpu")
    assert ended.startswith("Stage prompts ended after 3 epochs and ")
    assert messages(caplog, logging.DEBUG, "_training.stages") == [str(record) for record in classifier.history_]


@pytest.mark.parametrize("parameters", [{"early_stopping": True}, {}])
def test_the_log_says_which_epoch_was_kept(make_classifier, shades, caplog, parameters):
    with caplog.at_level(logging.INFO, "skl2rclip"):
        classifier = make_classifier(prompt_epochs=6, **parameters).fit(*shades)
    key, module = ("validation_rps", "early_stopping") if parameters else ("cross_fitted_rps", "candidates")
    [kept] = messages(caplog, logging.INFO, f"_training.{module}")
    epoch, score = int(kept.split("epoch ")[1].split(":")[0]), float(kept.split(f"'{key}': ")[1].split("}")[0])
    scores = {record["epoch"]: record[key] for record in classifier.history_ if key in record}
    if epoch:
        assert score == scores[epoch] == min(scores.values())
    else:  # the start, which is no epoch
        assert score < min(scores.values())


def test_info_says_nothing_of_single_epochs(make_classifier, shades, caplog):
    with caplog.at_level(logging.INFO, "skl2rclip"):
        make_classifier().fit(*shades)
    assert caplog.records
    assert not messages(caplog, logging.DEBUG, "_training.stages")
