"""A hub of one's own: a cache as the hub's client keeps it, and a server that answers as the hub does."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPOSITORY = "timm/test_vit.r160_in1k"
COMMIT, OLD_COMMIT = "a1" * 20, "b2" * 20
FILE = "model.safetensors"


def put_into_cache(cache, data, *, commit=COMMIT, branch="main"):
    """Lay `data` into the cache as the client does after a download; return the blob's path."""
    folder = cache / f"models--{REPOSITORY.replace('/', '--')}"
    blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
    snapshot = folder / "snapshots" / commit
    for directory in (blob.parent, snapshot, folder / "refs"):
        directory.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    (snapshot / FILE).symlink_to(f"../../blobs/{blob.name}")
    if branch:
        (folder / "refs" / branch).write_text(commit)
    return blob


@contextmanager
def serve(files, *, commit=COMMIT, revisions=("main",)):
    """Serve `files` as the one commit of every repository; yield the URL and the paths asked for."""
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            _, _, rest = self.path.partition("/resolve/")
            revision, _, name = rest.partition("/")
            fault = "" if revision in (*revisions, commit) else "RevisionNotFound"
            data = files.get(name)
            fault = fault or ("EntryNotFound" if data is None else "")
            self.send_response(404 if fault else 200)
            self.send_header("X-Repo-Commit", commit)
            if fault:
                self.send_header("X-Error-Code", fault)
            else:
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            return data

        def do_GET(self):
            self.wfile.write(self.do_HEAD() or b"")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()
