"""Featurize as straight-line Python: source made once for a plan and a state, with the same results and the same state.

What is common is written out: a key that stays in its newest tile is asked and changed without a loop. All else
(a new key, a new tile, a late event) calls the functions of `Group`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from keyword import iskeyword
from typing import Any

from headrace.processors.base import State
from headrace.processors.binding import Asked, Bound, Fed, Plan, Reader, outcome
from headrace.processors.features import LONGEST_KEPT, coerce, failed, too_long
from headrace.processors.slots import FOLDING, define, indent
from headrace.processors.windows import Group

__all__ = ["keys", "process", "update"]

PLAIN = {"double": "float", "long": "int", "string": "str", "boolean": "bool"}


def process(plan: Plan, grace_ms: int, state: State) -> Callable[[Any, int, int], dict[str, Any]]:
    """Answer ``process(event, time_ms, stream_time_ms)`` for `plan` on `state`."""
    names = _names(plan, grace_ms, state)
    lines = [f"floor_ms = stream - {grace_ms}", *_tiles(plan)]
    for number, table in enumerate(plan.tables):
        lines += _key(number, table.by, plan) + _row(number, plan)
    for i, fed in enumerate(plan.groups):
        spans = sorted({b.source.span for b in plan.bound if isinstance(b.source, Asked) and b.source.group == i})
        lines += _query(i, fed.group, spans)
    for i, bound in enumerate(plan.bound):
        names[f"default{i}"] = bound.source.default
        if isinstance(bound.source, Reader):
            lines += _read(f"x{i}", f"read{i}", bound.source, names)
        else:
            lines += _answer(i, bound, plan)
    for i, reader in enumerate(plan.readers):
        lines += _read(f"value{i}", f"of{i}", reader, names)
    fed_by = _fed(plan, outcomes=False)
    lines += SWEEP
    for number in fed_by:
        lines.append(indent("\n".join(_row(number, plan))))
    if fed_by:
        lines.append("if t >= floor_ms:")
    for number, groups in fed_by.items():
        source = []
        for i in groups:
            values = [f"value{feed}" for feed in plan.groups[i].feeds]
            source += _change(i, number, plan.groups[i].group, values, known=True)
        source.append(_put(number, plan))
        if _nullable(plan.tables[number].by, plan):
            source = [f"if key{number} is not None:", indent("\n".join(source))]
        lines.append(indent("\n".join(source)))
    lines += _record(plan)
    made: Callable[[Any, int, int], dict[str, Any]] = _make("process", "event, t, stream", lines, names)
    return made


def update(
    plan: Plan, bys: tuple[Any, ...], grace_ms: int, state: State
) -> Callable[[tuple[Any, ...], Any, int, int], None]:
    """Answer ``update(keys, y, time_ms, stream_time_ms)`` for `plan` on `state`."""
    names = _names(plan, grace_ms, state) | {"outcome": outcome, "task": plan.task}
    fed_by = _fed(plan, outcomes=True)
    classes = list(dict.fromkeys(of for groups in fed_by.values() for i in groups for of in plan.groups[i].feeds))
    lines = [f"floor_ms = stream - {grace_ms}"]
    for i, of in enumerate(classes):
        binary = plan.task == "binary"
        lines.append(f"label{i} = 1.0 if y else 0.0" if binary else f"label{i} = outcome({of!r}, task, y)")
    lines += [*SWEEP, "if t < floor_ms:", "    return", *_tiles(plan)]
    if bys:
        lines.append(f"{', '.join(f'by{i}' for i in range(len(bys)))}, = keys")
    for number, groups in fed_by.items():
        lines.append(f"key{number} = by{bys.index(plan.tables[number].by)}")
        source = _row(number, plan)
        for i in groups:
            values = [f"label{classes.index(of)}" for of in plan.groups[i].feeds]
            source += _change(i, number, plan.groups[i].group, values, known=False)
        lines += [f"if key{number} is not None:", indent("\n".join([*source, _put(number, plan)]))]
    made: Callable[..., None] = _make("update", "keys, y, t, stream", lines, names)
    return made


def keys(plan: Plan, bys: tuple[Any, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Answer ``keys(event)``: its key in each of the groupings `bys`."""
    lines = [line for i, by in enumerate(bys) for line in _key(i, by, plan)]
    lines.append(f"return ({' '.join(f'key{i},' for i in range(len(bys)))})")
    made: Callable[[Any], tuple[Any, ...]] = define("def keys(event):\n" + indent("\n".join(lines)), "keys")
    return made


