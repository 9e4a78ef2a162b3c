"""Injects faults into an embedding cache and counts what comes of them.

What is promised: no row that differs from what was written, no exception, no hang, and one warning where the cache
cannot be used. ``python tools/fault_cache.py --count 3000 --seconds 20`` prints a table; it exits with 1 where the
promise was broken. It needs fork; mounting and changing the user need root, and are left out without it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

try:
    import resource
except ImportError:  # Windows
    resource = None

import numpy as np
import torch
from PIL import Image

from skl2rclip._embedding import sqlite
from skl2rclip._embedding import store as embedding_store
from skl2rclip._embedding.cache import EmbeddingCache, forget_embeddings
from skl2rclip._embedding.embedder import check_headers, embed_images
from skl2rclip._embedding.encoding import ImageEncoding
from skl2rclip._images.files import stamped
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip.embedding_store import EmbeddingStore

FILE = embedding_store._FILE
WIDTH = 64
N_ROWS = 200
SQUARE = Preprocessing(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
HANG_SECONDS = 120.0


@dataclass
class Outcome:
    """What came of one kind of fault."""

    fault: str
    times: int = 0
    wrong: int = 0
    exceptions: int = 0
    hangs: int = 0
    warnings: int = 0
    slowest: float = 0.0
    is_kept: bool = True
    notes: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        for name in ("times", "wrong", "exceptions", "hangs", "warnings"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest = max(self.slowest, other.slowest)
        self.is_kept &= other.is_kept
        self.notes += other.notes

    @property
    def is_good(self) -> bool:
        return self.is_kept and not (self.wrong or self.exceptions or self.hangs)


# ------------------------------------------------------------- what is written


def key_of(number: int) -> bytes:
    return embedding_store.digest_of(b"key %d" % number)


def row_of(key: bytes) -> np.ndarray:
    """Return the one row that may ever be found under a key."""
    row = np.random.default_rng(int.from_bytes(key, "little")).normal(size=WIDTH).astype(np.float32)
    return row / np.linalg.norm(row)


def rows(start: int, stop: int) -> dict[bytes, np.ndarray]:
    return {key: row_of(key) for key in map(key_of, range(start, stop))}


def files(n: int) -> list[tuple[str, str, bytes]]:
    return [(f"/images/{i}.png", f"{i}:1", key_of(-i - 1)) for i in range(n)]


def n_wrong(found: dict[bytes, np.ndarray], asked: dict[bytes, np.ndarray]) -> int:
    return sum(key not in asked or not np.array_equal(row, asked[key]) for key, row in found.items())


def use(store: EmbeddingStore, known: dict[bytes, np.ndarray]) -> int:
    """Do with a store what estimators do, and return the number of wrong answers."""
    paths = {path: (stamp, digest) for path, stamp, digest in files(N_ROWS)}
    wrong = n_wrong(store.lookup(list(known), WIDTH), known)
    digests = store.digests_of({path: stamp for path, (stamp, _) in paths.items()})
    wrong += sum(path not in paths or digest != paths[path][1] for path, digest in digests.items())
    with store.owner() as owner:
        claimed = store.claim(list(known), owner, WIDTH)
        wrong += not set(claimed) <= set(known)
        store.put({key: known[key] for key in claimed[:20]})
        store.remember_files(files(20))
    wrong += n_wrong(store.lookup(list(known), WIDTH), known)
    wrong += len(store) < 0 or store.size_in_bytes < 0
    return wrong


# ---------------------------------------------------------- damage to the file


def flip_bits(content: bytearray, rng: np.random.Generator) -> None:
    for place in rng.integers(len(content), size=int(rng.choice([1, 10, 200]))):
        content[place] ^= 1 << int(rng.integers(8))


def flip_header(content: bytearray, rng: np.random.Generator) -> None:
    content[int(rng.integers(100))] = int(rng.integers(256))


def truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(len(content))) :]


def overwrite_pages(content: bytearray, rng: np.random.Generator) -> None:
    for page in rng.integers(len(content) // 4096, size=int(rng.choice([1, 3]))):
        content[page * 4096 : (page + 1) * 4096] = rng.bytes(4096) if rng.integers(2) else bytes(4096)


def exchange_pages(content: bytearray, rng: np.random.Generator) -> None:
    a, b = (slice(4096 * page, 4096 * (page + 1)) for page in rng.integers(len(content) // 4096, size=2))
    content[a], content[b] = content[b], content[a]


def damage_cells(content: bytearray, rng: np.random.Generator) -> None:
    """Change the first bytes of pages, where SQLite keeps counts and places of cells."""
    for page in rng.integers(1, len(content) // 4096, size=3):
        content[page * 4096 + int(rng.integers(64))] = int(rng.integers(256))


DAMAGES = (flip_bits, flip_header, truncate, overwrite_pages, exchange_pages, damage_cells)


def written(folder: Path) -> Path:
    """Make a cache with rows, files and claims, and return its file."""
    store = EmbeddingStore(folder, max_size="1 GB")
    store.put(rows(0, N_ROWS))
    store.remember_files(files(N_ROWS))
    store.claim([key_of(N_ROWS + i) for i in range(50)], "0" * 32)
    return folder / FILE


def attempt(outcome: Outcome, folder: Path, known: dict[bytes, np.ndarray]) -> None:
    """Use a damaged cache, and count what happens."""
    sqlite._complained.clear()
    since = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outcome.wrong += use(EmbeddingStore(folder), known)
            outcome.wrong += use(EmbeddingStore(folder), known)
        except Exception as error:
            outcome.exceptions += 1
            outcome.notes.append(repr(error))
    outcome.times += 1
    outcome.warnings += len(caught)
    outcome.is_kept &= len(caught) <= 1
    outcome.slowest = max(outcome.slowest, time.monotonic() - since)


def damaged_files(root: Path, count: int, seed: int) -> Iterator[Outcome]:
    """Damage the database as it is stored, in every way `count` times."""
    content = written(root / "sound").read_bytes()
    known = rows(0, N_ROWS + 50)
    for damage in DAMAGES:
        outcome, rng = Outcome(f"file: {damage.__name__}"), np.random.default_rng(seed)
        for number in range(count):
            folder = root / f"damaged-{number}"
            folder.mkdir()
            changed = bytearray(content)
            damage(changed, rng)
            (folder / FILE).write_bytes(changed)
            attempt(outcome, folder, known)
            shutil.rmtree(folder)
        yield outcome


# ------------------------------------------------------------- values by SQL

VALUES = (
    "NULL", "0", "-1", "9223372036854775807", "-9223372036854775808", "1e308", "9e999", "'text'", "''",
    "CAST(x'ff00fe' AS TEXT)", "x''", "x'00'", "zeroblob(16)", "zeroblob(256)", "zeroblob(40000000)",
    "CAST(zeroblob(64) AS TEXT)", "randomblob(32)",
)  # fmt: skip
COLUMNS = {
    "embeddings": ("key", "row", "checksum", "day"),
    "files": ("path", "stamp", "digest", "checksum", "day"),
    "claims": ("key", "owner"),
    "settings": ("name", "value"),
}


def edited_rows(root: Path, count: int) -> Iterator[Outcome]:
    """Write odd values into every column, and move values to other rows; `count` edits of each table at most."""
    original = written(root / "edited-original")
    known = rows(0, N_ROWS + 50)
    for table, columns in COLUMNS.items():
        outcome, statements = Outcome(f"rows: {table}"), statements_of(table, columns)
        for statement in statements[:: max(1, -(-len(statements) // count))]:
            edit(outcome, root, original, statement, known)
        yield outcome


def statements_of(table: str, columns: tuple[str, ...]) -> list[str]:
    statements = [f"DROP TABLE {table}", f"ALTER TABLE {table} ADD COLUMN more"]
    for column in columns:
        statements += [f"UPDATE OR REPLACE {table} SET {column} = {value} WHERE rowid < 4" for value in VALUES]
        if table != "settings":
            moved = f"SELECT other.{column} FROM {table} other WHERE other.rowid = {table}.rowid + 1"
            statements += [f"UPDATE OR IGNORE {table} SET {column} = ({moved})"]
            statements += [
                f"UPDATE OR REPLACE {table} SET {column} = {value} WHERE rowid % 7 {which} 0"
                for value in VALUES[:14]
                for which in ("=", "<>")
            ]
    return statements


def edit(outcome: Outcome, root: Path, original: Path, statement: str, known: dict[bytes, np.ndarray]) -> None:
    folder = root / "edited"
    folder.mkdir()
    shutil.copy(original, folder / FILE)
    with contextlib.closing(sqlite3.connect(folder / FILE)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(statement)
    attempt(outcome, folder, known)
    shutil.rmtree(folder)


def odd_embeddings(root: Path) -> Iterator[Outcome]:
    """Write rows whose checksum is right, and that are no embeddings of this tower."""
    outcome = Outcome("rows: sound, of no such tower")
    store = EmbeddingStore(root / "odd")
    good = row_of(key_of(0))
    for odd in (good[:-1], np.append(good, 0), good * np.nan, good * np.inf, good * 2, good * 0, good[:0]):
        store.put({key_of(0): odd})
        outcome.times += 1
        outcome.wrong += len(store.lookup([key_of(0)], WIDTH))
        outcome.wrong += store.claim([key_of(0)], "0" * 32, WIDTH) != [key_of(0)]
    yield outcome


# ------------------------------------------------------------- other processes


def in_child(function: Callable[[], Outcome], fault: str, timeout: float = HANG_SECONDS) -> Outcome:
    """Call `function` in a forked child, which is killed where it hangs."""
    return in_children([function], fault, timeout)[0]


def in_children(functions: list[Callable[[], Outcome]], fault: str, timeout: float = HANG_SECONDS) -> list[Outcome]:
    context = multiprocessing.get_context("fork")
    started = []
    for function in functions:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(function, fault, sender), daemon=True)
        process.start()
        sender.close()
        started.append((process, receiver))
    deadline = time.monotonic() + timeout
    return [_received(process, receiver, fault, deadline) for process, receiver in started]


def _send(function: Callable[[], Outcome], fault: str, sender: object) -> None:
    try:
        outcome = function()
    except Exception as error:
        outcome = Outcome(fault, exceptions=1, notes=[repr(error)])
    sender.send(outcome)


def _received(process: multiprocessing.Process, receiver: object, fault: str, deadline: float) -> Outcome:
    try:
        if receiver.poll(max(0.0, deadline - time.monotonic())):
            return receiver.recv()
        return Outcome(fault, times=1, hangs=1)
    except EOFError:
        return Outcome(fault, times=1, exceptions=1, notes=["the process died"])
    finally:
        process.join(2)
        process.kill()
        process.join()


def readers_and_writers(root: Path, seconds: float) -> Iterator[Outcome]:
    """Let eight processes read and two write, where the bound makes them drop rows as well."""
    folder = root / "shared"
    EmbeddingStore(folder, max_size="400 KB")
    known = rows(0, 1500)
    keys = list(known)

    def work(seed: int, is_writer: bool) -> Outcome:
        rng, outcome = np.random.default_rng(seed), Outcome("eight readers, two writers")
        deadline = time.monotonic() + seconds
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            while time.monotonic() < deadline:
                store, since = EmbeddingStore(folder), time.monotonic()
                some = [keys[i] for i in rng.integers(len(keys), size=64)]
                outcome.wrong += n_wrong(store.lookup(some, WIDTH), known)
                if is_writer:
                    with store.owner() as owner:
                        store.put({key: known[key] for key in store.claim(some, owner, WIDTH)})
                outcome.times += 1
                outcome.slowest = max(outcome.slowest, time.monotonic() - since)
        outcome.warnings = len(caught)
        outcome.notes += [str(each.message) for each in caught]
        outcome.is_kept = not caught and outcome.times > 0
        return outcome

    total = Outcome("eight readers, two writers")
    parts = [lambda seed=seed: work(seed, seed < 2) for seed in range(10)]
    for part in in_children(parts, total.fault, seconds + HANG_SECONDS):
        total.add(part)
    yield total


def killed_writers(root: Path, count: int) -> Iterator[Outcome]:
    """Kill processes in the middle of their writes, and look what they leave."""
    outcome, folder, rng = Outcome("writer killed"), root / "killed", np.random.default_rng(0)
    known = rows(0, 2000)
    keys = list(known)
    EmbeddingStore(folder, max_size="400 KB")

    def write() -> Outcome:
        store = EmbeddingStore(folder)
        with store.owner() as owner:
            for start in itertools.cycle(range(0, 2000, 50)):
                claimed = store.claim(keys[start : start + 50], owner, WIDTH)
                store.put({key: known[key] for key in claimed})
        return outcome

    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # of forks beside threads
        for _ in range(count):
            process = context.Process(target=write, daemon=True)
            process.start()
            time.sleep(float(rng.uniform(0.01, 0.08)))
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            since = time.monotonic()
            store = EmbeddingStore(folder)
            outcome.wrong += n_wrong(store.lookup(keys, WIDTH), known)
            with store.owner() as owner:
                there = set(store.lookup(keys, WIDTH))
                # the claims of the dead are free
                outcome.is_kept &= set(store.claim(keys, owner, WIDTH)) == set(keys) - there
            outcome.times += 1
            outcome.slowest = max(outcome.slowest, time.monotonic() - since)
    outcome.warnings = len(caught)
    outcome.is_kept &= not caught
    outcome.notes += [str(each.message) for each in caught]
    yield outcome


def forked_children(root: Path, count: int) -> Iterator[Outcome]:
    """Fork while other threads are in the middle of everything."""
    outcome, folder = Outcome("forked while threads work"), root / "forked"
    known, is_over = rows(0, 500), threading.Event()
    keys = list(known)

    def work() -> None:
        rng = np.random.default_rng(threading.get_ident())
        while not is_over.is_set():
            with EmbeddingCache("fault", SQUARE, "float32", folder=folder, width=WIDTH) as cache:
                some = [keys[i] for i in rng.integers(len(keys), size=32)]
                _, claimed = cache.take(some)
                cache.put({key: known[key] for key in claimed})
            forget_embeddings()

    def child() -> Outcome:
        done, since = Outcome(outcome.fault, times=1), time.monotonic()
        with EmbeddingCache("fault", SQUARE, "float32", folder=folder, width=WIDTH) as cache:
            found, claimed = cache.take(keys)
            done.wrong += n_wrong(found, known)
            cache.put({key: known[key] for key in claimed})
        done.slowest = time.monotonic() - since
        return done

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # that one had better not fork so
        for _ in range(count):
            outcome.add(in_child(child, outcome.fault, 30.0))
        is_over.set()
        for thread in threads:
            thread.join(HANG_SECONDS)
    outcome.warnings = len(caught)
    outcome.is_kept &= not caught
    yield outcome


# --------------------------------------------------------- what disks do


def images(folder: Path, n: int = 12) -> list[str]:
    rng = np.random.default_rng(0)
    folder.mkdir()
    paths = [str(folder / f"{i:02d}.png") for i in range(n)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
        os.utime(path, (0, 0))  # long ago, so that the stamp is trusted
    return paths


def embed(paths: list[str], folder: Path | None) -> np.ndarray:
    """Embed images as an estimator does, by a tower that needs no weights."""
    matrix = torch.from_numpy(np.random.default_rng(1).normal(size=(192, WIDTH)).astype(np.float32))
    encoding = ImageEncoding(
        lambda pixels: pixels.flatten(1) @ matrix, SQUARE, WIDTH, torch.device("cpu"), "float32", 64
    )
    images = stamped(paths)
    check_headers(images, folder, 1)
    cache = EmbeddingCache("fault", SQUARE, "float32", folder=folder, width=WIDTH)
    return embed_images(images, encoding, cache, 1)


@contextlib.contextmanager
def file_in_its_place(root: Path) -> Iterator[Path]:
    (root / "cache").write_text("in the way")
    yield root / "cache"


@contextlib.contextmanager
def file_above_it(root: Path) -> Iterator[Path]:
    (root / "above").write_text("in the way")
    yield root / "above" / "cache"


@contextlib.contextmanager
def folder_of_its_name(root: Path) -> Iterator[Path]:
    (root / "cache" / FILE).mkdir(parents=True)
    yield root / "cache"


@contextlib.contextmanager
def not_a_database(root: Path) -> Iterator[Path]:
    (root / "cache").mkdir()
    (root / "cache" / FILE).write_bytes(b"not a database" * 100)
    yield root / "cache"


@contextlib.contextmanager
def unchanged(folder: Path) -> Iterator[Path]:
    """Make sure that a file of others stays as it was, byte for byte."""
    before = (folder / FILE).read_bytes()
    yield folder
    if (folder / FILE).read_bytes() != before:
        raise AssertionError("a file of others was changed")


@contextlib.contextmanager
def database_of_others(root: Path, *statements: str) -> Iterator[Path]:
    (root / "cache").mkdir()
    with contextlib.closing(sqlite3.connect(root / "cache" / FILE)) as db, db:
        for statement in statements or ("CREATE TABLE embeddings (theirs)",):
            db.execute(statement)
    with unchanged(root / "cache") as folder:
        yield folder


def another_version(root: Path) -> contextlib.AbstractContextManager[Path]:
    written(root / "theirs")
    content = (root / "theirs" / FILE).read_bytes()
    with contextlib.closing(sqlite3.connect(root / "theirs" / FILE)) as db, db:
        db.execute("PRAGMA user_version = 99")
    assert content != (root / "theirs" / FILE).read_bytes()
    return unchanged(root / "theirs")


def earlier_form(root: Path) -> contextlib.AbstractContextManager[Path]:
    return database_of_others(
        root, "CREATE TABLE embeddings (key BLOB PRIMARY KEY, row BLOB, digest BLOB, day INTEGER)"
    )


@contextlib.contextmanager
def held_lock(root: Path, kind: str) -> Iterator[Path]:
    """Let another process hold the database's lock, for ever as it seems."""
    written(root / "cache")
    code = (
        "import sqlite3, sys, time; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('BEGIN ' + sys.argv[2]); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, root / "cache" / FILE, kind], stdout=subprocess.PIPE, text=True
    )
    try:
        holder.stdout.readline()
        with mock.patch.object(sqlite, "_LOCK_SECONDS", 2.0):
            yield root / "cache"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def exclusively_locked(root: Path) -> contextlib.AbstractContextManager[Path]:
    return held_lock(root, "EXCLUSIVE")


