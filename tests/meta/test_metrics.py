"""What is scraped, what the page says of it, and what dashboard and alerts ask for are the same."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from house import ROOT, rows, text

from gateway.telemetry import Metrics

ALERTS, BOARD = "deploy/prometheus/alerts.yaml", "deploy/grafana/outreach-gateway.json"
ALERT_RULES = yaml.safe_load(text(ALERTS))["groups"][0]["rules"]
PANELS = [panel for panel in json.loads(text(BOARD))["panels"] if panel["type"] != "row"]
BY_ITSELF = {"le"}
"""A label that Prometheus gives every histogram."""
WORDS = "by|on|group_left"


def families():
    """Every metric of ours: its name as it is scraped → (type, labels)."""
    found = {}
    for name, collector in Metrics()._registry._names_to_collectors.items():
        labels = getattr(collector, "_labelnames", None)
        if labels is not None:
            found[name] = (collector._type, set(labels))
    return found


FAMILIES = families()


def scraped():
    """Names that a query may use: of a counter only its total, of a histogram its three series."""
    for name, (kind, labels) in FAMILIES.items():
        match kind:
            case "counter" if name.endswith("_total"):
                yield name, labels
            case "histogram" if name.endswith("_bucket"):
                yield name, labels | BY_ITSELF
            case "histogram" if name.endswith(("_sum", "_count")):
                yield name, labels
            case "gauge":
                yield name, labels


SERIES = dict(scraped())


def expressions():
    yield from ((rule["alert"], rule["expr"]) for rule in ALERT_RULES)
    for panel in PANELS:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    for variable in json.loads(text(BOARD))["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def used(expression):
    """The metrics of a query, the labels it matches them by, and those it groups by."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    metrics = re.findall(r"\b(gateway_\w+)(?:\{([^}]*)\})?", plain)
    matched = {name: set(re.findall(r"(\w+)\s*[=!]", inner)) for name, inner in metrics}
    grouped = {
        word
        for inner in re.findall(rf"\b(?:{WORDS}) \(([^)]*)\)", plain)
        for word in re.findall(r"\w+", inner)
    }
    return matched, grouped


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_metric_and_label_that_is_asked_for_exists(where, expression):
    matched, grouped = used(expression)

    assert matched
    assert matched.keys() - SERIES.keys() == set()
    for name, labels in matched.items():
        assert labels - SERIES[name] == set(), name
    assert grouped - set().union(*(SERIES[name] for name in matched)) == set()


def test_a_query_for_what_does_not_exist_would_be_seen():
    matched, grouped = used('sum by (tennant) (rate(gateway_du{tenant="a", chanel=~"b"}[1m]))')

    assert (matched, grouped) == ({"gateway_du": {"tenant", "chanel"}}, {"tennant"})


def test_names_follow_the_conventions():
    odd = [name for name in SERIES if not re.fullmatch(r"gateway_[a-z0-9_]+", name)]
    units = [name for name in SERIES if re.search(r"_(ms|us|minutes|percent|milliseconds)\b", name)]

    assert (odd, units) == ([], [])
    assert all(
        name.endswith("_total")
        for name, (kind, _) in FAMILIES.items()
        if kind == "counter" and name in SERIES
    )
    assert not [name for name, (kind, _) in FAMILIES.items() if kind == "gauge" and name.endswith("_total")]


def test_nothing_that_names_a_person_or_a_single_thing_is_a_label():
    labels = set().union(*SERIES.values())

    assert (
        labels & {"borrower", "person", "debt", "reminder", "attempt", "ref", "id", "phone", "address", "key"}
        == set()
    )


def test_every_metric_is_described_and_no_other():
    base = {
        re.sub(r"_(bucket|sum|count)$", "", name) if FAMILIES[name][0] == "histogram" else name
        for name in SERIES
    }

    assert set(rows("docs/metrics.md")) == base


def test_the_page_names_the_labels():
    told = dict(re.findall(r"^\| `(gateway_\w+)` \| ([^|]*) \|", text("docs/metrics.md"), re.MULTILINE))
    wrong = {}
    for name, said in told.items():
        labels = SERIES.get(name) or SERIES[f"{name}_count"] if name not in SERIES else SERIES[name]
        if set(re.findall(r"`(\w+)`", said)) != labels:
            wrong[name] = labels

    assert wrong == {}


def test_every_alert_says_what_to_do_and_whom_it_wakes():
    for rule in ALERT_RULES:
        assert rule["labels"]["severity"] in {"page", "day"}
        assert rule["annotations"].keys() == {"summary", "description"}


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool here")
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", ALERTS],
        ["check", "config", "--syntax-only", "deploy/prometheus/prometheus.yaml"],
        ["test", "rules", "tests/meta/alerts.yaml"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_promtool_agrees(command):
    done = subprocess.run([PROMTOOL, *command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool here")
def test_promtool_can_read_every_query_of_the_dashboard(tmp_path):
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    rules = [{"record": f"a:b{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))

    done = subprocess.run([PROMTOOL, "check", "rules", path], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool here")
def test_promtool_finds_nothing_odd_in_what_is_scraped():
    metrics = Metrics()
    metrics.called("sms", "twilio_sms", "accepted", 0.2)
    metrics.took("go", 0.1)
    metrics.show("due", {("sms", "acme/live", "urgent"): 1})
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=metrics.render(), capture_output=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
