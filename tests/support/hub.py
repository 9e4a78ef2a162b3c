"""A stand-in for the Hugging Face hub on this machine, and processes that ask it. No torch is imported here."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.processes import prepared_context, set_environment

COMMIT = "c" * 40
_RESOLVE = re.compile(r"/([^/]+/[^/]+|[^/]+)/resolve/([^/]+)/(.+)")
_API = re.compile(r"/api/models/([^/]+/[^/]+|[^/]+?)(/.*)?")
_BATCH = re.compile(r"/(.+)\.git/info/lfs/objects/batch")
_ENVIRONMENT = ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_DISABLE_PROGRESS_BARS")
_OUTPUTS = ("out.txt", "error.txt")
_CHUNK = 1 << 16
# what a repository keeps apart from git
_LARGE = (".safetensors", ".bin", ".model")


@dataclass
class StandIn:
    """A hub with repositories and faults, which remembers what it was asked.

    Attributes
    ----------
    repositories : dict of str to dict of str to bytes
        Files by name, by repository.
    gated : set of str
        Repositories whose terms nobody has accepted.
    cuts : dict of str to list of int
        By file name, after how many bytes each of the next answers breaks off.
    swaps : dict of str to list of bytes
        By file name, what each of the next answers sends in the place of what was announced.
    pauses : dict of str to list of float
        By file name, seconds for which each of the next answers pauses behind its header.
    status : int or None
        What every question is answered with.
    writers : dict of str to str
        Names of users by the tokens that may write, each in the repositories of its own name.
    readers : set of str
        Tokens that may read alone.
    private : set of str
        Repositories that only those who are logged in see.
    branches : dict of tuple to dict of str to bytes
        Files by name, by repository and branch beside ``main``.
    commits : list of dict
        What each commit has said: ``repository``, ``revision``, ``create_pr``, ``header``, ``files`` and ``deleted``.
    before_commit : callable or None
        What happens at the hub before the next commit comes.
    asked : list of tuple
        Method, path and the Range of each request.
    """

    repositories: dict = field(default_factory=dict)
    gated: set = field(default_factory=set)
    cuts: dict = field(default_factory=dict)
    swaps: dict = field(default_factory=dict)
    pauses: dict = field(default_factory=dict)
    status: int | None = None
    writers: dict = field(default_factory=dict)
    readers: set = field(default_factory=set)
    private: set = field(default_factory=set)
    branches: dict = field(default_factory=dict)
    commits: list = field(default_factory=list)
    before_commit: object = None
    heads: dict = field(default_factory=dict)
    stored: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Answer no more; the address stays free."""
        self._server.shutdown()
        self._server.server_close()

    def add(self, repository, folder, names=None):
        """Take the files of a folder, under other names where `names` gives them."""
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
        self.repositories[repository] = {(names or {}).get(name, name): content for name, content in files.items()}

    def head(self, repository, branch="main"):
        """Commit that a branch points to."""
        return self.heads.get((repository, branch), COMMIT)

    def files_at(self, repository, revision):
        """Files of a branch or of the commit that it points to; None where there is neither."""
        branches = {"main": self.repositories[repository]}
        branches |= {branch: files for (name, branch), files in self.branches.items() if name == repository}
        for branch, files in branches.items():
            if revision in (branch, self.head(repository, branch)):
                return branch, files
        return None

    def commit(self, repository, revision, lines, *, create_pr=False):
        """Do what the lines of a commit say, on a branch, or on none where it is a pull request."""
        by_kind = {}
        for line in lines:
            by_kind.setdefault(line["key"], []).append(line["value"])
        files = {each["path"]: base64.b64decode(each["content"]) for each in by_kind.get("file", [])}
        files |= {each["path"]: self.stored[each["oid"]] for each in by_kind.get("lfsFile", [])}
        deleted = [each["path"] for each in by_kind.get("deletedFile", [])]
        [header] = by_kind["header"]
        said = {"repository": repository, "revision": revision, "create_pr": create_pr, "header": header}
        self.commits.append({**said, "files": files, "deleted": deleted})
        oid = hashlib.sha1(str(len(self.commits)).encode()).hexdigest()  # noqa: S324 - as git names it
        if not create_pr:
            branch, there = self.files_at(repository, revision)
            there.update(files)
            for name in deleted:
                del there[name]
            self.heads[repository, branch] = oid
        return oid

    def fetched(self, name):
        """Ranges of all requests for the content of a file, None for all of it."""
        return [
            bounds
            for method, path, bounds in self.asked
            if method == "GET" and path.endswith("/" + name) and (path.startswith("/stored/") or name.endswith(".json"))
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or what follows a header waits for 40 ms
    hub: StandIn

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        bounds = self.headers.get("Range")
        self.hub.asked.append((self.command, self.path, bounds))
        path = self.path.partition("?")[0]
        is_stored = path.startswith("/stored/")
        path = path.removeprefix("/stored")
        resolve, api = _RESOLVE.fullmatch(path), _API.fullmatch(path)
        repository = (resolve or api)[1] if resolve or api else None
        files = self.hub.repositories.get(repository)
        if repository in self.hub.private and not is_stored and self._token() is None:
            files = None
        revision = "main"
        if resolve:
            revision = resolve[2]
        elif api and (named := re.match("/(?:tree|revision)/([^/]+)", api[2] or "")):
            revision = named[1]
        at = None if files is None else self.hub.files_at(repository, revision)
        if self.hub.status is not None:
            self._refuse(self.hub.status, "Trouble")
        elif files is None:  # as the real one, which does not tell strangers what is private
            self._refuse(401, "RepoNotFound")
        elif repository in self.hub.gated:
            self._refuse(401, "GatedRepo")
        elif at is None:
            self._refuse(404, "RevisionNotFound")
        elif api:
            self._send_info(repository, *at, api[2] or "")
        elif resolve[3] not in at[1]:
            self._refuse(404, "EntryNotFound")
        elif is_stored:
            self._send_file(resolve[3], at[1][resolve[3]], bounds, with_body, {})
        else:
            self._resolve(resolve[3], at[1][resolve[3]], bounds, with_body, self.hub.head(repository, at[0]))

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.asked.append((self.command, self.path, None))
        path, _, query = self.path.partition("?")
        api, batch = _API.fullmatch(path), _BATCH.fullmatch(path)
        user = self.hub.writers.get(self._token())
        if self.hub.status is not None:
            self._refuse(self.hub.status, "Trouble")
        elif user is None and self._token() not in self.hub.readers:
            self._refuse(401, "")
        elif path == "/api/validate-yaml":
            self._send_json({})
        elif path == "/api/repos/create":
            self._create(user, json.loads(content))
        elif user is None or not (api or batch)[1].startswith(f"{user}/"):
            is_proposal = user is not None and "create_pr=1" in query
            # what is proposed may be brought along
            if is_proposal or (user is not None and batch):
                self._write_to((api or batch)[1], (api and api[2]) or "", content, is_proposal=True)
            else:
                self._refuse(403, "")
        else:
            self._write_to((api or batch)[1], (api and api[2]) or "", content, is_proposal="create_pr=1" in query)

    def do_PUT(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.asked.append((self.command, self.path, None))
        self.hub.stored[hashlib.sha256(content).hexdigest()] = content
        self._send_json({})

    def _token(self):
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _create(self, user, wanted):
        repository = f"{wanted['organization'] or user}/{wanted['name']}"
        if not user or not repository.startswith(f"{user}/"):
            self._refuse(403, "")
            return
        answer = {"url": f"{self.hub.address}/{repository}"}
        if repository in self.hub.repositories:
            self._send_json(answer, 409)
            return
        self.hub.repositories[repository] = {".gitattributes": b"*.safetensors filter=lfs"}
        if wanted.get("visibility") == "private" or wanted.get("private"):
            self.hub.private.add(repository)
        self._send_json(answer)

    def _write_to(self, repository, rest, content, *, is_proposal):
        action, _, revision = rest.strip("/").partition("/")
        if action == "preupload":
            files = json.loads(content)["files"]
            modes = {True: "lfs", False: "regular"}
            answers = [
                {"path": each["path"], "uploadMode": modes[each["path"].endswith(_LARGE)], "shouldIgnore": False}
                for each in files
            ]
            self._send_json({"files": answers})
        elif action == "branch":
            self.hub.branches[repository, revision] = dict(self.hub.repositories[repository])
            self.hub.heads[repository, revision] = self.hub.head(repository)
            self._send_json({})
        elif action == "commit":
            self._commit(repository, revision, content, is_proposal=is_proposal)
        else:  # where large files are to be put
            answers = [
                {**each, "actions": {"upload": {"href": f"{self.hub.address}/lfs/{each['oid']}"}}}
                for each in json.loads(content)["objects"]
            ]
            self._send_json({"objects": answers, "transfer": "basic"})

    def _commit(self, repository, revision, content, *, is_proposal):
        lines = [json.loads(line) for line in content.splitlines()]
        if self.hub.before_commit is not None:
            happens, self.hub.before_commit = self.hub.before_commit, None
            happens()
        parent = lines[0]["value"].get("parentCommit")
        if not is_proposal and parent not in (None, self.hub.head(repository, revision)):
            self._refuse(412, "")
            return
        oid = self.hub.commit(repository, revision, lines, create_pr=is_proposal)
        address = f"{self.hub.address}/{repository}"
        answer = {"commitUrl": f"{address}/commit/{oid}", "commitOid": oid}
        if is_proposal:
            answer["pullRequestUrl"] = f"{address}/discussions/{len(self.hub.commits)}"
        self._send_json(answer)

    def _resolve(self, name, content, bounds, with_body, commit):
        if not name.endswith(_LARGE):
            etag = hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()  # noqa: S324 - as git names it
            self._send_file(name, content, bounds, with_body, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})
            return
        etag = hashlib.sha256(content).hexdigest()
        self.send_response(302)
        headers = {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": len(content), "X-Repo-Commit": commit}
        # where large files are stored is another host, which is not told the user's token
        place = f"{self.hub.address.replace('127.0.0.1', 'localhost')}/stored/{self.path.lstrip('/')}"
        for header, value in {**headers, "Location": place, "Content-Length": 0}.items():
            self.send_header(header, str(value))
        self.end_headers()

    def _refuse(self, status, code):
        self.send_response(status)
        for name, value in (("X-Error-Code", code), ("X-Repo-Commit", COMMIT), ("Content-Length", "0")):
            self.send_header(name, value)
        self.end_headers()

    def _send_info(self, repository, branch, files, rest):
        if rest.startswith("/tree/"):  # of folders, of which there are none
            self._refuse(404, "EntryNotFound")
            return
        siblings = [{"rfilename": name} for name in files]
        is_private = repository in self.hub.private
        commit = self.hub.head(repository, branch)
        self._send_json({"id": repository, "sha": commit, "private": is_private, "siblings": siblings})

    def _send_json(self, answer, status=200):
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_file(self, name, content, bounds, with_body, headers):
        swaps = self.hub.swaps.get(name, []) if with_body else []
        content = swaps.pop(0) if swaps else content
        start = int(re.fullmatch(r"bytes=(\d+)-", bounds)[1]) if bounds else 0
        self.send_response(206 if bounds else 200)
        if bounds:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        for header, value in {**headers, "Content-Length": len(content) - start}.items():
            self.send_header(header, str(value))
        self.end_headers()
        if with_body:
            self._write(name, content[start:])

    def _write(self, name, content):
        pauses, cuts = self.hub.pauses.get(name, []), self.hub.cuts.get(name, [])
        end = min(len(content), cuts.pop(0)) if cuts else len(content)
        with contextlib.suppress(ConnectionError):  # who asked may have gone
            self.wfile.flush()
            time.sleep(pauses.pop(0) if pauses else 0)
            for start in range(0, end, _CHUNK):
                self.wfile.write(content[start : min(start + _CHUNK, end)])
        if end < len(content):
            self.close_connection = True


@dataclass(frozen=True)
class Ended:
    """What a process has left: its exit code, and what it wrote."""

    code: int
    out: str
    error: str


def begin(code, folder, hub, *, offline=False, terminal=False, anew=False, **environment):
    """Start a process that runs code, as `ask` does, and return it."""
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), **environment}
    if offline:
        settings["HF_HUB_OFFLINE"] = "1"
    context = multiprocessing.get_context("spawn") if anew else prepared_context()
    folder.mkdir(parents=True, exist_ok=True)
    files = [str(folder / name) for name in _OUTPUTS]
    process = context.Process(target=_run, args=(code, settings, *files, terminal))
    process.start()
    return process


