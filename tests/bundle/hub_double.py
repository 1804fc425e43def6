"""A hub on loopback: the few calls that carry a model there and back, as the hub's client makes them."""

import hashlib
import json
import threading
from base64 import b64decode
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
LARGE = (".safetensors", ".jpg")
TOKEN = "hf_" + "t0ken" * 6


@dataclass
class Repository:
    private: bool
    branches: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)

    def commit(self, branch, files):
        oid = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid

    def resolve(self, revision):
        return self.branches.get(revision, revision if revision in self.commits else None)


class RefusalError(Exception):
    def __init__(self, status, code="", message="", content=()):
        self.status, self.content = status, dict(content)
        self.headers = {"X-Error-Code": code, "X-Error-Message": message}


@dataclass
class Hub:
    """The double's content; `asked` has method, path and token of each call, `refuse` breaks some."""

    url: str = ""
    repositories: dict = field(default_factory=dict)
    objects: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    refuse: dict = field(default_factory=dict)

    def files(self, name, revision="main"):
        repository = self.repositories[name]
        return repository.commits[repository.resolve(revision)]

    def put(self, name, files, *, private=False):
        """Make a repository of these files, as the hub makes one."""
        self.repositories[name] = repository = Repository(private)
        repository.commit("main", {".gitattributes": ATTRIBUTES, **files})

    def answer(self, method, path, body):  # noqa: C901, PLR0911 - one case a call
        """Return status, headers and content."""
        match [method, *path.strip("/").split("/")]:
            case ["POST", "api", "validate-yaml"]:
                return {"errors": [], "warnings": []}
            case ["POST", "api", "repos", "create"]:
                name = f"{json.loads(body)['organization']}/{json.loads(body)['name']}"
                made = {"url": f"{self.url}/{name}", "name": name}
                if name in self.repositories:
                    raise RefusalError(409, content=made)
                self.put(name, {}, private=json.loads(body).get("visibility") == "private")
                return made
            case ["POST", "api", "models", owner, name, "preupload", _]:
                given = [file["path"] for file in json.loads(body)["files"]]
                modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in given}
                return {"files": [
                    {"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()
                ]}  # fmt: skip
            case ["POST", _, _, "info", "lfs", "objects", "batch"]:
                objects = [
                    {**item, "actions": {"upload": {"href": f"{self.url}/objects/{item['oid']}"}}}
                    for item in json.loads(body)["objects"]
                ]
                return {"transfer": "basic", "objects": objects}
            case ["PUT", "objects", oid]:
                assert hashlib.sha256(body).hexdigest() == oid
                self.objects[oid] = body
                return {}
            case ["POST", "api", "models", owner, name, "branch", branch]:
                repository = self.known(owner, name)
                if branch in repository.branches:
                    raise RefusalError(409)
                repository.branches[branch] = repository.branches["main"]
                return {}
            case ["POST", "api", "models", owner, name, "commit", branch]:
                lines = list(map(json.loads, body.splitlines()))
                oid = self.commit(self.known(owner, name), branch, lines)
                return {"commitUrl": f"{self.url}/{owner}/{name}/commit/{oid}", "commitOid": oid}
            case ["GET", "api", "models", owner, name, "revision", revision]:
                repository = self.known(owner, name)
                oid = self.resolve(repository, revision)
                files = [{"rfilename": p, "size": len(d)} for p, d in repository.commits[oid].items()]
                known = {"id": f"{owner}/{name}", "private": repository.private, "sha": oid}
                return {**known, "siblings": files}
            case ["GET", "api", "models", owner, name, "tree", revision]:
                repository = self.known(owner, name)
                files = repository.commits[self.resolve(repository, revision)]
                return [self.entry(path, data) for path, data in files.items()]
            case ["HEAD" | "GET", owner, name, "resolve", revision, *parts]:
                repository = self.known(owner, name)
                data = repository.commits[oid := self.resolve(repository, revision)]["/".join(parts)]
                tag = self.entry("/".join(parts), data).get("lfs", {}).get("oid") or _blob_id(data)
                return {"X-Repo-Commit": oid, "ETag": f'"{tag}"'}, data
        raise RefusalError(404)

    def known(self, owner, name):
        if f"{owner}/{name}" not in self.repositories:
            raise RefusalError(404, "RepoNotFound")
        return self.repositories[f"{owner}/{name}"]

    def resolve(self, repository, revision):
        if repository.resolve(revision) is None:
            raise RefusalError(404, "RevisionNotFound")
        return repository.resolve(revision)

    def entry(self, path, data):
        large = {"lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
        known = {"type": "file", "path": path, "size": len(data), "oid": _blob_id(data)}
        return {**known, **(large if path.endswith(LARGE) else {})}

    def commit(self, repository, branch, lines):
        (head,) = [line["value"] for line in lines if line["key"] == "header"]
        if head.get("parentCommit") not in (None, repository.resolve(branch)):
            raise RefusalError(412)
        files = dict(repository.commits[self.resolve(repository, branch)])
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "file":
                    files[value["path"]] = b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        return repository.commit(branch, files)


def _blob_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve():
    """Serve a hub on loopback while the block runs."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self):
            path = unquote(self.path.partition("?")[0])
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hub.asked.append((self.command, path, self.headers.get("Authorization")))
            try:
                for part, refusal in hub.refuse.items():
                    if part in path:
                        raise refusal
                answer = hub.answer(self.command, path, body)
                status, (headers, data) = 200, answer if isinstance(answer, tuple) else _json(answer)
            except RefusalError as refusal:
                status, headers, data = refusal.status, refusal.headers, json.dumps(refusal.content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else data)

        do_GET = do_HEAD = do_POST = do_PUT = handle_one  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def _json(answer):
    return {"Content-Type": "application/json"}, json.dumps(answer).encode()
