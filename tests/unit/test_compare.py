"""The gate's rules on scripted answers, and segments' metrics."""

import json
import random

import pytest

from headrace import Gate
from headrace.processors import calibration
from headrace.processors.compare import Compare
from headrace.processors.metrics import scores_for
from headrace.processors.predict import UNASKED
from headrace.processors.segments import Segments
from tests.states import fresh_state

BASE = ({True: 0.5, False: 0.5}, {True: 0.5, False: 0.5})


def graded(p):
    """Return an answer with this probability of True."""
    return {True: p, False: 1 - p}


class Run:
    """Models old, new (and other) under a gate; `play` feeds rows and looks as a chain does."""

    def __init__(self, models=("old", "new"), task="binary", **gate):
        self.gate = Gate(**({"minimum": 400, "calibration": None} | gate))
        self.compare = Compare(task, models, self.gate)
        self.state = fresh_state(self.compare)
        self.n = 0
        self.compare.begin(models[0], models[1:], 0, None, self.state)

    def play(self, rows, portion=7):
        """Feed rows (y, answers, segments, version) until the gate has decided something; return it and when."""
        waiting = []
        for y, answers, *more in rows:
            self.n += 1
            waiting.append((y, (*answers, *BASE), *(more or ((), "old/0@1"))))
            if len(waiting) >= portion or not self.n % self.gate.batch:
                self.compare.update_many(waiting, self.state)
                waiting = []
            if not self.n % self.gate.batch:
                self.compare.close(self.state)
            if not self.n % self.gate.every:
                verdicts = self.compare.look(self.n, self.n, self.state)
                if verdicts:
                    return self.n, verdicts
        self.compare.update_many(waiting, self.state)
        return self.n, []

    def cell(self, name="new"):
        """Return how a challenger stands."""
        return self.compare.challengers(self.state)[name]


def stream(n, *sharpness, seed=1, segment=lambda i: ()):
    """Rows of models that say True with a probability of 0.5 plus their sharpness where it comes true."""
    chance = random.Random(seed)
    for i in range(n):
        y = chance.random() < 0.5
        noise = [chance.gauss(0, 0.1) for _ in sharpness]
        answers = [graded(0.5 + (s if y else -s) + e) for s, e in zip(sharpness, noise, strict=True)]
        yield y, answers, segment(i), "old/0@1"


def test_a_better_challenger_is_promoted_with_its_evidence():
    """It passes once there are enough examples, and the evidence says by how much and against whom."""
    n, (verdict,) = Run().play(stream(3_000, 0.1, 0.2))
    assert (verdict.kind, verdict.model) == ("promoted", "new")
    assert 400 <= n < 1_000
    evidence = verdict.evidence
    assert evidence["log_e"] > evidence["log_threshold"]
    assert 0 < evidence["at_least"] < evidence["difference"] < 0.2
    assert evidence["champion_loss"] - evidence["model_loss"] == pytest.approx(evidence["difference"])
    assert json.loads(json.dumps(evidence)) == evidence


@pytest.mark.parametrize("sharpness", [0.1, 0.05, -0.2])
def test_an_equal_or_worse_challenger_is_not(sharpness):
    """Nothing happens in 4,000 examples."""
    assert Run().play(stream(4_000, 0.1, sharpness)) == (4_000, [])


def test_of_two_that_pass_the_better_one_is_promoted():
    """Also when the other was declared first."""
    _, (verdict,) = Run(("old", "good", "best")).play(stream(3_000, 0.0, 0.2, 0.3))
    assert verdict.model == "best"


def test_nobody_passes_who_does_not_beat_the_baselines():
    """A challenger that is better than a poor champion, but no better than saying one half, stays where it is."""
    run = Run()
    assert run.play(stream(3_000, -0.2, 0.0)) == (3_000, [])
    assert run.compare.wanting("new", run.state) == [
        "not shown to be better than no-change",
        "not shown to be better than prior",
    ]


def mixed(n, spoilt):
    """Rows in which the new model is better, but for every fifth, which are the segment `where=odd`."""
    for i, (y, (old, new), _, version) in enumerate(stream(n, 0.1, 0.25)):
        odd = i % 5 == 0
        yield y, (old, graded(0.5 - (0.05 if y else -0.05)) if odd and spoilt else new), (f"where={odd}",), version


