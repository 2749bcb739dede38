"""The files in `deploy/` are valid, fit each other and fit the settings of the gateway."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trustme
import yaml
from support.servers.proxies import DEPLOY, program

from server.config.loading import ConfigError, load_config
from server.config.settings import Config, Server
from server.config.settings_table import describe_settings
from workers.units import MIB

ROOT = DEPLOY.parent
SCHEMAS = Path(__file__).parent / "schemas"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OBJECTS = list(yaml.safe_load_all((DEPLOY / "kubernetes/roxy.yaml").read_text()))
KINDS = {
    "ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "Service": "io.k8s.api.core.v1.Service",
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
    "Ingress": "io.k8s.api.networking.v1.Ingress",
}
SETTINGS = Server()
SECRETS = {"ROXY_DATABASE_URL", "ROXY_REDIS_URL", "ROXY_ADMIN_API_KEY"}
NODES = [name for name in COMPOSE["services"] if name.startswith("roxy-")]


def kubernetes(kind: str) -> Any:
    """Return the one object of a kind."""
    (found,) = [one for one in OBJECTS if one["kind"] == kind]
    return found


def pod() -> Any:
    """Return the pod of the Deployment."""
    return kubernetes("Deployment")["spec"]["template"]["spec"]


def seconds(text: str) -> float:
    """Read a time of Compose or nginx."""
    assert text.endswith("s"), text
    return float(text.removesuffix("s"))


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, in order."""
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text)
    return [(line.split()[0], line.partition(" ")[2]) for line in joined.splitlines() if line]


def final_stage() -> list[tuple[str, str]]:
    """Return the instructions of the stage that becomes the image."""
    everything = instructions()
    last = max(n for n, (word, _) in enumerate(everything) if word == "FROM")
    return everything[last:]


def variables() -> dict[str, str]:
    """Return the environment of the image."""
    return dict(
        part.split("=", 1)
        for word, rest in final_stage()
        if word == "ENV"
        for part in shlex.split(rest)
    )


# Compose and Kubernetes


def test_compose_follows_its_specification() -> None:
    jsonschema.validate(COMPOSE, json.loads((SCHEMAS / "compose-spec.json").read_text()))


@pytest.mark.parametrize("manifest", OBJECTS, ids=lambda one: one["kind"])
def test_the_manifests_follow_the_schemas_of_kubernetes(manifest: Any) -> None:
    schema = json.loads((SCHEMAS / "kubernetes.json").read_text())
    jsonschema.validate(manifest, schema | {"$ref": f"#/$defs/{KINDS[manifest['kind']]}"})


def test_a_wrong_manifest_is_noticed() -> None:
    schema = json.loads((SCHEMAS / "kubernetes.json").read_text())
    wrong = json.loads(json.dumps(kubernetes("Deployment")))
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(jsonschema.ValidationError, match="livenesProbe"):
        jsonschema.validate(wrong, schema | {"$ref": f"#/$defs/{KINDS['Deployment']}"})


