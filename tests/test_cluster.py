"""Searches and predictions beyond one process: joblib's processes, and a local cluster of dask.distributed."""

import os
import signal
import threading

import joblib
import numpy as np
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline

from skl2rclip import CLIPImageEncoder, L2RCLIPClassifier
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip.embedding_store import EmbeddingStore
from tests.support.pages import page_block
from tests.support.processes import prepared_context, time_limit

pytestmark = pytest.mark.full_ordering  # workers would not know of fewer steps
distributed = pytest.importorskip("distributed")
GRID = {"n_context_tokens": [3, 4], "pairwise_weight": [0.3, 3.0]}
SMALL_GRID = {"n_context_tokens": [3, 4]}


@pytest.fixture(autouse=True)
def _limited():
    with time_limit(500):
        yield


@pytest.fixture(scope="module")
def client():
    import dask

    method = prepared_context().get_start_method()
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": method}),
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_search_embeds_each_image_once(make_classifier, shade_paths, shades, through_tower):
    GridSearchCV(make_classifier(), SMALL_GRID, cv=2, error_score="raise").fit(shade_paths, shades[1])
    assert sum(through_tower) == len(shade_paths)


def test_a_search_of_two_processes_embeds_each_image_once(
    make_classifier, shade_paths, shades, through_tower, tmp_path
):
    expected = GridSearchCV(make_classifier(), SMALL_GRID, cv=2).fit(shade_paths, shades[1])
    model = make_classifier(embedding_cache=tmp_path / "cache")
    search = GridSearchCV(model, SMALL_GRID, cv=2, n_jobs=2).fit(shade_paths, shades[1])
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    through_tower.clear()
    forget_embeddings()
    make_classifier(embedding_cache=tmp_path / "cache").fit(shade_paths, shades[1]).predict(shade_paths)
    assert not through_tower  # the processes have embedded everything
    assert len(EmbeddingStore(tmp_path / "cache")) == 2 * len(shade_paths)  # embeddings, and with all that is read


def test_grid_search_over_prompt_length_and_loss_weights(make_classifier, shade_paths, shades, tiny):
    X, y = shade_paths, shades[1]
    grid = {"n_context_tokens": ["auto", 4], "pairwise_weight": [0.3, 1.0]}
    search = GridSearchCV(make_classifier(prompt_epochs=2), grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    assert search.cv_results_["mean_test_score"].shape == (4,)
    assert search.best_params_["n_context_tokens"] in ("auto", 4)
    assert search.predict(X).shape == (40,)
    alone = GridSearchCV(make_classifier(prompt_epochs=2), grid, cv=2, error_score="raise").fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    pipeline = make_pipeline(CLIPImageEncoder(tiny), make_classifier(image_tower="precomputed", prompt_epochs=1))
    settings = {"cv": 2, "scoring": "neg_log_loss", "error_score": "raise"}
    in_processes, here = (cross_validate(pipeline, X, y, n_jobs=n, **settings)["test_score"] for n in (2, None))
    np.testing.assert_allclose(in_processes, here, rtol=1e-4)


def test_threads_and_processes_of_joblib(make_classifier, shade_paths, shades):
    X, y = shade_paths, shades[1]
    fitted = make_classifier().fit(X, y)
    expected = fitted.predict_proba(X)
    for backend in ("threading", "loky"):
        parts = joblib.Parallel(2, backend=backend)(
            joblib.delayed(fitted.predict_proba)(part) for part in (X[:20], X[20:])
        )
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-6)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_after_a_kill_a_search_of_processes_goes_on_from_what_is_stored(
    make_classifier, shade_paths, shades, through_tower, tmp_path
):
    calls = tmp_path / "calls"

    def names(rank, calls=str(calls)):  # in the fifth fit the process dies
        with open(calls, "a", encoding="utf-8") as file:
            file.write(".")
        if os.path.getsize(calls) == 23:
            os.kill(os.getpid(), signal.SIGKILL)
        return str(rank)

    model = make_classifier(embedding_cache=tmp_path / "cache", rank_names=names)
    with pytest.raises(TerminatedWorkerError):
        GridSearchCV(model, GRID, cv=3, n_jobs=2).fit(shade_paths, shades[1])
    known = len(EmbeddingStore(tmp_path / "cache")) // 2
    assert known > 0
    search = GridSearchCV(model, GRID, cv=3, n_jobs=None).fit(shade_paths, shades[1])
    assert sum(through_tower) == len(shade_paths) - known
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_search_over_a_cluster_survives_the_kill_of_a_worker(client, make_classifier, shade_paths, shades, tmp_path):
    expected = GridSearchCV(make_classifier(), SMALL_GRID, cv=2).fit(shade_paths, shades[1])
    cache, killed, is_over = tmp_path / "cache", [], threading.Event()

    def kill_one():
        while not cache.exists():
            if is_over.wait(0.05):  # the search has failed before it began to store
                return
        killed.append(next(iter(client.run(os.getpid).values())))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        with joblib.parallel_config(backend="dask"):
            search = GridSearchCV(make_classifier(embedding_cache=cache), SMALL_GRID, cv=2).fit(shade_paths, shades[1])
    finally:
        is_over.set()
    killer.join(60)
    assert killed
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    assert len(EmbeddingStore(cache)) == 2 * len(shade_paths)


def test_prediction_by_chunks_on_a_cluster(client, make_classifier, shade_paths, shades):
    fitted = make_classifier(image_tower="finetune").fit(shade_paths, shades[1])
    chunks = np.array_split(np.array(shade_paths), 5)
    model = client.scatter(fitted, broadcast=True)
    futures = client.map(L2RCLIPClassifier.predict_proba, [model] * len(chunks), chunks)
    distributed.wait(futures, timeout=300)
    parts = client.gather(futures)
    np.testing.assert_allclose(np.concatenate(parts), fitted.predict_proba(shade_paths), atol=1e-6)


def test_the_lines_of_the_page_run(client, make_classifier, shade_paths, shades, monkeypatch):
    monkeypatch.setattr("dask.distributed.Client", lambda address: client)
    names = {"clf": make_classifier(prompt_epochs=0), "grid": {"pairwise_weight": [0.3]}, "GridSearchCV": GridSearchCV}
    names.update(paths=shade_paths, y=shades[1], L2RCLIPClassifier=L2RCLIPClassifier)
    exec(page_block("scaling.md", "Client(").replace("cv=5", "cv=2"), names)
    exec(page_block("scaling.md", "client.scatter").replace("100", "2"), names)
    np.testing.assert_allclose(names["probabilities"], names["search"].predict_proba(shade_paths), atol=1e-5)
