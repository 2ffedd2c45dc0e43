import sys

import pytest

from studio.core.errors import InputError, MissingExtraError, ResourceError
from studio.jobs.storage.cloud import CloudStorage


def test_without_obstore_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match="extra storage"):
        CloudStorage("s3://bucket")


def test_an_address_that_cannot_be_used_is_named_without_what_it_holds():
    pytest.importorskip("obstore")
    with pytest.raises(InputError, match="STUDIO_STORAGE_URL") as refusal:
        CloudStorage("s3://")
    assert "key" not in str(refusal.value).lower()


def test_a_cloud_that_cannot_be_reached_is_said_without_addresses(monkeypatch):
    pytest.importorskip("obstore")
    monkeypatch.setattr("studio.jobs.storage.cloud._RETRY_S", 0.1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(ResourceError, match="cannot be used now") as refusal:
        CloudStorage("s3://bucket").read("a")
    assert "127.0.0.1" not in str(refusal.value)


def test_bursts_of_503_are_tried_again(request):
    pytest.importorskip("obstore")
    import http.server
    import threading

    answers = [503, 503, 200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status = answers.pop(0) if answers else 200
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch = request.getfixturevalue("monkeypatch")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        assert CloudStorage("s3://bucket").read("a") == b"ok"
        assert answers == []
        server.shutdown()