PUT = """
if frozen{number} and key{number} in frozen{number}:
    save{number}(key{number})
data{number}[key{number}] = ({row})
dirty{number}(key{number})""".strip()
"""`put` of a keyed store, without the call: see `base.Keyed`."""

SWEEP = ["if stream >= due:", "    due = sweep(stream)"]


def _names(plan: Plan, grace_ms: int, state: State) -> dict[str, Any]:
    """Answer what the source may refer to."""
    names: dict[str, Any] = {**FOLDING, "coerce": coerce, "failed": failed, "too_long": too_long, "checked": plan.bound}
    dues: list[list[Any]] = []
    for number, table in enumerate(plan.tables):
        store, idle = state[table.name], state[table.name + ".index"]
        names |= {
            f"get{number}": store.get,
            f"data{number}": store.data,
            f"frozen{number}": store.frozen,
            f"save{number}": store.save,
            f"dirty{number}": store.dirty.add,
        }
        for i, fed in _members(plan, number):
            group = fed.group
            names |= {f"fold{i}": group.fold, f"add{i}": group.add, f"begun{i}": idle[fed.place].tiles}
            dues.append([float("-inf"), group.tile_ms, partial(table.sweep, store, idle, fed.place)])

    def sweep(stream_time_ms: int) -> Any:
        """Evict, and answer the stream time from which there may be more to evict."""
        floor_ms = stream_time_ms - grace_ms
        for due in dues:
            due_ms, tile_ms, evict = due
            if stream_time_ms >= due_ms:
                due[0] = evict(floor_ms // tile_ms) * tile_ms + grace_ms
        return min([due[0] for due in dues], default=float("inf"))

    return names | {"sweep": sweep, "due": float("-inf")}


def _tiles(plan: Plan) -> list[str]:
    """The tile of t, and the one that the grace reaches back to, for each size of tiles."""
    lines = []
    for size in dict.fromkeys(fed.group.tile_ms for fed in plan.groups):
        lines += [f"tile_{size} = t // {size}", f"floor_{size} = floor_ms // {size}"]
    return lines


def _members(plan: Plan, number: int) -> list[tuple[int, Fed]]:
    """The groups of a table in the order of their places, with their numbers in the plan."""
    found = [(i, fed) for i, fed in enumerate(plan.groups) if fed.table == number]
    return sorted(found, key=lambda member: member[1].place)


def _fed(plan: Plan, *, outcomes: bool) -> dict[int, list[int]]:
    """The tables that events, or outcomes, are added to: number of the table to the numbers of those groups."""
    found: dict[int, list[int]] = {}
    for number in range(len(plan.tables)):
        groups = [i for i, fed in _members(plan, number) if fed.outcomes == outcomes]
        if groups:
            found[number] = groups
    return found


def _nullable(by: tuple[str, ...] | None, plan: Plan) -> bool:
    return any(column in plan.nullable for column in by or ())


def _key(number: int, by: tuple[str, ...] | None, plan: Plan) -> list[str]:
    """key = the event's key by these columns."""
    if by is None:
        return [f'key{number} = ""']
    read = ", ".join(_column(column) for column in by)
    if len(by) == 1:
        return [f"key{number} = {read}"]
    lines = [f"key{number} = ({read})"]
    return [*lines, f"if None in key{number}:", f"    key{number} = None"] if _nullable(by, plan) else lines


def _row(number: int, plan: Plan) -> list[str]:
    """w = what each group of the table holds of the key; nothing is held of a null one."""
    held = [f"w{i}" for i, _ in _members(plan, number)]
    return [
        f"row = get{number}(key{number})",
        "if row is None:",
        f"    {' = '.join(held)} = None",
        "else:",
        f"    {', '.join(held)}, = row",
    ]


def _put(number: int, plan: Plan) -> str:
    """Store the row of the key as it is now."""
    row = "".join(f"w{i}, " for i, _ in _members(plan, number)).rstrip()
    return PUT.format(number=number, row=row)


def _column(column: str) -> str:
    return f"getattr(event, {column!r})" if iskeyword(column) or column.startswith("__") else f"event.{column}"


def _slots(i: int, group: Group, letter: str) -> list[str]:
    return group.slots(f"{letter}{i}_")


def _held(i: int, group: Group) -> list[str]:
    """Names for what a key of group i holds: head, its slots, the closed slots of each span, the older tiles."""
    closed = [name for span in group.spans for name in _slots(i, group, f"closed{span}_")]
    return [f"head{i}", *_slots(i, group, "a"), *closed, f"tiles{i}"]


def _query(i: int, group: Group, spans: list[int]) -> list[str]:
    """q<span> = the merged slots of each span that is asked."""
    tile, floor = f"tile_{group.tile_ms}", f"floor_{group.tile_ms}"
    asked = [(span, _slots(i, group, f"q{span}_")) for span in spans]
    lines = [f"if w{i} is None:"]
    lines += [f"    {group.clear(f'q{span}_{i}_')}" for span, _ in asked]
    lines += [f"elif w{i}[0] == {tile} >= {floor}:", f"    {', '.join(_held(i, group))} = w{i}"]
    for span, slots in asked:
        lines.append(f"    {', '.join(slots)}, = {', '.join(_slots(i, group, f'closed{span}_'))},")
        lines.append(indent(group.merges(f"q{span}_{i}_", f"a{i}_")))
    high = f"({tile} if {tile} >= {floor} else {floor})"
    whole = f"tiles{i} = w{i}[-1] + w{i}[:{group.width + 1}]"
    if group.loopless:
        lines += [f"elif w{i}[0] < {tile}:", f"    {whole}"]
        lines += [indent("\n".join(_folded(i, group, span, f"{high} - {span - 1}"))) for span, _ in asked]
    lines += ["else:", f"    {whole}"]
    lines += [f"    {', '.join(slots)}, = fold{i}(tiles{i}, {high} - {span - 1}, {tile})" for span, slots in asked]
    return lines


def _folded(i: int, group: Group, span: int, low: str) -> list[str]:
    """q<span> = the merged slots of tiles<i>, whose newest is w<i>[0], from `low` on."""
    names = _slots(i, group, f"q{span}_")
    return [
        f"low = {low}",
        f"if w{i}[0] < low:",
        f"    {group.clear(f'q{span}_{i}_')}",
        "else:",
        "    at = 0",
        f"    while tiles{i}[at] < low:",
        f"        at += {group.width + 1}",
        indent("\n".join(group.folded(f"tiles{i}", names) or ())),
    ]


def _read(target: str, name: str, reader: Reader, names: dict[str, Any]) -> list[str]:
    """target = the checked value of a column or function; only what is not plainly right goes through `coerce`."""
    if isinstance(reader.source, str):
        lines = [f"{target} = {_column(reader.source)}"]
    else:
        names[name] = reader.source
        lines = ["try:", f"    {target} = {name}(event)"]
        lines += ["except Exception as error:", f"    failed({reader.name!r}, error)"]
    if reader.default is not None:
        names[f"{name}_default"] = reader.default
        lines += [f"if {target} is None:", f"    {target} = {name}_default"]
    wrong = f"{target}.__class__ is not {PLAIN[reader.type]}"
    if reader.type == "double":
        wrong += f" or {target} - {target} != 0.0"
    elif reader.type == "long":
        wrong += f" or not -9223372036854775808 <= {target} <= 9223372036854775807"
    elif reader.type == "string":
        wrong += f" or not {target}.isascii()"
    lines.append(f"if {wrong}:")
    lines.append(f"    {target} = coerce({reader.name!r}, {reader.type!r}, {reader.nullable}, {target})")
    if reader.kept:
        some = f"{target} is not None and " if reader.nullable else ""
        lines += [f"if {some}len({target}) > {LONGEST_KEPT}:", f"    too_long({reader.name!r})"]
    return lines


def _answer(i: int, bound: Bound, plan: Plan) -> list[str]:
    """x = the aggregate, from the merged slots of its window."""
    asked = bound.source
    assert isinstance(asked, Asked)
    prefix = f"q{asked.span}_{asked.group}_"
    first, *more = (f"{prefix}{part.at + j}" for part in asked.parts for j in range(part.width))
    default = f"default{i}"
    answers = {
        "count": f"{first} or {default}",
        "sum": f"{more[0]} if {first} else {default}" if more else "",
        "mean": f"{more[0]} / {first} if {first} else {default}" if more else "",
        "variance": f"{more[1]} / ({first} - 1) if {first} > 1 else {default}" if len(more) > 1 else "",
        "min": f"{first} if {first} != inf else {default}",
        "max": f"{first} if {first} != -inf else {default}",
        "last": f"{default} if {first} is None else {more[0]}" if more else "",
        "time_since_last": f"{default} if {first} is None else (t - {first}) / 1000.0 if t > {first} else 0.0",
    }
    lines = [f"x{i} = {answers[asked.how]}"]
    labels = plan.groups[asked.group].outcomes and plan.task != "regression"
    if asked.how in ("sum", "mean", "variance") and not labels:
        infinite = f"x{i} is not None and x{i} - x{i} != 0.0" if bound.nullable else f"x{i} - x{i} != 0.0"
        lines += [f"if {infinite}:", f"    checked[{i}].checked(x{i})"]
    return lines


def _change(i: int, number: int, group: Group, values: list[str], *, known: bool) -> list[str]:
    """w = what the group holds after one more row; `known`: the query has taken it apart already."""
    tile, floor, held = f"tile_{group.tile_ms}", f"floor_{group.tile_ms}", ", ".join(_held(i, group))
    adds = "\n".join(part.add(f"a{i}_", f"v{i}_") for part in group.parts)
    lines = [f"v{i}_{j} = {value}" for j, value in enumerate(values) if f"v{i}_{j}" in adds]
    lines.append(f"if w{i} is not None and w{i}[0] == {tile}:")
    if not known:
        lines.append(f"    {held} = w{i}")
    lines += [indent(adds), f"    w{i} = ({held})"]
    if known or group.loopless:
        lines += [f"elif w{i} is None or w{i}[0] < {tile}:"]
        lines += [indent("\n".join(_advance(i, number, group, adds, known=known)))]
    arguments = ", ".join([f"w{i}", tile, "t", f"{floor} - {group.span - 1}", *values])
    lines += ["else:", f"    new = add{i}({arguments})"]
    return [*lines, f"    if w{i} is None:", f"        begun{i}[new[0]].append(key{number})", f"    w{i} = new"]


def _advance(i: int, number: int, group: Group, adds: str, *, known: bool) -> list[str]:
    """Begin a newer tile. What the windows that end in it saw before is its closed slots: `known` from the query."""
    tile, keep, step = f"tile_{group.tile_ms}", f"floor_{group.tile_ms} - {group.span - 1}", group.width + 1
    closed = [name for span in group.spans for name in _slots(i, group, f"q{span}_")]
    held = ", ".join([tile, *_slots(i, group, "a"), *closed, f"tiles{i}"])
    lines = [f"if w{i} is None:", f"    tiles{i} = ()", f"    begun{i}[{tile}].append(key{number})"]
    if not known:
        lines += [f"    {group.clear(f'q{span}_{i}_')}" for span in group.spans]
    lines.append("else:")
    if not known:
        lines.append(f"    tiles{i} = w{i}[-1] + w{i}[:{step}]")
        for span in group.spans:
            lines.append(indent("\n".join(_folded(i, group, span, f"{tile} - {span - 1}"))))
    return [
        *lines,
        f"    keep = {keep}",
        f"    if w{i}[0] < keep:",
        f"        tiles{i} = ()",
        f"    elif tiles{i}[0] < keep:",
        f"        at = {step}",
        f"        while tiles{i}[at] < keep:",
        f"            at += {step}",
        f"        tiles{i} = tiles{i}[at:]",
        group.clear(f"a{i}_"),
        adds,
        f"w{i} = ({held})",
    ]


def _record(plan: Plan) -> list[str]:
    """Return the features that are not missing, in the order of their declaration."""
    whole = "{" + ", ".join(f"{bound.name!r}: x{i}" for i, bound in enumerate(plan.bound)) + "}"
    nullable = [i for i, bound in enumerate(plan.bound) if bound.nullable]
    if not nullable:
        return [f"return {whole}"]
    lines = [f"if {' and '.join(f'x{i} is not None' for i in nullable)}:", f"    return {whole}", "x = {}"]
    for i, bound in enumerate(plan.bound):
        put = f"x[{bound.name!r}] = x{i}"
        lines += [f"if x{i} is not None:", f"    {put}"] if bound.nullable else [put]
    return [*lines, "return x"]


def _make(name: str, arguments: str, lines: list[str], names: dict[str, Any]) -> Any:
    """Answer the function; what it refers to becomes variables of an enclosing function, which are fast to reach."""
    body = indent("\n".join(lines), 2)
    given = ", ".join(names)
    source = f"""
def make({given}):
    inf = float("inf")
    def {name}({arguments}):
        nonlocal due
{body}
    return {name}
"""
    return define(source, "make")(**names)
