"""Snapshots: they go on as if nothing had happened, and whatever was changed in them is refused unread."""

from __future__ import annotations

import collections
import copyreg
import os
import pickle
import pickletools
import random
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from river import compose, drift, feature_extraction, linear_model, naive_bayes, stats, tree

from headrace.streams.identity import pickling
from headrace.streams.identity.hashing import state_hash
from headrace.streams.models import snapshots
from headrace.streams.models.keys import SigningKey
from headrace.streams.models.snapshots import SnapshotError, chunk, join_chunks, open_sealed, relabelled, seal, verified
from tests.river_zoo import EXAMPLES, ZOO, step

KEY = SigningKey.generate()
TRUSTED = {KEY.key_id: KEY.verify_key}


class OwnModel:
    """A model of the author's own, with a bound method in its state."""

    def __init__(self) -> None:
        self.rule = self.double

    def double(self, x: float) -> float:
        return 2 * x


class Reduced:
    """Pickles as whatever call it is given."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


def sealed(obj: Any, *, key: SigningKey = KEY, n: int = 200) -> bytes:
    return seal(obj, name="m", version=f"m/0@{n}", n=n, at={"journal": 7, "offsets": {"events": 12}}, key=key)


def opened(data: bytes, **options: Any) -> Any:
    return open_sealed(data, expect_name="m", trusted=TRUSTED, **options)[0]


def sealed_pickle(payload: bytes, monkeypatch: pytest.MonkeyPatch, *, key: SigningKey = KEY) -> bytes:
    """Seal a pickle as it is, which `seal` itself would never make."""
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "dumps", lambda obj: payload)
        return sealed(None, key=key)


def reason_of(data: bytes, **options: Any) -> str:
    with pytest.raises(SnapshotError) as caught:
        open_sealed(data, **{"expect_name": "m", "trusted": TRUSTED, **options})
    return caught.value.reason


@pytest.mark.parametrize("name", ZOO)
def test_a_model_goes_on_from_its_snapshot_bit_for_bit(name: str):
    """Sealed in mid-stream and opened, every kind of model answers as the uninterrupted one, to the last bit."""
    model = ZOO[name]()
    first = [step(model, x, y) for x, y in EXAMPLES[:200]]
    again = opened(sealed(model))
    whole = [step(model, x, y) for x, y in EXAMPLES[200:]]
    assert [step(again, x, y) for x, y in EXAMPLES[200:]] == whole
    assert len(set(first + whole)) > 1, "the model never changes its answer, so this shows nothing"


@pytest.mark.parametrize("name", ZOO)
def test_what_is_sealed_can_be_opened_without_extras(name: str):
    """River's own models name nothing that is not on the list, in their first and in their 400th state."""
    model = ZOO[name]()
    found = pickling.forbidden_globals(model)
    for x, y in EXAMPLES:
        step(model, x, y)
    assert found + pickling.forbidden_globals(model) == []


@pytest.mark.parametrize("kind", [feature_extraction.BagOfWords, feature_extraction.TFIDF])
def test_models_of_prose_need_no_extras(kind: Any):
    """River's steps over text are on the list, whatever their parameters."""
    model = kind(on="note", stop_words={"the"}, ngram_range=(1, 2)) | linear_model.LogisticRegression()
    for i in range(20):
        model.learn_one({"note": ("The naïve fox", "the lazy dog")[i % 2]}, i % 2 == 0)
    x = {"note": "a lazy fox"}
    assert pickling.loads(pickling.dumps(model)).predict_proba_one(x) == model.predict_proba_one(x)


@pytest.mark.parametrize("module", ["headrace.streams.pickling", "headrace.streams.identity.pickling"])
def test_a_snapshot_opens_wherever_our_code_was_when_it_was_written(module: str, monkeypatch: pytest.MonkeyPatch):
    """Snapshots outlive the place of our code: what they name of ours is read under every name that it ever had."""
    model = naive_bayes.GaussianNB()
    for i in range(20):
        model.learn_one({"a": i % 7}, i % 2 == 0)
    with monkeypatch.context() as then:
        then.setitem(sys.modules, module, pickling)
        then.setattr(pickling._unseeded, "__module__", module)
        data = pickling.dumps([model, pickling.Classes("a")])
    named = {arg for _, arg, _ in pickletools.genops(data) if isinstance(arg, str) and arg.startswith("headrace")}
    assert named == {module, "headrace.processors.ordered"}, "what has moved is to be read under its old name, too"
    again, classes = pickling.loads(data)
    assert again.predict_proba_one({"a": 3}) == model.predict_proba_one({"a": 3})
    assert type(classes) is pickling.Classes


