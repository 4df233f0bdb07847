"""Checks of the contract that every processor keeps, whatever it does: run over each of them by the tests.

A scenario says how to drive a processor with a few inputs. The stores come from whoever runs the checks, because a
processor does not know them; so does the fingerprint that compares models and detectors by content.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.processors.base import StoreSpec

__all__ = ["CHECKS", "Checked", "Home", "Scenario"]


class Home(Protocol):
    """Where state lives: made from what processors ask for, frozen to entries, loaded from them."""

    states: dict[str, dict[str, Any]]

    def freeze(self) -> Iterator[tuple[Any, bytes | None]]: ...
    def load(self, entries: dict[Any, bytes]) -> None: ...
    def contents(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Scenario:
    """How to drive one processor.

    Parameters
    ----------
    make
        A new processor.
    step
        Called with (processor, state, input); returns what came out, as values that can be compared.
    inputs
        A few dozen inputs, in their order.
    later
        The same input so many rounds later: other ids, later times. None if there is nothing to forget.
    widened, narrowed
        The same input with a field more, or without an optional one. None where inputs have no fields.
    stores
        What the processor keeps, if it is not what its `stores()` says.
    """

    make: Callable[[], Any]
    step: Callable[[Any, Mapping[str, Any], Any], Any]
    inputs: Sequence[Any]
    later: Callable[[Any, int], Any] | None = None
    widened: Callable[[Any], Any] | None = None
    narrowed: Callable[[Any], Any] | None = None
    stores: Callable[[], tuple[StoreSpec, ...]] | None = None


class Checked:
    """One scenario with a home for its state; each check is a method that raises AssertionError."""

    def __init__(
        self,
        scenario: Scenario,
        home: Callable[[dict[str, tuple[StoreSpec, ...]]], Home],
        fingerprint: Callable[[Any], Any],
    ) -> None:
        self.scenario, self.home, self.fingerprint = scenario, home, fingerprint

    def restore(self) -> None:
        """A snapshot in mid-stream, restored elsewhere, goes on as if nothing had happened."""
        inputs = self.scenario.inputs
        whole, outputs = self.run(inputs)
        assert any(output for output in outputs), "the scenario makes no output: nothing is checked"
        for cut in sorted({1, len(inputs) // 3, len(inputs) // 2, len(inputs) - 1}):
            before, first = self.run(inputs[:cut])
            after = self._fresh()
            after.load({key: data for key, data in before.freeze() if data is not None})
            _, rest = self.run(inputs[cut:], after)
            assert first + rest == outputs, f"other outputs after a restore at input {cut}"
            assert self._of(after) == self._of(whole), f"another state after a restore at input {cut}"

    def spread(self) -> None:
        """A checkpoint written while processing goes on holds the moment at which it was frozen."""
        inputs = self.scenario.inputs
        cut = len(inputs) // 2
        home, _ = self.run(inputs[:cut])
        held, entries = self._of(home), home.freeze()
        self.run(inputs[cut:], home)
        after = self._fresh()
        after.load({key: data for key, data in entries if data is not None})
        assert self._of(after) == held

    def input_untouched(self) -> None:
        """What is handed in is as it was afterwards."""
        inputs = copy.deepcopy(list(self.scenario.inputs))
        self.run(inputs)
        assert [self.fingerprint(item) for item in inputs] == [self.fingerprint(item) for item in self.scenario.inputs]

    def configuration_only(self) -> None:
        """The processor itself is unchanged by what it processes: its state is in the stores."""
        processor = self.scenario.make()
        before = self._attributes(processor)
        self.run(self.scenario.inputs, processor=processor)
        assert self._attributes(processor) == before

    def new_and_missing_fields(self) -> None:
        """A field more changes no output and one less is no crash, where inputs have fields."""
        scenario = self.scenario
        if scenario.widened is not None:
            assert self.run([scenario.widened(item) for item in scenario.inputs])[1] == self.run(scenario.inputs)[1]
        if scenario.narrowed is not None:
            inputs = [scenario.narrowed(item) if i % 3 == 1 else item for i, item in enumerate(scenario.inputs)]
            assert len(self.run(inputs)[1]) == len(inputs)

    def bounded_memory(self) -> None:
        """After ten rounds of new ids at later times no more entries are held than after three."""
        later = self.scenario.later
        if later is None:
            return
        home, sizes = self._fresh(), []
        for n in range(10):
            self.run([later(item, n) for item in self.scenario.inputs], home)
            sizes.append({name: _size(store) for name, store in home.states["checked"].items()})
        assert any(sizes[2].values()), "the scenario holds nothing: nothing is checked"
        assert sizes[9] == sizes[2]

    def seed_stable(self) -> None:
        """Two runs make the same outputs and the same state."""
        (one, first), (other, second) = self.run(self.scenario.inputs), self.run(self.scenario.inputs)
        assert first == second
        assert self._of(one) == self._of(other)

    def run(self, inputs: Sequence[Any], home: Home | None = None, processor: Any = None) -> tuple[Home, list[Any]]:
        """The outputs of these inputs, and the home they left their state in."""
        home = home or self._fresh()
        processor = processor or self.scenario.make()
        state = home.states["checked"]
        return home, [self.scenario.step(processor, state, item) for item in inputs]

    def _fresh(self) -> Home:
        declared: Callable[[], Any] = getattr(self.scenario.make(), "stores", tuple)
        stores = self.scenario.stores or declared
        return self.home({"checked": tuple(stores())})

    def _of(self, home: Home) -> dict[str, Any]:
        return {name: self.fingerprint(value) for name, value in home.contents().items()}

    def _attributes(self, processor: Any) -> dict[str, str]:
        return {name: repr(value) for name, value in vars(processor).items()}


CHECKS: tuple[str, ...] = (
    "restore",
    "spread",
    "input_untouched",
    "configuration_only",
    "new_and_missing_fields",
    "bounded_memory",
    "seed_stable",
)
"""The names of the checks: methods of `Checked`."""


def _size(store: Any) -> int:
    return len(store) if hasattr(store, "__len__") else 0