def test_a_segment_that_gets_worse_holds_it_back():
    """Better on the whole does not do where a segment is worse by more than the margin."""
    run = Run(segments=("where",), margin=0.02, segment_minimum=50)
    assert run.play(mixed(3_000, True))[1] == []
    assert run.compare.wanting("new", run.state)[-1].endswith("where where=True")
    assert run.compare.evidence("new", run.state)["worst_segment"]["difference"] < -0.02
    assert Run(segments=("where",), margin=0.02, segment_minimum=50).play(mixed(3_000, False))[1]
    assert Run(segments=("where",), margin=0.5, segment_minimum=50).play(mixed(3_000, True))[1]
    for minimum, says in ((600, 1), (601, 0)):
        other = Run(segments=("where",), margin=0.02, segment_minimum=minimum).compare
        assert len(other.held_back("new", run.state)) == says


def test_bad_calibration_holds_it_back():
    """A challenger that is right more often, but far too modest, passes only where calibration is not asked for."""
    rows = [(y, (old, graded(0.6 if y else 0.4)), *more) for y, (old, _), *more in stream(3_000, 0.0, 0.0)]
    asked = Run(calibration=0.05)
    assert asked.play(rows)[1] == []
    assert asked.compare.wanting("new", asked.state)[-1].startswith("calibration error 0.4")
    assert Run(calibration=None).play(rows)[1]


def test_the_sums_do_not_depend_on_portions():
    """The same state bit for bit, whether examples are taken one by one or by fifties."""
    states = []
    for portion in (1, 13, 50):
        run = Run(calibration=0.05, segments=("where",))
        run.play(stream(1_230, 0.1, 0.1, segment=lambda i: (f"where={i % 3}",)), portion)
        states.append(repr({name: cell.value for name, cell in run.state.items()}))
    assert states[0] == states[1] == states[2]


def test_who_refuses_to_answer_pays_for_it():
    """A challenger that answers only what it is sure of is wrong in the others; what nobody answers does not count."""
    run = Run()
    run.play([(True, (graded(0.5), None)), (True, (None, graded(1.0))), (True, ({}, None))])
    cell = run.cell()
    assert (cell["n"], cell["sums"][0]) == (2, (0.25 - 1.0) + (1.0 - 0.0))


def test_what_a_model_was_not_asked_counts_for_nobody():
    """One that came later, or a champion that did, is compared by the events that both were asked."""
    rows = list(stream(2_000, 0.1, 0.2, 0.2, segment=lambda i: ("s",)))
    late = [
        (y, (old, new if i >= 900 else UNASKED, other), *rest) for i, (y, (old, new, other), *rest) in enumerate(rows)
    ]
    run, only = Run(("old", "new", "other"), minimum=5_000, segments=["s"]), Run(minimum=5_000, segments=["s"])
    run.play(late)
    only.play([(y, answers[:2], *rest) for y, answers, *rest in rows[900:]])
    for name in ("n", "sums", "theirs", "mine", "baselines", "segments"):
        assert run.cell()[name] == only.cell()[name]
    assert run.cell("other")["n"] == 2_000
    champion = Run(minimum=5_000)
    champion.play([(y, (UNASKED if i < 900 else old, new), *rest) for i, (y, (old, new, _), *rest) in enumerate(rows)])
    assert champion.cell()["n"] == 1_100


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_what_a_model_was_not_asked_has_no_score(task):
    """Neither in the metrics nor in the calibration."""
    scores = scores_for(task)
    overall, window = scores.fresh(), scores.fresh()
    scores.update_many(overall, window, [(1, UNASKED)] * 3)
    assert (scores.scored(overall), overall) == (0, scores.fresh())
    if task != "regression":
        bins = calibration.fresh()
        calibration.update_many(task, bins, [1, 0], [UNASKED, UNASKED])
        assert bins == calibration.fresh()


def test_another_champion_starts_everything_anew():
    """After a promotion the sums are empty, and the former champion is compared, too."""
    run = Run()
    n, _ = run.play(stream(3_000, 0.1, 0.2))
    run.compare.begin("new", ["old"], n, n, run.state)
    assert (run.cell("old")["n"], run.cell("old")["since"]) == (0, n)
    run.play(stream(3_000, 0.1, 0.2))
    assert run.cell("old")["sums"][0] < 0


