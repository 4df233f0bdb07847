"""What each column of a table is for, and the words that people are told of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from headrace.schemas.columns import Column
from headrace.streams.scaffold.table import Table

__all__ = ["Plan", "Wishes", "few", "words"]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person said about the columns; None: to be told from the table."""

    label: str | None = None
    time: str | None = None
    id: str | None = None
    key: str | None = None
    task: str | None = None
    label_time: str | None = None
    time_format: str | None = None


@dataclass(slots=True)
class Plan:
    """A table's columns by what they are for, under the names of the fields that they become.

    `fields` are the columns that events have, by field name; `label`, `label_time` are the label's. `id` and `time` are
    field names, of a column or made; `key` is the entity's field, or the id where there is none. `features` are field
    names with how they are used: number, flag, category or text. `positive` is the value that counts as true.
    """

    table: Table
    task: str = ""
    fields: dict[str, Column] = field(default_factory=dict)
    label: Column | None = None
    label_field: str = ""
    positive: str | None = None
    id: str = "event_id"
    id_made: bool = True
    time: str = "event_time"
    time_made: bool = True
    label_time: Column | None = None
    key: str = "event_id"
    features: dict[str, str] = field(default_factory=dict)
    hour: bool = False
    weekday: bool = False
    span: str | None = None
    delay: str = "1m"
    ttl: str = "2d"
    shuffle: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def has_key(self) -> bool:
        """Whether events belong to entities that come again."""
        return self.key != self.id


def words(name: str) -> list[str]:
    """The words of a name, in small letters."""
    return re.sub(r"[^a-z0-9]+", " ", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).split()


def few(names: Any) -> str:
    """Names for people: the first of them."""
    shown = [repr(str(name)[:60]) for name in list(names)[:8]]
    return ", ".join(shown) + (", ..." if len(names) > 8 else "")
