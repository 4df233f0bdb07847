"""What a coordinator has decided, for partitions that it passed over.

A transaction is decided in its coordinator's log; the markers that tell its partitions so are written afterwards. A
broker that comes up after a kill writes those that are missing, but not to partitions whose leader it does not know
yet (Kafka 4.3): for it the transaction is over, while it is committed in some partitions and open for ever in others.
So whoever follows under its id first asks what was decided, and commits the rest, as the coordinator would have: by
one request to each leader, which may be repeated.

librdkafka has none of these requests: Kafka's `DescribeTransactions` and `DescribeProducers` (KIP-664), and
`WriteTxnMarkers` (KIP-98), with which `kafka-transactions.sh abort` works, too. It takes the right to `ClusterAction`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)
from aiokafka.structs import TopicPartition

__all__ = ["Refused", "commit_rest"]

log = logging.getLogger("headrace.kafka")

Place = tuple[str, int]

_TEXT, _TAGS = CompactString("utf-8"), ("tags", TaggedFields)
_UNKNOWN_ID = 105
_KNOWN = ("Ongoing", "PrepareCommit", "CompleteCommit")
"""States in which the last transaction that was decided under the epoch was committed."""
_PAUSE_S = 0.1
_REQUEST_MS = 5_000
WITHIN_S = 30.0
"""How long a coordinator may take to say what it decided; one that is loading takes seconds."""
_REFUSED = (
    errors.ClusterAuthorizationFailedError,
    errors.IncompatibleBrokerVersion,
    errors.TopicAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
    errors.UnsupportedVersionError,
    NotImplementedError,
)
"""What a cluster says that does not let us do this, or cannot; anything else passes."""


def _array(*fields: Any) -> CompactArray:
    """An array of structures, each with room for tags."""
    return CompactArray(*fields, _TAGS)


_BY_TOPIC = _array(("topic", _TEXT), ("partitions", CompactArray(Int32)))


class _DescribeTransactionsResponse(Response):
    API_KEY, API_VERSION = 65, 0
    _STATE = (
        ("error", Int16),
        ("transactional_id", _TEXT),
        ("state", _TEXT),
        ("timeout_ms", Int32),
        ("start_ms", Int64),
        ("producer_id", Int64),
        ("epoch", Int16),
        ("topics", _BY_TOPIC),
    )
    SCHEMA = Schema(("throttle_ms", Int32), ("states", _array(*_STATE)), _TAGS)


class _DescribeTransactions(RequestStruct):
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 65, 0, True
    RESPONSE_TYPE = _DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(_TEXT)), _TAGS)


class _DescribeProducersResponse(Response):
    API_KEY, API_VERSION = 61, 0
    _PRODUCER = (
        ("producer_id", Int64),
        ("epoch", Int32),
        ("sequence", Int32),
        ("timestamp_ms", Int64),
        ("coordinator_epoch", Int32),
        ("open_from", Int64),
    )
    _PARTITION = (("partition", Int32), ("error", Int16), ("message", _TEXT), ("producers", _array(*_PRODUCER)))
    _TOPIC = (("name", _TEXT), ("partitions", _array(*_PARTITION)))
    SCHEMA = Schema(("throttle_ms", Int32), ("topics", _array(*_TOPIC)), _TAGS)


class _DescribeProducers(RequestStruct):
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 61, 0, True
    RESPONSE_TYPE = _DescribeProducersResponse
    SCHEMA = Schema(("topics", _BY_TOPIC), _TAGS)


class _WriteTxnMarkersResponse(Response):
    API_KEY, API_VERSION = 27, 1
    _TOPIC = (("name", _TEXT), ("partitions", _array(("partition", Int32), ("error", Int16))))
    SCHEMA = Schema(("markers", _array(("producer_id", Int64), ("topics", _array(*_TOPIC)))), _TAGS)


class _WriteTxnMarkers(RequestStruct):
    API_KEY, API_VERSION, FLEXIBLE_VERSION = 27, 1, True
    RESPONSE_TYPE = _WriteTxnMarkersResponse
    _MARKER = (
        ("producer_id", Int64),
        ("epoch", Int16),
        ("commits", Boolean),
        ("topics", _BY_TOPIC),
        ("coordinator_epoch", Int32),
    )
    SCHEMA = Schema(("markers", _array(*_MARKER)), _TAGS)


class _DescribeTransactionsRequest(Request[_DescribeTransactions]):
    API_KEY = 65

    def __init__(self, name: str) -> None:
        self.name = name

    def build(self, request_struct_class: type[_DescribeTransactions]) -> _DescribeTransactions:
        return request_struct_class([self.name], {})


class _DescribeProducersRequest(Request[_DescribeProducers]):
    API_KEY = 61

    def __init__(self, places: Iterable[Place]) -> None:
        self.places = places

    def build(self, request_struct_class: type[_DescribeProducers]) -> _DescribeProducers:
        return request_struct_class(_by_topic(self.places), {})


class _WriteTxnMarkersRequest(Request[_WriteTxnMarkers]):
    API_KEY = 27

    def __init__(self, rest: Iterable[_Open]) -> None:
        self.rest = rest

    def build(self, request_struct_class: type[_WriteTxnMarkers]) -> _WriteTxnMarkers:
        markers: list[Any] = [
            (one.producer_id, one.epoch, True, _by_topic([one.place]), one.coordinator_epoch, {}) for one in self.rest
        ]
        return request_struct_class(markers, {})


class _Decision(NamedTuple):
    """What the coordinator says of an id's last transaction."""

    state: str
    producer_id: int
    epoch: int
    start_ms: int
    part: frozenset[Place]


