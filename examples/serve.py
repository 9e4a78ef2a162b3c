"""A fitted model as a web service
===============================

Images in, their ranks with probabilities out.

What one learns: to decode what strangers send within bounds (`input_pixels`), to let images that come together pass
the tower as one batch of the module that `to_torch` makes, and to turn away what is too much. It serves a folder that
`save` wrote rather than a file of ONNX, because the folder knows how `predict` chooses a rank::

    pip install "skl2rclip[serve]"
    python serve.py grades --port 8000
    curl -F images=@one.jpg -F images=@two.png http://127.0.0.1:8000/predict

``/docs`` is a page to try it on, whose scripts a browser fetches from cdn.jsdelivr.net; ``/openapi.json`` says the same
and needs nothing else. There are no users and no encryption: let other machines reach it through a proxy that has them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, File, HTTPException, UploadFile
from pydantic import BaseModel, Field, WithJsonSchema

from skl2rclip import L2RCLIPClassifier, input_pixels
from skl2rclip.errors import UnreadableImagesError

Rank = str | int | float | bool
# so that /docs offers to choose a file
Upload = Annotated[UploadFile, WithJsonSchema({"type": "string", "format": "binary"})]


class Grade(BaseModel):
    """What the model says of one image."""

    name: str | None = Field(None, description="The file's name, as it was sent.")
    rank: Rank = Field(description="The label that `predict` chooses.")
    word: str = Field(description="The word that stands for it.")
    expectation: float = Field(description="In the unit of numeric labels; of words the position, from 1 on.")
    interval: tuple[Rank, Rank] = Field(description="Its lowest and its highest label.", examples=[["fair", "good"]])
    probabilities: list[float] = Field(description="From the lowest rank to the highest, as in `ranks` of /model.")


class Batches:
    """Images wait here for others, and pass the tower with them."""

    def __init__(self, answer: Callable[[list[np.ndarray]], list[Any]], max_batch: int, max_wait_ms: float):
        self.answer, self.max_batch, self.seconds = answer, max_batch, max_wait_ms / 1000
        self.waiting: asyncio.Queue[tuple[np.ndarray, asyncio.Future]] = asyncio.Queue()

    async def ask(self, images: np.ndarray) -> list[Any]:
        """Return what is said of each image of a request."""
        asked = [(image, asyncio.get_running_loop().create_future()) for image in images]
        for each in asked:
            self.waiting.put_nowait(each)
        return await asyncio.gather(*(future for _, future in asked))

    async def run(self) -> None:
        """Answer one batch after the other."""
        while True:
            batch = [await self.waiting.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.seconds):
                    while len(batch) < self.max_batch:
                        batch.append(await self.waiting.get())
            try:
                answers = await asyncio.to_thread(self.answer, [image for image, _ in batch])
            except Exception as error:  # it is told to those who wait, and the next batch may pass
                answers = [error] * len(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():  # else nobody waits any more
                    (future.set_exception if isinstance(answer, Exception) else future.set_result)(answer)


def read_out(p: np.ndarray, values: np.ndarray, decision: str, coverage: float) -> tuple[np.ndarray, ...]:
    """Return expectations, and the indices of chosen ranks and of intervals, from probabilities in rank order."""
    below, above, tail = p.cumsum(axis=1), p[:, ::-1].cumsum(axis=1), (1 - coverage) / 2 + 1e-12  # exact ones are out
    expectations = values[0] + p @ (values - values[0])
    if decision == "median":
        chosen = (below >= below[:, -1:] / 2 - 1e-9).argmax(axis=1)
    else:
        chosen = (p if decision == "argmax" else -np.abs(expectations[:, None] - values)).argmax(axis=1)
    return expectations, chosen, (below > tail).argmax(axis=1), len(values) - 1 - (above > tail).argmax(axis=1)


def make_app(clf: L2RCLIPClassifier, options: argparse.Namespace) -> FastAPI:
    """Make the service of a fitted classifier of images."""
    if not 0 < options.coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, got {options.coverage}.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = clf.to_torch().to(device)
    about, names = module.description, module.description["rank_names"]
    ranks, values = about["ranks"], np.array(about["values"])
    in_rank_order = [about["classes"].index(rank) for rank in ranks]

    def answer(images: list[np.ndarray]) -> list[Grade]:
        with torch.inference_mode():
            p = module(torch.from_numpy(np.stack(images)).to(device)).double().cpu().numpy()[:, in_rank_order]
        decided = read_out(p, values, clf.decision, options.coverage)
        return [
            Grade(rank=ranks[k], word=names[k], expectation=mean, interval=(ranks[low], ranks[high]), probabilities=row)
            for mean, k, low, high, row in zip(*decided, p.tolist(), strict=True)
        ]

    decode = partial(input_pixels, model=about, n_jobs=1, max_memory=options.max_memory)
    answer(decode([np.zeros((64, 64, 3), np.uint8)]))  # the first pass takes longest
    batches, decoders, state = Batches(answer, options.max_batch, options.max_wait_ms), ThreadPoolExecutor(), {}

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state.update(pending=0, task=asyncio.create_task(batches.run()))
        yield  # until every request has its answer
        state["task"].cancel()
        decoders.shutdown()

    limits = {"max_body_size": options.max_bytes, "form_limits": {"max_files": options.max_files}}
    app = FastAPI(title="skl2rclip", version=about["versions"]["skl2rclip"], lifespan=lifespan, **limits)

    @app.post("/predict", responses={413: {"description": "Too many bytes"}, 503: {"description": "Too busy"}})
    async def predict(images: Annotated[list[Upload], File()]) -> list[Grade]:
        """Grade images. A request with what is no image is refused, with the reason."""
        if state["pending"] + len(images) > options.max_pending:
            raise HTTPException(503, "Too many images wait; try again.", {"Retry-After": "1"})
        state["pending"] += len(images)
        try:  # files are read by the thread that decodes them
            files, loop = [image.file for image in images], asyncio.get_running_loop()
            grades = await batches.ask(await loop.run_in_executor(decoders, decode, files))
        except UnreadableImagesError as error:
            kind, place = "unreadable_image", ("body", "images")
            detail = [{"type": kind, "loc": (*place, i), "msg": reason} for i, reason in error.failures.items()]
            raise HTTPException(422, detail) from error
        finally:
            state["pending"] -= len(images)
        for image, grade in zip(images, grades, strict=True):
            grade.name = image.filename
        return grades

    @app.get("/health", responses={503: {"description": "Not ready"}})
    async def health() -> dict[str, str]:
        """Tell whether images can be graded."""
        if "task" not in state or state["task"].done():
            raise HTTPException(503, "not ready")
        return {"status": "ready"}

    @app.get("/model")
    async def model() -> dict[str, Any]:
        """Tell what is known of the model: labels, words, what an image becomes, versions."""
        return {**about, "decision": clf.decision, "coverage": options.coverage}

    return app


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("model", help="folder that `save` wrote")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at")
    parser.add_argument("--coverage", type=float, default=0.8, help="of intervals")
    parser.add_argument("--max-files", type=int, default=16, help="images of a request")
    parser.add_argument("--max-bytes", type=int, default=20_000_000, help="bytes of a request")
    parser.add_argument("--max-memory", default="500MB", help="of all images that are being decoded")
    parser.add_argument("--max-batch", type=int, default=32, help="images that pass the tower together")
    parser.add_argument("--max-wait-ms", type=float, default=5, help="that an image waits for others")
    parser.add_argument("--max-pending", type=int, default=256, help="images that wait; more are turned away")
    parser.add_argument("--max-connections", type=int, default=512, help="of clients, also of those that are silent")
    return parser


def main() -> None:
    parser = command_line()
    options = parser.parse_args()
    try:
        app = make_app(L2RCLIPClassifier.load(options.model), options)
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))
    warnings.simplefilter("ignore")  # Python keeps each of another text for ever, and strangers choose what they say
    uvicorn.run(
        app, host=options.host, port=options.port, limit_concurrency=options.max_connections,
        timeout_graceful_shutdown=30,
    )  # fmt: skip


if __name__ == "__main__":
    main()
