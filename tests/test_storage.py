"""Addresses are shown without what opens them."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Result

from depara_bench.addresses import masked, scrubbed
from depara_bench.storage import Folder

Command = Callable[..., Result]

WEIGHTS = b"weights"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://bucket/run", "s3://bucket/run"),
        ("s3://bucket/run@home", "s3://bucket/run@home"),
        ("s3://KEY:SECRET@bucket/run", "s3://***@bucket/run"),
        ("s3://KEY@bucket/run", "s3://***@bucket/run"),
        ("s3://KEY:SEC/RET@bucket/run", "s3://***@bucket/run"),
        ("s3://KEY:SEC?RET@bucket/run", "s3://***@bucket/run"),
        ("s3://KEY:SEC@RET@bucket/run?region=x&token=SECRET", "s3://***@bucket/run"),
        ("abfss://box@account.net/run", "abfss://box@account.net/run"),
        ("abfss://account:SECRET@host/run", "abfss://***@host/run"),
        ("s3:/KEY:SECRET@bucket/run", "s3:/***@bucket/run"),
        ("reports/me@home", "reports/me@home"),
        ("C:/me@home", "C:/me@home"),
    ],
)
def test_an_address_for_eyes(address: str, shown: str):
    assert masked(address) == shown
    assert Folder(address).uri == shown and shown in repr(Folder(address))


def test_a_text_with_addresses():
    text = "'https://me:SECRET@host/a': no; s3://K:S@b/run?session_token=SECRET&region=x, me@home"
    assert scrubbed(text) == (
        "'https://***@host/a': no; s3://***@b/run?session_token=***&region=x, me@home"
    )


class Guarded(BaseHTTPRequestHandler):
    """A mirror that asks for user and password, or sends to a server where nobody asks."""

    seen: list[str | None]

    def do_GET(self) -> None:
        server: Any = self.server
        asked = self.headers.get("Authorization")
        server.seen.append(asked)
        if "/away/" in self.path:
            self.send_response(302)
            self.send_header("Location", server.elsewhere + self.path.replace("/away/", "/open/"))
            self.end_headers()
            return
        code = base64.b64encode(b"me:SEC/RET").decode()
        right = "/open/" in self.path or asked == f"Basic {code}"
        content = WEIGHTS if right else b""
        self.send_response(200 if right else 401)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        server.seen, server.elsewhere = [], ""  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def zoo(tmp_path: Path) -> Callable[..., Path]:
    def write(**fields: object) -> Path:
        model = {
            "name": "m", "loader": "torchscript", "weights": "w.pt", "roles": ["source"],
            "sha256": hashlib.sha256(WEIGHTS).hexdigest(), "input": {"size": 8},
        }  # fmt: skip
        path = tmp_path / "zoo.yaml"
        path.write_text(yaml.safe_dump({"name": "z", "models": [model], **fields}))
        return path

    return write


def test_a_mirror_with_a_password(
    command: Command, zoo: Callable[..., Path], mirror: Any, tmp_path: Path
):
    """It is sent to that server alone, and shown to nobody."""
    place = f"127.0.0.1:{mirror.server_address[1]}"
    mirror.elsewhere = f"http://localhost:{mirror.server_address[1]}"
    wrong = [
        (f"http://me:WRONG@{place}/files", "401"),
        ("http://me:SEC%2FRET@127.0.0.1:9/files", "no answer"),
        ("http://me:SEC/RET@127.0.0.1:9/files", "no answer"),
        ("http://me:SECRET@no-such-host.invalid/files", "no answer"),
        (f"http://me:SECRET@{place}/files?token=SECRET", "401"),
        ("s3://me:SECRET@bucket/files", "does not exist"),
    ]
    for address, told in wrong:
        for words in ((zoo(), "--mirror", address), (zoo(mirror=address),)):
            result = command("zoo", "fetch", *words, "--cache", tmp_path / "cache")
            assert result.code in (1, 2) and (told in result.err or result.code == 2), result
            for secret in ("WRONG", "SECRET", "RET@", "SEC/", "SEC%"):
                assert secret not in result.out + result.err, result
    for folder in ("files", "away"):
        mirror.seen.clear()
        cache = tmp_path / folder
        address = f"http://me:SEC%2FRET@{place}/{folder}"
        result = command("zoo", "fetch", zoo(mirror=address), "--cache", cache)
        assert result.code == 0 and (cache / "w.pt").read_bytes() == WEIGHTS, result
        assert mirror.seen[0] is not None and set(mirror.seen[1:]) <= {None}
