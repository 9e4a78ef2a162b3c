"""Fits that are killed at random times until they end, and folders of checkpoints that were harmed in between.

    python tools/kill_fits.py --kills 100 --pairs 10 --faults

Each fit is a process of its own, which SIGKILL ends at a random time, or a moment after something that it has said in
its log. Then the same call follows. Prints, as tables in Markdown, where kills hit and where the next call went on,
and what came of faults of the folder: the model must be that of a fit that was never killed, to the bit. It runs on
Linux and macOS, and faults of a read-only folder want to be started as root.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV

from skl2rclip import L2RCLIPClassifier
from skl2rclip._clip.backbone import load_backbone
from skl2rclip._clip.source import BackboneSource
from skl2rclip._training import initialization, trainer
from skl2rclip._training.epoch_selection import EpochSelection

COMMON = {
    "model_name": "skl2rclip-tiny",
    "device": "cpu",
    "n_jobs": 1,
    "batch_size": 8,
    "learning_rate": 3e-3,
    "random_state": 0,
}
FINETUNED = {"image_tower": "finetune", "prompt_epochs": 3, "image_epochs": 3, "image_learning_rate": 1e-3}
KINDS: dict[str, dict[str, Any]] = {
    "frozen": {"prompt_epochs": 8},
    "fine-tuned": FINETUNED,
    "early stopping": {**FINETUNED, "early_stopping": True, "n_iter_no_change": 9},
    "no seed": {"prompt_epochs": 8, "random_state": None},
    "search": {"prompt_epochs": 4},
}
LEFT_BY_ONE_THAT_ENDED = {"model.json", "model.safetensors", "progress", "progress/fit.json"}
_RESUMED = re.compile(r"The fit goes on in stage (\w+), after (\d+) epochs")
_EPOCH = re.compile(r"^\{'stage': '(\w+)', 'epoch': (\d+)")
_BEGINS = re.compile(r"Stage (\w+) begins")


# ------------------------------------------------------------------ one fit


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bar whose place says the rank."""
    rng, y = np.random.default_rng(0), np.tile(np.arange(4), 4)
    images = rng.integers(0, 220, (len(y), 36, 44, 3), np.uint8)
    for image, rank in zip(images, y, strict=True):
        image[:, 4 + 8 * rank : 10 + 8 * rank] = rng.integers(120, 256, 3)
    return images, y


def fitted(kind: str, checkpoint_dir: Path | None, **changes: Any) -> tuple[str, int]:
    """Fit, and return what tells the result from others, and from where the fit went on."""
    parameters = {**COMMON, **KINDS[kind], "checkpoint_dir": None if checkpoint_dir is None else str(checkpoint_dir)}
    classifier, scores = L2RCLIPClassifier(**{**parameters, **changes}), []
    if kind == "search":
        grid = {"pairwise_weight": [0.1, 1.0]}
        search = GridSearchCV(classifier, grid, cv=2, error_score="raise").fit(*images_and_labels())
        classifier, scores = search.best_estimator_, search.cv_results_["mean_test_score"].tolist()
    else:
        classifier.fit(*images_and_labels())
    return _digest(classifier, scores), classifier.resumed_from_epoch_


def _digest(classifier: L2RCLIPClassifier, scores: list[float]) -> str:
    state = classifier._state
    arrays = b"".join(np.asarray(array).tobytes() for _, array in sorted(state.to_arrays().items()))
    probabilities = classifier.predict_proba(images_and_labels()[0])
    said = json.dumps([scores, classifier.history_, classifier.n_iter_], sort_keys=True, default=repr)
    return hashlib.sha256(said.encode() + arrays + probabilities.tobytes()).hexdigest()


