"""Ask the server of ``examples/serve.py`` as many clients do, well-behaved and others, and print what it costs.

First come images alone, from one client and from several at a time, beside what passing as many through the bare
module and through `predict_proba` takes. Then comes a long run of requests whose every fifth is damaged, huge, no
image, too much, or ended by a client that hangs up, and the server's memory in the meantime. At the end the server
is told to stop with requests in flight. Everything stays on this machine (127.0.0.1), and it ends by itself; it needs
``skl2rclip[serve]`` and Linux:

    python tools/load_server.py --n-requests 20000
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import io
import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from skl2rclip import L2RCLIPClassifier, input_pixels
from skl2rclip._embedding.cache import forget_embeddings

HOST, BOUNDARY = "127.0.0.1", "a-boundary-of-parts"
SERVER = Path(__file__).parents[1] / "examples" / "serve.py"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


# ------------------------------------------------------------------ requests


def form(*contents, name="images"):
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{n}.jpg"\r\n\r\n'.encode() + content
        for n, content in enumerate(contents)
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def made_photos(n, rng):
    photos = []
    for _ in range(n):
        small, file = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), io.BytesIO()
        Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        photos.append(file.getvalue())
    return photos


def huge_png(side):
    """Make the header of a PNG file, and of its pixels none."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    end = b"IDAT" + zlib.compress(bytes(100))
    chunks = [struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in (chunk, end)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bad_requests(photo):
    """Bodies by kind, with the status that each is to have; None where the client does not wait for it."""
    whole = form(photo)
    return {
        "damaged": (form(photo[:300] + bytes(200) + photo[500:-900]), 422),
        "no image": (form(b"%PDF-1.7 and so on"), 422),
        "empty file": (form(b""), 422),
        "8,000 x 8,000 pixels": (form(huge_png(8_000)), 422),
        "30,000 x 30,000 pixels": (form(huge_png(30_000)), 422),
        "one of three no image": (form(photo, b"words", photo), 422),
        "another field": (form(photo, name="others"), 422),
        "seventeen images": (form(*[photo] * 17), 400),
        "a form that breaks off": (whole[: len(whole) // 2], None),  # FastAPI may see a file in it or none
        "25 MB": (form(bytes(25_000_000)), 413),
        "hangs up in the upload": (whole, None),
        "hangs up before the answer": (whole, None),
    }


class Client:
    """One connection, which is made anew where the server or this client has ended it."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def post(self, body):
        for last in (False, True):
            if self.connection is None:
                self.connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
            try:
                self.connection.request("POST", "/predict", body, HEADERS)
                answer = self.connection.getresponse()
                answer.read()
                return answer.status
            except (http.client.HTTPException, ConnectionError):
                self.close()
                if last:
                    raise
        return None

    def post_too_much(self, body):
        """Send as much as the server takes, and read its answer."""
        with socket.create_connection((HOST, self.port), timeout=60) as connection:
            connection.sendall(self._head(body))
            with contextlib.suppress(ConnectionError):
                connection.sendall(body[:100_000])
            return int(connection.makefile("rb").readline().split()[1])

    def hang_up(self, body, share, reset):
        with socket.create_connection((HOST, self.port), timeout=60) as connection:
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(self._head(body) + body[: int(share * len(body))])

    def _head(self, body):
        lines = ["POST /predict HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, f"Content-Type: {HEADERS['Content-Type']}", "", ""]).encode()

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def with_clients(port, n_clients, jobs, do):
    """Let clients take jobs, an iterator, until there are none."""
    lock = threading.Lock()

    def work(_):
        client = Client(port)
        while True:
            with lock:
                job = next(jobs, None)
            if job is None:
                client.close()
                return
            do(client, job)

    with ThreadPoolExecutor(n_clients) as pool:
        list(pool.map(work, range(n_clients)))


# -------------------------------------------------------------- measurements


def milliseconds(taken, share):
    return f"{1000 * np.quantile(taken, share):.0f}"


def timed(call, inputs):
    taken = []
    for each in inputs:
        since = time.perf_counter()
        call(each)
        taken.append(time.perf_counter() - since)
    return taken[len(taken) // 10 :]  # the first ones warm up


def print_latencies(port, clf, photos, levels, n_requests):
    module = clf.to_torch()
    print("| clients, or images in a batch | service: p50, p99 ms | images/s | module: p50, p99 ms "
          "| `predict_proba`: p50, p99 ms |\n|---|---|---|---|---|", flush=True)  # fmt: skip
    for n in levels:
        taken, statuses = [], collections.Counter()

        def ask(client, photo, taken=taken, statuses=statuses):
            since = time.perf_counter()
            statuses[client.post(form(photo))] += 1
            taken.append(time.perf_counter() - since)

        since = time.perf_counter()
        with_clients(port, n, itertools.islice(itertools.cycle(photos), n_requests), ask)
        rate = n_requests / (time.perf_counter() - since)
        if set(statuses) != {200}:
            print(f"{n} clients: {dict(statuses)}")
        batches = [photos[start : start + n] for start in range(0, len(photos) - n + 1, max(1, n // 4))][:40]
        pixels = [torch.from_numpy(input_pixels(batch, module)) for batch in batches]
        with torch.inference_mode():
            of_module = timed(module, pixels)
        forget_embeddings()
        of_classifier = timed(lambda batch: (clf.predict_proba(batch), forget_embeddings()), batches)
        cells = [f"{milliseconds(each, 0.5)}, {milliseconds(each, 0.99)}" for each in (taken, of_module, of_classifier)]
        print("|", " | ".join([str(n), cells[0], f"{rate:.0f}", *cells[1:]]), "|", flush=True)


def state_of(process):
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    found = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if ":" in line and line.split()[1:]}
    n_open = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    return f"{int(found['VmRSS']) / 1024:.0f} | {found['Threads']} | {n_open}"


def print_memory(process, port, photos, n_clients, n_requests, seconds):
    until, done, outcomes = time.monotonic() + seconds, itertools.count(1), collections.Counter()
    bad = bad_requests(photos[0])
    goods, bads = itertools.cycle(form(photo) for photo in photos), itertools.cycle(bad.items())

    def jobs():
        for n in range(n_requests):
            if time.monotonic() > until:
                print(f"(ended after {seconds} s)")
                return
            yield next(bads) if n % 5 == 4 else ("images", (next(goods), 200))

    def ask(client, job):
        kind, (body, expected) = job
        if kind.startswith("hangs up"):
            client.hang_up(body, 0.5 if "upload" in kind else 1, reset=next(bads_reset))
            status = None
        else:
            status = client.post_too_much(body) if kind == "25 MB" else client.post(body)
        outcomes[kind, expected, status] += 1
        if (n := next(done)) % (n_requests // 8) == 0:
            print(f"| {n} | {state_of(process)} |", flush=True)

    bads_reset = itertools.cycle([True, False])
    print(f"\n| requests of {n_clients} clients | MB | threads | open files |\n|---|---|---|---|")
    print(f"| 0 | {state_of(process)} |", flush=True)
    with_clients(port, n_clients, jobs(), ask)
    print("\n| kind | expected | answers |\n|---|---|---|")
    for kind, expected in dict.fromkeys((kind, expected) for kind, expected, _ in outcomes):
        found = [f"{n} x {status}" for (other, _, status), n in outcomes.items() if other == kind]
        print(f"| {kind} | {expected or 'any'} | {', '.join(found)} |")


def print_overload(process, port, photos, n_clients=64):
    """Let every client send as many images as a request may have, which is more than may wait."""
    statuses, body = collections.Counter(), form(*photos[:16])

    def ask(client, _):
        statuses[client.post(body)] += 1

    with_clients(port, n_clients, iter(range(4 * n_clients)), ask)
    counted = ", ".join(f"{n} x {status}" for status, n in statuses.items())
    print(f"\n{4 * n_clients} requests of 16 images by {n_clients} clients: {counted}; {state_of(process)}", flush=True)


def print_end(process, port, photos):
    statuses = []
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(Client(port).post, form(*photos[:8])) for _ in range(8)]
        time.sleep(0.1)
        since = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        for each in asked:
            try:
                statuses.append(each.result())
            except OSError as error:  # it came after the end
                statuses.append(type(error).__name__)
    code = process.wait(60)
    counted = ", ".join(f"{n} x {status}" for status, n in collections.Counter(statuses).items())
    print(f"\nSIGTERM with 8 requests of 8 images in flight: {counted}; ended with {code} in "
          f"{time.perf_counter() - since:.1f} s")  # fmt: skip


# ----------------------------------------------------------------------- run


@contextlib.contextmanager
def served(folder):
    """Start the server at a port that is free, and find it in what the server says."""
    file = folder.parent / "server.log"
    with open(file, "w", encoding="utf-8") as log:
        process = subprocess.Popen([sys.executable, SERVER, folder, "--port", "0"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 300
        while not (found := re.search(rf"running on http://{HOST}:(\d+)", file.read_text())):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"The server has not started: {file.read_text()}")
            time.sleep(0.2)
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()
        print(f"Tracebacks in the server's log: {file.read_text().count('Traceback')}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-name", default="skl2rclip-tiny", help="backbone, zero-shot: no fit is needed for this")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--n-timed", type=int, default=600, help="requests that are timed, for each number of clients")
    parser.add_argument("--n-requests", type=int, default=20_000, help="good and bad ones together")
    parser.add_argument("--seconds", type=int, default=1800, help="after which the long run ends in any case")
    options = parser.parse_args()

    photos = made_photos(256, np.random.default_rng(0))
    clf = L2RCLIPClassifier(options.model_name, ranks=range(5), prompt="a photo with blur level", device="cpu")
    clf.fit_zero_shot()
    print(f"{options.model_name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, torch's threads "
          f"{torch.get_num_threads()}\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        clf.save(folder)
        with served(folder) as (process, port):
            print_latencies(port, clf, photos, options.clients, options.n_timed)
            print_memory(process, port, photos, 16, options.n_requests, options.seconds)
            print_overload(process, port, photos)
            print_end(process, port, photos)


if __name__ == "__main__":
    main()