def test_the_objects_of_kubernetes_name_each_other() -> None:
    labels = kubernetes("Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in (
        kubernetes("Deployment")["spec"]["selector"]["matchLabels"],
        kubernetes("Service")["spec"]["selector"],
        kubernetes("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in pod()["topologySpreadConstraints"]),
    ):
        assert selector.items() <= labels.items()
    (container,) = pod()["containers"]
    (port,) = container["ports"]
    assert kubernetes("Service")["spec"]["ports"][0]["targetPort"] == port["name"]
    assert str(port["containerPort"]) == variables()["ROXY_SERVER_PORT"]
    volumes = {volume["name"] for volume in pod()["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_the_configuration_of_kubernetes_loads(tmp_path: Path) -> None:
    file = tmp_path / "roxy.toml"
    file.write_text(kubernetes("ConfigMap")["data"]["roxy.toml"])
    config = load_config({}, {"ROXY_ADMIN_API_KEY": "k3y-of-the-0wner-for-tests"}, file)
    grace = pod()["terminationGracePeriodSeconds"]
    before = float(pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert grace > before + config.server.stop_delay_s + config.server.drain_timeout_s


def test_probes_ask_what_they_are_for() -> None:
    (container,) = pod()["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness")}
    # A gateway that waits for its database or drains is alive: a restart would lose its answers.
    assert set(paths.values()) == {"/healthz"}
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


@pytest.mark.parametrize("name", NODES)
def test_compose_gives_a_node_time_to_drain(name: str) -> None:
    node = COMPOSE["services"][name]
    delay = float(node["environment"]["ROXY_SERVER_STOP_DELAY_S"])
    assert seconds(node["stop_grace_period"]) > delay + SETTINGS.drain_timeout_s


def test_nodes_differ_in_name_address_and_data() -> None:
    nodes = [COMPOSE["services"][name] for name in NODES]
    assert len({node["environment"]["ROXY_SERVER_NODE_ID"] for node in nodes}) == len(nodes)
    assert len({node["volumes"][0] for node in nodes}) == len(nodes)
    addresses = {node["networks"]["roxy"]["ipv4_address"] for node in nodes}
    urls = {node["environment"]["ROXY_SERVER_NODE_URL"] for node in nodes}
    assert urls == {f"http://{address}:8080" for address in addresses}
    upstream = (DEPLOY / "compose/roxy-upstream.conf").read_text()
    assert set(re.findall(r"server (\S+):8080 ", upstream)) == addresses
    proxy = COMPOSE["services"]["nginx"]["networks"]["roxy"]["ipv4_address"]
    for node in nodes:
        assert node["environment"]["ROXY_SERVER_TRUSTED_PROXIES"] == proxy


def test_containers_may_do_little() -> None:
    for name in NODES:
        node = COMPOSE["services"][name]
        assert node["read_only"] and node["cap_drop"] == ["ALL"]
        assert node["security_opt"] == ["no-new-privileges:true"]
    (container,) = pod()["containers"]
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert pod()["securityContext"]["runAsNonRoot"]


def test_variables_are_settings() -> None:
    known = {setting.env for setting in describe_settings()} | SECRETS
    named = set(variables())
    for name in NODES:
        named |= set(COMPOSE["services"][name]["environment"])
    named |= {one["name"] for one in pod()["containers"][0]["env"]}
    named |= set(re.findall(r"\bROXY_[A-Z_]+", (DEPLOY / "systemd/roxy.service").read_text()))
    assert {name for name in named if name.startswith("ROXY_")} <= known


def test_no_file_holds_a_secret_and_nothing_starts_without_one() -> None:
    example = (DEPLOY / ".env.example").read_text()
    wanted = set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE))
    assert re.findall(r"^[A-Z_]+=.+$", example, re.MULTILINE) == []
    text = (DEPLOY / "compose.yaml").read_text()
    for name in ("ROXY_ADMIN_API_KEY", "POSTGRES_PASSWORD", "VALKEY_PASSWORD"):
        assert name in wanted
        assert (
            f"${{{name}:?" in text
            and f"${{{name}}}" not in text
            and f"${name}" not in (text.replace(f"$${name}", ""))
        )
    from_secrets = {
        one["name"]: one["valueFrom"]["secretKeyRef"]
        for one in pod()["containers"][0]["env"]
        if "secretKeyRef" in one.get("valueFrom", {})
    }
    assert set(from_secrets) == SECRETS
    assert not any(source.get("optional") for source in from_secrets.values())
    environment = (DEPLOY / "systemd/roxy.env").read_text()
    owner_key = re.findall(r"^ROXY_ADMIN_API_KEY=(.*)$", environment, re.MULTILINE)
    with pytest.raises(ConfigError, match="easily guessed"):
        load_config({}, {"ROXY_ADMIN_API_KEY": owner_key[0]})
    assert "\nEnvironmentFile=/etc/roxy/roxy.env\n" in (DEPLOY / "systemd/roxy.service").read_text()


@pytest.mark.parametrize("file", ["systemd/roxy.env", "kubernetes/roxy.yaml"])
def test_a_database_that_is_verified_names_the_authority(file: str) -> None:
    """Without a name asyncpg wants a file in the home directory, which services do not have."""
    (options,) = re.findall(r"postgresql://\S+\?([^\s']+)", (DEPLOY / file).read_text())
    assert "sslmode=verify-full" in options.split("&")
    assert any(option.startswith("sslrootcert=/") for option in options.split("&"))


# The image


def test_the_base_is_pinned_and_the_final_stage_only_copies() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert len(bases) == 2 and len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])
    runs = " ".join(rest for word, rest in final_stage() if word == "RUN")
    assert not re.search(r"apt|pip|gcc|make|curl", runs)
    (copied,) = [rest for word, rest in final_stage() if word == "COPY"]
    assert copied == "--from=build /opt/roxy /opt/roxy"


def test_packages_are_installed_with_hashes_and_never_built() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert "--require-hashes --only-binary=:all:" in installs[0]
    assert "requirements-nodes.lock" in installs[0]
    assert "--no-deps" in installs[1] and "--no-index" in installs[1]


