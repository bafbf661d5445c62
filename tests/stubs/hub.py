"""A stand-in for the Hugging Face hub: `python -m tests.stubs.hub`, a process of its own.

The routes that `huggingface_hub` uses to read a model, by the hub's documented API and the library's source:
`/api/models/ID/auth-check`, `/api/models/ID/revision/REV`, and `ID/resolve/REV/FILE` with HEAD, GET and ranges. Large
files are LFS ones: `/resolve` redirects to a CDN route, as the hub does, with the checksum in X-Linked-Etag.

Control: `POST /stub` sets a behaviour, `GET /stub` tells what was asked.
"""

import argparse
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, override
from urllib.parse import unquote, urlsplit

COMMIT: Final = "5c3b5d2f0e8a7c6b9d4e1f2a3b4c5d6e7f801234"
LARGE: Final = 300_000
MIB: Final = 1 << 20
REPOSITORIES: Final[dict[str, dict[str, bytes]]] = {
    "Qwen/Qwen2.5-14B-Instruct-AWQ": {
        "config.json": b'{"model_type": "qwen2"}',
        "README.md": b"not for engines",
        "model.safetensors": bytes(range(256)) * (MIB * 24 // 256),
    },
    "Qwen/Qwen2.5-7B-Instruct-GGUF": {
        "qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf": b"GGUF" + b"1" * LARGE,
        "qwen2.5-7b-instruct-q4_k_m-00002-of-00002.gguf": b"GGUF" + b"2" * LARGE,
        "qwen2.5-7b-instruct-q8_0.gguf": b"GGUF" + b"8" * LARGE,
    },
    "hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4": {"config.json": b"{}", "model.safetensors": b"w" * LARGE},
}
GATED: Final = {"hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4": "hf_a_good_token"}


class State:
    """How the next requests are answered, and what was asked."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cut_after = 0
        """Bytes after which a download's connection breaks, once; 0 never."""
        self.stall = False
        """Whether it then says nothing more, instead of breaking."""
        self.corrupt = False
        self.size = 0
        """Bytes that each large file claims to have; 0 for the truth."""
        self.requests: list[str] = []


def is_large(content: bytes) -> bool:
    return len(content) >= LARGE // 2


def sibling(name: str, content: bytes, state: State) -> dict[str, Any]:
    """One file as `/revision/REV?blobs=true` lists it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if is_large(content):
        size = state.size or len(content)
        entry |= {
            "size": size,
            "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134},
        }
    return entry


class Hub(BaseHTTPRequestHandler):
    """A connection."""

    protocol_version = "HTTP/1.1"
    state: State

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.route()

    def do_GET(self) -> None:
        self.route()

    def do_POST(self) -> None:
        """`POST /stub` with a behaviour."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for name, value in body.items():
            assert name in vars(self.state), name
            setattr(self.state, name, value)
        self.answer(200, b"{}")

    def route(self) -> None:
        """Route one request."""
        path = unquote(urlsplit(self.path).path).strip("/")
        if path == "stub":
            self.answer(200, json.dumps(self.state.requests).encode())
            return
        with self.state.lock:
            self.state.requests.append(f"{self.command} /{path} {self.headers.get('Range', '')}".strip())
        parts = path.split("/")
        if parts[:2] == ["api", "models"]:
            self.model("/".join(parts[2:4]), parts[4:])
        elif parts[:1] == ["cdn"]:
            self.content(REPOSITORIES["/".join(parts[1:3])]["/".join(parts[3:])])
        elif len(parts) > 4 and parts[2] == "resolve":
            self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.failure(404, "RepoNotFound")

    def refused(self, repository: str) -> bool:
        """Answer for repositories that are not there or not for this caller."""
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository not in REPOSITORIES:
            self.failure(401 if not given else 404, "RepoNotFound")
        elif repository in GATED and given != GATED[repository]:
            self.failure(403 if given else 401, "GatedRepo")
        else:
            return False
        return True

    def model(self, repository: str, rest: list[str]) -> None:
        """`/api/models/ID/...`; what a gated model is called can be read by all."""
        if rest == ["auth-check"]:
            if not self.refused(repository):
                self.answer(200, b"OK", "text/plain")
            return
        if repository not in REPOSITORIES:
            self.failure(404, "RepoNotFound")
            return
        if len(rest) == 2 and rest[0] == "revision" and rest[1] not in {"main", COMMIT}:
            self.failure(404, "RevisionNotFound")
            return
        files = [sibling(name, content, self.state) for name, content in REPOSITORIES[repository].items()]
        gated = "manual" if repository in GATED else False
        info = {"_id": "1", "id": repository, "modelId": repository, "sha": COMMIT, "gated": gated, "siblings": files}
        self.answer(200, json.dumps(info).encode())

    def resolve(self, repository: str, revision: str, name: str) -> None:
        """`ID/resolve/REV/FILE`: small files at once, large ones by way of the CDN."""
        if self.refused(repository):
            return
        if revision not in {"main", COMMIT}:
            self.failure(404, "RevisionNotFound")
            return
        content = REPOSITORIES[repository].get(name)
        if content is None:
            self.failure(404, "EntryNotFound")
            return
        entry = sibling(name, content, self.state)
        if not is_large(content):
            self.answer(200, content, "text/plain", {"X-Repo-Commit": COMMIT, "ETag": f'"{entry["blobId"]}"'})
            return
        # The CDN has another name, so that nobody sends it a token.
        cdn = f"localhost:{self.headers['Host'].rpartition(':')[2]}"
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{entry["lfs"]["sha256"]}"',
            "X-Linked-Size": str(len(content)),
            "ETag": f'"{entry["blobId"]}"',
            "Location": f"http://{cdn}/cdn/{repository}/{name}",
        }
        self.answer(302, b"", "text/plain", headers)

    def content(self, content: bytes) -> None:
        """The CDN: ranges, and the faults."""
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        body = content[start:]
        if self.state.corrupt:
            body = b"X" * len(body)
        status = 206 if self.headers.get("Range") else 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.state.cut_after:
            cut, self.state.cut_after = self.state.cut_after, 0
            self.wfile.write(body[:cut])
            self.wfile.flush()
            if self.state.stall:
                self.rfile.read()
            self.close_connection = True
            return
        self.wfile.write(body)

    def failure(self, status: int, code: str) -> None:
        """As the hub says no."""
        headers = {"X-Error-Code": code, "X-Error-Message": f"{code} of the stand-in"}
        self.answer(status, json.dumps({"error": code}).encode(), "application/json", headers)

    def answer(
        self, status: int, body: bytes, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main() -> None:
    """Serve until the input closes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    Hub.state = State()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Hub)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(json.dumps({"port": server.server_address[1]}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