def test_beginning_again_without_a_change_changes_nothing():
    """As after a restart, which tells the gate who is there."""
    run = Run()
    run.play(stream(500, 0.1, 0.1))
    before = repr(run.state)
    run.compare.begin("old", ["new"], 500, 1, run.state)
    assert repr(run.state) == before


def test_alpha_is_shared_also_with_those_that_come_later():
    """The shares of three challengers and of ten that come one after the other are at most alpha together."""
    run = Run(("old", "a", "b", "c"), alpha=0.05)
    there = ["a", "b", "c"]
    for i in range(10):
        there.append(f"late{i}")
        run.compare.begin("old", there, i, i, run.state)
    shares = [cell["share"] for cell in run.compare.challengers(run.state).values()]
    assert shares[:3] == [0.0125] * 3
    assert sum(shares) <= 0.05


def test_another_model_under_the_same_name_starts_anew():
    """Its past comparison is another model's, and so is that model's share of alpha."""
    run = Run()
    run.play(stream(500, 0.1, 0.1))
    run.compare.begin("old", ["new"], 500, 1, run.state, again="new")
    assert run.cell()["n"] == 0
    assert run.cell()["share"] == 0.025 / 2


def test_other_rules_start_everything_anew():
    """A smaller alpha holds from now on: the shares of the larger one are gone with its comparisons."""
    run = Run()
    run.play(stream(500, 0.1, 0.1))
    stricter = Compare("binary", ("old", "new"), Gate(alpha=0.001, minimum=400))
    stricter.begin("old", ["new"], 500, 1, run.state)
    assert (run.cell()["n"], run.cell()["share"]) == (0, 0.0005)


def test_answers_of_other_models_are_left_out():
    """What was asked when other models were declared says nothing of those that are now."""
    run = Run()
    run.compare.update_many([(True, (graded(0.5), graded(0.9), graded(0.1), *BASE), (), None)], run.state)
    assert run.cell()["n"] == 0


def test_one_that_was_poor_for_long_and_is_good_now_gets_another_start():
    """Renewed comparisons promote it thousands of examples sooner, at a smaller share of alpha."""
    rows = [*stream(4_000, 0.2, 0.1), *stream(4_000, 0.1, 0.2, seed=2)]
    n, (verdict,) = Run(renew=1_000).play(rows)
    assert n < 6_000
    assert verdict.evidence["first_n"] > 3_000
    assert verdict.evidence["log_threshold"] > 6
    assert Run(renew=100_000).play(rows)[0] > n + 1_000


def test_a_proposal_is_made_once():
    """With `approve` a person is asked, and not asked again at every look."""
    run = Run(approve=True)
    _, (verdict,) = run.play(stream(3_000, 0.1, 0.2))
    assert verdict.kind == "proposed"
    assert run.play(stream(1_000, 0.1, 0.2))[1] == []


def test_a_canary_that_is_worse_where_it_serves_is_stopped():
    """Only examples that it served count: one that is worse elsewhere goes on."""
    for served, expected in (("new/0@7", ["shadow"]), ("old/0@7", [])):
        run = Run()
        run.compare.begin("old", ["new"], 0, None, run.state, canary="new")
        rows = [
            (y, answers, (), served if i % 4 == 0 else "old/0@7")
            for i, (y, answers, *_) in enumerate(stream(2_000, 0.2, 0.05))
        ]
        n, verdicts = run.play(rows)
        assert [verdict.kind for verdict in verdicts] == expected
        if verdicts:
            assert n < 1_000
            assert verdicts[0].evidence["n"] == len(rows[:n:4])
            assert verdicts[0].evidence["difference"] < 0


