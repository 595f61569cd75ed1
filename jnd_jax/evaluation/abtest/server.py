"""The test on a server of its own: each subject's answers are written to disk as they come."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jnd_jax.errors import JndError
from jnd_jax.evaluation.abtest.answers import SUBJECT
from jnd_jax.files import write_bytes

_LARGEST_ANSWERS = 4_000_000


def invite(folder: Path, count: int) -> list[str]:
    """Numbers of `count` subjects, kept in folder/links.txt; those that are there stay."""
    path = folder / "links.txt"
    numbers = path.read_text(encoding="utf-8").split() if path.exists() else []
    numbers += [secrets.token_hex(8) for _ in range(count - len(numbers))]
    path.write_text("".join(f"{number}\n" for number in numbers), encoding="utf-8")
    return numbers


def _progress(record: Mapping[str, Any]) -> tuple[int, bool]:
    """How far a subject is: number of answers, and whether the end was seen."""
    return len(record["answers"]), bool(record.get("finished"))


def server(folder: Path, port: int = 0, host: str = "127.0.0.1") -> ThreadingHTTPServer:
    """A server of the test in `folder`; answers go to folder/answers/SUBJECT.json.

    Where folder/links.txt names subjects (see `invite`), it takes answers of no others.

    Every answer is sent with all earlier ones of its subject, and the file is replaced in one step: a closed
    browser loses nothing.

    Raises:
        JndError: no such port.
    """
    if not 0 <= port <= 65535:
        raise JndError(f"Give a port of 0 to 65535, not {port}.")
    content = (folder / "index.html").read_bytes()
    test = json.loads((folder / "test.json").read_text(encoding="utf-8"))["id"]
    answers = folder / "answers"
    answers.mkdir(exist_ok=True)
    links = folder / "links.txt"
    invited = set(links.read_text(encoding="utf-8").split()) if links.exists() else set()
    writing = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def _reply(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path.partition("?")[0] == "/":
                self._reply(200, content, "text/html; charset=utf-8")
            else:
                self._reply(404)

        def do_POST(self) -> None:
            try:
                length = int(self.headers.get("Content-Length", ""))
                if self.path != "/answers" or not 0 < length <= _LARGEST_ANSWERS:
                    raise ValueError
                record = json.loads(self.rfile.read(length))
                if record["test"] != test or not SUBJECT.fullmatch(record["subject"]):
                    raise ValueError
                if invited and record["subject"] not in invited:
                    raise ValueError
                progress = _progress(record)
            except (ValueError, KeyError, TypeError):
                self._reply(400)
                return
            path = answers / f"{record['subject']}.json"
            # Requests may overtake each other.
            with writing:
                if not path.exists() or _progress(json.loads(path.read_text(encoding="utf-8"))) <= progress:
                    write_bytes(path, json.dumps(record).encode())
            self._reply(204)

    return ThreadingHTTPServer((host, port), Handler)
