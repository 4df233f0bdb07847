"""What a column of text cells holds: numbers, flags, moments, categories or prose, told from its distinct values.

Nothing is guessed from a name here but what numbers cannot say of themselves: whether they are moments.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

__all__ = ["MISSING", "Column", "Kind", "Moment", "column_of", "field_name"]

Kind = Literal["boolean", "long", "double", "time", "category", "text", "string", "empty"]

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "none", "?", "-", "inf", "-inf")
"""Words for "no value" among numbers and moments; among texts only the empty one is."""

CATEGORIES = 200
"""A column of text with more distinct values is no category; nor is one where they come less than twenty times each."""

_FORMATS = (
    "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y",
)  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_LONG = re.compile(r"[+-]?(0|[1-9]\d*)")
_DOUBLE = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MARKS = {
    (".", ""): _DOUBLE,
    (",", ""): re.compile(r"[+-]?\d+(,\d+)?"),
    **{
        (decimal, group): re.compile(rf"[+-]?(\d+|[1-9]\d?\d?([{group}]\d\d\d)+)([{decimal}]\d+)?")
        for decimal, group in ((",", "."), (".", ","), (".", "'"), (",", " "), (".", " "), (",", "'"))
    },
}
"""How numbers are written: decimal point, what parts thousands."""
_THOUSANDS = {mark: re.compile(rf"[+-]?([1-9]\d?\d?([{mark}]\d\d\d)+|0|[1-9]\d*)") for mark in ".,"}
_NEARLY = 0.9
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?\s?(Z|[+-]\d\d:?(\d\d)?)?)?")
_MOMENT = re.compile(r"(^|_)(time|date|day|datetime|timestamp|ts|at|epoch|when|ordinal)(_|$)|(time|date|stamp)$")
_YEAR_2001, _YEAR_2100 = 978_307_200, 4_102_444_800
_DAY_1900, _DAY_2100 = 693_596, 766_645
_EPOCH_DAY = 719_163
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Moment:
    """How cells tell a moment: ``ISO8601``, a format of `strptime`, or numbers of this unit since 1970 (or year 1).

    `unit` is s, ms, us, ns, or ``ordinal`` (days, the first of January of the year 1 being 1). `ambiguous` says that
    day and month could as well be the other way round.
    """

    format: str | None = None
    unit: str | None = None
    ambiguous: bool = False

    def read(self, cell: str) -> datetime:
        """The moment that a cell tells, in UTC; ValueError when it tells none."""
        cell = cell.strip()
        if self.unit == "ordinal":
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=int(cell) - _EPOCH_DAY)
        if self.unit is not None:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(cell) / _UNITS[self.unit])
        found = datetime.fromisoformat(cell) if self.format == "ISO8601" else datetime.strptime(cell, str(self.format))
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)

    def zoneless(self, cell: str) -> bool:
        """Whether the cell tells a time of day and not whose."""
        if self.format == "ISO8601":
            return len(cell.strip()) > len("2024-01-01") and datetime.fromisoformat(cell.strip()).tzinfo is None
        return self.unit is None and "%z" not in str(self.format) and any(c in str(self.format) for c in ("%H", "%I"))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name there, what it holds, how many of the rows have no value, and how many differ.

    `moment` is how the cells of a ``time`` are read; `decimal` and `group` are the marks with which a ``double`` is
    written, `unclear` that either could be the other. `values` are the distinct ones, where there are few
    (`CATEGORIES`); `odd` those that keep words which are nearly all numbers from being numbers.
    """

    name: str
    kind: Kind
    missing: int
    distinct: int
    values: tuple[str, ...] = ()
    moment: Moment | None = None
    decimal: str = "."
    group: str = ""
    unclear: bool = False
    odd: tuple[str, ...] = ()

    @property
    def number(self) -> bool:
        """Whether it holds numbers."""
        return self.kind in ("long", "double")