def test_several_classes():
    """Brier scores of three classes, with a champion that answers labels only."""
    chance = random.Random(4)
    compare = Compare("multiclass", ("labels", "graded"), Gate(minimum=400, calibration=0.5))
    state = fresh_state(compare)
    compare.begin("labels", ["graded"], 0, None, state)
    verdicts, n, prior = [], 0, dict.fromkeys("abc", 1 / 3)
    while not verdicts and n < 3_000:
        rows = []
        for _ in range(50):
            y = chance.choice("abc")
            said = y if chance.random() < 0.7 else chance.choice("abc")
            rest = dict.fromkeys("abc", 0.15) | {said: 0.7}
            rows.append((y, (said, rest, prior, prior), (), None))
        compare.update_many(rows, state)
        n += 50
        verdicts = compare.look(n, n, state)
    assert [(verdict.kind, verdict.model) for verdict in verdicts] == [("promoted", "graded")]
    errors = verdicts[0].evidence["calibration_error"]
    assert errors["champion"] == pytest.approx(0.2, abs=0.05)
    assert errors["model"] < 0.2


def test_regression_by_a_scale_of_its_own():
    """Without a declared scale the labels give one, and one wild answer does not decide."""
    chance = random.Random(3)
    rows = []
    for i in range(3_000):
        y = chance.gauss(100, 20)
        rows.append((y, (y + chance.gauss(0, 10), y + (1e9 if i == 10 else chance.gauss(0, 5)), 100.0, 90.0)))
    compare = Compare("regression", ("old", "new"), Gate(minimum=400))
    state = fresh_state(compare)
    compare.begin("old", ["new"], 0, None, state)
    verdicts, n = [], 0
    while not verdicts:
        compare.update_many([(y, answers, (), None) for y, answers in rows[n : n + 50]], state)
        n += 50
        verdicts = compare.look(n, n, state)
    assert n < 1_000
    assert 0.01 < verdicts[0].evidence["difference"] < 0.1


@pytest.mark.parametrize(
    ("wrong", "legal"),
    [
        ({"alpha": 0}, "a number above 0 and below 1"),
        ({"alpha": 1.0}, "a number above 0 and below 1"),
        ({"minimum": 0}, "a whole number, 1 or more"),
        ({"every": 2.5}, "a whole number, 1 or more"),
        ({"margin": -0.1}, "a number from 0 to 1"),
        ({"calibration": 2}, "None, or a number from 0 to 1"),
        ({"loss": "log"}, "None, brier, error, absolute"),
        ({"scale": 0}, "None, or above 0"),
        ({"approve": 1}, "True, False"),
        ({"segments": "origin"}, "a sequence of features or event columns"),
    ],
)
def test_a_wrong_gate_says_what_is_legal(wrong, legal):
    """Each argument is checked where it is declared."""
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*legal: {legal}"):
        Gate(**wrong)


def test_a_loss_that_does_not_fit_the_task_is_refused():
    """Brier scores of numbers, or a scale of probabilities, are mistakes."""
    with pytest.raises(ValueError, match="of a regression task: absolute"):
        Compare("regression", ("a",), Gate(loss="brier"))
    with pytest.raises(ValueError, match="scale is 2"):
        Compare("binary", ("a",), Gate(scale=2.0))


def test_segments_have_metrics_of_their_own():
    """Each model is scored in each segment, overall and in windows, and its calibration beside it."""
    segments = Segments("binary", ("a",), ("where",), most=2, every=10)
    state = fresh_state(segments)
    names = segments.compile(state)
    rows = [(i % 2 == 0, (graded(1.0 if i < 10 else 0.0),), names(("xyz"[i % 3],)), i, i) for i in range(20)]
    found = segments.process_many(rows, state, {"a": "champion"})
    assert [i for i, each in enumerate(found) if each] == [9, 19]
    last = {(e.segment, e.window): e for e in found[19]}
    assert {segment for segment, _ in last} == {"where=x", "where=y", "where=*"}
    assert sum(e.n for (_, window), e in last.items() if window == "last-10") == 10
    assert sum(e.n for (_, window), e in last.items() if window == "overall") == 20
    assert last["where=x", "last-10"].metrics["ECE"] == 2 / 3
    assert last["where=x", "overall"].metrics["Accuracy"] == 3 / 7


@pytest.mark.parametrize(
    ("minimum", "every", "batch"), [(1_000, 50, 50), (400, 50, 50), (399, 50, 25), (50, 50, 5), (1, 50, 1), (50, 7, 1)]
)
def test_the_declared_minimum_is_enough(minimum, every, batch):
    """Eight batches, which a decision needs, fit into the minimum, and whole ones between two decisions."""
    gate = Gate(minimum=minimum, every=every)
    assert gate.batch == batch
    assert every % batch == 0


