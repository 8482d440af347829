"""Checks docker-compose.yml where no Docker runs: its structure, and that it agrees with the files and with the
configuration it mounts. With Docker's compose plugin on the machine, that reads the file as well."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent

# Of the Compose Specification, what we use. A key that is not here is a mistake until somebody adds it.
TOP = {"name", "services", "volumes"}
SERVICE = {
    "image": str, "build": str, "restart": str, "environment": dict, "command": list, "entrypoint": list,
    "healthcheck": dict, "volumes": list, "ports": list, "depends_on": dict,
}
HEALTHCHECK = {"test", "interval", "timeout", "retries"}

problems = []


def check(fine, problem):
    if not fine:
        problems.append(problem)
    return fine


def check_service(name, service, compose):
    check(("image" in service) != ("build" in service), f"{name}: has image or build, and not both")
    for key, value in service.items():
        if check(key in SERVICE, f"{name}: key {key} is not known"):
            check(isinstance(value, SERVICE[key]), f"{name}.{key}: is not a {SERVICE[key].__name__}")
    if "build" in service:
        check((ROOT / service["build"] / "Dockerfile").is_file(), f"{name}.build: no Dockerfile there")
    for key in ("command", "entrypoint"):
        for word in service.get(key, []):
            check(isinstance(word, str), f"{name}.{key}: {word!r} is not text")
    for variable, value in service.get("environment", {}).items():
        check(isinstance(value, str), f"{name}.environment.{variable}: {value!r} is not text")
    health = service.get("healthcheck", {})
    check(set(health) <= HEALTHCHECK, f"{name}.healthcheck: {sorted(set(health) - HEALTHCHECK)}")
    for key in ("interval", "timeout"):
        check(key not in health or re.fullmatch(r"\d+(ms|s|m)", str(health[key])), f"{name}.healthcheck.{key}")
    for port in service.get("ports", []):
        check(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), f"{name}.ports: {port} is not 127.0.0.1:HOST:CONTAINER")
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        check(target.startswith("/") and mode in ([], ["ro"]), f"{name}.volumes: {volume}")
        if source.startswith("."):
            check((ROOT / source).is_file(), f"{name}.volumes: {source} is no file")
        else:
            check(source in compose["volumes"], f"{name}.volumes: {source} is not declared")
    for other, how in service.get("depends_on", {}).items():
        if check(other in compose["services"], f"{name}.depends_on: no service {other}"):
            check(how == {"condition": "service_healthy"}, f"{name}.depends_on.{other}: {how}")
            has_check = "healthcheck" in compose["services"][other] or "build" in compose["services"][other]
            check(has_check, f"{name}.depends_on.{other}: it has no healthcheck")


def check_configuration(compose):
    """Every server that the mounted configuration names is a service, with that user, password and database."""
    services = compose["services"]
    keyway = services["keyway"]
    mounted = [volume.split(":")[0] for volume in keyway["volumes"] if ":/etc/keyway/keyway.toml" in volume]
    config = tomllib.loads((ROOT / mounted[0]).read_text())
    for name, shard in config["shards"].items():
        for url in [shard["primary"], *shard.get("replicas", [])]:
            dsn = urlsplit(url)
            service = services.get(dsn.hostname)
            if not check(service, f"shards.{name}: {dsn.hostname} is no service"):
                continue
            environment = service["environment"]
            check(dsn.port == 5432, f"shards.{name}: port {dsn.port}")
            check(dsn.username == environment["POSTGRES_USER"], f"shards.{name}: user {dsn.username}")
            check(dsn.password == environment["POSTGRES_PASSWORD"], f"shards.{name}: password")
            databases = {environment["POSTGRES_DB"], environment.get("VERTICAL_DATABASE")}
            check(dsn.path[1:] in databases, f"shards.{name}: {dsn.hostname} has no database {dsn.path[1:]}")
            check(dsn.hostname in keyway["depends_on"], f"keyway.depends_on: {dsn.hostname} is missing")
    for key in ("listen", "http"):
        port = config[key].rsplit(":", 1)[1]
        check(any(one.endswith(f":{port}") for one in keyway["ports"]), f"keyway.ports: {key}'s {port} is missing")
    for user in config["users"].values():
        variable = user["password"].removeprefix("env:")
        check(variable in keyway["environment"], f"keyway.environment: {variable} is missing")


def check_with_docker():
    if shutil.which("docker") is None:
        return
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        return
    said = subprocess.run(
        ["docker", "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    check(said.returncode == 0, f"docker compose config: {said.stderr.strip()}")


def main():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    top = {key for key in compose if not key.startswith("x-")}
    check(top <= TOP, f"keys {sorted(top - TOP)} are not known")
    for name, service in compose["services"].items():
        check_service(name, service, compose)
    if not problems:
        check_configuration(compose)
    check_with_docker()
    for problem in problems:
        print(f"docker-compose.yml: {problem}")
    if not problems:
        print(f"docker-compose.yml: {len(compose['services'])} services agree with their files")
    sys.exit(1 if problems else 0)


main()
