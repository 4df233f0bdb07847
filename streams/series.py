"""Every metric that is exported: its name, what it means, and its labels. `metrics` and `control/health` fill them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["METRICS", "Kind"]

_OWN = ("pipeline", "group")
_PART = (*_OWN, "partition")
_AGENT = ("pipeline", "agent")
_ROUTE = ("pipeline", "route")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LATENCIES = (*_SECONDS, 300.0, 1_800.0, 7_200.0, 43_200.0, 172_800.0)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 8_000, 10_000, 20_000)


class Kind(NamedTuple):
    """One metric: how it is exported, what it means, and the labels beside pipeline, group (and partition)."""

    kind: str
    help: str
    labels: tuple[str, ...] = _PART
    buckets: tuple[float, ...] = ()


METRICS: dict[str, Kind] = {
    # From the task's state: what the log says, monotone over restarts.
    "headrace_events_total": Kind("counter", "Events read."),
    "headrace_features_total": Kind("counter", "Events that were valid and new, and whose features were computed."),
    "headrace_duplicates_total": Kind("counter", "Events left out because their id was seen within the horizon."),
    "headrace_dead_letters_total": Kind(
        "counter", "Records refused, by stage and reason.", (*_PART, "stage", "reason")
    ),
    "headrace_predictions_total": Kind("counter", "Answers of the champion, those of history included."),
    "headrace_history_total": Kind("counter", "Answers not published because the event is before live_from."),
    "headrace_labelled_total": Kind("counter", "Predictions that met their label: examples."),
    "headrace_expired_total": Kind("counter", "Predictions whose label did not come within its time to live."),
    "headrace_pending": Kind("gauge", "Predictions waiting for their label."),
    "headrace_labels_total": Kind("counter", "Labels read."),
    "headrace_label_outcomes_total": Kind(
        "counter", "Labels that made no example at once, by what became of them.", (*_PART, "outcome")
    ),
    "headrace_alerts_total": Kind("counter", "Alerts published."),
    "headrace_model_errors_total": Kind(
        "counter",
        "Events on which a model that is no champion raised, or gave no answer of the task.",
        (*_PART, "model"),
    ),
    "headrace_examples_learned_total": Kind("counter", "Examples that the models of this shard have learned: their n."),
    "headrace_conservation_law": Kind(
        "gauge", "1 while nothing has vanished: the sums of events, and of predictions, are right.", (*_PART, "law")
    ),
    "headrace_stream_time_timestamp_seconds": Kind("gauge", "Stream time: the largest event time accepted so far."),
    "headrace_model_age_seconds": Kind("gauge", "Stream time less the time of the last label learned."),
    # From the worker, now.
    "headrace_lag_records": Kind(
        "gauge", "Offsets between what was processed and the last stable offset.", (*_PART, "input", "topic")
    ),
    "headrace_buffered_records": Kind("gauge", "Records read and waiting to be merged.", (*_PART, "input")),
    "headrace_paused": Kind("gauge", "1 while an input is paused because its buffer is full.", (*_PART, "input")),
    "headrace_ready": Kind("gauge", "1 when the worker has recovered its partitions and goes on.", _OWN),
    "headrace_ticks_total": Kind("counter", "Cycles of the worker's loop, idle ones included.", _OWN),
    "headrace_worker_info": Kind("gauge", "1; what runs here.", (*_OWN, "slot", "version", "spec_hash", "champion")),
    # Counted since the process began.
    "headrace_transaction_seconds": Kind("histogram", "Time to publish and commit a transaction.", _OWN, _SECONDS),
    "headrace_processing_seconds_total": Kind("counter", "Time spent processing batches."),
    "headrace_batch_records": Kind("histogram", "Input records in a batch.", _PART, _RECORDS),
    "headrace_commit_latency_seconds": Kind(
        "histogram",
        "From a record's own Kafka time to the commit of what came of it; sampled.",
        (*_PART, "input"),
        _LATENCIES,
    ),
    "headrace_last_commit_timestamp_seconds": Kind("gauge", "When a transaction was last committed.", _OWN),
    "headrace_aborts_total": Kind("counter", "Transactions that did not happen, so that tasks were rebuilt.", _OWN),
    "headrace_checkpoint_seconds": Kind(
        "histogram", "Time from a checkpoint's beginning to its commit.", _PART, _SECONDS
    ),
    "headrace_checkpoint_bytes_total": Kind("counter", "Bytes of keys and values that checkpoints wrote."),
    "headrace_checkpoint_entries_total": Kind("counter", "State entries that checkpoints wrote."),
    "headrace_last_checkpoint_timestamp_seconds": Kind("gauge", "When a checkpoint was last committed."),
    "headrace_recoveries_total": Kind(
        "counter", "Times that a task was rebuilt from the log, the first start included."
    ),
    "headrace_recovery_seconds_total": Kind("counter", "Time that recoveries took."),
    "headrace_recovered_batches_total": Kind("counter", "Journal records that recoveries replayed."),
    # From the control plane, counted since its process began.
    "headrace_control_agent_up": Kind("gauge", "1 while an agent reads, or is about to.", _AGENT),
    "headrace_control_agent_restarts_total": Kind("counter", "Times that an agent was started anew.", _AGENT),
    "headrace_control_agent_busy_seconds": Kind("gauge", "For how long the record in hand is in hand.", _AGENT),
    "headrace_control_records_total": Kind("counter", "Records that an agent has taken.", _AGENT),
    "headrace_control_failures_total": Kind("counter", "Times that taking a record failed, to be tried again.", _AGENT),
    "headrace_control_unreadable_total": Kind("counter", "Records that are not what their topic is for.", _AGENT),
    "headrace_control_deliveries_total": Kind(
        "counter", "Alert records by what became of them: delivered, retried, refused.", (*_ROUTE, "outcome")
    ),
    "headrace_control_undelivered": Kind("gauge", "Alert records that wait for a route.", _ROUTE),
    "headrace_control_route_up": Kind(
        "gauge", "0 while the last attempt of a route has failed, also of one to repeat open alerts.", _ROUTE
    ),
    "headrace_control_last_delivery_timestamp_seconds": Kind("gauge", "When a route last delivered.", _ROUTE),
    "headrace_control_decisions_total": Kind(
        "counter", "Commands sent by a policy: approve, retrain.", ("pipeline", "policy")
    ),
    "headrace_control_kafka_up": Kind("gauge", "1 while Kafka answers the control plane.", ("pipeline",)),
}
"""Every metric by its exported name. docs/operations.md says what to do about them; a test holds the two together."""
