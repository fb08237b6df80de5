"""Loki and who ships to it. None of these programs can be had here, so their files are held against known facts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pocket_agent.monitoring import render
from tests.monitoring.alloy_syntax import AlloySyntaxError, Block, Reference, parse
from tests.monitoring.stack_sample import CASES, Case, defaults, settings_of, texts, two_servers

LABELS = {"service", "level", "environment"}
METADATA = {"correlation_id", "project_id", "conversation_id", "trace_id", "span_id"}


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    (tmp_path / "second").mkdir()
    made: Case = request.param(tmp_path)
    return made


def read(case: Case, path: str) -> Any:
    return yaml.safe_load(case.files[path])


def alloy(case: Case) -> dict[str, Block]:
    """The components by their full names."""
    return {f"{block.name}.{block.label}": block for block in parse(case.files["alloy/config.alloy"]).blocks}


def references(value: object) -> list[str]:
    """What a value points to."""
    if isinstance(value, Reference):
        return [value.path]
    if isinstance(value, list):
        return [path for part in value for path in references(part)]
    return []


def test_loki_3_accepts_its_schema(case: Case) -> None:
    """Structured metadata needs tsdb and v13 (Loki's documentation, "Structured metadata")."""
    loki = read(case, "loki/config.yml")
    (period,) = loki["schema_config"]["configs"]
    assert (period["store"], period["schema"], period["object_store"]) == ("tsdb", "v13", "filesystem")
    assert period["index"]["period"] == "24h", "which tsdb asks for"
    assert loki["limits_config"]["allow_structured_metadata"] is True
    assert loki["compactor"]["retention_enabled"] is True
    assert loki["compactor"]["delete_request_store"] == "filesystem", "without which retention is refused"
    assert loki["server"]["http_listen_address"] == loki["server"]["grpc_listen_address"] == "127.0.0.1"


def test_loki_keeps_logs_as_long_as_prometheus_keeps_figures_but_a_day_at_least(tmp_path: Path) -> None:
    for retention, hours in (("30d", "720h"), ("36h", "36h"), ("1h", "24h")):
        files = texts(render(settings_of(tmp_path, monitoring__retention=retention)))
        assert yaml.safe_load(files["loki/config.yml"])["limits_config"]["retention_period"] == hours


def test_alloys_file_is_in_its_language_and_its_parts_are_connected(case: Case) -> None:
    components = alloy(case)
    for name, component in components.items():
        for value in component.attributes.values():
            for path in references(value):
                assert path.rpartition(".")[0] in components, f"{name} points to {path}"
    process = components["loki.process.pocket_agent"]
    assert [block.name for block in process.blocks] == [
        "stage.json",
        "stage.labels",
        "stage.structured_metadata",
        "stage.timestamp",
    ]
    url = components["loki.write.local"].one("endpoint").attributes["url"]
    assert url == f"http://127.0.0.1:{case.first.monitoring.loki_port}/loki/api/v1/push"


def test_what_each_request_has_is_no_label(case: Case) -> None:
    process = alloy(case)["loki.process.pocket_agent"]
    assert process.one("stage.labels").attributes["values"].keys() == LABELS
    assert process.one("stage.structured_metadata").attributes["values"].keys() == METADATA
    assert process.one("stage.json").attributes["expressions"].keys() == LABELS | METADATA | {"timestamp"}
    for job in read(case, "promtail/config.yml")["scrape_configs"]:
        stages = {name: stage for part in job["pipeline_stages"] for name, stage in part.items()}
        assert stages["labels"].keys() == LABELS
        assert stages["structured_metadata"].keys() == METADATA


def test_each_server_is_read_from_where_it_logs_to(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    case = two_servers(tmp_path)
    found = alloy(case)
    assert found["loki.source.journal.pocket_agent_2"].attributes["matches"] == "_SYSTEMD_UNIT=pocket-agent-2.service"
    (target,) = found["local.file_match.pocket_agent"].attributes["path_targets"]
    assert target == {"__path__": str(tmp_path / "first.log"), "job": "pocket-agent"}
    jobs = {job["job_name"]: job for job in read(case, "promtail/config.yml")["scrape_configs"]}
    (keep,) = jobs["pocket-agent-journal"]["relabel_configs"]
    assert re.fullmatch(keep["regex"], "pocket-agent-2.service")
    assert not re.fullmatch(keep["regex"], "pocket-agent.service")
    assert jobs["pocket-agent-file"]["static_configs"][0]["labels"]["__path__"] == str(tmp_path / "first.log")
    inputs = {one["type"]: one for one in read(case, "elk/filebeat/filebeat.yml")["filebeat.inputs"]}
    assert inputs["filestream"]["paths"] == [str(tmp_path / "first.log")]
    assert inputs["journald"]["include_matches"] == {"match": ["_SYSTEMD_UNIT=pocket-agent-2.service"]}


def test_a_log_file_with_a_strange_name_stays_one_text(tmp_path: Path) -> None:
    name = tmp_path / 'a "log" \\ $1 {{x}}.log'
    case = Case(settings_of(tmp_path, logging__output=name))
    assert alloy(case)["local.file_match.pocket_agent"].attributes["path_targets"][0]["__path__"] == str(name)


@pytest.mark.parametrize(
    "text",
    [
        'loki.write "x" {',
        "a = ",
        'a { b = "x" c = "y" }',
        'a {\n  b = {\n    c = "x"\n  }\n}',
        "a = 'x'",
        'a.b = "x"',
        'a = "x" }',
        "a = [1 2]",
        'a = "x\ny"',
    ],
)
def test_the_reader_of_alloys_language_refuses_what_is_not(text: str) -> None:
    with pytest.raises(AlloySyntaxError):
        parse(text)


def test_logstash_takes_the_line_apart_beside_filebeats_own_fields(tmp_path: Path) -> None:
    pipeline = defaults(tmp_path).files["elk/logstash/pipeline/pocket-agent.conf"]
    assert balanced(pipeline)
    assert re.findall(r"^(\w+) \{", pipeline, re.MULTILINE) == ["input", "filter", "output"]
    assert 'target => "log"' not in pipeline, "Filebeat says there from which file a line is"
    schema = json.loads((Path(__file__).parents[1] / "observability" / "log_schema.json").read_text("utf-8"))
    taken = set(re.findall(r'"\[@metadata\]\[line\]\[(\w+)\]"', pipeline))
    assert taken == schema["properties"].keys(), "every field of the log"
    # What is no JSON must be kept, so the message is only dropped where a line was taken apart.
    assert pipeline.index("if [@metadata][line][timestamp]") < pipeline.index("remove_field")
    assert 'password => "${ELASTIC_PASSWORD}"' in pipeline


def balanced(text: str) -> bool:
    """Whether each bracket is closed by its like, outside of texts and comments."""
    pairs, opened = {"}": "{", "]": "[", ")": "("}, []
    for sign in re.sub(r'"[^"\n]*"|^#.*$', "", text, flags=re.MULTILINE):
        if sign in "{[(":
            opened.append(sign)
        elif sign in pairs and (not opened or opened.pop() != pairs[sign]):
            return False
    return not opened


def test_kibanas_data_view_is_a_saved_object_a_line(tmp_path: Path) -> None:
    files = defaults(tmp_path).files
    (line,) = files["elk/kibana/pocket-agent.ndjson"].splitlines()
    view = json.loads(line)
    assert (view["type"], view["attributes"]["timeFieldName"]) == ("index-pattern", "@timestamp")
    (index,) = re.findall(r'index => "([^"]+)"', files["elk/logstash/pipeline/pocket-agent.conf"])
    pattern = re.escape(view["attributes"]["title"]).replace(r"\*", ".*")
    assert re.fullmatch(pattern, index.replace("%{+YYYY.MM.dd}", "2026.01.31"))


def test_telemetry_goes_from_the_collector_to_its_databases(case: Case) -> None:
    collector, tempo = read(case, "otel-collector/config.yaml"), read(case, "tempo/config.yml")
    stack, loki = case.first.monitoring, read(case, "loki/config.yml")
    protocols = collector["receivers"]["otlp"]["protocols"]
    assert protocols["http"]["endpoint"] == f"127.0.0.1:{stack.otlp_port}"
    pipelines = collector["service"]["pipelines"]
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines.values() for name in pipeline[kind]}
        assert used == collector[kind].keys(), "all exist, and nothing is set up and not used"
    assert {pipeline["processors"][0] for pipeline in pipelines.values()} == {"memory_limiter"}, "must be the first"
    ends = {
        signal: collector["exporters"][pipeline["exporters"][0]]["endpoint"] for signal, pipeline in pipelines.items()
    }
    assert ends["logs"] == f"http://127.0.0.1:{loki['server']['http_listen_port']}/otlp"
    assert ends["metrics"] == f"127.0.0.1:{stack.collector_metrics_port}"
    assert ends["traces"] == tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert tempo["server"]["http_listen_port"] == case.first.monitoring.tempo_port
    assert tempo["server"]["http_listen_address"] == "127.0.0.1"


def test_tempo_2_and_tempo_3_can_run_with_its_files(case: Case) -> None:
    """Tempo 3 rejects `compactor`, and Tempo 2.8 the settings of the directories that Tempo 3 adds in /var/tempo."""
    tempo, compose = read(case, "tempo/config.yml"), read(case, "docker-compose.yml")
    assert tempo.keys() <= {"server", "distributor", "overrides", "storage", "usage_report"}
    hours = tempo["overrides"]["defaults"]["compaction"]["block_retention"]
    assert hours == read(case, "loki/config.yml")["limits_config"]["retention_period"]
    assert "\nBindPaths=/var/lib/tempo:/var/tempo\n" in case.files["systemd/tempo.service"]
    assert {"tempo-data:/var/lib/tempo", "tempo-data:/var/tempo"} <= set(compose["services"]["tempo"]["volumes"])
