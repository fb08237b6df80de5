"""pocket_agent.cli.config: the settings in print."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from pocket_agent.cli.config import print_settings, render_json, render_yaml
from pocket_agent.errors import ConfigurationError
from pocket_agent.settings import LoadedSettings, load_settings
from pocket_agent.settings.load import MASK, RawValue, parse_yaml
from pocket_agent.settings.sections import SETTINGS

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def load(flags: Mapping[str, object] | None = None) -> LoadedSettings:
    return load_settings(config=None, environ={"HOME": "/home/ada"}, flags=flags or {})


def printed(loaded: LoadedSettings, *, as_json: bool) -> str:
    out = io.StringIO()
    print_settings(loaded, as_json=as_json, console=Console(file=out, width=40))
    return out.getvalue()


def test_people_get_yaml_with_the_sources_beside_it() -> None:
    text = printed(load({"server.port": 9000, "server.plain_port": "off"}), as_json=False)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "# settings file: none"
    assert lines[1] == "server:"
    assert "port: 9000 # flag --port" in lines
    assert "plain_port: off # flag --server-plain-port" in lines
    assert "execution: 1h # default" in lines
    assert lines[-1] == "demo: false # default"
    places = [line.index("  # ") for line in text.splitlines()[1:] if "  # " in line]
    assert len({place for place in places if place <= 60}) == 1, "only what is longer stands out"


def test_programs_get_numbers_and_units() -> None:
    document = json.loads(printed(load({"timeouts.idle": "90s", "server.tls.cert": None}), as_json=True))
    assert document["file"] is None
    assert document["settings"].keys() == SETTINGS.keys()
    assert document["settings"]["timeouts.idle"] == {
        "value": 90.0, "unit": "seconds", "text": "90s", "source": "flag --timeouts-idle",
    }  # fmt: skip
    assert document["settings"]["limits.message_size"]["value"] == 2**20
    assert document["settings"]["limits.message_size"]["unit"] == "bytes"
    assert document["settings"]["server.tls.cert"] == {"value": None, "text": "null", "source": "default"}
    assert document["settings"]["server.plain_port"]["value"] == 8080


def test_secrets_are_masked_in_both() -> None:
    loaded = load({"claude.environment": {"API_KEY": "hunter2", "EDITOR": "vi"}})
    for as_json in (False, True):
        text = printed(loaded, as_json=as_json)
        assert "hunter2" not in text
        assert MASK in text
        assert "vi" in text


def test_what_is_secret_as_a_whole_is_masked() -> None:
    urls = ["json://hunter2@host/x", "ntfys://hunter2"]
    loaded = load({"notifications.urls": urls, "traces.headers": {"x": "hunter2"}})
    for as_json in (False, True):
        assert "hunter2" not in printed(loaded, as_json=as_json)
    assert "hunter2" not in repr(loaded.settings)
    assert f'urls: ["{MASK}", "{MASK}"]' in printed(loaded, as_json=False)


def test_a_secret_that_is_refused_is_not_quoted() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"notifications.urls": ["json://fine", "hunter2"]})
    assert "hunter2" not in caught.value.message
    assert "notifications.urls" in caught.value.message


def test_long_and_bracketed_values_are_not_wrapped_or_styled() -> None:
    directory = "/[bold]x" * 40
    assert directory in printed(load({"data.dir": directory}), as_json=False)


texts = st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
roots = st.lists(texts.filter(str.isprintable).map(lambda name: Path("/" + name.strip().replace("/", ""))), max_size=3)


@UNHURRIED
@given(
    variables=st.dictionaries(st.sampled_from(["EDITOR", "LANG", "B"]), texts.filter(lambda text: "://" not in text)),
    roots=roots,
    fields=st.dictionaries(st.sampled_from(["a", "null", "1", "true", "x y"]), st.integers(-9, 9) | st.booleans()),
    seconds=st.floats(0, 1e6),
    size=st.integers(1024, 2**26),
    plain=st.none() | st.just(0),
)
def test_what_is_printed_reads_back_as_the_same_settings(
    *,
    variables: dict[str, str],
    roots: list[Path],
    fields: dict[str, object],
    seconds: float,
    size: int,
    plain: int | None,
) -> None:
    flags = {
        "claude.environment": variables,
        "projects.allowed_roots": roots,
        "logging.fields": fields,
        "timeouts.execution": seconds,
        "limits.message_size": size,
        "server.plain_port": "off" if plain is None else plain,
    }
    loaded = load(flags)
    items = parse_yaml(render_yaml(loaded), "f")
    again = load({item.key: item.value for item in items if isinstance(item, RawValue)})
    assert len(again.sources) == len(items)
    assert again.settings == loaded.settings
    assert json.loads(render_json(loaded))["settings"].keys() == SETTINGS.keys()