def test_the_image_runs_as_an_ordinary_user_who_owns_the_volume() -> None:
    stage = dict(final_stage())
    assert re.fullmatch(r"(\d{4,}):\1", stage["USER"])
    number = stage["USER"].split(":")[0]
    assert f"--owner={number}" in stage["RUN"] and stage["VOLUME"] in stage["RUN"]
    assert stage["VOLUME"] == variables()["ROXY_SERVER_DATA_DIR"]
    assert pod()["securityContext"]["runAsUser"] == int(number)
    assert (stage["STOPSIGNAL"], stage["ENTRYPOINT"]) == ("SIGTERM", '["roxy"]')


def test_the_image_has_what_the_package_needs_and_nothing_else() -> None:
    kept = re.findall(r"^!(\S+?)/?$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    build = {"requirements-nodes.lock", "pyproject.toml", "setup.cfg", "README.md", "LICENSE"}
    assert set(kept) == packages | build
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


# Proxies and systemd


def test_sizes_and_times_of_the_proxies_fit_the_settings() -> None:
    site = (DEPLOY / "nginx/roxy.conf").read_text()
    largest = re.findall(r"client_max_body_size (\d+)m;", site)
    assert [int(size) * MIB for size in largest] == [SETTINGS.max_body_bytes]
    caddy = (DEPLOY / "caddy/Caddyfile").read_text()
    assert f"max_size {SETTINGS.max_body_bytes // MIB}MiB" in caddy
    ingress = kubernetes("Ingress")["metadata"]["annotations"]
    assert ingress["nginx.ingress.kubernetes.io/proxy-body-size"] == f"{largest[0]}m"
    # Five times is how long an answer may take that is not streamed; see the setting.
    slowest = 5 * Config().stream.first_content_timeout_s
    (read_timeout,) = re.findall(r"proxy_read_timeout (\d+)s;", site)
    (header_timeout,) = re.findall(r"response_header_timeout (\d+)s", caddy)
    by_ingress = ingress["nginx.ingress.kubernetes.io/proxy-read-timeout"]
    assert min(map(float, (read_timeout, header_timeout, by_ingress))) > slowest


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("nginx/roxy-upstream.conf", r"keepalive_timeout (\d+)s;"),
        ("compose/roxy-upstream.conf", r"keepalive_timeout (\d+)s;"),
        ("caddy/Caddyfile", r"keepalive (\d+)s"),
    ],
)
def test_a_proxy_closes_idle_connections_before_the_gateway_does(file: str, pattern: str) -> None:
    (kept,) = re.findall(pattern, (DEPLOY / file).read_text())
    assert float(kept) < SETTINGS.idle_timeout_s


def test_nginx_accepts_the_site_of_compose(tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("roxy.example")
    certificate.private_key_pem.write_to_path(tmp_path / "privkey.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "fullchain.pem")
    site = (DEPLOY / "nginx/roxy.conf").read_text().replace("/etc/nginx/tls", str(tmp_path))
    (tmp_path / "roxy.conf").write_text(site)
    shutil.copy(DEPLOY / "compose/roxy-upstream.conf", tmp_path / "roxy-upstream.conf")
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; events {{}}\nhttp {{ include {tmp_path}/roxy*.conf; }}\n"
    )
    command = [program("nginx"), "-t", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_caddy_accepts_its_site_as_it_is_and_formatted(tmp_path: Path) -> None:
    file = DEPLOY / "caddy/Caddyfile"
    environ = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}

    def caddy(*command: str | Path) -> str:
        done = subprocess.run(
            [program("caddy"), *command], capture_output=True, text=True, env=environ, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    caddy("validate", "--adapter", "caddyfile", "--config", file)
    assert caddy("fmt", file) == file.read_text()


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    service = (DEPLOY / "systemd/roxy.service").read_text()
    (program_path,) = re.findall(r"^ExecStart=(\S+)", service, re.MULTILINE)
    # It checks that the program exists.
    (tmp_path / "roxy.service").write_text(service.replace(program_path, "/bin/true"))
    shutil.copy(DEPLOY / "systemd/roxy.socket", tmp_path / "roxy.socket")
    command = [program("systemd-analyze"), "verify", *map(str, tmp_path.glob("roxy.*"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_gives_the_gateway_time_to_drain() -> None:
    service = (DEPLOY / "systemd/roxy.service").read_text()
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)
    assert float(stop) > SETTINGS.drain_timeout_s + 5.0
