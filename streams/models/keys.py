"""The Ed25519 keys that sign snapshots: one of one's own, and the public ones that are trusted.

The private key is a PEM file (PKCS 8), named by ``HEADRACE_SIGNING_KEY`` or else in the user's configuration folder.
It is made on first use with mode 0600 and refused when others can read it. All workers of one deployment need
the same key, or each other's public keys: ``*.pub`` files (PEM) in a folder ``trusted`` beside the private key.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import platformdirs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from headrace.streams.errors import UsageError

__all__ = [
    "KEY_VARIABLE",
    "KeyFileError",
    "SigningKey",
    "VerifyKey",
    "distrust",
    "key_path",
    "new_key",
    "signing_key",
    "trust",
    "trusted_keys",
]

KEY_VARIABLE = "HEADRACE_SIGNING_KEY"
KEY_ID_BYTES = 8
_LARGEST_FILE = 16_384
_TRUSTED = "trusted"
"""The folder of public keys, beside the private one."""


class KeyFileError(UsageError):
    """A key file cannot be used: the message says which one, why, and what to do. It never quotes the file."""


class VerifyKey:
    """A public key: says whether a signature is its owner's."""

    __slots__ = ("_public", "key_id", "raw")

    def __init__(self, public: Ed25519PublicKey) -> None:
        self._public = public
        self.raw = public.public_bytes_raw()
        self.key_id = hashlib.sha256(self.raw).digest()[:KEY_ID_BYTES]

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Say whether `signature` over `message` was made with this key's private half."""
        try:
            self._public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> bytes:
        """Give the public key as PEM, the content of a file in a ``trusted`` folder."""
        return self._public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def __repr__(self) -> str:
        return f"VerifyKey({self.key_id.hex()})"


class SigningKey:
    """A private key that signs, shows only its public id, and cannot be copied or pickled."""

    __slots__ = ("_private", "verify_key")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.verify_key = VerifyKey(private.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """Make a new key that is in memory only."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def key_id(self) -> bytes:
        """The first 8 bytes of the SHA-256 of the raw public key."""
        return self.verify_key.key_id

    def sign(self, message: bytes) -> bytes:
        """Give the 64-byte signature of `message`; the same message has the same signature."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id.hex()})"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a signing key cannot be pickled or copied")


def key_path() -> Path:
    """Give the private key's place: ``HEADRACE_SIGNING_KEY``, or a file in the user's configuration folder."""
    named = os.environ.get(KEY_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_config_dir("headrace")) / "signing-key.pem"


def signing_key(path: Path | None = None) -> SigningKey:
    """Load the private key, making it on first use; processes that race for the first use all get the same one.

    Raises `KeyFileError` when the file is readable by group or others, belongs to another user, or is no
    unencrypted Ed25519 key.
    """
    path = key_path() if path is None else path
    for _ in range(3):
        try:
            return SigningKey(_read_private(path))
        except FileNotFoundError:
            _create(path)
    raise KeyFileError(f"{path} vanishes each time it is made.")


def trusted_keys(path: Path | None = None) -> Mapping[bytes, VerifyKey]:
    """Give the public keys whose snapshots are read, by key id: one's own, and those in the ``trusted`` folder."""
    path = key_path() if path is None else path
    own = signing_key(path).verify_key
    found = {own.key_id: own}
    return found | {key.key_id: key for _, key in _trusted(path.parent / _TRUSTED)}


def new_key() -> tuple[bytes | None, bytes]:
    """Replace the private key by a new one, or make the first; the ids of both.

    The public half of the old one stays among the trusted keys, so that what it signed can still be read.
    """
    path, before = key_path(), None
    if path.exists():
        old = signing_key(path).verify_key
        before = trust(path, old.pem())
    after = Ed25519PrivateKey.generate()
    _write(path, _private_pem(after), replace=True)
    return before, VerifyKey(after.public_key()).key_id


def trust(file: Path, content: bytes | None) -> bytes:
    """Put a public key (PEM, in `file` unless `content` is given) among the trusted ones; returns its id."""
    if content is None:
        try:
            content = file.read_bytes()[:_LARGEST_FILE]
        except OSError as error:
            raise KeyFileError(f"{file} cannot be read: {error.strerror}.") from error
    key = _public(content, file)
    _write(key_path().parent / _TRUSTED / f"{key.key_id.hex()}.pub", key.pem(), replace=True, mode=0o644)
    return key.key_id


def distrust(key_id: str) -> bytes:
    """Take the key with this id (hex digits) away from the trusted ones; one's own cannot be."""
    folder = key_path().parent / _TRUSTED
    for file, key in _trusted(folder):
        if key.key_id.hex() == key_id.lower():
            file.unlink(missing_ok=True)
            return key.key_id
    raise KeyFileError(f"{key_id} is not the id of a key in {folder}: `headrace keys show` lists them.")


def _trusted(folder: Path) -> Iterator[tuple[Path, VerifyKey]]:
    """The public keys in the folder, each with its file."""
    for file in sorted(folder.glob("*.pub")) if folder.is_dir() else ():
        yield file, _public(_read(file, private=False), file)


def _public(content: bytes, file: Path) -> VerifyKey:
    try:
        public = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{file} is no public key in PEM.") from error
    if not isinstance(public, Ed25519PublicKey):
        raise KeyFileError(f"{file} is no Ed25519 public key.")
    return VerifyKey(public)


def _read_private(path: Path) -> Ed25519PrivateKey:
    content = _read(path, private=True)
    try:
        private = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not chained: a parser's message is not trusted to keep what it parsed to itself.
        raise KeyFileError(f"{path} is no unencrypted private key in PEM (PKCS 8).") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is no Ed25519 private key.")
    return private


def _read(path: Path, *, private: bool) -> bytes:
    """Read a small file whose owner and mode are checked on what was opened, not on the name."""
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise KeyFileError(f"{path} is no regular file.")
            if os.name == "posix":
                _check_access(path, info, private=private)
            return file.read(_LARGEST_FILE)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}.") from error


def _check_access(path: Path, info: os.stat_result, *, private: bool) -> None:
    mode = stat.S_IMODE(info.st_mode)
    if private and mode & 0o077:
        raise KeyFileError(f"{path} has mode {mode:04o}, so others have access to it: run `chmod 600 {path}`.")
    if not private and mode & 0o022:
        raise KeyFileError(f"{path} has mode {mode:04o}, so others can write it: run `chmod 644 {path}`.")
    if info.st_uid not in (0, os.geteuid()):
        raise KeyFileError(f"{path} belongs to another user (uid {info.st_uid}).")


def _create(path: Path) -> None:
    """Put a whole new key at `path`, unless another process was first."""
    _write(path, _private_pem(Ed25519PrivateKey.generate()), replace=False)


def _private_pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, replace: bool, mode: int = 0o600) -> None:
    """Put a whole file at `path`; without `replace`, only where none is."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".signing-key-", dir=path.parent)  # mkstemp makes it 0600
    except OSError as error:
        raise KeyFileError(f"{path} cannot be made: {error.strerror}. {KEY_VARIABLE} names another place.") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode != 0o600:
            os.chmod(temporary, mode)
        if replace:
            os.replace(temporary, path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be made: {error.strerror}. {KEY_VARIABLE} names another place.") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