def ask_it(monkeypatch, hub, cache):
    """Let this process ask the stand-in for the time of a test, with a cache of its own."""
    from huggingface_hub import constants

    settings = {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,  # a protocol of its own
        "HF_TOKEN_PATH": str(cache / "token"),
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def ask(code, folder, hub, *, timeout=120, **options):
    """Run code in a process of its own, whose hub is the stand-in and whose cache is in `folder`.

    What this library needs is imported beforehand, once for all of these processes where the system can fork. The
    hub's client, which reads the environment when it is imported, reads it again.

    Parameters
    ----------
    code : str
    folder : Path
        ``HF_HOME`` is in it, and what the process writes.
    hub : StandIn
    timeout : float, default=120
        Seconds.
    **options
        ``offline=True`` sets ``HF_HUB_OFFLINE``, ``terminal=True`` lets the standard error be a terminal,
        ``anew=True`` imports everything in the process itself; all others are the environment's.

    Returns
    -------
    Ended
    """
    process = begin(code, folder, hub, **options)
    process.join(timeout)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"The process has not ended in {timeout} seconds.")
    return Ended(process.exitcode, *((folder / name).read_text(encoding="utf-8") for name in _OUTPUTS))


def _run(code, settings, out, error, terminal):
    for name in _ENVIRONMENT:
        os.environ.pop(name, None)
    set_environment(settings)
    with open(out, "w", encoding="utf-8", buffering=1) as sys.stdout:
        end = contextlib.nullcontext()
        if terminal:
            end = _terminal(error)
        else:
            sys.stderr = open(error, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 - until the process ends
        with end:
            try:
                exec(compile(code, "<asked>", "exec"), {"__name__": "asked"})
            except BaseException as caught:
                traceback.print_exception(caught)
                sys.stderr.flush()
                raise SystemExit(1) from None
            finally:
                sys.stderr.flush()


@contextlib.contextmanager
def _terminal(file):
    """Make the standard error a terminal, and write what it is told to a file."""
    import fcntl
    import pty
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    sys.stderr = os.fdopen(follower, "w", encoding="utf-8", buffering=1)

    def copy():
        with open(file, "wb", buffering=0) as into, contextlib.suppress(OSError):  # it ends so on Linux
            while piece := os.read(leader, 1 << 12):
                into.write(piece)

    copier = threading.Thread(target=copy, daemon=True)
    copier.start()
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = sys.__stderr__
        copier.join(10)