def locked_for_writing(root: Path) -> contextlib.AbstractContextManager[Path]:
    return held_lock(root, "IMMEDIATE")


@contextlib.contextmanager
def few_pages(root: Path) -> Iterator[Path]:
    connect = sqlite3.connect

    def small(*arguments: object, **options: object) -> sqlite3.Connection:
        db = connect(*arguments, **options)
        db.execute("PRAGMA max_page_count = 8")
        return db

    with mock.patch.object(sqlite3, "connect", small):
        yield root / "cache"


@contextlib.contextmanager
def no_locks(root: Path) -> Iterator[Path]:
    """Fail as SQLite does where the file system refuses its locks."""

    def fails(*_: object, **__: object) -> sqlite3.Connection:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_LOCK
        raise error

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with mock.patch.object(sqlite3, "connect", fails), mock.patch("fcntl.flock", refuse):
        yield root / "cache"


@contextlib.contextmanager
def bounded_files(root: Path) -> Iterator[Path]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    yield root / "cache"


@contextlib.contextmanager
def mounted(root: Path, options: str, is_written: bool) -> Iterator[Path]:
    place = root / "mounted"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True, capture_output=True)
    try:
        if is_written:
            embed(some_images(root)[:4], place)
            forget_embeddings()
        if options == "full":
            (place / "filler").write_bytes(bytes(4096))
            with contextlib.suppress(OSError), open(place / "filler", "ab", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        else:
            subprocess.run(["mount", "-o", f"remount,{options}", place], check=True, capture_output=True)
        yield place
    finally:
        subprocess.run(["umount", place], check=False, capture_output=True)


def full_disk(root: Path) -> contextlib.AbstractContextManager[Path]:
    return mounted(root, "full", is_written=False)


def disk_that_became_full(root: Path) -> contextlib.AbstractContextManager[Path]:
    return mounted(root, "full", is_written=True)


def read_only_disk(root: Path) -> contextlib.AbstractContextManager[Path]:
    return mounted(root, "ro", is_written=True)


def empty_read_only_disk(root: Path) -> contextlib.AbstractContextManager[Path]:
    return mounted(root, "ro", is_written=False)


@contextlib.contextmanager
def as_nobody(root: Path, mode: int, file_mode: int) -> Iterator[Path]:
    """Go on as a user who may not write, where the first images are known already."""
    embed(some_images(root)[:4], root / "cache")
    forget_embeddings()
    (root / "cache" / FILE).chmod(file_mode)
    (root / "cache").chmod(mode)
    os.setuid(65534)
    yield root / "cache"


def read_only_folder(root: Path) -> contextlib.AbstractContextManager[Path]:
    return as_nobody(root, 0o555, 0o444)


def read_only_folder_of_a_writable_file(root: Path) -> contextlib.AbstractContextManager[Path]:
    return as_nobody(root, 0o555, 0o666)


def closed_folder(root: Path) -> contextlib.AbstractContextManager[Path]:
    return as_nobody(root, 0o000, 0o600)


def closed_file(root: Path) -> contextlib.AbstractContextManager[Path]:
    return as_nobody(root, 0o777, 0o000)


FAULTS = (
    file_in_its_place, file_above_it, folder_of_its_name, not_a_database, database_of_others, earlier_form,
    another_version, exclusively_locked, locked_for_writing, few_pages, no_locks, bounded_files,
)  # fmt: skip
FAULTS_OF_ROOT = (
    full_disk, disk_that_became_full, read_only_disk, empty_read_only_disk, read_only_folder,
    read_only_folder_of_a_writable_file, closed_folder, closed_file,
)  # fmt: skip
# where the embeddings of the first four images are there, and have to be read
READABLE = {disk_that_became_full, read_only_disk, read_only_folder, read_only_folder_of_a_writable_file}


def some_images(root: Path) -> list[str]:
    return sorted(str(path) for path in (root.parent / "images").glob("*.png"))


def can_mount(root: Path) -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    try:
        with mounted(root, "ro", is_written=False):
            return True
    except subprocess.CalledProcessError:
        return False


def broken_disks(root: Path) -> Iterator[Outcome]:
    """Embed images with a cache that cannot be used: three times in a process, of which one warns once."""
    (root / "disks").mkdir(mode=0o755)
    paths = images(root / "disks" / "images")
    expected = embed(paths, None)
    (root / "disks" / "try").mkdir()
    faults = [*FAULTS, *(FAULTS_OF_ROOT if can_mount(root / "disks" / "try") else ())]
    for number, fault in enumerate(faults):
        place = root / "disks" / str(number)
        place.mkdir(mode=0o755)
        yield in_child(lambda fault=fault, place=place: broken_disk(fault, place, paths, expected), fault.__name__)


def broken_disk(
    fault: Callable[[Path], contextlib.AbstractContextManager[Path]],
    place: Path,
    paths: list[str],
    expected: np.ndarray,
) -> Outcome:
    outcome = Outcome(f"disk: {fault.__name__}")
    torch.set_num_threads(1)
    sqlite._complained.clear()
    forget_embeddings()
    with fault(place) as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if fault in READABLE:
            keys = EmbeddingCache("fault", SQUARE, "float32", folder=folder, width=WIDTH).known_keys(stamped(paths))
            outcome.is_kept &= len(keys) == len(EmbeddingStore(folder).lookup(list(keys.values()), WIDTH)) == 4
        for _ in range(3):
            forget_embeddings()
            since = time.monotonic()
            outcome.wrong += int((~np.isclose(embed(paths, folder), expected, atol=1e-6).all(1)).sum())
            outcome.slowest = max(outcome.slowest, time.monotonic() - since)
            outcome.times += 1
    told = [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
    outcome.warnings = len(told)
    outcome.is_kept &= len(told) == 1 and str(folder) in told[0]
    outcome.notes += told
    return outcome


# ------------------------------------------------------------------------ all


def inject(root: Path, count: int, seconds: float, seed: int = 0) -> Iterator[Outcome]:
    """Inject every fault, and say one by one what came of it."""
    yield from broken_disks(root)
    yield from damaged_files(root, max(1, count // len(DAMAGES)), seed)
    yield from edited_rows(root, max(20, count // 3))
    yield from odd_embeddings(root)
    yield from killed_writers(root, max(3, count // 50))
    yield from readers_and_writers(root, seconds)
    yield from forked_children(root, max(3, count // 50))


def quick_folder() -> str | None:
    """Return a folder in memory, where there is one: SQLite waits for disks at every write."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000, help="how often the database's file is damaged")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long ten processes use one cache")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--messages", action="store_true", help="print what was warned of")
    parser.add_argument("--folder", default=quick_folder(), help="where the caches are made")
    options = parser.parse_args()
    is_good = True
    print(f"{'fault':<46}{'times':>7}{'wrong':>7}{'raised':>8}{'hangs':>7}{'warned':>8}{'slowest':>10}")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        os.chmod(name, 0o755)
        for outcome in inject(Path(name), options.count, options.seconds, options.seed):
            is_good &= outcome.is_good
            print(
                f"{outcome.fault:<46}{outcome.times:>7}{outcome.wrong:>7}{outcome.exceptions:>8}{outcome.hangs:>7}"
                f"{outcome.warnings:>8}{outcome.slowest:>9.2f}s{'' if outcome.is_good else '  BROKEN'}",
                flush=True,
            )
            if options.messages or not outcome.is_good:
                print(*(f"    {note}" for note in outcome.notes[:5]), sep="\n")
    return not is_good


if __name__ == "__main__":
    sys.exit(main())