def column_of(name: str, cells: Collection[str], moment: str | None = None) -> Column:
    """What these cells hold; with `moment`, a format of `strptime`, they are to be read with it."""
    counts: dict[str, int] = {}
    for cell in cells:
        counts[cell] = counts.get(cell, 0) + 1
    there = {cell.strip() for cell in counts} - set(MISSING)
    empty = sum(n for cell, n in counts.items() if not cell)
    gone = sum(n for cell, n in counts.items() if cell.strip() in MISSING)
    if not there:
        return Column(name, "empty", len(cells), 0)
    most = min(CATEGORIES, max(20, len(cells) // 20))
    few = tuple(sorted(there)) if len(there) <= most else ()
    time = Moment(moment) if moment is not None else _moment(name, there)
    if time is not None:
        return Column(name, "time", gone, len(there), few, time)
    if {cell.lower() for cell in there} <= {"true", "false"}:
        return Column(name, "boolean", gone, len(there), few)
    if all(_LONG.fullmatch(cell) and abs(int(cell)) < 2**63 for cell in there):
        return Column(name, "long", gone, len(there), few)
    if not any(_padded(cell) for cell in there):
        for (decimal, group), number in _MARKS.items():
            if all(number.fullmatch(cell) for cell in there):
                unclear = not group and all(_THOUSANDS[decimal].fullmatch(cell) for cell in there)
                return Column(name, "double", gone, len(there), few, None, decimal, group, unclear)
    texts = {cell for cell in counts if cell}
    few = tuple(sorted(texts)) if len(texts) <= most else ()
    return Column(name, "category" if few else _of_text(texts), empty, len(texts), few, odd=_odd(counts, there))


def field_name(name: str, taken: Collection[str]) -> str:
    """A name for a field that nobody has yet: letters, digits and _, in small letters."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain)
    plain = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_").lower() or "column"
    plain = f"c_{plain}" if plain[0].isdigit() else f"{plain}_" if keyword.iskeyword(plain) else plain[:40].rstrip("_")
    found, number = plain, 2
    while found in taken:
        found, number = f"{plain}_{number}", number + 1
    return found


def _of_text(texts: Collection[str]) -> Kind:
    words = sum(text.count(" ") for text in texts) / len(texts)
    return "text" if words >= 3 else "string"


def _odd(counts: dict[str, int], there: Collection[str]) -> tuple[str, ...]:
    """The words among cells that are nearly all numbers; none where they are not, or are codes."""
    words = min(({cell for cell in there if not number.fullmatch(cell)} for number in _MARKS.values()), key=len)
    told = sum(n for cell, n in counts.items() if cell.strip() in there)
    odd = sum(n for cell, n in counts.items() if cell.strip() in words)
    codes = any(_padded(cell) for cell in there)
    return tuple(sorted(words)) if words and not codes and odd <= (1 - _NEARLY) * told else ()


def _padded(cell: str) -> bool:
    """Whether digits are a code: 007."""
    digits = cell.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits.isdigit()


def _moment(name: str, cells: Collection[str]) -> Moment | None:
    if all(_ISO.fullmatch(cell) for cell in cells):
        return Moment("ISO8601") if _reads(Moment("ISO8601"), cells) else None
    first = next(iter(cells))
    if any(c in first for c in "/.-: ") and any(c.isdigit() for c in first):
        return _written(cells)
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if not _MOMENT.search(re.sub(r"[^a-z0-9]+", "_", plain)):
        return None
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError:
        return None
    for unit, size in _UNITS.items():
        if all(_YEAR_2001 * size <= number < _YEAR_2100 * size for number in numbers):
            return Moment(unit=unit)
    if all(_DAY_1900 <= number < _DAY_2100 and number == int(number) for number in numbers):
        return Moment(unit="ordinal")
    return Moment("%Y%m%d") if all(len(cell) == 8 for cell in cells) and _reads(Moment("%Y%m%d"), cells) else None


def _written(cells: Collection[str]) -> Moment | None:
    fitting = [moment for day in _FORMATS for clock in _CLOCKS if _reads(moment := Moment(day + clock), cells)]
    if not fitting:
        return None
    first = fitting[0]
    return Moment(first.format, ambiguous=len(fitting) > 1)


def _reads(moment: Moment, cells: Collection[str]) -> bool:
    try:
        return all(moment.read(cell) is not None for cell in cells)
    except (ValueError, OverflowError):
        return False