def test_the_header_tells_what_was_sealed():
    """Name, version, n and position come back, also without reading the pickle."""
    data = sealed({"a": 1})
    obj, header = open_sealed(data, expect_name="m", trusted=TRUSTED)
    assert obj == {"a": 1}
    assert (header.name, header.version, header.n) == ("m", "m/0@200", 200)
    assert header.at == {"journal": 7, "offsets": {"events": 12}}
    assert verified(data, trusted=TRUSTED) == header


def test_the_same_state_seals_to_the_same_bytes():
    """A snapshot holds no clock and no chance."""
    assert sealed([1.5, "a"]) == sealed([1.5, "a"])


@pytest.mark.parametrize("large", [False, True])
def test_every_changed_byte_is_noticed_before_the_pickle_is_read(large: bool, monkeypatch: pytest.MonkeyPatch):
    """Of 300 positions, all of the prefix and header among them, no flipped byte gets as far as the unpickler."""
    data = sealed(list(range(30_000)) if large else {"a": 1})
    monkeypatch.setattr(snapshots, "loads", lambda *_: pytest.fail("the pickle was read"))
    positions = {*range(min(250, len(data))), *random.Random(1).choices(range(len(data)), k=50)}
    for position in positions:
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        assert reason_of(bytes(changed)) in ("malformed", "untrusted", "forged", "corrupt"), position


def test_a_cut_or_lengthened_snapshot_is_refused(monkeypatch: pytest.MonkeyPatch):
    """However much is missing, or if something follows, it is an error and the pickle is not read."""
    data = sealed({"a": 1})
    monkeypatch.setattr(snapshots, "loads", lambda *_: pytest.fail("the pickle was read"))
    for end in range(len(data)):
        assert reason_of(data[:end]) in ("malformed", "corrupt")
    assert reason_of(data + b"x") == "corrupt"


def test_an_untrusted_signer_is_refused_before_the_pickle_is_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    """A pickle that would create a file, signed by a key that is not trusted, creates none."""
    evil = pickle.dumps(Reduced(os.mkdir, (str(tmp_path / "made"),)))
    data = sealed_pickle(evil, monkeypatch, key=SigningKey.generate())
    assert reason_of(data) == "untrusted"
    assert not (tmp_path / "made").exists()
    pickle.loads(evil)
    assert (tmp_path / "made").exists(), "the pickle is harmless, so this shows nothing"


def test_a_trusted_key_id_with_a_foreign_signature_is_forged():
    """Whoever writes our key's id into the prefix still lacks the signature."""
    data = bytearray(sealed({"a": 1}, key=SigningKey.generate()))
    data[8:16] = KEY.key_id
    assert reason_of(bytes(data)) == "forged"


def _dotted(module: str, name: str, argument: str) -> bytes:
    """A protocol 4 pickle that calls module.name(argument), the name taken as it is, dots included."""
    parts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + parts + b"\x93\x8c" + bytes([len(argument)]) + argument.encode() + b"\x85R."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "__import__"),
        ("builtins", "type"),
        ("builtins", "getattr.__self__.eval"),
        ("river", "sys.modules"),
        ("river.base", "base.sys.exit"),
        ("river.base.base", "copy.copy"),
        ("river.base.base", "Base.__init__.__globals__"),
        ("river.base.base", "Base._get_params"),
        ("river.stream.cache", "Cache"),
        ("river.datasets.base", "RemoteDataset"),
        ("river.checks", "__dict__"),
        ("numpy", "load"),
        ("numpy", "array"),
        ("numpy", "core.os.system"),
        ("collections", "_sys.exit"),
        ("copy", "copyreg"),
        ("copyreg", "__newobj__"),
        ("random", "_os.system"),
        ("functools", "reduce"),
        ("headrace.streams.identity.pickling", "loads"),
    ],
)
def test_a_signed_pickle_may_not_name_what_is_off_the_list(module: str, name: str, monkeypatch: pytest.MonkeyPatch):
    """Even a trusted signer's pickle stops at a forbidden name, plain or dotted through an allowed module."""
    assert reason_of(sealed_pickle(_dotted(module, name, "true"), monkeypatch)) == "forbidden"


@pytest.mark.parametrize(
    "call",
    [
        (str, "format"),
        (str, "__class__"),
        (random.Random(), "__init__"),
        (random.Random(), "seed"),
        (linear_model.LogisticRegression(), "__class__"),
        (linear_model.LogisticRegression(), "optimizer"),
        (collections.OrderedDict(), "pop"),
        ([], "append"),
        (len, "__self__"),
    ],
    ids=lambda call: f"{type(call[0]).__name__}.{call[1]}",
)
def test_getattr_gives_methods_of_river_objects_only(call: tuple[Any, str]):
    """What pickle writes as getattr is no way to attributes, dunders or other objects' methods."""
    with pytest.raises(pickling.ForbiddenGlobal):
        pickling.loads(pickle.dumps(Reduced(getattr, call)))


