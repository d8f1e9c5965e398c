"""The embeddings client against a small server of the protocol."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from onoma.encoding.endpoint import Endpoint
from onoma.errors import OnomaError


class Service(BaseHTTPRequestHandler):
    """Embeds a text as its length and first letter; the script says what goes wrong first."""

    def do_POST(self):
        owner = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        owner.asked.append((self.path, self.headers.get("Authorization"), body))
        trouble = owner.script.pop(0) if owner.script else None
        if isinstance(trouble, int):
            self.send_response(trouble)
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b"no")
            return
        rows = [
            {"index": i, "embedding": [float(len(text)), float(ord(text[0])), 1.0]}
            for i, text in enumerate(body["input"])
        ]
        answer = json.dumps({"data": rows[::-1]}).encode() if trouble is None else trouble
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words):
        pass


@pytest.fixture
def service():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.asked, server.script = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield server
    server.shutdown()
    server.server_close()


TEXTS = ["abc", "", "de", "abc", "f", "ghijk"]


def test_batches_order_repeats_and_empty_texts(service, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    encoder = Endpoint("m", service.url, batch=2, key_env="SOME_KEY", dimensions=3)
    vectors = encoder.encode_texts(TEXTS)
    want = np.array([[len(t), ord(t[0]), 1] if t else [0, 0, 0] for t in TEXTS], dtype=np.float32)
    want[[0, 2, 3, 4, 5]] /= np.linalg.norm(want[[0, 2, 3, 4, 5]], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, want, atol=1e-6)
    assert [body["input"] for _, _, body in service.asked] == [["abc", "de"], ["f", "ghijk"]]
    path, key, body = service.asked[0]
    assert path == "/v1/embeddings" and key == "Bearer secret"
    assert body["model"] == "m" and body["dimensions"] == 3
    assert "secret" not in json.dumps(encoder.settings())


def test_passing_trouble_is_tried_again(service):
    service.script = [429, 503]
    assert Endpoint("m", service.url, retries=2).encode_texts(["a"]).shape == (1, 3)
    assert len(service.asked) == 3


def test_lasting_trouble_is_told(service):
    service.script = [503, 503]
    with pytest.raises(OnomaError, match="2 tries"):
        Endpoint("m", service.url, retries=1).encode_texts(["a"])
    service.script = [401]
    with pytest.raises(OnomaError, match="401"):
        Endpoint("m", service.url).encode_texts(["a"])


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"data": []}',
        b'{"data": [{"index": 0}]}',
        b'{"data": [{"index": 0, "embedding": [NaN, 1]}]}',
        b'{"data": [{"index": 5, "embedding": [1]}]}',
        b'{"data": [{"index": 0, "embedding": "x"}]}',
        b'{"data": null}',
    ],
)
def test_strange_answers_are_told(service, answer):
    service.script = [answer]
    with pytest.raises(OnomaError, match="answered"):
        Endpoint("m", service.url).encode_texts(["a"])


def test_nobody_there_is_told():
    with pytest.raises(OnomaError, match="no answer"):
        Endpoint("m", "http://127.0.0.1:9", retries=0, timeout=2).encode_texts(["a"])
