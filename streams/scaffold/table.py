"""A CSV file of unknown make as columns of text: encoding and separator are found out, or it is said why not."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from headrace.schemas.guess import guess_format
from headrace.streams.errors import UsageError

__all__ = ["ROWS", "Table", "read_table"]

ROWS = 200_000
"""So many rows are looked at; what comes after them is taken to be like them."""

_SEPARATORS = ",;\t|"
_HEAD = 1 << 16
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True, slots=True)
class Table:
    """A file's header and rows as text, and how they were read; `more` says that there are rows beyond those."""

    path: Path
    encoding: str
    separator: str
    header: list[str]
    rows: list[list[str]]
    more: bool
    notes: list[str] = field(default_factory=list)

    def cells(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.header.index(name)
        return [row[place] for row in self.rows]


def read_table(path: Path, encoding: str | None = None) -> Table:
    """The table in a .csv file (also .gz); UsageError says in one sentence why there is none."""
    found = _checked_encoding(encoding) if encoding else _encoding(path)
    try:
        with _open(path, found) as file:
            separator = _separator(file.read(_HEAD))
        with _open(path, found) as file:
            header, rows, more = _rows(path, csv.reader(file, delimiter=separator, strict=True))
    except UnicodeError as error:
        raise UsageError(
            f"{path} is no text in {found}: name its encoding with --encoding, or convert it to UTF-8."
        ) from error
    notes = []
    if encoding is None and found == "cp1252":
        notes.append("the file is not UTF-8: it is read as Windows-1252 (--encoding names another)")
    if len(header) < 2:
        raise UsageError(
            f"{path} has one column only, {header[0]!r}: a pipeline needs a label and something to predict it from "
            "(columns are separated by comma, semicolon, tab or bar; their names stand in the first line)."
        )
    if not rows:
        raise UsageError(f"{path} has a header and no rows: there is nothing to tell the columns' types from.")
    if len(rows) == 1:
        raise UsageError(f"{path} has one row only: give a few hundred, so that types and labels can be told.")
    if more:
        notes.append(f"types are those of the first {ROWS:,} rows")
    return Table(path, found, separator, header, rows, more, notes)


def _open(path: Path, encoding: str) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding, newline="")
    return path.open(encoding=encoding, newline="")


def _checked_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError as error:
        raise UsageError(
            f"--encoding is {name!r}, which Python does not know; legal: utf-8, latin-1, cp1252, ..."
        ) from error


def _encoding(path: Path) -> str:
    """What the bytes are written in: by a mark, else UTF-8 if all of them are, else Windows-1252."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(_HEAD)
            for mark, name in _BOMS.items():
                if head.startswith(mark):
                    return name
            if not head.strip():
                raise UsageError(f"{path} is empty: there are no columns to make a pipeline from.")
            _refuse_other_formats(path, head)
            decoder = codecs.getincrementaldecoder("utf-8")()
            try:
                decoder.decode(head)
                while chunk := file.read(1 << 20):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                return "cp1252"
    except FileNotFoundError as error:
        raise UsageError(f"There is no file {path}.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    return "utf-8"


def _refuse_other_formats(path: Path, head: bytes) -> None:
    looks = guess_format([head])
    looks = "JSON" if "JSON" in looks else looks  # whether it is broken the head does not tell: it may be cut off
    known = ("file", "gzip", "zstd", "lz4", "pickle", "XML", "JSON", "UTF-16", "encoding")
    if b"\0" in head or looks.endswith(known):
        how = " (pandas.json_normalize makes columns of nested fields)" if looks == "JSON" else ""
        raise UsageError(f"{path} looks like {looks}, not like CSV: save it as CSV with a header{how}.")


def _separator(head: str) -> str:
    """The separator by which most lines have equally many cells, and more than one."""
    best, most = ",", 0.0
    for separator in _SEPARATORS:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(head), delimiter=separator) if row][:200]
        except csv.Error:
            continue
        widths = widths[:-1] if len(widths) > 2 else widths  # the last one may be cut off
        if not widths or widths[0] < 2:
            continue
        score = Counter(widths)[widths[0]] / len(widths) + widths[0] / 10_000
        if score > most:
            best, most = separator, score
    return best


def _rows(path: Path, reader: Iterator[list[str]]) -> tuple[list[str], list[list[str]], bool]:
    header: list[str] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not row or not any(row):
                continue
            if not header:
                header = _header(path, row)
            elif len(row) != len(header):
                why = "is a quote missing, or a separator inside a value without quotes?"
                why = why if rows else "do the names of the columns stand in the first line?"
                raise UsageError(
                    f"{path}, line {reader.line_num}: {len(row)} cells where the header has {len(header)}; {why}"  # type: ignore[attr-defined]
                )
            elif len(rows) == ROWS:
                return header, rows, True
            else:
                rows.append(row)
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}; is a quote not closed?") from error  # type: ignore[attr-defined]
    if not header:
        raise UsageError(f"{path} is empty: there are no columns to make a pipeline from.")
    return header, rows, False


def _header(path: Path, row: list[str]) -> list[str]:
    """The names of the columns as pandas tells them, which gives those without one a name."""
    if all(_number(cell) for cell in row):
        raise UsageError(
            f"{path} begins with numbers ({', '.join(row[:3])}, ...): put a first line there that names the columns."
        )
    names = [cell or f"Unnamed: {place}" for place, cell in enumerate(row)]
    twice = [name for name, n in Counter(names).items() if n > 1]
    if twice:
        raise UsageError(f"{path} has more than one column of the name {twice[0]!r}: rename one of them.")
    return names


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
