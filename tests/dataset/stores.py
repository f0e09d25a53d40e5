"""A real S3 server on this machine (moto's), which counts what is asked of it and fails as it is told to."""

import threading
from collections import Counter
from contextlib import contextmanager

import pytest

# There is none for Python 3.9 beside all else (requirements-dev.txt).
pytest.importorskip("moto")

import fsspec
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "photos"


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *arguments):
        pass


class Store:
    """The server. requests: how often each (method, key) was asked for; key "" for a list.

    fault(method, key): what goes wrong with a request: None, a status, or "short" for a body that ends too early.
    """

    def __init__(self):
        self.app = DomainDispatcherApplication(create_backend_app)
        self.backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self.reset()

    def reset(self):
        self.requests, self.fault = Counter(), lambda method, key: None
        self.backend.reset()
        self.backend.create_bucket(BUCKET, "us-east-1")

    def put(self, files):
        for key, data in files.items():
            self.backend.put_object(BUCKET, key, data)

    def __call__(self, environ, start_response):
        method, key = environ["REQUEST_METHOD"], environ["PATH_INFO"].partition(f"/{BUCKET}")[2].lstrip("/")
        key = key.encode("latin1").decode()
        self.requests[method, key] += 1
        fault = self.fault(method, key)
        if isinstance(fault, int):
            start_response(f"{fault} FAULT", [("Content-Length", "0")])
            return [b""]
        if fault == "short":
            start_response("200 OK", [("Content-Length", "1000"), ("ETag", '"x"')])
            return [b"x" * 100]
        return self.app(environ, start_response)


@contextmanager
def served():
    """A Store, and the variables of the environment by which it is found."""
    store = Store()
    # fsspec keeps its connections to one that is gone.
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server = make_server("127.0.0.1", 0, store, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield (
        store,
        {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "an-id",
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        },
    )
    server.shutdown()
    thread.join()
