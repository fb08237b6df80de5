"""What must hold of every compose file of this project."""

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import jsonschema
import yaml

_SCHEMA = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
_VARIABLE = re.compile(r"\$(?!\{[A-Z_]+:\?[^}]+\})")
"""A dollar sign, unless it begins a variable that must be set."""


def read_compose(text: str) -> dict[str, Any]:
    """A compose file, held against the schema of the Compose Specification."""
    found = yaml.safe_load(text)
    jsonschema.validate(found, json.loads(_SCHEMA.read_text("utf-8")))
    assert isinstance(found, dict)
    return found


def faults(compose: Mapping[str, Any]) -> Iterator[str]:
    """What is unwise or does not fit together."""
    services, volumes = compose["services"], compose.get("volumes", {})
    for name, service in services.items():
        yield from (f"{name}: {fault}" for fault in _service_faults(service, services, volumes))
    used = {mount["source"] for service in services.values() for mount in mounts(service) if mount["type"] == "volume"}
    yield from (f"volume {name} is used by nobody" for name in sorted(volumes.keys() - used))


def mounts(service: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What is mounted, in the long form."""
    for mount in service.get("volumes", []):
        if isinstance(mount, dict):
            yield mount
            continue
        source, target, *mode = mount.split(":")
        kind = "bind" if source.startswith((".", "/")) else "volume"
        yield {"type": kind, "source": source, "target": target, "read_only": bool(mode) and mode[0].startswith("ro")}


def _service_faults(
    service: Mapping[str, Any], services: Mapping[str, Any], volumes: Mapping[str, Any]
) -> Iterator[str]:
    image = service.get("image")
    if image is None and "build" not in service:
        yield "neither an image nor a build"
    if image is not None and re.fullmatch(r"[a-z0-9./-]+:v?[0-9]+\.[0-9]+\.[0-9]+", image) is None:
        yield f"the image {image} has no exact version"
    if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may do more than it has to"
    if service.get("privileged") or any("docker.sock" in str(mount) for mount in service.get("volumes", [])):
        yield "may do anything"
    if "restart" not in service:
        yield "nobody says whether it is started again"
    for published in service.get("ports", []):
        if not str(published).startswith("127.0.0.1:"):
            yield f"port {published} is not on loopback"
    for mount in mounts(service):
        if mount["type"] == "volume" and mount["source"] not in volumes:
            yield f"volume {mount['source']} is declared nowhere"
        if mount["type"] == "bind" and mount["source"].startswith("/") and not mount.get("read_only"):
            yield f"may write to {mount['source']}"
    for other in service.get("depends_on", {}):
        if other not in services:
            yield f"depends on {other}, which there is not"
        elif "healthcheck" not in services[other]:
            yield f"waits for {other}, which does not tell when it is ready"
    for text in _texts(service):
        if _VARIABLE.search(text.replace("$$", "")):  # which stands for the sign itself
            yield f"a variable that may be missing: {text}"


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
