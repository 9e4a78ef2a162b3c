"""Searches and predictions beyond one process: joblib's processes, and a local cluster of dask.distributed."""

import os
import signal
import threading

import joblib
import numpy as np
import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.model_selection import GridSearchCV

from skl2rclip import L2RCLIPClassifier
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip.embedding_store import EmbeddingStore
from tests.support.processes import time_limit

pytestmark = pytest.mark.full_ordering
distributed = pytest.importorskip("distributed")
GRID = {"n_context_tokens": [3, 4], "pairwise_weight": [0.3, 3.0]}
SMALL_GRID = {"n_context_tokens": [3, 4]}


@pytest.fixture(autouse=True)
def _limited():
    with time_limit(500):
        yield


@pytest.fixture(scope="module")
def client():
    with (
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


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_after_a_kill_a_search_of_processes_goes_on_from_what_is_stored(
    make_classifier, shade_paths, shades, through_tower, tmp_path
):
    calls = tmp_path / "calls"

    def names(rank, calls=str(calls)):  # in the fifth fit the process dies
        with open(calls, "a") as file:
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