@dataclass
class Run:
    """A process that fits, and what it says."""

    folder: Path  # of its log and its result
    pid: int = 0
    kind: str = ""

    @classmethod
    def begin(cls, folder: Path, fit: Callable[[], tuple[str, int]], before: Callable[[], Any] | None = None) -> Run:
        """Fork a process that fits."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.chmod(folder, 0o777)
        run = cls(folder)
        sys.stdout.flush()
        run.pid = os.fork()
        if run.pid:
            return run
        code = 1
        try:
            handler = logging.FileHandler(folder / "log")
            logging.getLogger("skl2rclip").addHandler(handler)
            logging.getLogger("skl2rclip").setLevel(logging.DEBUG)
            logging.captureWarnings(True)
            logging.getLogger("py.warnings").addHandler(handler)
            warnings.simplefilter("default")
            if before is not None:
                before()
            result = fit()
            (folder / "new").write_text(json.dumps(result))
            os.replace(folder / "new", folder / "result")
            code = 0
        except BaseException:
            (folder / "error").write_text(traceback.format_exc())
        finally:
            os._exit(code)

    @property
    def log(self) -> str:
        """What was said so far."""
        return (self.folder / "log").read_text(errors="replace") if (self.folder / "log").exists() else ""

    @property
    def error(self) -> str:
        """The last line of the error, or nothing."""
        file = self.folder / "error"
        return file.read_text().strip().rpartition("\n")[2] if file.exists() else ""

    @property
    def result(self) -> tuple[str, int] | None:
        """Digest and epoch, of one that has ended."""
        file = self.folder / "result"
        return tuple(json.loads(file.read_text())) if file.exists() else None

    def is_over(self) -> bool:
        """Whether the process has ended by itself."""
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        return not self.pid

    def wait(self, timeout: float = 600) -> Run:
        """Wait for the end of the process."""
        end = time.monotonic() + timeout
        while not self.is_over():
            if time.monotonic() > end:
                self.kill()
                (self.folder / "error").write_text(f"not over after {timeout} s")
            time.sleep(0.005)
        return self

    def wait_for_lines(self, n: int) -> None:
        """Wait until the process has said so much, or is over."""
        while not self.is_over() and self.log.count("\n") < n:
            time.sleep(0.002)

    def kill(self) -> None:
        """End the process as the loss of power does, as far as the process can tell."""
        if not self.is_over():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def place(self) -> tuple[str, int]:
        """Stage, and number of the last epoch, by the log."""
        stage, epoch = "before the stages", 0
        for line in self.log.splitlines():
            if line.startswith("Fit of"):  # the next one of a search
                stage, epoch = "before the stages", 0
            for pattern in (_RESUMED, _EPOCH, _BEGINS):
                found = pattern.search(line)
                if found is not None:
                    stage, epoch = found[1], int(found[2]) if found.lastindex == 2 else epoch
            if "Stage image_tower ended" in line or "has ended before" in line:
                stage = "at its end"
            elif "Stage prompts ended" in line:
                stage = "after the prompts" if "image_tower" in KINDS.get(self.kind, {}) else "at its end"
        return stage, epoch


def left_behind(checkpoint_dir: Path) -> list[str]:
    """Return what lies in the folders beside what fits that ended leave."""
    odd = []
    for folder in checkpoint_dir.iterdir():
        if not folder.name.startswith("fit-"):
            odd.append(folder.name)
            continue
        found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
        odd += [f"{folder.name}/{name}" for name in sorted(found ^ LEFT_BY_ONE_THAT_ENDED)]
    return odd


# ------------------------------------------------------------------ kills


@dataclass
class Kills:
    """What was seen."""

    where: Counter[tuple[str, str]] = field(default_factory=Counter)  # stage, what came of it
    trouble: list[str] = field(default_factory=list)
    n: int = 0


def killed_until_it_ends(kind: str, root: Path, rng: random.Random, seen: Kills, seconds: float, n_lines: int) -> None:
    """Kill a fit at random times until it ends, and compare what it then is."""
    checkpoint_dir, number, resumed, pending = root / "checkpoints", 0, 0, None
    shutil.rmtree(checkpoint_dir, ignore_errors=True)
    while True:
        number += 1
        run = Run.begin(root / f"run-{number}", lambda: fitted(kind, checkpoint_dir))
        if rng.random() < 0.4:
            end = time.monotonic() + rng.uniform(0, 1.1 * seconds)
            while not run.is_over() and time.monotonic() < end:
                time.sleep(0.002)
        else:
            run.wait_for_lines(rng.randint(1, n_lines))
            time.sleep(rng.choice([0, rng.uniform(0, 0.02), rng.uniform(0, 0.2)]))
        has_ended = run.is_over()
        run.kill()
        if kind == "no seed" and not has_ended and _all_have_ended(checkpoint_dir):
            seen.n += 1
            seen.where[f"{kind}: after its end", "none: its model stands in its folder"] += 1
            run = Run.begin(root / f"run-{number}", lambda: _saved(checkpoint_dir)).wait()
            has_ended = True
        if run.error:
            seen.trouble.append(f"{kind}: {run.error}")
            return
        went_on = [(stage, int(epoch)) for stage, epoch in _RESUMED.findall(run.log)]
        if pending is not None and (has_ended or run.log.count("Stage ") or went_on):
            # a process that died before it came to the stages says nothing of the one before
            is_anew = "begins anew" in run.log or "is left out" in run.log
            at_once = "has ended before" in run.log
            came = "returned at once" if at_once else "began, as nothing was kept"
            came = f"went on in {went_on[0][0]}" if went_on else came
            seen.where[pending, "refused what was kept" if is_anew else came] += 1
            pending = None
        if went_on and kind != "search":
            if went_on[0][1] < resumed:
                seen.trouble.append(f"{kind}: went on after {went_on[0][1]} epochs, and before after {resumed}")
            resumed = went_on[0][1]
        if has_ended:
            break
        seen.n += 1
        if pending is not None:
            seen.where[pending, "was killed again before the stages"] += 1
        run.kind = kind
        stage, epoch = run.place()
        pending = f"{kind}: {stage}"
        print(f"kill {seen.n}: {kind}, {stage}, after epoch {epoch}; {_kept(checkpoint_dir)}", flush=True)
    _compare(kind, root, checkpoint_dir, run, seen)


def _all_have_ended(checkpoint_dir: Path) -> bool:
    """Whether there are fits, and all have ended: without a seed the next call is another fit."""
    files = list(checkpoint_dir.glob("*/progress/fit.json"))
    return bool(files) and all(json.loads(file.read_text())["has_ended"] for file in files)


def _saved(checkpoint_dir: Path) -> tuple[str, int]:
    """Tell the model in the folder of a fit from others, and tidy up as the next call does."""
    fitted("no seed", checkpoint_dir)
    [folder] = [folder for folder in checkpoint_dir.glob("fit-*") if not folder.name.endswith("-2")]
    shutil.rmtree(f"{folder}-2")
    return _digest(L2RCLIPClassifier.load(folder), []), 0


def _kept(checkpoint_dir: Path) -> str:
    records = sorted(path.name[:8] for path in checkpoint_dir.rglob("*.pt"))
    return f"records {', '.join(str(int(name)) for name in records) or 'none'}"


def _compare(kind: str, root: Path, checkpoint_dir: Path, run: Run, seen: Kills) -> None:
    assert run.result is not None
    digest, resumed = run.result
    seed = COMMON["random_state"]
    if kind == "no seed":
        seeds = {json.loads(file.read_text())["seed"] for file in checkpoint_dir.glob("*/progress/fit.json")}
        if len(seeds) != 1:
            seen.trouble.append(f"{kind}: {len(seeds)} seeds")
        seed = seeds.pop()
    undisturbed = _undisturbed(kind, root, seed)
    if digest != undisturbed:
        seen.trouble.append(f"{kind}: another model, resumed from {resumed}")
    for name in left_behind(checkpoint_dir):
        seen.trouble.append(f"{kind}: left behind {name}")
    print(
        f"ended: {kind}, resumed from {resumed}, {'the same' if digest == undisturbed else 'ANOTHER MODEL'}", flush=True
    )


_KNOWN: dict[tuple[str, int], str] = {}


def _undisturbed(kind: str, root: Path, seed: int) -> str:
    if (kind, seed) not in _KNOWN:
        run = Run.begin(root / "undisturbed", lambda: fitted(kind, None, random_state=seed)).wait()
        if run.result is None:
            raise RuntimeError(run.error)
        _KNOWN[kind, seed] = run.result[0]
    return _KNOWN[kind, seed]


def kills(n: int, root: Path, rng: random.Random, kinds: list[str]) -> Kills:
    """Kill fits of all kinds in turn, some `n` times in all, and print where."""
    seen = Kills()
    for number, kind in enumerate(kinds):
        begun = time.monotonic()
        run = Run.begin(root / "first", lambda: fitted(kind, root / "first-checkpoints")).wait()  # noqa: B023
        if run.result is None:
            raise RuntimeError(run.error)
        seconds, n_lines = time.monotonic() - begun, run.log.count("\n")
        shutil.rmtree(root / "first-checkpoints")
        print(f"{kind}: {seconds:.1f} s undisturbed, {n_lines} lines", flush=True)
        while seen.n < n * (number + 1) / len(kinds):
            killed_until_it_ends(kind, root, rng, seen, seconds, n_lines)
    return seen


def pairs(n: int, root: Path, rng: random.Random) -> list[str]:
    """Two equal fits at once, of which one is killed and called again; returns what should not be."""
    trouble, expected = [], _undisturbed("frozen", root, COMMON["random_state"])
    for number in range(n):
        checkpoint_dir = root / f"pair-{number}"
        names = [root / "one", root / "other"]
        one, other = (Run.begin(each, lambda: fitted("frozen", checkpoint_dir)) for each in names)  # noqa: B023
        one.wait_for_lines(rng.randint(1, 16))
        one.kill()
        again = Run.begin(root / "again", lambda: fitted("frozen", checkpoint_dir)).wait()  # noqa: B023
        other.wait()
        for name, run in (("the other", other), ("the killed one", again)):
            if run.result is None or run.result[0] != expected:
                trouble.append(f"pair {number}: {name}: {run.error or 'another model'}")
        folders = sorted(path.name for path in checkpoint_dir.iterdir())
        print(
            f"pair {number}: {len(folders)} folders, {_RESUMED.findall(again.log)}, {len(trouble)} troubles", flush=True
        )
        shutil.rmtree(checkpoint_dir)
    return trouble


# ------------------------------------------------------------------ faults of the folder


def _progress(checkpoint_dir: Path) -> Path:
    [folder] = checkpoint_dir.glob("fit-*/progress")
    return folder


def _records(checkpoint_dir: Path) -> list[Path]:
    return sorted(_progress(checkpoint_dir).glob("*.pt"))


def _edited_description(**changes: Any) -> Callable[[Path], None]:
    def edit(checkpoint_dir: Path) -> None:
        file = _progress(checkpoint_dir) / "fit.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


def _written_description(content: bytes) -> Callable[[Path], Any]:
    return lambda checkpoint_dir: (_progress(checkpoint_dir) / "fit.json").write_bytes(content)


def _cut_records(size: int, *, last_only: bool = False) -> Callable[[Path], None]:
    def cut(checkpoint_dir: Path) -> None:
        for file in _records(checkpoint_dir)[-1 if last_only else 0 :]:
            os.truncate(file, size)

    return cut


def _swap_records(checkpoint_dir: Path) -> None:
    one, other = _records(checkpoint_dir)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _renumber_records(checkpoint_dir: Path) -> None:
    for number, file in enumerate(reversed(_records(checkpoint_dir)), 1):
        file.rename(file.with_name(f"{number:08d}{file.name[8:]}"))


def _records_as_folders(checkpoint_dir: Path) -> None:
    for file in _records(checkpoint_dir):
        file.unlink()
        file.mkdir()


def _dated(seconds: float) -> Callable[[Path], None]:
    def date(checkpoint_dir: Path) -> None:
        for path in [*checkpoint_dir.rglob("*"), checkpoint_dir]:
            os.utime(path, (seconds, seconds))

    return date


def _damage_embeddings(how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(checkpoint_dir: Path) -> None:
        for file in (_progress(checkpoint_dir) / "embeddings").rglob("*"):
            if file.is_file():
                file.write_bytes(how(file.read_bytes()))

    return damage


def _flipped(content: bytes) -> bytes:
    result, rng = bytearray(content), random.Random(0)  # noqa: S311
    for _ in range(max(1, len(result) // 500)):
        result[rng.randrange(len(result))] ^= 1 << rng.randrange(8)
    return bytes(result)


def _without_embeddings(checkpoint_dir: Path) -> None:
    shutil.rmtree(_progress(checkpoint_dir) / "embeddings", ignore_errors=True)


# between a kill and the next call
BETWEEN: dict[str, Callable[[Path], Any]] = {
    "fit.json cut": _written_description(b'{"format": 1, "has_en'),
    "fit.json empty": _written_description(b""),
    "fit.json of zeros": _written_description(bytes(300)),
    "fit.json removed": lambda checkpoint_dir: (_progress(checkpoint_dir) / "fit.json").unlink(),
    "fit.json of a later format": _edited_description(format=99),
    "fit.json with another seed": _edited_description(seed=12345),
    "fit.json with odd values": _edited_description(seed="0", has_ended=None, what=[]),
    "fit.json says that the fit has ended": _edited_description(has_ended=True),
    "last record cut": _cut_records(1000, last_only=True),
    "records cut": _cut_records(1000),
    "records of no bytes": _cut_records(0),
    "records exchanged": _swap_records,
    "records renumbered": _renumber_records,
    "folders in the place of records": _records_as_folders,
    "clock set back: all is of the year 2099": _dated(4e9),
    "clock set ahead: all is of the year 1970": _dated(0),
    "embeddings flipped": _damage_embeddings(_flipped),
    "embeddings cut": _damage_embeddings(lambda content: content[: len(content) // 3]),
    "embeddings of no bytes": _damage_embeddings(lambda _: b""),
    "embeddings are text": _damage_embeddings(lambda _: b"not a database\n" * 99),
    "embeddings removed": _without_embeddings,
    "model removed": lambda checkpoint_dir: [file.unlink() for file in checkpoint_dir.glob("fit-*/model.*")],
    "progress removed": lambda checkpoint_dir: shutil.rmtree(_progress(checkpoint_dir)),
    "folder moved": lambda checkpoint_dir: checkpoint_dir.rename(checkpoint_dir.with_name("moved")),
}


def _read_only(checkpoint_dir: Path) -> None:
    for path in [checkpoint_dir, *checkpoint_dir.rglob("*")]:
        os.chmod(path, 0o555 if path.is_dir() else 0o444)


def _as_nobody() -> None:
    """Be somebody whom permissions hold for."""
    os.setgid(65534)
    os.setuid(65534)


def _outcome(kind: str, root: Path, run: Run, seed: int) -> str:
    if run.error:
        return run.error
    assert run.result is not None
    digest, resumed = run.result
    said = [line for line in run.log.splitlines() if "Warning: " in line or " is left out: " in line or "anew" in line]
    model = "the same" if digest == _undisturbed(kind, root, seed) else "ANOTHER"
    return f"{model}, from epoch {resumed}" + (
        f"; {len(said)} said: {said[0].partition('Warning: ')[2] or said[0]}" if said else ""
    )


def faults(root: Path, kind: str = "frozen") -> None:
    """Harm the folder between a kill and the next call, or while a fit runs, and print what comes of it."""
    print(f"\n| fault of the folder ({kind}) | model, where it went on, what was said |\n|---|---|")

    def killed(checkpoint_dir: Path) -> None:
        run = Run.begin(root / "killed", lambda: fitted(kind, checkpoint_dir))
        while not run.is_over() and len(_epochs(run)) < 4:
            time.sleep(0.002)
        run.kill()

    def seed_of(checkpoint_dir: Path) -> int:
        files = list(checkpoint_dir.glob("fit-*/progress/fit.json"))
        return json.loads(files[0].read_text())["seed"] if kind == "no seed" else COMMON["random_state"]

    def tell(name: str, run: Run, checkpoint_dir: Path) -> None:
        try:
            outcome = _outcome(kind, root, run, seed_of(checkpoint_dir))
        except (IndexError, ValueError):
            outcome = f"{run.error or run.result}, and no seed is left"
        print(f"| {name} | {outcome.replace(str(root), '...')[:400]} |", flush=True)

    for name, harm in BETWEEN.items():
        checkpoint_dir = root / "harmed"
        killed(checkpoint_dir)
        harm(checkpoint_dir)
        if not checkpoint_dir.exists():
            checkpoint_dir = root / "moved"
        tell(name, Run.begin(root / "next", lambda: fitted(kind, checkpoint_dir)).wait(), checkpoint_dir)  # noqa: B023
        shutil.rmtree(checkpoint_dir)
    checkpoint_dir = root / "harmed"
    for name, limit in (("no file over 200 kB", 200_000), ("no file over 4 kB", 4_000), ("no file over 0 bytes", 0)):
        # the size of files is what a disk that fills up bounds too

        def limited(limit: int = limit) -> tuple[str, int]:
            most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            logging.raiseExceptions = False  # the log is a file too
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
            try:
                return fitted(kind, checkpoint_dir)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        run = Run.begin(root / "next", limited).wait()
        tell(name, run, checkpoint_dir)
        shutil.rmtree(checkpoint_dir)
    killed(checkpoint_dir)
    _read_only(checkpoint_dir)
    tell(
        "all read-only",
        Run.begin(root / "next", lambda: fitted(kind, checkpoint_dir), _as_nobody).wait(),
        checkpoint_dir,
    )
    os.chmod(_progress(checkpoint_dir), 0o777)
    tell(
        "all but progress read-only",
        Run.begin(root / "next", lambda: fitted(kind, checkpoint_dir), _as_nobody).wait(),
        checkpoint_dir,
    )
    shutil.rmtree(checkpoint_dir)
    for name, harm in {
        "folder removed in mid-fit": shutil.rmtree,
        "progress removed in mid-fit": lambda folder: shutil.rmtree(_progress(folder)),
        "folder moved in mid-fit": lambda folder: folder.rename(root / "moved"),
        "embeddings removed in mid-fit": _without_embeddings,
    }.items():
        run = Run.begin(root / "next", lambda: fitted(kind, checkpoint_dir))
        while not run.is_over() and len(_epochs(run)) < 2:
            time.sleep(0.002)
        with_errors = 0
        while True:  # what is being written cannot always be removed at once
            try:
                harm(checkpoint_dir)
                break
            except OSError:
                with_errors += 1
                if with_errors > 20:
                    break
        run.wait()
        tell(name, run, root / "moved" if (root / "moved").exists() else checkpoint_dir)
        for each in (checkpoint_dir, root / "moved"):
            shutil.rmtree(each, ignore_errors=True)


def _epochs(run: Run) -> list[str]:
    return [line for line in run.log.splitlines() if _EPOCH.match(line)]


# ------------------------------------------------------------------ the whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--faults", nargs="*", choices=[*KINDS], help="kinds, or frozen")
    parser.add_argument("--kinds", nargs="+", default=[*KINDS], choices=[*KINDS])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)  # noqa: S311
    # what every process does before anything can be kept is done once, or in few steps
    torch.set_num_threads(1)
    initialization._ORDERING_STEPS = 5
    load_backbone(BackboneSource(COMMON["model_name"]))
    # that image towers are trained on, whatever their scores are
    trainer.select_epochs = _selected_epochs(trainer.select_epochs)
    with tempfile.TemporaryDirectory(prefix="kill-fits-") as folder:
        os.chmod(folder, 0o777)
        tempfile.tempdir = str(Path(folder) / "tmp")
        os.mkdir(tempfile.tempdir, 0o777)
        os.chmod(tempfile.tempdir, 0o777)
        if arguments.kills:
            seen = kills(arguments.kills, Path(folder), rng, arguments.kinds)
            print("\n| the kill hit | the next call | kills |\n|---|---|---|")
            for (where, came), count in sorted(seen.where.items()):
                print(f"| {where} | {came} | {count} |")
            print(f"\n{seen.n} kills; what should not be: {seen.trouble or 'nothing'}", flush=True)
        if arguments.pairs:
            print(f"pairs; what should not be: {pairs(arguments.pairs, Path(folder), rng) or 'nothing'}", flush=True)
        if arguments.faults is not None:
            for kind in arguments.faults or ["frozen"]:
                faults(Path(folder), kind)


def _selected_epochs(select: Callable[..., EpochSelection]) -> Callable[..., EpochSelection]:
    def selected(*arguments: Any, **options: Any) -> EpochSelection:
        select(*arguments, **options)
        return EpochSelection(options["n_epochs"], 0.5, 0.9)

    return selected


if __name__ == "__main__":
    main()
