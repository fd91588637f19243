"""The image and the compose file keep what they promise, as far as it can be seen without an engine."""

import http.server
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
import yaml
from house import ROOT, text

import channels
from gateway.settings import Settings, redis_target

COMPOSE = yaml.safe_load(text("deploy/compose.yaml"))
SERVICES = COMPOSE["services"]
OURS = {"api", "worker", "upgrade", "tool"}
DOCKERFILE = re.sub(r"\\\n\s*", "", text("Dockerfile"))
ONE_SHOT = {"upgrade", "tool"}


def instructions(word):
    return re.findall(rf"^{word} (.+)$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["pids_limit"] > 0
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()
    assert service.get("cap_drop") == (["ALL"] if name in OURS else None)


@pytest.mark.parametrize("name", SERVICES)
def test_every_name_that_a_service_uses_is_declared(name):
    service = SERVICES[name]
    mounts = [mount.split(":")[0] for mount in service.get("volumes", [])]

    assert {mount for mount in mounts if not mount.startswith(".")} <= COMPOSE["volumes"].keys()
    assert set(service["networks"]) <= COMPOSE["networks"].keys()
    assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
    assert set(service.get("depends_on", {})) <= SERVICES.keys()


def test_only_the_api_is_published_and_only_on_loopback():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"api": ["127.0.0.1:8080:8080"]}


def test_servers_are_on_the_closed_network_alone():
    assert COMPOSE["networks"]["inside"]["internal"] is True
    assert {name for name, service in SERVICES.items() if service["networks"] == ["inside"]} == {
        "postgres",
        "vault",
        "valkey",
        "upgrade",
    }


def test_two_workers_wait_for_the_schema_and_may_end_their_calls():
    worker = SERVICES["worker"]
    longest = max(channels.load(name).call_timeout for name in channels.names())

    assert worker["deploy"]["replicas"] == 2
    assert worker["depends_on"]["upgrade"] == {"condition": "service_completed_successfully"}
    assert worker["depends_on"]["valkey"] == {"condition": "service_healthy"}
    assert timedelta(seconds=int(worker["stop_grace_period"].rstrip("s"))) > longest + timedelta(seconds=10)


def test_every_server_is_asked_how_it_is():
    servers = SERVICES.keys() - OURS

    assert all(
        {"test", "interval", "timeout", "retries"} <= SERVICES[name]["healthcheck"].keys() for name in servers
    )
    assert all(SERVICES[name]["healthcheck"] == {"disable": True} for name in ONE_SHOT)
    assert "--worker-listen" in SERVICES["worker"]["command"]
    assert all(
        SERVICES[name]["restart"] == ("no" if name in ONE_SHOT else "unless-stopped") for name in SERVICES
    )


def test_what_is_accepted_is_on_disk_and_the_bell_evicts_nothing():
    valkey = " ".join(SERVICES["valkey"]["command"])

    assert "--appendonly yes" in valkey
    assert "--maxmemory-policy noeviction" in valkey
    for name in ("postgres", "vault"):
        assert {"fsync=on", "synchronous_commit=on", "full_page_writes=on"} <= set(SERVICES[name]["command"])


def test_no_secret_stands_in_the_compose_file():
    for service in SERVICES.values():
        for variable in service.get("environment", {}):
            assert not re.search(r"PASSWORD$|SECRET|TOKEN|_URL$", variable)
    assert all(secret["file"].startswith("secrets/") for secret in COMPOSE["secrets"].values())


def test_what_is_made_once_holds_together_and_is_never_overwritten(tmp_path):
    folder = tmp_path / "some place" / "deploy"
    shutil.copytree(
        ROOT / "deploy", folder, ignore=shutil.ignore_patterns("gateway.env", "accounts.toml", "secrets")
    )

    def prepare():
        return subprocess.run(
            ["/bin/sh", folder / "prepare.sh"], capture_output=True, text=True, check=False, cwd="/"
        )

    assert prepare().returncode == 0
    made = (folder / "gateway.env").read_text()
    variables = dict(re.findall(r"^(\w+)=(.*)$", made, re.MULTILINE))
    settings = Settings(**{name.removeprefix("GATEWAY_").lower(): value for name, value in variables.items()})
    secrets = {name: (folder / "secrets" / name).read_text() for name in ("postgres", "vault", "valkey.acl")}
    assert settings.database.password == secrets["postgres"]
    assert settings.vault.password == secrets["vault"]
    assert settings.redis_url.password.reveal("compared in a test") in secrets["valkey.acl"]
    assert len({settings.database.password, settings.vault.password, variables["GATEWAY_REDIS_URL"]}) == 3
    assert redis_target(variables["GATEWAY_REDIS_URL"]).username == "gateway"
    assert stat.S_IMODE((folder / "gateway.env").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700

    again = prepare()
    assert (again.returncode, (folder / "gateway.env").read_text()) == (2, made)
    assert "is there already" in again.stderr


def test_what_is_made_once_is_not_tracked():
    ignored = text(".gitignore").splitlines()

    assert {"deploy/gateway.env", "deploy/accounts.toml", "deploy/secrets/"} <= set(ignored)


def test_the_image_is_built_in_stages_and_runs_as_nobody_special():
    stages = instructions("FROM")

    assert len(stages) == 2
    assert all("-slim" in stage for stage in stages)
    assert instructions("USER") == ["10001:10001"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(*instructions("ENTRYPOINT")) == ["gateway"]
    assert json.loads(*instructions("CMD")) == ["api"]
    assert "/data" in json.loads(*instructions("VOLUME"))
    assert "PYTHONDONTWRITEBYTECODE=1" in DOCKERFILE


def test_the_image_takes_hashed_requirements_without_the_embedded_server():
    installs = re.findall(r"pip install [^&]+", DOCKERFILE)

    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
    assert "requirements/production.txt" in DOCKERFILE
    assert not re.search(r"runtime\.txt|dev\.txt|embedded\]", DOCKERFILE)


def test_the_build_sees_exactly_what_it_copies():
    copied = {source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]}
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}

    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


class Probe(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_image_is_healthy_only_when_it_says_so(status, code):
    [check] = re.findall(r"HEALTHCHECK .*?CMD (\[.*\])", DOCKERFILE)
    _python, *arguments = json.loads(check)
    server = http.server.HTTPServer(("127.0.0.1", 0), type("Answers", (Probe,), {"status": status}))
    port = server.server_port
    if status is None:
        server.server_close()
    else:
        threading.Thread(target=server.handle_request, daemon=True).start()
    env = os.environ | {"GATEWAY_LISTEN": f"0.0.0.0:{port}", "http_proxy": "http://127.0.0.1:1"}

    ended = subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, timeout=20, check=False
    )
    server.server_close()

    assert ended.returncode == code
