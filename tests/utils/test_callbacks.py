import importlib.util
import io
import re
import sys
from contextlib import redirect_stdout

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skl2rclip import CLIPImageEncoder
from skl2rclip._training import trainer
from skl2rclip._training.epoch_selection import EpochSelection
from skl2rclip._utils import callbacks as callbacks_module
from skl2rclip._utils.progress import FitListener

needs_callbacks = pytest.mark.skipif(
    not callbacks_module.HAS_CALLBACKS, reason="scikit-learn has callbacks from 1.9 on"
)


class Recorder:
    """Remembers what it is told, and ends the tasks of one name when one of them has a certain number."""

    max_propagation_depth = None

    def __init__(self, stop=(None, 0)):
        self.events, self.stop = [], stop

    def setup(self, estimator, context):
        self.events.append(("setup", type(estimator).__name__))

    def teardown(self, estimator, context):
        self.events.append(("teardown", type(estimator).__name__))

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.max_subtasks))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name))
        return (context.task_name, context.task_id) == self.stop


class Predictor(Recorder):
    """Asks at the end of each task for the estimator as it is then, and what it predicts."""

    def __init__(self):
        super().__init__()
        self.predicted = {}

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.metadata = metadata
        self.predicted[context.task_name, context.task_id] = fitted_estimator.predict_proba(X)
        self.n_epochs = fitted_estimator.n_iter_


def names(events, kind):
    return [event[1] for event in events if event[0] == kind]


def stage(name, n_epochs):
    epoch = [("begin", "epoch", 0), ("end", "epoch")]
    return [("begin", name, n_epochs), *epoch * n_epochs, ("end", name)]


@needs_callbacks
def test_a_fit_is_a_tree_of_stages_and_epochs(make_classifier, shades):
    recorder = Recorder()
    make_classifier(image_tower="finetune", image_adapter=None).set_callbacks(recorder).fit(*shades)
    tasks = [("begin", "fit", 2), *stage("prompts", 3), *stage("image_tower", 2), ("end", "fit")]
    assert recorder.events == [("setup", "L2RCLIPClassifier"), *tasks, ("teardown", "L2RCLIPClassifier")]


@needs_callbacks
def test_a_fit_that_trains_nothing_has_no_stages(zero_shot, shades):
    recorder = Recorder()
    zero_shot().set_callbacks(recorder).fit(*shades)
    assert recorder.events[1:-1] == [("begin", "fit", 0), ("end", "fit")]


@needs_callbacks
@pytest.mark.parametrize("rank_targets", ["hard", "soft"])
def test_a_callback_gets_the_estimator_as_it_is_after_an_epoch(make_classifier, shades, rank_targets):
    X, y = shades
    predictor, weight = Predictor(), np.arange(40) % 3 + 1.0
    classifier = make_classifier(rank_targets=rank_targets).set_callbacks(predictor)
    final = classifier.fit(X, y, sample_weight=weight).predict_proba(X)
    assert sorted(predictor.predicted) == [("epoch", 0), ("epoch", 1), ("epoch", 2), ("fit", 0), ("prompts", 0)]
    for task in (("prompts", 0), ("fit", 0)):
        np.testing.assert_allclose(predictor.predicted[task], final, atol=1e-6)
    assert not np.allclose(predictor.predicted["epoch", 0], predictor.predicted["epoch", 2], atol=1e-6)
    if rank_targets == "hard":  # nothing is chosen at the end
        np.testing.assert_allclose(predictor.predicted["epoch", 2], final, atol=1e-6)
    np.testing.assert_array_equal(predictor.metadata["sample_weight"], weight)
    assert predictor.n_epochs == 3


@needs_callbacks
def test_watching_changes_nothing_that_is_learned(make_classifier, shades):
    alone = make_classifier().fit(*shades)
    watched = make_classifier().set_callbacks(Predictor()).fit(*shades)
    np.testing.assert_array_equal(alone.prototypes_, watched.prototypes_)
    assert alone.history_ == watched.history_


@needs_callbacks
def test_the_state_is_collected_only_for_those_who_ask(make_classifier, shades, monkeypatch):
    collected, original = [], trainer._collect
    monkeypatch.setattr("skl2rclip._training.trainer._collect", lambda *args: collected.append(1) or original(*args))
    make_classifier().set_callbacks(Recorder()).fit(*shades)
    assert len(collected) == 1
    make_classifier().set_callbacks(Predictor()).fit(*shades)
    assert len(collected) == 1 + 5  # three epochs, the stage, the end


@needs_callbacks
def test_a_callback_ends_a_stage_or_the_fit(make_classifier, shades):
    classifier = make_classifier(image_tower="finetune", image_adapter=None)
    ended = clone(classifier).set_callbacks(Recorder(stop=("epoch", 1))).fit(*shades)
    assert [record["stage"] for record in ended.history_] == ["prompts"] * 2 + ["image_tower"] * 2
    ended = clone(classifier).set_callbacks(Recorder(stop=("prompts", 0))).fit(*shades)
    assert [record["stage"] for record in ended.history_] == ["prompts"] * 3
    assert ended.predict(shades[0]).shape == (40,)


