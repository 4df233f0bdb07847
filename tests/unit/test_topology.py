"""Stages, groups and topics: the legal cuts, and what each group reads and writes."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from headrace.streams.errors import DeclarationError, UsageError
from headrace.streams.topics import (
    ROLES,
    side_id,
    too_small,
    topic_name,
    topic_specs,
    transactional_id,
    wrong_settings,
)
from headrace.streams.topology import STAGES, group_of
from tests.small import small


def test_the_whole_is_the_lane() -> None:
    """It reads labels before events, and writes everything."""
    lane = group_of()
    assert (lane.name, lane.inputs) == ("lane", ("registry", "labels", "events"))
    assert lane.outputs == (
        *("features", "predictions", "shadow", "examples", "evaluations", "registry", "alerts", "dead-letter"),
    )
    assert lane.upstream == {}


def test_the_three_groups_meet_only_in_topics() -> None:
    """What one reads beside the raw inputs another writes; together they write what the lane does."""
    groups = [group_of(stages.split(",")) for stages in ("validate,featurize", "predict,join,train,evaluate", "drift")]
    written = list(itertools.chain.from_iterable(group.outputs[:-1] for group in groups))
    assert set(written) == set(group_of().outputs[:-1])
    assert {role for role in written if written.count(role) > 1} == {"evaluations"}  # the drift stage adds its proxies
    for group in groups:
        assert set(group.inputs) <= {"events", "labels", *written}
        assert set(group.upstream) == set(group.inputs) - {"events", "labels", "registry"}
        assert group.inputs[group.leading] in ("labels", "examples")


def test_stages_in_any_order_are_the_same_group() -> None:
    """They run in the order of the chain."""
    assert group_of(["featurize", "validate"]) == group_of(["validate", "featurize"])


def test_exactly_the_runs_of_whole_segments_are_groups() -> None:
    """Six of all 127 sets of stages; the others are refused with the legal cuts."""
    sets = [s for size in range(1, len(STAGES) + 1) for s in itertools.combinations(STAGES, size)]
    segments = [("validate", "featurize"), ("predict", "join", "train", "evaluate"), ("drift",)]
    legal = {sum(segments[i:j], ()) for i in range(3) for j in range(i + 1, 4)}
    for stages in sets:
        if stages in legal:
            assert group_of(stages).stages == stages
        else:
            with pytest.raises(UsageError, match=r"validate,featurize \| predict,join,train,evaluate \| drift"):
                group_of(stages)
    assert (len(legal), len(sets)) == (6, 127)


def test_an_unknown_stage_is_named_with_the_known_ones() -> None:
    """So a typing error is one sentence."""
    with pytest.raises(UsageError, match=r"No stage is called fly; the stages are validate, featurize"):
        group_of(["fly"])


def test_topics_have_the_pipeline_s_prefix_unless_named() -> None:
    """One function makes every name."""
    pipeline = small(topics={"events": "raw"})
    assert (topic_name(pipeline, "events"), topic_name(pipeline, "labels")) == ("raw", "small.labels")
    assert {spec.role for spec in topic_specs(pipeline)} == set(ROLES)
    with pytest.raises(DeclarationError, match="no role 'event'; legal: events"):
        topic_name(pipeline, "event")


def test_no_slot_has_the_id_of_another_producer() -> None:
    """It would fence the checkpoints of its own lane."""
    assert transactional_id(small(), group_of(), "state-0") != side_id("small", "state", 0)
    with pytest.raises(UsageError, match=r"A slot cannot be called state\.0"):
        transactional_id(small(), group_of(), "state.0")


def test_a_wrong_topic_is_told_by_name_setting_and_value() -> None:
    """Inputs are their producers' own, but for partitions and compaction."""
    specs = {spec.role: spec for spec in topic_specs(small())}
    journal, events = specs["journal"], specs["events"]
    right = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
    assert wrong_settings(journal, 1, right) == []
    assert [w for w in wrong_settings(journal, 1, right | {"cleanup.policy": "compact"}) if "compact" in w]
    (least,) = too_small(journal, right | {"max.message.bytes": "1048588"})
    assert least.startswith("small.journal: max.message.bytes is 1048588, not 8388608 or more (kafka-configs --alter ")
    assert too_small(journal, right | {"max.message.bytes": "9000000"}) == too_small(journal, right) == []
    assert too_small(events, {"max.message.bytes": "1000"}) == []
    wide = {spec.role: spec for spec in topic_specs(small(events={"max_bytes": 3_000_000}))}
    assert wide["journal"].config["max.message.bytes"] == str(3 * (8 << 20))
    (partitions,) = wrong_settings(events, 3, {"message.timestamp.type": "CreateTime"})
    assert partitions.startswith("small.events has 3 partitions, not 1: declare partitions=")
    several = dataclasses.replace(events, partitions=2)
    assert wrong_settings(several, 1, {}) == ["small.events has 1 partitions, not 2: create it with that many"]
    (added,) = wrong_settings(several, 3, {})
    assert added.startswith("small.events has 3 partitions, not 2: Kafka takes none away, so take another name")
    assert wrong_settings(journal, 3, right) == ["small.journal has 3 partitions, not 1: create it with that many"]
    assert [w for w in wrong_settings(events, 1, {"cleanup.policy": "compact,delete"}) if "cannot be replayed" in w]
