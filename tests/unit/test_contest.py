"""The contest of the demo, over the runtime in memory."""

from __future__ import annotations

import json

from headrace.examples.contest import contest


def test_the_right_model_is_promoted_and_the_sabotaged_one_never() -> None:
    """On evidence, which the fact carries; the predictions are the new champion's from the next event on."""
    made = contest.backtest(limit=5_000)
    facts = [json.loads(value or b"") for _, _, value, _ in made.outputs["registry"]]
    (promoted,) = [fact for fact in facts if fact["kind"] == "promoted"]
    assert (promoted["model"], promoted["by"]) == ("logreg", "gate")
    assert promoted["evidence"]["log_e"] > promoted["evidence"]["log_threshold"]
    stamps = [json.loads(value or b"")["model"] for _, _, value, _ in made.outputs["predictions"]]
    turn = next(i for i, stamp in enumerate(stamps) if stamp.startswith("logreg/"))
    learned = [int(stamp.rpartition("@")[2]) for stamp in stamps]
    assert learned[turn - 1] < promoted["n"] <= learned[turn]
    assert all(stamp.startswith("poor/") for stamp in stamps[:turn])
    assert all(stamp.startswith("logreg/") for stamp in stamps[turn:])
