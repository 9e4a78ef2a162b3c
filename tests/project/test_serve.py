"""The example that serves a model, without a network: its own application, asked by FastAPI's test client."""

import asyncio
import io
import signal
import socket
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from skl2rclip import L2RCLIPClassifier

httpx = pytest.importorskip("httpx2")
testclient = pytest.importorskip("fastapi.testclient")
pytest.importorskip("python_multipart")
uvicorn = pytest.importorskip("uvicorn")
serve = pytest.importorskip("serve")

WORDS = ["small", "middling", "large", "huge"]  # in another order than sorted


@pytest.fixture(scope="module")
def clf():
    return L2RCLIPClassifier("skl2rclip-tiny", ranks=WORDS, prompt="a photo of", device="cpu").fit_zero_shot()


@pytest.fixture(scope="module")
def images():
    """Twelve PNG files of several sizes, as bytes."""
    rng = np.random.default_rng(0)
    return [content_of(rng.integers(0, 256, (40 + 7 * n, 90 - 5 * n, 3), dtype=np.uint8)) for n in range(12)]


def content_of(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def sent(contents):
    return [("images", (f"{n}.png", content)) for n, content in enumerate(contents)]


def wait_for(holds, seconds=60):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)


def make_app(clf, *options):
    return serve.make_app(clf, serve.command_line().parse_args(["model", *options]))


@pytest.fixture(scope="module")
def client(clf):
    with testclient.TestClient(make_app(clf, "--max-bytes", "300000", "--max-memory", "2MB")) as client:
        yield client


def test_answers_are_those_of_the_classifier_in_the_order_of_the_files(clf, images, client):
    answers = client.post("/predict", files=sent(images)).json()
    assert [each["name"] for each in answers] == [f"{n}.png" for n in range(12)]
    in_rank_order = clf.predict_proba(images)[:, [list(clf.classes_).index(word) for word in WORDS]]
    np.testing.assert_allclose([each["probabilities"] for each in answers], in_rank_order, atol=1e-5)
    np.testing.assert_allclose([each["expectation"] for each in answers], clf.predict_expectation(images), atol=1e-4)
    assert [each["rank"] for each in answers] == clf.predict(images).tolist()
    assert [each["word"] for each in answers] == clf.predict(images).tolist()
    assert [each["interval"] for each in answers] == clf.predict_interval(images).tolist()


def test_numbers_stay_numbers_and_have_their_words(images):
    ages = L2RCLIPClassifier("skl2rclip-tiny", ranks=[0.5, 2, 30], rank_names=["new", "young", "old"], device="cpu")
    with testclient.TestClient(make_app(ages.fit_zero_shot(), "--coverage", "0.5")) as client:
        answers = client.post("/predict", files=sent(images)).json()
        assert client.get("/model").json()["coverage"] == 0.5
    assert [each["rank"] for each in answers] == ages.predict(images).tolist()
    assert [each["word"] for each in answers] == [ages.rank_names_[rank] for rank in ages.predict(images)]
    assert [each["interval"] for each in answers] == ages.predict_interval(images, coverage=0.5).tolist()


@pytest.mark.parametrize("decision", ["median", "argmax", "mean"])
def test_read_outs_are_those_of_the_library(decision):
    from skl2rclip._ordinal import decisions

    rng, values = np.random.default_rng(0), np.array([-3.0, 0.5, 1.0, 8.0])
    exact = [[0.25] * 4, [0.5, 0.5, 0, 0], [0.15, 0.7, 0.15, 0], [0.3, 0.2, 0.35, 0.15]]
    p = np.concatenate([rng.dirichlet(np.full(4, 0.5), 500), exact])
    expectations, chosen, low, high = serve.read_out(p, values, decision, 0.7)
    np.testing.assert_allclose(expectations, decisions.expected_value(p, values))
    np.testing.assert_array_equal(chosen, decisions.read_out(p, values, decision))
    np.testing.assert_array_equal(np.column_stack([low, high]), decisions.central_interval(p, 0.7))


def test_what_is_no_image_is_refused_by_its_place_with_the_reason(images, client):
    wide = content_of(np.zeros((2000, 2000), np.uint8))
    answer = client.post("/predict", files=sent([b"words", images[0], b"", images[1][:-200], wide]))
    assert answer.status_code == 422
    found = {each["loc"][-1]: each["msg"] for each in answer.json()["detail"]}
    assert found.keys() == {0, 2, 3, 4}
    for place, reason in {0: "not an image", 2: "empty", 3: "truncated", 4: "more than the 2 MB that"}.items():
        assert reason in found[place]
    assert client.post("/predict", files=sent(images[:1])).status_code == 200


