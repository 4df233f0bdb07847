"""What can go wrong, as a tree.

HeadraceError
├── UsageError            a person must change something: one sentence and the next step, exit code 2
│   ├── DeclarationError  a pipeline is declared wrongly (also a ValueError)
│   ├── TopicError        a topic is missing, or configured so that a promise would break
│   ├── Unreachable       no broker answers: exit code 1, as it may later
│   ├── SpecChanged       the journal was written by another specification, code or environment
│   ├── KeyFileError      a key file cannot be used (`keys`)
│   ├── Lost              records that recovery or audit needs are gone
│   └── WrongFormat       nearly all records fail: a format that nobody declared
├── SnapshotError         a snapshot cannot be made or used (`snapshots`): rebuild by replay
└── Fault                 the world broke: recover in place, or crash and be restarted
    ├── Aborted           a transaction did not happen: recover from the journal
    │   └── Expelled      the group has put this member out: join it anew, if the slot is still ours
    ├── Fenced            another worker holds this slot: end at once
    ├── Stalled           no progress within a deadline
    └── Diverged          a replay made other bytes than the journal says
"""

from __future__ import annotations

import msgspec

__all__ = [
    "UNREADABLE",
    "Aborted",
    "DeclarationError",
    "Diverged",
    "Expelled",
    "Fault",
    "Fenced",
    "HeadraceError",
    "Lost",
    "SpecChanged",
    "Stalled",
    "TopicError",
    "Unreachable",
    "UsageError",
    "WrongFormat",
]


# What reading bytes that anyone may have written raises, where they are no record of ours.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class HeadraceError(Exception):
    """Anything Headrace raises on purpose."""

    exit_code = 1


class UsageError(HeadraceError):
    """A person must change something; the message says what."""

    exit_code = 2


class DeclarationError(UsageError, ValueError):
    """A pipeline is declared wrongly; the message names the field and the legal values."""


class TopicError(UsageError):
    """A topic is missing or wrongly configured; the message names topic, setting and value."""


class Unreachable(UsageError):
    """No broker answers at the bootstrap address."""

    exit_code = 1


class SpecChanged(UsageError):
    """The journal was written by another specification, code or environment."""


class Lost(UsageError):
    """Records that recovery or audit needs are gone; the message says which, and if `advised` what to do about it."""

    def __init__(self, message: str, *, advised: bool = False) -> None:
        super().__init__(message)
        self.advised = advised


class WrongFormat(UsageError):
    """Nearly all records of an input fail, so the declared format is probably wrong."""


class Fault(HeadraceError):
    """The world broke: recover in place, or crash and be restarted."""


class Aborted(Fault):
    """A transaction did not happen; memory is ahead of the log and must be rebuilt from it."""


class Expelled(Aborted):
    """The consumer group takes another, or nobody, for the member of this name: this client reads no more."""


class Fenced(Fault):
    """Another worker holds this slot; this one must not touch anything any more."""


class Stalled(Fault):
    """No progress within a deadline."""


class Diverged(Fault):
    """A replay made other bytes than the journal says: code or environment changed without a new epoch."""

    exit_code = 2