def test_a_clear_lead_passes_at_the_minimum():
    """A model that is always right replaces one that is always wrong after the 50 examples that were asked for."""
    run = Run(minimum=50)
    rows = [(y, (graded(0.0 if y else 1.0), graded(1.0 if y else 0.0))) for y in (i % 3 == 0 for i in range(500))]
    n, verdicts = run.play(rows)
    assert [verdict.kind for verdict in verdicts] == ["promoted"]
    assert n <= 100


@pytest.mark.parametrize("began", [0, 17, 49])
def test_batches_are_of_one_size_wherever_a_comparison_begins(began):
    """One that begins within a batch leaves out what comes before the first whole one: it counts as evidence only."""
    run = Run(minimum=10_000)
    run.n = began
    run.play([(True, (graded(0.25), graded(0.75)))] * (600 - began))
    cell = run.cell()
    assert cell["n"] == 600 - began
    assert cell["batches"] == [25.0] * (12 if began == 0 else 11)


def test_a_lead_that_is_always_the_same_is_promoted_wherever_the_comparison_begins():
    """Rounding in its sums is no variance, beside which that of its batches would be endless."""
    run = Run(minimum=1_000)
    run.n = 17
    n, (verdict,) = run.play([(True, (graded(0.7), graded(0.8)))] * 1_500)
    assert (n, verdict.kind, verdict.evidence["spread"]) == (1_050, "promoted", 1.0)


def test_disparity_is_of_the_worst_against_the_best():
    """Of segments with enough examples, in the window and overall; which they are; small ones have no say."""
    segments = Segments("binary", ("a", "b"), ("where",), most=9, every=100, minimum=30)
    state = fresh_state(segments)
    names = segments.compile(state)
    right = {"x": 0.9, "y": 0.6, "z": 0.0}
    rows = []
    for i in range(200):
        where = "z" if i % 50 == 49 else "xy"[i % 2]
        said = graded(1.0 if (i % 20) / 20 < right[where] else 0.0)
        rows.append((True, (said, graded(1.0)), names((where,)), i, 10 * i))
    found = segments.process_many(rows, state, {"a": "champion"})
    apart = {e.window: e for e in found[199] if e.window.startswith("disparity")}
    assert set(apart) == {"disparity-last-100", "disparity-overall"}
    overall = apart["disparity-overall"]
    assert (overall.segment, overall.model, overall.n, overall.last_n) == ("where", "a", 196, 199)
    by_segment = {e.segment: e.metrics for e in found[199] if e.window == "overall"}
    assert overall.metrics["Accuracy"] == by_segment["where=x"]["Accuracy"] - by_segment["where=y"]["Accuracy"] > 0.2
    assert overall.between["Accuracy"] == ["where=y", "where=x"]
    assert overall.between["ECE"] == overall.between["LogLoss"] == ["where=y", "where=x"]
    assert overall.metrics["ROCAUC"] is None
    assert "ROCAUC" not in overall.between, "one class alone has nothing to rank, and is no worst segment"


def test_one_segment_alone_has_no_disparity():
    """There is nothing to compare it with, and with too few examples neither."""
    segments = Segments("binary", ("a",), ("where",), most=9, every=10, minimum=6)
    state = fresh_state(segments)
    names = segments.compile(state)
    rows = [(True, (graded(1.0),), names(("xy"[i % 2],)), i, i) for i in range(10)]
    found = segments.process_many(rows, state, {"a": "champion"})
    assert {e.window for e in found[9]} == {"last-10", "overall"}


def test_segments_do_not_grow_without_bound():
    """A thousand values of a column are fifty segments and one for all others."""
    segments = Segments("binary", ("a",), ("where",), most=50)
    state = fresh_state(segments)
    names = segments.compile(state)
    rows = [(True, (graded(0.5),), names((str(i) * 100,)), i, i) for i in range(1_000)]
    segments.process_many(rows, state, {})
    assert len(state["segment_scores"].value["cells"]) == 51
    assert len(state["segments"].value["where"]) == 50