def test_a_name_added_by_the_caller_is_let_in_with_its_methods():
    """The author's own class opens when the caller admits it, and not otherwise."""
    data = sealed(OwnModel())
    assert pickling.forbidden_globals(OwnModel())
    assert reason_of(data) == "forbidden"
    extra = {(OwnModel.__module__, "OwnModel"): OwnModel}
    assert pickling.forbidden_globals(OwnModel(), extra) == []
    assert opened(data, extra=extra).rule(4) == 8


def test_an_added_pair_is_imported_by_its_exact_name():
    """A pair (module, name) admits the object of that name; a dotted one is refused."""
    payload = pickle.dumps(pickle.Pickler)
    assert pickling.loads(payload, extra={(pickle.Pickler.__module__, "Pickler")}) is pickle.Pickler
    with pytest.raises(ValueError, match="without dots"):
        pickling.loads(payload, extra={("os", "path.join")})


def test_old_pickle_protocols_are_held_to_the_same_list(monkeypatch: pytest.MonkeyPatch):
    """Protocol 0's textual global is checked like any other."""
    assert reason_of(sealed_pickle(b"cos\nsystem\n(S'true'\ntR.", monkeypatch)) == "forbidden"


def test_the_extension_registry_is_no_way_around(monkeypatch: pytest.MonkeyPatch):
    """A registered extension code names its global to the list, too."""
    copyreg.add_extension("os", "system", 77)
    try:
        assert reason_of(sealed_pickle(b"\x80\x02\x82\x4d.", monkeypatch)) == "forbidden"
    finally:
        copyreg.remove_extension("os", "system", 77)


@pytest.mark.parametrize("payload", [b"", b"\x80\x05", b"garbage", b"\x80\x05N0.", b"\x80\x05\x8c\xff."])
def test_a_signed_pickle_that_does_not_load_is_unreadable(payload: bytes, monkeypatch: pytest.MonkeyPatch):
    """Damage that a trusted signer signed is still a `SnapshotError`."""
    assert reason_of(sealed_pickle(payload, monkeypatch)) == "unreadable"


@pytest.mark.parametrize("state", [b"", b"\xff" * 40])
def test_a_panic_in_rivers_rust_is_a_snapshot_error(state: bytes, monkeypatch: pytest.MonkeyPatch):
    """Bad bytes for a Rust-backed class panic, which is no Exception; it becomes one."""
    kind = type(drift.ADWIN()._helper)
    payload = pickle.dumps(Reduced(kind, kind.__getnewargs__(drift.ADWIN()._helper), state))
    with pytest.raises(BaseException, match="unwrap") as caught:
        pickle.loads(payload)
    assert not isinstance(caught.value, Exception)
    assert reason_of(sealed_pickle(payload, monkeypatch)) == "unreadable"


def test_another_name_is_refused():
    """A snapshot of one model cannot be passed off as another's."""
    assert reason_of(sealed({}), expect_name="other") == "wrong_name"


@pytest.mark.parametrize("library", ["python", "river", "numpy"])
def test_other_library_versions_are_outdated(library: str, monkeypatch: pytest.MonkeyPatch):
    """A snapshot made under another version is not opened: its state is rebuilt by replay."""
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "_LIBRARIES", {**snapshots._LIBRARIES, library: "0.1"})
        data = sealed({})
    assert reason_of(data) == "outdated"


def test_a_relabelled_snapshot_says_more_of_the_same_object():
    """Its header is another and signed anew, by whoever relabelled it; the object is the same."""
    other = SigningKey.generate()
    data = relabelled(sealed({"a": 1}), trusted=TRUSTED, key=other, version="m/0@201", n=201, state="ab")
    obj, header = open_sealed(data, expect_name="m", trusted={other.key_id: other.verify_key})
    assert obj == {"a": 1}
    assert (header.version, header.n, header.state, header.at["journal"]) == ("m/0@201", 201, "ab", 7)
    assert reason_of(data) == "untrusted"


def test_a_changed_snapshot_cannot_be_relabelled():
    """Nobody's signature is put under bytes that were not signed before."""
    data = bytearray(sealed({"a": 1}))
    data[-1] ^= 1
    with pytest.raises(SnapshotError, match="corrupt"):
        relabelled(bytes(data), trusted=TRUSTED, key=KEY, n=1)


def test_what_cannot_be_pickled_is_unsealable():
    """A lambda in a model is told at sealing, with the model's name."""
    with pytest.raises(SnapshotError, match=r"unsealable: m: .*keep what it holds"):
        sealed(compose.FuncTransformer(lambda x: x))