def test_what_is_too_much_is_refused(clf, images, client):
    assert client.post("/predict", files=sent([bytes(400_000)])).status_code == 413
    chunks = (bytes(10_000) for _ in range(1000))  # whose number nobody has said
    head = {"Content-Type": "multipart/form-data; boundary=X"}
    assert client.post("/predict", content=chunks, headers=head).status_code == 413
    answer = client.post("/predict", files=sent(images[:1] * 17))
    assert (answer.status_code, answer.json()["detail"]) == (400, "Too many files. Maximum number of files is 16.")
    with testclient.TestClient(make_app(clf, "--max-pending", "2")) as small:
        answer = small.post("/predict", files=sent(images[:3]))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert small.post("/predict", files=sent(images[:2])).status_code == 200
        assert small.post("/predict", files=sent([b"words"] * 2)).status_code == 422
        assert small.post("/predict", files=sent(images[:2])).status_code == 200  # nothing is pending any more


def test_wrong_forms_are_refused(images, client):
    for answer in (
        client.post("/predict", files={"others": images[0]}),
        client.post("/predict", data={"images": "words"}),
        client.post("/predict", json={"images": "words"}),
        client.post("/predict"),
    ):
        assert answer.status_code == 422, answer.text
    assert client.get("/predict").status_code == 405


def test_images_that_come_together_pass_together(clf, images):
    sizes = []

    def answer(batch):
        sizes.append(len(batch))
        return [image.sum() for image in batch]

    async def ask_all():
        batches = serve.Batches(answer, max_batch=4, max_wait_ms=50)
        task = asyncio.create_task(batches.run())
        found = await asyncio.gather(*(batches.ask(np.full((1 + n % 2, 3), n)) for n in range(6)))
        task.cancel()
        return found

    assert asyncio.run(ask_all()) == [[3 * n] * (1 + n % 2) for n in range(6)]
    assert sizes == [4, 4, 1]


def test_a_batch_that_fails_is_told_to_its_own_and_the_next_one_passes():
    def answer(batch):
        if batch[0] == 1:
            raise MemoryError("no more")
        return batch

    async def ask_all():
        batches = serve.Batches(answer, max_batch=2, max_wait_ms=0)
        task = asyncio.create_task(batches.run())
        with pytest.raises(MemoryError, match="no more"):
            await batches.ask([1, 2])
        waiting = asyncio.create_task(batches.ask([3]))
        await asyncio.sleep(0)
        waiting.cancel()  # nobody waits any more
        found = await batches.ask([4, 5])
        task.cancel()
        return found

    assert asyncio.run(ask_all()) == [4, 5]


def test_health_and_description(clf, client):
    assert client.get("/health").json() == {"status": "ready"}
    assert testclient.TestClient(make_app(clf)).get("/health").status_code == 503  # which has not been started
    about = client.get("/model").json()
    assert about["ranks"] == WORDS
    assert about["decision"] == "median"
    page = client.get("/openapi.json").json()
    assert {"200", "413", "422", "503"} <= page["paths"]["/predict"]["post"]["responses"].keys()
    fields = page["components"]["schemas"]["Body_predict_predict_post"]["properties"]
    assert fields["images"]["items"]["format"] == "binary"  # else /docs asks for text and not for files


def test_requests_in_flight_are_answered_before_the_service_ends(clf, images):
    app = make_app(clf, "--max-wait-ms", "400")
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    listener = socket.create_server(("127.0.0.1", 0))
    running = threading.Thread(target=server.run, args=([listener],))
    running.start()

    def ask():
        return httpx.post(f"http://127.0.0.1:{listener.getsockname()[1]}/predict", files=sent(images), timeout=60)

    with ThreadPoolExecutor(2) as clients:
        wait_for(lambda: server.started)
        asked = [clients.submit(ask) for _ in range(2)]
        wait_for(lambda: len(server.server_state.tasks) == 2)
        server.handle_exit(signal.SIGTERM, None)
        running.join(60)
        assert not running.is_alive()
        assert [each.result().status_code for each in asked] == [200, 200]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model", "nowhere"], "nowhere is not a saved model"),
        (["--model", "table"], "model must be what to_torch returned for a model of images"),
        (["--max-memory", "much"], "max_memory must be"),
        (["--coverage", "80"], "coverage must be between 0 and 1, got 80.0"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_sentence(clf, tmp_path, monkeypatch, capsys, options, reason):
    monkeypatch.chdir(tmp_path)
    table = L2RCLIPClassifier("skl2rclip-tiny", image_tower="precomputed", ranks=WORDS, device="cpu")
    {"table": table.fit_zero_shot()}.get(options[1], clf).save("table" if options[1] == "table" else "images")
    model, rest = (options[1], []) if options[0] == "--model" else ("images", options)
    monkeypatch.setattr("sys.argv", ["serve.py", model, *rest])
    with pytest.raises(SystemExit, match="2"):
        serve.main()
    assert reason in capsys.readouterr().err.splitlines()[-1]


def test_warnings_of_what_strangers_send_are_not_kept(clf, tmp_path, monkeypatch):
    clf.save(tmp_path / "images")
    monkeypatch.setattr("sys.argv", ["serve.py", str(tmp_path / "images"), "--port", "8001"])
    ran = []

    def run(app, **how):
        ran.append(how)
        warnings.warn("an image of a size of its own", stacklevel=1)

    monkeypatch.setattr(uvicorn, "run", run)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        serve.main()
    assert caught == []
    assert (ran[0]["host"], ran[0]["port"]) == ("127.0.0.1", 8001)