@needs_callbacks
def test_a_fit_that_fails_tells_so_and_leaves_the_estimator_as_it_was(make_classifier, shades):
    X, y = shades
    recorder = Recorder()
    classifier = make_classifier(rank_targets="hard").set_callbacks(recorder).fit(X, y)
    before, names_before = classifier.predict_proba(X), set(vars(classifier))
    recorder.events.clear()
    with pytest.raises(ValueError, match="not finite"):
        classifier.set_params(learning_rate=1e30).fit(X, y)
    assert names(recorder.events, "setup") == names(recorder.events, "teardown") == ["L2RCLIPClassifier"]
    assert set(vars(classifier)) == names_before
    np.testing.assert_array_equal(classifier.predict_proba(X), before)
    recorder.events.clear()
    with pytest.raises(ValueError, match="learning_rate"):
        classifier.set_params(learning_rate="fast").fit(X, y)
    assert recorder.events == []  # what is wrong shows before anybody is told of a fit


@needs_callbacks
@pytest.mark.filterwarnings("error")
def test_a_pipeline_tells_encoder_and_classifier(make_classifier, tiny, shades):
    recorder = Recorder()
    pipeline = make_pipeline(CLIPImageEncoder(tiny), make_classifier(image_tower="precomputed"))
    pipeline.set_callbacks(recorder).fit(*shades)
    assert names(recorder.events, "end").count("epoch") == 3
    assert names(recorder.events, "begin").count("fit") == 3  # of pipeline, encoder and classifier


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_over_a_search_counts_its_fits(make_classifier, shades, n_jobs):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    shown = io.StringIO()
    with redirect_stdout(shown), joblib.parallel_config("threading", n_jobs=n_jobs):
        search = GridSearchCV(
            make_classifier(prompt_epochs=1), {"blend_ratio": [0.1, 0.2]}, cv=2, error_score="raise", n_jobs=n_jobs
        )
        search.set_callbacks(ProgressBar(max_propagation_depth=0)).fit(*shades)
    assert re.search(r"GridSearchCV - search #0 .*100%", shown.getvalue())
    assert "prompts" not in shown.getvalue()
    recorder = Recorder()
    with joblib.parallel_config("threading", n_jobs=n_jobs):
        search.set_callbacks(recorder).fit(*shades)
    assert names(recorder.events, "end").count("prompts") == 2 * 2 + 1


def test_without_callbacks_nobody_is_told_and_all_else_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    specification = importlib.util.spec_from_file_location("callbacks_of_older_versions", callbacks_module.__file__)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert not module.HAS_CALLBACKS
    assert not hasattr(module.CallbackSupportMixin, "set_callbacks")
    assert module.with_callbacks(len) is len
    listener = module.listener_of(object(), None, None, n_stages=2)
    assert type(listener) is FitListener
    listener.stage_begins("prompts", 3)
    listener.epoch_begins()
    assert listener.epoch_ends(lambda: 1 / 0) is listener.stage_ends(lambda: 1 / 0) is False


class StoppingPredictor(Recorder):
    """Ends the fit after so many epochs, and keeps what it was told of then."""

    def __init__(self, n_epochs):
        super().__init__()
        self.n_epochs, self.told = n_epochs, []

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        if context.task_name == "epoch":
            self.told.append((fitted_estimator.predict_proba(X), fitted_estimator.transform(X)))
        return len(self.told) == self.n_epochs


@needs_callbacks
@pytest.mark.parametrize("n_epochs", [1, 5, 9])
@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True, "n_iter_no_change": 30}])
def test_what_a_callback_is_told_is_what_a_fit_that_ends_there_keeps(make_classifier, shades, parameters, n_epochs):
    callback = StoppingPredictor(n_epochs)
    classifier = make_classifier(prompt_epochs=30, learning_rate=0.05, **parameters).set_callbacks(callback)
    classifier.fit(*shades)
    assert classifier.n_iter_ == n_epochs
    told = callback.told[-1]
    np.testing.assert_allclose(classifier.predict_proba(shades[0]), told[0], atol=1e-6)
    np.testing.assert_allclose(classifier.transform(shades[0]), told[1], atol=1e-6)


@needs_callbacks
def test_asking_for_what_is_learned_changes_nothing(make_classifier, shades):
    settings = {"prompt_epochs": 12, "learning_rate": 0.05}
    alone = make_classifier(**settings).fit(*shades)
    asked = make_classifier(**settings).set_callbacks(StoppingPredictor(12)).fit(*shades)
    np.testing.assert_array_equal(asked.prototypes_, alone.prototypes_)


@needs_callbacks
def test_a_tower_on_its_way_is_told_as_far_as_it_would_go(make_classifier, shades, monkeypatch):
    monkeypatch.setattr(trainer, "select_epochs", lambda *_, **__: EpochSelection(3, 0.5, 1.0))
    settings = {"image_tower": "finetune", "image_learning_rate": 1e-3, "prompt_epochs": 2, "image_epochs": 3}
    callback = StoppingPredictor(4)  # the second epoch of the tower's three
    classifier = make_classifier(**settings).set_callbacks(callback).fit(*shades)
    assert [record["stage"] for record in classifier.history_] == ["prompts"] * 2 + ["image_tower"] * 2
    np.testing.assert_allclose(classifier.predict_proba(shades[0]), callback.told[-1][0], atol=1e-6)
    assert np.abs(callback.told[-1][0] - callback.told[1][0]).max() > 1e-3
    monkeypatch.setattr(trainer, "select_epochs", lambda *_, **__: EpochSelection(3, 1.0, 1.0))
    whole = make_classifier(**settings).set_callbacks(StoppingPredictor(4)).fit(*shades)
    assert np.abs(whole.transform(shades[0]) - classifier.transform(shades[0])).max() > 1e-3
