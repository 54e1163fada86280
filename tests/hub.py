"""A Hugging Face Hub on loopback: the routes by which huggingface_hub and datasets download."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote

API = r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.+))?)?"
FILE = r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)"
LFS = (".safetensors", ".parquet")  # files that git keeps elsewhere, known by their SHA-256


class Repository:
    """One folder's files, under the names that git gives them; made anew for each request."""

    def __init__(self, folder: Path):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self.files = {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}
        listing = "".join(f"{name} {self.oid(name)}\n" for name in self.files)
        self.commit = hashlib.sha1(listing.encode()).hexdigest()

    def oid(self, name: str) -> str:
        """The file's name in git, or among the large files."""
        content = self.files[name]
        if name.endswith(LFS):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def tree(self) -> dict[str, dict]:
        """{path: what the Hub says of it} for all files and folders."""
        parents = {str(p) for name in self.files for p in PurePosixPath(name).parents} - {"."}
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in parents]
        for name, content in self.files.items():
            entry = {"type": "file", "oid": self.oid(name), "size": len(content), "path": name}
            if name.endswith(LFS):
                entry |= {"lfs": {"oid": entry["oid"], "size": entry["size"], "pointerSize": 134}}
            entries.append(entry)
        return {entry["path"]: entry for entry in sorted(entries, key=lambda e: e["path"])}


class Handler(BaseHTTPRequestHandler):
    """Answers one request; self.server.hub is the Hub."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Prints nothing: the requests are in hub.requests."""

    def reply(self, status: int, body, headers=(), most=None):
        """Sends bytes or JSON; no more than `most` bytes of it, and then the line is dead."""
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.close_connection |= most is not None and most < len(body)
            self.wfile.write(body[:most])

    def refuse(self, status: int, code: str, message: str, headers=()):
        """Sends an error as the Hub does, in the headers by which huggingface_hub knows it."""
        codes = {"X-Error-Code": code, "X-Error-Message": message, **dict(headers)}
        self.reply(status, {"error": message}, codes)

    def do_GET(self):
        """Answers by the route; GET, HEAD and POST alike."""
        hub, (path, _, query) = self.server.hub, self.path.partition("?")
        hub.requests.append((self.command, self.path))
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        api, file = re.fullmatch(API, path), re.fullmatch(FILE, path)
        if not api and not file:
            return self.reply(404, {"error": "Sorry, we can't find the page you are looking for."})
        kind, name, *route = map(unquote, (api or file).groups(""))
        folder = hub.folder / ("datasets" if kind.startswith("datasets") else "") / name
        if not folder.is_dir():
            return self.refuse(401, "RepoNotFound", "Invalid username or password.")
        repository = Repository(folder)
        if route[-2] not in ("", "main", repository.commit):
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {route[-2]}")
        if file:
            return self.send_file(repository, name, route[-1])
        return self.send_facts(repository, name, route[0], route[-1], query, sent)

    do_HEAD = do_POST = do_GET

    def send_facts(self, repository, name: str, what: str, path: str, query: str, sent: str):
        """Answers /api/…: the repository, the files in it, or those files that are asked for."""
        tree = repository.tree()
        if what == "tree":
            if path and path not in tree:
                return self.refuse(404, "EntryNotFound", f"{path} does not exist")
            below = {p: e for p, e in tree.items() if not path or p.startswith(path + "/")}
            if "recursive=true" not in query.lower():
                below = {p: e for p, e in below.items() if "/" not in p[len(path) :].strip("/")}
            return self.reply(200, [*below.values()])
        if what == "paths-info":
            asked = parse_qs(sent).get("paths", [])
            return self.reply(200, [tree[path] for path in asked if path in tree])
        facts = {"id": name, "sha": repository.commit, "private": False, "disabled": False}
        facts |= {"gated": "manual" if name in self.server.hub.gated else False, "tags": []}
        facts |= {"downloads": 0, "likes": 0, "lastModified": "2025-01-01T00:00:00.000Z"}
        return self.reply(200, facts | {"siblings": [{"rfilename": p} for p in repository.files]})

    def send_file(self, repository, name: str, path: str):
        """Answers …/resolve/…: a file, or the part of it that is asked for."""
        hub, commit = self.server.hub, {"X-Repo-Commit": repository.commit}
        if name in hub.gated:
            message = f"Access to {name} is restricted. You must have access to it"
            if "Authorization" in self.headers:
                return self.refuse(403, "GatedRepo", f"{message}.")
            return self.refuse(401, "GatedRepo", f"{message} and be authenticated. Please log in.")
        if path not in repository.files:
            return self.refuse(404, "EntryNotFound", "Entry not found", commit)
        content, etag = repository.files[path], f'"{repository.oid(path)}"'
        headers = {"ETag": etag, "Accept-Ranges": "bytes", **commit}
        headers |= {"X-Linked-ETag": etag, "X-Linked-Size": len(content)}
        first, last = 0, len(content) - 1
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(int(asked[2] or last), last)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        most = None
        if self.command == "GET":
            hub.ranges.append((path, first, last))
            if path == "model.safetensors" and isinstance(most := hub.cut.get(name), list):
                most = most.pop(0) if most else None
        most = most if most is None else max(most - first, 0)
        return self.reply(206 if asked else 200, content[first : last + 1], headers, most)


class Hub:
    """Serves folder/owner/name as models and folder/datasets/owner/name as data sets.

    Nobody has access to those that are `gated`. `cut` says where downloads of model.safetensors
    break off: {"owner/name": at this byte of it, each time; or [at this byte, then at this, …]}.
    """

    def __init__(self, folder, gated=(), cut=None):
        self.folder, self.gated, self.cut = Path(folder), gated, cut or {}
        self.requests = []  # (method, path)
        self.ranges = []  # (file, first byte, last byte) of each GET of a file
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def env(self, home) -> dict[str, str]:
        """The environment of a process that takes this for the Hub, and has its cache in home."""
        off = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        caches = {"HF_HUB_CACHE": f"{home}/hub", "HF_DATASETS_CACHE": f"{home}/datasets"}
        here = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
        return here | caches | off
