"""The files in deploy/: linted by the tools that are installed, and true to the service."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import http.server
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install 'jnd-jax[dev]'")
pytest.importorskip("uvicorn", reason="needs the service's packages: pip install 'jnd-jax[serve]'")
from prometheus_client import generate_latest  # noqa: E402  these need the packages above

from jnd_jax.serving.service import command  # noqa: E402
from jnd_jax.serving.service.app import Service  # noqa: E402
from jnd_jax.serving.service.limits import Limits  # noqa: E402
from jnd_jax.serving.service.models import Models  # noqa: E402

DEPLOY = Path(__file__).parents[2] / "deploy"


def tool(*names: str):
    missing = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(*command) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@tool("hadolint")
def test_the_dockerfile_has_no_lint():
    run("hadolint", DEPLOY / "Dockerfile")


@tool("yamllint")
def test_the_yaml_has_no_lint():
    run("yamllint", "--strict", "-c", DEPLOY.parent / ".yamllint.yaml", DEPLOY)


@tool("promtool")
def test_prometheus_takes_its_configuration():
    run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")


@tool("kubectl", "kubernetes-validate")
def test_the_manifests_are_valid(tmp_path):
    (tmp_path / "all.yaml").write_text(run("kubectl", "kustomize", DEPLOY / "kubernetes"))
    run("kubernetes-validate", "--strict", "-k", "1.31", tmp_path / "all.yaml")


def test_the_containers_commands_are_commands_of_the_service():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    deployment = yaml.safe_load((DEPLOY / "kubernetes" / "deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["service"]
    for arguments in (pod["containers"][0]["args"], compose["command"]):
        args = parser.parse_args(arguments)
        assert args.store and args.models and args.warm
    # Neither the queue nor a request may outlast the time to end in.
    limits = Limits()
    assert pod["terminationGracePeriodSeconds"] >= 10 + limits.wait + limits.cpu_seconds
    memory = 2 * limits.memory + limits.held + limits.cache
    assert memory < int(re.fullmatch(r"(\d+)Gi", pod["containers"][0]["resources"]["limits"]["memory"])[1]) << 30


def test_dashboard_rules_and_autoscaler_name_metrics_that_the_service_has(golden_model):
    service = Service(Models(golden_model), Limits())
    known = set(re.findall(r"^# TYPE (\S+)", generate_latest(service._metrics.registry).decode(), re.MULTILINE))
    known |= {f"{name}_bucket" for name in known}
    text = "".join(
        (DEPLOY / name).read_text()
        for name in ("grafana/jnd.json", "prometheus/rules.yml", "kubernetes/autoscaler.yaml")
    )
    named = set(re.findall(r"\bjnd_[a-z_]+[a-z]\b", text)) - {"jnd_jax"}
    assert len(named) > 10 and named <= known, named - known


def test_the_dashboard_has_a_query_in_each_panel():
    dashboard = json.loads((DEPLOY / "grafana" / "jnd.json").read_text())
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers as the gateway does, and remembers what it was asked."""

    asked: list[tuple[str, str]] = []

    def do_GET(self):
        form = "webp" if "image/webp" in self.headers["Accept"] else "jpeg"
        self.asked.append((self.path, form))
        self.send_response(200)
        for name, value in {
            "Content-Type": f"image/{form}",
            "Content-Length": "1",
            "Cache-Control": "public, max-age=86400",
            "Vary": "Accept",
            "ETag": f'W/"{form}"',
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"x")

    def log_message(self, *args):
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextlib.contextmanager
def nginx(folder: Path, upstream: int):
    """nginx with the example's configuration, but for ports, paths and TLS; yields its address."""
    port = free_port()
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
        "-keyout", folder / "key.pem", "-out", folder / "cert.pem")  # fmt: skip
    text = (DEPLOY / "nginx.conf").read_text()
    for old, new in {
        "/etc/nginx/tls": str(folder),
        "/var/cache/nginx": str(folder),
        "/tmp/nginx.pid": f"{folder}/nginx.pid",
        "server service:8080": f"server 127.0.0.1:{upstream}",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "listen [::]:80;": "",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port};",
        "listen [::]:443 ssl http2;": "",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    run("nginx", "-t", "-c", folder / "nginx.conf")
    with subprocess.Popen(
        ["nginx", "-c", folder / "nginx.conf", "-g", f"daemon off; user {getpass.getuser()};"]
    ) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@tool("nginx", "openssl")
def test_nginx_keeps_one_copy_of_each_form(tmp_path):
    upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with nginx(tmp_path, upstream.server_port) as url:

        def get(path, accept):
            request = urllib.request.Request(f"{url}{path}", headers={"Accept": accept})
            with urllib.request.urlopen(request) as response:
                return response.headers["Content-Type"], response.headers["X-Cache"]

        assert get("/pictures/a.jnd", "image/avif,image/webp,*/*;q=0.8") == ("image/webp", "MISS")
        assert get("/pictures/a.jnd", "image/webp") == ("image/webp", "HIT")
        assert get("/pictures/a.jnd", "*/*") == ("image/jpeg", "MISS")
        assert get("/pictures/a.jnd", "image/webp;q=0, */*") == ("image/jpeg", "HIT")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get("/metrics", "*/*")
    upstream.shutdown()
    assert Upstream.asked == [("/pictures/a.jnd", "webp"), ("/pictures/a.jnd", "jpeg")]
