"""Watches and proxies in a whole pipeline: the same bytes however records come in batches."""

import json
from pathlib import Path

import pytest
from river.compose import Select
from river.linear_model import LogisticRegression
from river.naive_bayes import GaussianNB
from river.preprocessing import StandardScaler

import headrace as h
from headrace.examples.flights import is_late
from headrace.examples.flights_data import flights as rows
from headrace.streams import data, memory
from headrace.streams.stages.chain import Chain
from headrace.streams.topology import group_of
from tests.small import LABEL, event, known, play, small

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODELS = ("logreg", "spare")
WATCHES = {
    "drift": [
        h.watch_error(false_alarms_every=2_000),
        h.watch_label(false_alarms_every=2_000),
        h.watch_prediction(every=16, false_alarms_every=2_000, cooldown="10m"),
        h.watch_feature("distance", every=16, false_alarms_every=2_000, reference=h.same_hour(2)),
        h.watch_feature("carrier", every=16, false_alarms_every=2_000, reference=h.fixed(300)),
        h.watch_features(("distance", "flights_1h"), every=16, false_alarms_every=2_000),
    ],
    "proxies": h.Proxies(every=200, costs={(True, False): 5.0}),
}


def pipeline(**options):
    """Flights with these wishes."""
    return h.Pipeline(
        "flights",
        task="binary",
        events=h.Events(EXAMPLES / "flight.avsc", id="event_id", key="origin", time="scheduled_departure"),
        labels=h.Labels(EXAMPLES / "arrival.avsc", id="event_id", time="arrived_at", y=is_late),
        features={
            "distance": h.field("distance"),
            "carrier": h.field("carrier"),
            "flights_1h": h.count(by="origin", over="1h"),
        },
        models={name: Select("distance", "flights_1h") | StandardScaler() | LogisticRegression() for name in MODELS},
        champion="logreg",
        **options,
    )


def run(made, batch=1000):
    """What a pipeline makes of some flights."""
    events, labels = data.records(made, rows(1500))
    inputs = [[(r.key, r.value) for r in labels], [(r.key, r.value) for r in events]]
    return memory.run(made, inputs, now_ms=1_800_000_000_000, batch=batch)


def test_batches_change_no_byte():
    """Alerts and evaluations are those of a run in small batches; there are some of each kind."""
    whole, small = run(pipeline(**WATCHES)), run(pipeline(**WATCHES), batch=37)
    assert whole.outputs["alerts"] == small.outputs["alerts"]
    assert whole.outputs["evaluations"] == small.outputs["evaluations"]
    alerts = [json.loads(value) for _, _, value, _ in whole.outputs["alerts"]]
    assert {alert["status"] for alert in alerts} >= {"opened", "resolved"}
    assert all(alert["examples"][0].startswith("2013-01-0") for alert in alerts)
    windows = {json.loads(value)["window"] for _, _, value, _ in whole.outputs["evaluations"]}
    assert windows >= {"proxy-200", "proxy-scored-200"}


def test_labels_that_are_text_are_watched_by_their_values():
    """A class that takes over is found, and named."""
    classed = small(
        task="multiclass",
        labels={"schema": LABEL | {"fields": [*LABEL["fields"][:2], {"name": "y", "type": "string"}]}},
        models={"good": GaussianNB()},
        champion="good",
        features={"spent": h.field("spent")},
        drift=[h.watch_label(false_alarms_every=2_000)],
    )
    count = 600
    labels = [known(f"e{i}", i / 60 + 0.5, "abc"[i % (2 if i < 400 else 3)]) for i in range(count)]
    made = play(classed, [event(f"e{i}", i / 60) for i in range(count)], labels)
    (alert, *_) = [json.loads(value) for _, _, value, _ in made.outputs["alerts"]]
    assert 400 <= alert["last_offset"] < 450
    assert "other values went from 0.0%" in alert["message"]
    assert {int(example[1:]) % 3 for example in alert["examples"]} == {2}


def test_alerts_name_the_segments_of_the_gate():
    """With a gate that has segments, alerts say where their numbers changed; the bytes do not depend on batches."""
    wishes = WATCHES | {"gate": h.Gate(segments=("origin", "carrier"))}
    whole, small = run(pipeline(**wishes)), run(pipeline(**wishes), batch=37)
    assert whole.outputs["alerts"] == small.outputs["alerts"]
    alerts = [json.loads(value) for _, _, value, _ in whole.outputs["alerts"]]
    named = {name.partition("=")[0] for alert in alerts for name in alert["segments"]}
    assert named == {"origin", "carrier"}
    assert not [alert for alert in alerts if alert["signal"] == "feature:carrier" and alert["segments"]]


@pytest.mark.parametrize("batch", [37, 1000])
def test_an_alert_changes_who_serves_at_once(batch):
    """From the next event on, with a fact that names the alert; wherever batches end."""
    watch = h.watch_prediction(every=16, false_alarms_every=2_000, react=h.fall_back("spare"))
    done = run(pipeline(drift=[watch]), batch)
    alert, *_ = (json.loads(value) for _, _, value, _ in done.outputs["alerts"])
    facts = [json.loads(value) for _, _, value, _ in done.outputs["registry"]]
    (fact,) = [fact for fact in facts if fact["by"] == "drift"]
    assert (fact["kind"], fact["model"], fact["champion"]) == ("promoted", "spare", "spare")
    assert fact["evidence"] == {"alert": alert["alert_id"], "signal": "prediction", "before": "logreg"}
    served = [(row["offset"], row["model"].partition("/")[0]) for _, row in done.predictions.iterrows()]
    assert [name for _, name in served] == [
        "logreg" if offset <= alert["last_offset"] else "spare" for offset, _ in served
    ]


def test_a_rollback_without_a_champion_before_is_an_alert_only():
    """Nothing is decided where there is nothing to go back to."""
    done = run(pipeline(drift=[h.watch_prediction(every=16, false_alarms_every=2_000, react=h.rollback())]))
    assert done.outputs["alerts"]
    assert not [value for _, _, value, _ in done.outputs["registry"] if b'"by":"drift"' in value]


def test_reactions_need_the_predictor_beside_them():
    """The drift stage alone cannot decide who serves."""
    made = pipeline(drift=[h.watch_error(react=h.rollback())])
    with pytest.raises(h.UsageError, match="react= decides who serves"):
        Chain(made, group_of(["drift"]))


def test_watching_changes_nothing_else():
    """Predictions, examples and features are those of the pipeline without."""
    watched, bare = run(pipeline(**WATCHES)), run(pipeline())
    for role in ("predictions", "examples", "features"):
        assert watched.outputs[role] == bare.outputs[role]
    assert "alerts" not in bare.outputs


def test_what_is_not_declared_is_no_state():
    """No store, no spec: a pipeline without wishes is as it was."""
    bare = pipeline()
    assert "proxies" not in bare.spec()
    states = run(bare).task.chain.stores.states
    assert not [name for name in states if name.startswith(("drift", "proxies"))]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"drift": [h.watch_feature("carrier", statistic="ks")]}, "has no order for 'ks'"),
        ({"drift": [h.watch_features(("distance", "carrier"))]}, "'carrier' is text"),
        ({"drift": [h.watch_features(("distance", "price"))]}, "'price'"),
        ({"drift": [h.watch_error(react=h.fall_back("price"))]}, "logreg, spare"),
        ({"proxies": h.Proxies(features=["price"])}, "'price'"),
    ],
)
def test_wrong_wishes_fail_when_declared(options, why):
    """The error names what is wrong and what would do."""
    with pytest.raises(h.DeclarationError, match=why):
        pipeline(**options)