class _Open(NamedTuple):
    """An open transaction in a partition, as the partition has it."""

    place: Place
    leader: int
    producer_id: int
    epoch: int
    coordinator_epoch: int


class Refused(Exception):
    """The cluster does not let us ask or write this, or cannot."""


def commit_rest(arguments: Mapping[str, Any], transactional_id: str, places: Iterable[Place]) -> list[Place]:
    """Commit in these partitions what the last transaction of the id has open there, if it was decided to be committed.

    To be called before anybody follows under the id, which makes the coordinator forget the decision. `arguments` are
    those of aiokafka's clients. Returns where it was; raises `Refused`, and TimeoutError.
    """

    try:
        return asyncio.run(asyncio.wait_for(_commit_rest(arguments, transactional_id, list(places)), WITHIN_S))
    except _REFUSED as error:
        raise Refused(f"{type(error).__name__}: {error}".rstrip(": ")) from error


async def _commit_rest(arguments: Mapping[str, Any], name: str, places: list[Place]) -> list[Place]:
    while True:
        client = AIOKafkaClient(request_timeout_ms=_REQUEST_MS, **arguments)
        try:
            await client.bootstrap()
            found = await _rest(client, name, places)
            if found is not None:
                await _commit(client, found)
                return [one.place for one in found]
        except _REFUSED:
            raise
        except (errors.KafkaError, _Again) as error:
            log.debug("%s: %r", name, error)
        finally:
            await client.close()
        await asyncio.sleep(_PAUSE_S)


class _Again(Exception):
    """A broker is not ready to answer, or somebody was quicker."""


async def _rest(client: Any, name: str, places: list[Place]) -> list[_Open] | None:
    """What is open and to be committed; None while the coordinator is about it itself."""
    decision = await _decision(client, name)
    if decision is None or decision.state not in _KNOWN:
        return []
    if decision.state == "PrepareCommit":
        return None
    # Only a commit is followed by another transaction of the same epoch: what is open, and no part of one under way, is
    # the rest of the one before.
    wanted = [place for place in places if place not in decision.part]
    found = [one for one in await _open(client, wanted) if (one.producer_id, one.epoch) == decision[1:3]]
    # The same answer again: nothing newer had begun in these partitions when we looked.
    return found if not found or await _decision(client, name) == decision else None


async def _decision(client: Any, name: str) -> _Decision | None:
    if not client.cluster.brokers():  # told of none by one that has just come back, it would take it for a mistake
        raise _Again("no broker is known")
    node = await client.coordinator_lookup(CoordinationType.TRANSACTION, name)
    answer = await client.send(node, _DescribeTransactionsRequest(name), group=ConnectionGroup.COORDINATION)
    ((error, _, state, _, start_ms, producer_id, epoch, topics, _),) = answer.states
    if error == _UNKNOWN_ID:
        return None
    _check(error)
    part = frozenset((topic, number) for topic, numbers, _ in topics for number in numbers)
    return _Decision(state, producer_id, epoch, start_ms, part)


async def _open(client: Any, places: list[Place]) -> list[_Open]:
    found = []
    for leader, mine in (await _led(client, places)).items():
        answer = await client.send(leader, _DescribeProducersRequest(mine))
        for topic, partitions, _ in answer.topics:
            for partition, error, _, producers, _ in partitions:
                _check(error)
                found += [
                    _Open((topic, partition), leader, producer_id, epoch, max(0, coordinator_epoch))
                    for producer_id, epoch, _, _, coordinator_epoch, open_from, _ in producers
                    if open_from >= 0
                ]
    return found


async def _commit(client: Any, found: list[_Open]) -> None:
    for leader in {one.leader for one in found}:
        answer = await client.send(leader, _WriteTxnMarkersRequest([one for one in found if one.leader == leader]))
        for _, topics, _ in answer.markers:
            for _, partitions, _ in topics:
                for _, error, _ in partitions:
                    _check(error)


async def _led(client: Any, places: list[Place]) -> dict[int, list[Place]]:
    await client.set_topics({topic for topic, _ in places})
    led: dict[int, list[Place]] = {}
    for place in places:
        leader = client.cluster.leader_for_partition(TopicPartition(*place))
        if leader is None or leader < 0:
            await client.force_metadata_update()
            raise _Again(f"{place[0]}/{place[1]} has no leader")
        led.setdefault(leader, []).append(place)
    return led


def _by_topic(places: Iterable[Place]) -> list[tuple[str, list[int], dict[int, bytes]]]:
    numbers: dict[str, list[int]] = {}
    for topic, number in places:
        numbers.setdefault(topic, []).append(number)
    return [(topic, found, {}) for topic, found in numbers.items()]


def _check(code: int) -> None:
    kind = errors.for_code(code)
    if kind is errors.NoError:
        return
    if kind.retriable:
        raise _Again(kind.__name__)
    raise kind