def test_a_tree_deeper_than_the_stack_is_sealed_hashed_and_opened():
    """Sorted values make River's regression splitter a list a thousand levels deep; plain pickle gives up there."""
    model = tree.HoeffdingTreeRegressor(grace_period=10**6, splitter=tree.splitter.EBSTSplitter())
    for i in range(2_000):
        model.learn_one({"a": i}, i)
    limit = sys.getrecursionlimit()
    with pytest.raises(RecursionError):
        pickle.dumps(model)
    assert state_hash(opened(sealed(model))) == state_hash(model)
    assert sys.getrecursionlimit() == limit


def test_unseeded_generators_of_distributions_are_left_out():
    """A naive Bayes of 8 features and 2 classes takes kilobytes, not forty, and can still sample when restored."""
    model = compose.SelectType(int, float) | ZOO["naive-bayes"]()["GaussianNB"]
    for x, y in EXAMPLES[:100]:
        model.learn_one(x, y)
    again = opened(sealed(model))
    assert len(pickling.dumps(model)) * 10 < len(pickle.dumps(model))
    gaussian = next(iter(next(iter(again["GaussianNB"].gaussians.values())).values()))
    assert isinstance(gaussian.sample(), float)


def test_a_seeded_distribution_keeps_its_generator():
    """Where a seed was given, the samples go on as they would have."""
    from river import proba

    one = proba.Gaussian(seed=3)
    one.update(1.0)
    one.update(2.0)
    one.sample()
    other = opened(sealed(one))
    assert other.sample() == one.sample()


@pytest.mark.parametrize(
    "generator", [np.random.RandomState(3), np.random.default_rng(3)], ids=["RandomState", "Generator"]
)
def test_numpy_generators_and_arrays_come_back(generator: Any):
    """What models keep of numpy's is on the list."""
    again, array, scalar = opened(sealed([generator, np.arange(6.0).reshape(2, 3)[:, ::2], np.float32(1.5)]))
    assert again.random() == generator.random()
    assert array.tolist() == [[0.0, 2.0], [3.0, 5.0]]
    assert scalar == np.float32(1.5)


def test_large_payloads_are_compressed_and_small_ones_not():
    """The codec is in the header and both ways open."""
    small, large = sealed([1]), sealed([0.0] * 30_000)
    assert verified(small, trusted=TRUSTED).codec == "none"
    assert verified(large, trusted=TRUSTED).codec == "zstd"
    assert len(large) < 5_000
    assert opened(large) == [0.0] * 30_000


@pytest.mark.parametrize(("length", "size", "count"), [(0, 100, 1), (60, 100, 1), (61, 100, 2), (1000, 100, 17)])
def test_chunks_fit_and_join_in_any_order(length: int, size: int, count: int):
    """No chunk is larger than asked for, and they come together from any order."""
    data = random.Random(1).randbytes(length)
    chunks = chunk(data, size)
    assert len(chunks) == count
    assert max(map(len, chunks)) <= size
    random.Random(2).shuffle(chunks)
    assert join_chunks(chunks) == data


@pytest.mark.parametrize("spoil", ["none", "missing", "doubled", "replaced", "foreign", "cut", "flipped", "empty"])
def test_chunks_that_are_not_one_whole_are_refused(spoil: str):
    """Missing, doubled, mixed, cut or changed chunks do not make a snapshot."""
    chunks = chunk(b"a" * 500, 100)
    other = chunk(b"b" * 500, 100)
    spoiled = {
        "none": [],
        "missing": chunks[1:],
        "doubled": [*chunks, chunks[0]],
        "replaced": [*chunks[:-1], chunks[0]],
        "foreign": [*chunks[:-1], other[-1]],
        "cut": [*chunks[:-1], chunks[-1][:-1]],
        "flipped": [*chunks[:-1], chunks[-1][:-1] + b"!"],
        "empty": [*chunks[:-1], b""],
    }[spoil]
    with pytest.raises(SnapshotError, match="incomplete"):
        join_chunks(spoiled)


def test_a_chunk_size_without_room_for_content_is_refused():
    """The frame itself takes 40 bytes."""
    with pytest.raises(ValueError, match="size 40"):
        chunk(b"abc", 40)


def test_an_unknown_reason_is_refused():
    """The reasons are a closed list."""
    with pytest.raises(ValueError, match="must be one of malformed"):
        SnapshotError("whatever", "")  # type: ignore[arg-type]


def test_a_signed_header_that_is_not_one_is_malformed(monkeypatch: pytest.MonkeyPatch):
    """A header with an unknown field, though signed, is refused rather than guessed at."""
    encode = msgspec.json.encode
    monkeypatch.setattr(msgspec.json, "encode", lambda header: encode({**msgspec.to_builtins(header), "more": 1}))
    assert reason_of(sealed({})) == "malformed"


def test_shared_parts_stay_shared():
    """What was one object in two places is one object after opening."""
    mean = stats.Mean()
    first, second = opened(sealed([mean, {"again": mean}]))
    assert second["again"] is first
