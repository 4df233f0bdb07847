"""Signing keys: made once, read only when private, and never shown."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from headrace.streams.models.keys import KeyFileError, SigningKey, key_path, signing_key, trusted_keys

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
OPEN = serialization.NoEncryption()


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_is_made_on_first_use_for_its_owner_alone(tmp_path: Path):
    """The first call makes the file and folder, private; the second reads the same key; nothing else is left."""
    path = tmp_path / "new" / "key.pem"
    first = signing_key(path)
    assert signing_key(path).key_id == first.key_id
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["key.pem"]


def test_those_who_race_for_the_first_use_get_one_key(tmp_path: Path):
    """Eight that start at once on an empty folder all end with the same key, and leave nothing else behind."""
    start = threading.Barrier(8)

    def race(_: int) -> bytes:
        start.wait()
        return signing_key(tmp_path / "key.pem").key_id

    with ThreadPoolExecutor(8) as racers:
        assert len(set(racers.map(race, range(8)))) == 1
    assert os.listdir(tmp_path) == ["key.pem"]


def test_who_comes_second_takes_the_first_ones_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A key that appears while one's own is being made is kept, and one's own is dropped."""
    path, link, firsts = tmp_path / "key.pem", os.link, []

    def late(source: str, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        firsts.append(signing_key(path).key_id)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert [signing_key(path).key_id] == firsts
    assert os.listdir(tmp_path) == ["key.pem"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_have_access_to_is_refused(tmp_path: Path, mode: int):
    """The error names the file, its mode and the remedy."""
    path = tmp_path / "key.pem"
    signing_key(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"key.pem has mode {mode:04o}.*chmod 600"):
        signing_key(path)


def test_a_key_of_ones_own_making_is_read(tmp_path: Path):
    """An ordinary PKCS 8 PEM file serves, and the id is the hash of the raw public key."""
    private = Ed25519PrivateKey.generate()
    key = signing_key(write(tmp_path / "key.pem", private.private_bytes(PEM, PKCS8, OPEN), 0o400))
    assert key.key_id == hashlib.sha256(private.public_key().public_bytes_raw()).digest()[:8]
    private.public_key().verify(key.sign(b"message"), b"message")


@pytest.mark.parametrize("kind", ["garbage", "empty", "other curve", "encrypted", "public"])
def test_what_is_no_ed25519_private_key_is_refused_without_quoting_it(tmp_path: Path, kind: str):
    """The error names the file and shows nothing of its content, in its causes neither."""
    own = Ed25519PrivateKey.generate()
    content = {
        "garbage": b"hush-hush",
        "empty": b"",
        "other curve": generate_private_key(SECP256R1()).private_bytes(PEM, PKCS8, OPEN),
        "encrypted": own.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")),
        "public": own.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    }[kind]
    with pytest.raises(KeyFileError, match=r"key\.pem is no") as caught:
        signing_key(write(tmp_path / "key.pem", content))
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_folder_in_place_of_the_key_is_a_clear_error(tmp_path: Path):
    """What is no file is named as such."""
    with pytest.raises(KeyFileError, match="cannot be read"):
        signing_key(tmp_path)


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path):
    """A parent that is a file, say, names the path."""
    write(tmp_path / "file", b"")
    with pytest.raises(KeyFileError, match=r"key\.pem cannot be"):
        signing_key(tmp_path / "file" / "key.pem")


def test_nothing_secret_is_shown_or_carried_off(tmp_path: Path):
    """repr and str have the public id only; a key is neither pickled nor copied."""
    path = tmp_path / "key.pem"
    key = signing_key(path)
    private = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    assert repr(key) == str(key) == f"SigningKey({key.key_id.hex()})"
    assert private.private_bytes_raw().hex() not in repr(key)
    for carry in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            carry(key)


def test_a_signature_holds_for_its_message_and_key_only():
    """Another message, another key or a cut signature is no."""
    key, other = SigningKey.generate(), SigningKey.generate()
    signature = key.sign(b"message")
    assert key.verify_key.verify(signature, b"message")
    assert not key.verify_key.verify(signature, b"massage")
    assert not other.verify_key.verify(signature, b"message")
    assert not key.verify_key.verify(signature[:-1], b"message")


def test_the_environment_names_the_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """HEADRACE_SIGNING_KEY is the file; without it, it lies in the user's configuration folder."""
    monkeypatch.setenv("HEADRACE_SIGNING_KEY", str(tmp_path / "mine.pem"))
    assert signing_key().key_id == signing_key(tmp_path / "mine.pem").key_id
    monkeypatch.delenv("HEADRACE_SIGNING_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert key_path() == tmp_path / "config" / "headrace" / "signing-key.pem"


def test_one_trusts_oneself_and_the_keys_in_the_folder(tmp_path: Path):
    """Public keys beside the private one, in `trusted`, are read; other files are not."""
    path = tmp_path / "key.pem"
    own, friend = signing_key(path), SigningKey.generate()
    assert set(trusted_keys(path)) == {own.key_id}
    (tmp_path / "trusted").mkdir()
    write(tmp_path / "trusted" / "friend.pub", friend.verify_key.pem(), 0o644)
    write(tmp_path / "trusted" / "README", b"keys")
    found = trusted_keys(path)
    assert set(found) == {own.key_id, friend.key_id}
    assert found[friend.key_id].verify(friend.sign(b"m"), b"m")


@pytest.mark.parametrize(
    ("content", "mode", "why"), [(b"?", 0o644, "no public key"), (None, 0o666, "others can write")]
)
def test_a_trusted_file_that_is_no_key_or_not_safe_is_refused(
    tmp_path: Path, content: bytes | None, mode: int, why: str
):
    """A folder of trust with a broken or writable file in it is an error, not skipped."""
    (tmp_path / "trusted").mkdir()
    write(tmp_path / "trusted" / "a.pub", content or SigningKey.generate().verify_key.pem(), mode)
    with pytest.raises(KeyFileError, match=f"a.pub .*{why}"):
        trusted_keys(tmp_path / "key.pem")
