"""As much of the Hugging Face hub as the tests need, on loopback, and the command line pointed at it."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

MOTHLIGHT = str(Path(sys.executable).with_name("mothlight"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Gives the folders of its repositories, all at one commit, and remembers what was fetched."""

    daemon_threads = True

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories = repositories
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(repositories: Mapping[str, Path]) -> Iterator[Hub]:
    """A hub while it is needed."""
    one = Hub(repositories)
    thread = threading.Thread(target=one.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield one
    finally:
        one.shutdown()
        thread.join()
        one.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        for name, folder in self.server.repositories.items():
            files = {one.relative_to(folder).as_posix(): one for one in folder.rglob("*") if one.is_file()}
            if path in (f"/api/models/{name}/revision/main", f"/api/models/{name}/revision/{COMMIT}"):
                siblings = [{"rfilename": key, "size": one.stat().st_size} for key, one in sorted(files.items())]
                self.answer(json.dumps({"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}).encode())
                return
            if path.startswith(f"/api/models/{name}/tree/{COMMIT}"):
                entries = [
                    {"type": "file", "path": key, "size": one.stat().st_size, "oid": "0" * 40}
                    for key, one in sorted(files.items())
                ]
                self.answer(json.dumps(entries).encode())
                return
            if path.startswith(f"/{name}/resolve/{COMMIT}/"):
                file = files[path.partition(f"/resolve/{COMMIT}/")[2]]
                if self.command == "GET":
                    self.server.fetched.append(file.name)
                self.answer(file.read_bytes())
                return
        self.send_error(404)

    def answer(self, raw: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("ETag", f'"{hashlib.sha1(raw).hexdigest()}"')  # noqa: S324  # a hub's tag, no secret
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(raw)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base class's name
        pass


def mothlight(*words: str, home: Path, hub: str = "http://127.0.0.1:9", offline: bool = False) -> tuple[int, str]:
    """Exit code and words of a command, with a hub of its own; a warning may precede the sentence."""
    surroundings = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1"}
    surroundings |= {"HF_HUB_OFFLINE": "1" if offline else "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    answer = subprocess.run([MOTHLIGHT, *words], check=False, capture_output=True, text=True, env=surroundings)
    return answer.returncode, answer.stdout + answer.stderr
