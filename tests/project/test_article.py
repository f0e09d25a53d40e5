"""The experiment headstart began with, Caltech-256 through VGG16, on stand-ins of the same shape."""

import hashlib
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest

from bench.pictures import encoded, photo
from bench.project import clone
from stages.backbones import zoo
from stages.backend.mx import mx
from stages.checkpoints import matching
from tests.damage import long

pytestmark = pytest.mark.xdist_group("article")

CLASSES = 257
PER_CLASS = 4


@pytest.fixture(scope="module")
def archive():
    """A tar with Caltech-256's classes and oddities. All classes hold the same few photos, to spare the network."""
    names = [f"{number:03}.class-{number}" for number in range(1, CLASSES)] + ["257.clutter"]
    files = [encoded(photo(seed, (60, 45)), "JPEG") for seed in range(PER_CLASS)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            for number, data in enumerate(files):
                member = tarfile.TarInfo(f"256_ObjectCategories/{name}/{name[:3]}_{number:04}.jpg")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        member = tarfile.TarInfo("256_ObjectCategories/198.class-198/RENAME2")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"mv\n"))
    return buffer.getvalue()


@pytest.fixture
def mirror(archive):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(archive)))
            self.end_headers()
            self.wfile.write(archive)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/archive.tar"
    server.shutdown()


def random_vgg16(path):
    """Writes random weights for the whole of VGG16, scaled so that activations neither vanish nor blow up."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in matching.parameter_shapes(zoo.build("vgg16"), 224).items():
        values = rng.standard_normal(shape, dtype=np.float32) if len(shape) > 1 else np.zeros(shape, np.float32)
        tensors[name] = mx.nd.array(values * np.sqrt(2 / np.prod(shape[1:])))
    mx.nd.save(str(path), tensors)


@long
def test_from_download_to_test_metrics(tmp_path, mirror, archive):
    random_vgg16(tmp_path / "vgg16.params")
    project = clone(tmp_path / "project")
    project.set(
        dataset={"name": "caltech256"},
        backbone={"name": "vgg16", "weights": "file", "path": str(tmp_path / "vgg16.params")},
        train={"epochs": 2, "lr": 0.001, "dropout": 0.5},
    )
    environment = {
        "HEADSTART_CALTECH256_URL": mirror,
        "HEADSTART_CALTECH256_MD5": hashlib.md5(archive).hexdigest(),
        "XDG_CACHE_HOME": str(tmp_path / "home"),
    }
    printed = project.run("dvc", "repro", **environment)
    assert f"caltech256: {CLASSES * PER_CLASS} images of {CLASSES} classes" in printed
    classes = (project.folder / "data/classes.txt").read_text().split()
    assert classes == [*(f"class-{number}" for number in range(1, CLASSES)), "clutter"]
    assert project.featurized() == (CLASSES * PER_CLASS, PER_CLASS)
    assert project.metrics("test")["images"] >= CLASSES
    assert np.isfinite(project.metrics("train")["valid_loss"])
    assert (project.folder / "data/features/train.rec").stat().st_size > 2 * CLASSES * 4096 * 2

    # It lies where it was downloaded to, and is read there.
    (downloaded,) = (tmp_path / "home").rglob("*.tar")
    assert downloaded.read_bytes() == archive
    assert not list(project.folder.rglob("*.jpg"))
    # Looked at again, and without it, nothing has changed.
    environment["HEADSTART_CALTECH256_URL"] = "http://127.0.0.1:9/gone.tar"
    assert project.repro(**environment) == ["images"]
    downloaded.unlink()
    assert "is not there: going on with what data/manifest.tsv recorded" in project.run("dvc", "repro", **environment)
