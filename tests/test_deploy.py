"""docs/DEPLOY.md and deploy/: every file is what its program expects, and the walk without containers is walked."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from studio.core.settings import PROJECT_ROOT, Settings
from studio.web.metrics import Metrics

DEPLOY = PROJECT_ROOT / "deploy"
PAGE = (PROJECT_ROOT / "docs" / "DEPLOY.md").read_text(encoding="utf-8")
SCHEMA = Path(__file__).parent / "reference" / "compose-spec.json"
"""Source: github.com/compose-spec/compose-spec, schema/compose-spec.json of 2026-06-23, Apache-2.0."""
AS_POSTGRES = "setpriv --reuid postgres --regid postgres --clear-groups"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def manifests() -> list[dict[str, Any]]:
    texts = [path.read_text(encoding="utf-8") for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def is_a_setting(name: str) -> bool:
    return name.removeprefix("STUDIO_").lower() in Settings.model_fields


# ------------------------------------------------------------------------------------------------------------ files


def test_every_setting_that_is_named_exists() -> None:
    for path in [PROJECT_ROOT / "docs" / "DEPLOY.md", *(p for p in DEPLOY.rglob("*") if p.is_file())]:
        named = set(re.findall(r"\bSTUDIO_[A-Z0-9_]+", path.read_text(encoding="utf-8")))
        assert [name for name in sorted(named) if not is_a_setting(name)] == [], path


def test_every_figure_that_is_named_is_told() -> None:
    class Nobody:
        def __getattr__(self, name: str) -> Any:
            told = {"figures": [], "deliveries": {}, "rented": (0, 0.0, 0.0)}
            return lambda: told.get(name, 0)

    families = set(re.findall(r"^# TYPE (\S+)", Metrics(Nobody()).text().decode(), re.MULTILINE))  # type: ignore[arg-type]
    texts = PAGE + (DEPLOY / "kubernetes" / "autoscaling.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"`(studio_\w+|process_\w+)", texts)) | set(re.findall(r"\((studio_\w+)\{", texts))
    assert len(named) > 8 and named <= families


def test_the_image_copies_what_is_there_and_starts_what_exists() -> None:
    lines = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text(encoding="utf-8")).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    known = {
        "FROM",
        "ARG",
        "ENV",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "CMD",
    }
    assert {word for word, _ in steps} <= known and steps[0][0] == "FROM"
    copied = [source for word, rest in steps if word == "COPY" for source in rest.split()[:-1]]
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False).stdout
    for source in copied:
        assert (PROJECT_ROOT / source).exists(), source
        assert not tracked or source.removeprefix("./") in tracked, f"{source} is not in the repository"
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert let_in == {source.removeprefix("./") for source in copied}
    (start,) = [json.loads(rest) for word, rest in steps if word == "CMD"]
    (health,) = [json.loads(rest.partition("CMD ")[2]) for word, rest in steps if word == "HEALTHCHECK"]
    assert start == ["python", "app.py"] and health == ["python", "deploy/probe.py", "health"]
    assert "app.py" in copied and "deploy/probe.py" in copied
    # What ``studio`` looks for beside itself.
    assert {"presets", "spaces", "requirements.txt", "constraints.txt", "LICENSE"} <= set(copied)


def test_the_page_tells_how_the_image_gets_every_package_that_it_says_to_install() -> None:
    words = re.compile(r'EXTRAS="([^"]+)"')
    (told,) = words.findall(PAGE)
    (always,) = words.findall((DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    assert set(told.split()) >= {*re.findall(r"`pip install ([\w-]+)`", PAGE), *always.split()}


def test_the_compose_file_is_one_and_every_service_finds_what_it_names() -> None:
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator(schema).validate(composed)
    services = composed["services"]
    assert services["worker"]["deploy"]["replicas"] == 2
    for name, service in services.items():
        assert ("image" in service) != ("build" in service), name
        assert set(service.get("depends_on", ())) <= set(services)
        mounts = {mount.partition(":")[0] for mount in service.get("volumes", ())}
        assert mounts <= set(composed["volumes"])
        assert {row["source"] for row in service.get("configs", ())} <= set(composed["configs"])
        for needed, how in service.get("depends_on", {}).items():
            built = "build" in services[needed]  # its image says how it is asked
            assert how["condition"] != "service_healthy" or built or "healthcheck" in services[needed]
    asked = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    told = re.findall(r"^(\w+)=$", PAGE, re.MULTILINE)
    assert asked == set(told)
    assert services["app"]["build"]["dockerfile"] == "deploy/Dockerfile"


def test_docker_compose_itself_takes_the_file_and_asks_for_what_is_missing() -> None:
    asking = ["docker", "compose"]
    if shutil.which("docker") is None or subprocess.run([*asking, "version"], capture_output=True).returncode != 0:
        pytest.skip("needs the plugin compose of Docker")
    command = [*asking, "--env-file", os.devnull, "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    names = re.findall(r"^(\w+)=$", PAGE, re.MULTILINE)
    bare = {name: value for name, value in os.environ.items() if name not in names}
    whole = {**bare, **dict.fromkeys(names, "x" * 40)}
    told = subprocess.run(command, env=whole, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    refused = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and any(name in refused.stderr for name in names)


def test_the_manifests_fit_the_schemas_of_kubernetes_and_each_other() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    found = manifests()
    for document in found:
        if document["apiVersion"].startswith("keda.sh/"):  # an extension with schemas of its own
            continue
        kubernetes_validate.validate(document, "1.33", strict=True)
    named = {(row["kind"], row["metadata"]["name"]): row for row in found}
    for row in found:
        if row["kind"] != "Deployment":
            continue
        pod = row["spec"]["template"]
        assert row["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        for volume in pod["spec"]["volumes"]:
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or ("PersistentVolumeClaim", claim["claimName"]) in named
    service = named["Service", "studio"]["spec"]
    page = named["Deployment", "studio-page"]["spec"]["template"]
    assert service["selector"].items() <= page["metadata"]["labels"].items()
    ports = {port["name"] for port in page["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in service["ports"]} <= ports
    scaled = named["ScaledObject", "studio-worker"]["spec"]
    worker = named["Deployment", scaled["scaleTargetRef"]["name"]]["spec"]["template"]["spec"]
    assert scaled["minReplicaCount"] >= 1
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    drain_s = int(named["ConfigMap", "studio"]["data"]["STUDIO_DRAIN_S"])
    assert worker["terminationGracePeriodSeconds"] > drain_s + 20


def test_a_wrong_manifest_would_be_seen() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    (wrong,) = [
        row for row in manifests() if row["metadata"]["name"] == "studio-worker" and row["kind"] == "Deployment"
    ]
    wrong["spec"]["replica"] = wrong["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


@pytest.mark.skipif(NGINX is None, reason="needs Debian's package nginx-light")
@pytest.mark.parametrize("name", ["nginx.conf", "compose.yaml"])
def test_nginx_takes_the_gateways_configuration(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    if name == "compose.yaml":
        server = yaml.safe_load(text)["configs"]["gateway"]["content"].replace("$$", "$")
        paths = "".join(f"{part}_temp_path {part};\n" for part in ("proxy", "client_body", "fastcgi", "uwsgi", "scgi"))
        server = server.replace("http://app:7860/", "http://127.0.0.1:7860/")  # the name of a container
        text = f"pid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{server}}}\n"
    (tmp_path / "nginx.conf").write_text(text, encoding="utf-8")
    command = [str(NGINX), "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_probe_shows_the_token_and_tells_by_its_exit_status(status: int, code: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = {"STUDIO_PORT": str(listener.getsockname()[1]), "STUDIO_HOME": str(tmp_path)}
        (tmp_path / "server-token").write_text("kept-0123456789abcdef\n")
        command = [sys.executable, str(DEPLOY / "probe.py"), "ready"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as probe:
            listener.settimeout(30)
            connection, _ = listener.accept()
            with connection:
                asked = connection.recv(4096).decode()
                connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nno".encode())
            said, _ = probe.communicate(timeout=30)
    assert asked.startswith("GET /v1/ready ") and "Authorization: Bearer kept-0123456789abcdef" in asked
    assert probe.returncode == code and ("no" in said) == bool(code)


# ------------------------------------------------------------------------------------------------------------- walk


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one, for the socket of Postgres."""
    made = Path(tempfile.mkdtemp(prefix="walk-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in taken]
    for listener in taken:
        listener.close()
    return ports


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(NGINX is None or shutil.which("curl") is None, reason="needs nginx-light and curl")
def test_the_walk_without_containers_ends_with_a_job_done_through_the_gateway(
    folder: Path, postgres_servers: Any
) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    gateway, *servers = ports = free_ports(3)
    config = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    script = "set -euo pipefail\n" + "".join(blocks[:-1]) + 'echo "token $STUDIO_TOKEN"\nread _\n' + blocks[-1]
    script += "echo stopped\n"
    for usual, port in zip(("7860", "7861", "7862"), ports, strict=True):
        config, script = config.replace(f":{usual}", f":{port}"), script.replace(usual, str(port))
    (folder / "nginx.conf").write_text(config, encoding="utf-8")
    script = script.replace('"$PWD/deploy/nginx.conf"', str(folder / "nginx.conf")).replace(
        ".venv/bin/python", sys.executable
    )
    if os.getuid() == 0:  # for whom Postgres does not run
        script = script.replace('mkdir -m 700 "$PLACE"', 'mkdir -m 700 "$PLACE"; chown postgres "$PLACE"')
        script = re.sub(r"^(initdb|pg_ctl) ", rf"{AS_POSTGRES} \1 ", script, flags=re.MULTILINE)
    (folder / "walk.sh").write_text(script, encoding="utf-8")
    environment = {
        "HOME": str(folder), "PATH": f"{os.environ['PATH']}:/usr/sbin", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(PROJECT_ROOT), "STUDIO_DEVICE": "cpu",
    }  # fmt: skip
    with subprocess.Popen(
        ["bash", str(folder / "walk.sh")], cwd=PROJECT_ROOT, env=environment, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as walk:  # fmt: skip
        assert walk.stdin is not None and walk.stdout is not None
        try:
            said, logs = [], folder / "studio-service"
            for line in walk.stdout:
                said.append(line.strip())
                if line.startswith("token "):
                    break
            texts = [path.read_text(errors="replace")[-3000:] for path in logs.glob("*.log")]
            assert "usable photos: 6" in said, (said, texts)
            look_around(f"http://127.0.0.1:{gateway}", said[-1].removeprefix("token "), servers)
            walk.stdin.write("\n")
            walk.stdin.flush()
            rest = walk.stdout.read()
            assert walk.wait(120) == 0 and rest.strip().splitlines()[-1] == "stopped", rest
            for log in logs.glob("server-*.log"):
                lines = [json.loads(row) for row in log.read_text(encoding="utf-8").splitlines()]
                assert not [row for row in lines if row["level"] == "error"] and said[-1][6:] not in log.read_text()
        finally:
            if walk.poll() is None:
                os.killpg(walk.pid, signal.SIGKILL)
            for running in folder.glob("*/postgres/postmaster.pid"):  # it has left the group
                os.kill(int(running.read_text().split()[0]), signal.SIGQUIT)


def look_around(address: str, token: str, servers: list[int]) -> None:
    """Look at the page, a file, an event stream and the figures, below the path that the gateway serves."""
    asked = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{address}/studio", timeout=60) as browser:
        entered = browser.get("/", params={"token": token})
        assert entered.status_code == 303 and entered.headers["location"] == "/studio/"
        page = browser.get("/", headers={"Accept": "text/html"})
        assert page.status_code == 200 and "Likeness Studio" in page.text
        assert browser.get("/config").json()["root"] == f"{address}/studio"
        scripts = re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', page.text)
        assert scripts
        for script in scripts[:5]:
            found = browser.get(httpx.URL(f"{address}/studio/").join(script))
            assert found.status_code == 200, script
        (job,) = browser.get("/v1/jobs").json()["items"]
        assert job["state"] == "completed"
        files = browser.get(f"/v1/jobs/{job['id']}/files").json()["files"]
        assert all(row["url"].startswith("/studio/files/") for row in files)
        for row in files[:3]:
            assert len(httpx.get(f"{address}{row['url']}", headers=asked, timeout=60).content) == row["bytes"]
        with browser.stream("GET", f"/v1/jobs/{job['id']}/events") as events:
            text = "".join(events.iter_text())
        assert "event: end" in text and '"completed"' in text
        made = browser.post("/v1/check", json={"edits": job["id"]})
        assert made.status_code == 202 and made.headers["location"].startswith("/studio/v1/jobs/")
        assert browser.post(f"/v1/jobs/{made.json()['id']}/cancel").status_code == 200
        assert browser.get("/v1/metrics").status_code == 404
    leads = []
    for port in servers:
        told = httpx.get(f"http://127.0.0.1:{port}/v1/metrics", headers=asked, timeout=60).text
        leads.append("studio_leads 1.0" in told)
    assert sorted(leads) == [False, True]
