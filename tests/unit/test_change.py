"""A change, judged: `headrace backtest --gate`, with the exit codes that CI acts on."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from river import drift, linear_model

from headrace import Gate, Retrain, fall_back, watch_error
from headrace.streams import cli
from headrace.streams.commands.change import flat
from headrace.streams.errors import UsageError
from headrace.streams.replay.change import Served, judge, serving
from tests.small import LABEL, event, known, play, small

FILE = '''
"""A shop's visits, of which `spent` says nearly all."""
import json, math, random

import pandas as pd
from river.linear_model import LogisticRegression
from river.preprocessing import StandardScaler

from headrace import Events, Gate, Labels, Pipeline, field

TIME = {"type": "long", "logicalType": "timestamp-millis"}
VISIT = {"type": "record", "name": "Visit", "fields": [
    {"name": "id", "type": "string"}, {"name": "shop", "type": "string"},
    {"name": "at", "type": TIME}, {"name": "spent", "type": "double"}]}
RETURN = {"type": "record", "name": "Return", "fields": [
    {"name": "id", "type": "string"}, {"name": "known", "type": TIME}, {"name": "back", "type": "boolean"}]}


def visits():
    chance, rows = random.Random(1), []
    for i in range(1_500):
        spent = chance.gauss(0, 1)
        rows.append({"id": f"v{i}", "shop": "ab"[i % 2], "at": i * 60_000, "spent": spent,
                     "known": i * 60_000 + 30_000, "back": chance.gauss(spent, 0.5) > 0})
    return pd.DataFrame(rows)


def blurred(visit) -> float:
    return math.sin(1e6 * visit.spent)


pipeline = Pipeline(
    "visits", task="binary",
    events=Events(VISIT, id="id", key="shop", time="at"),
    labels=Labels(RETURN, id="id", time="known", y="back"),
    features={"spent": SPENT},
    models={MODELS},
    champion="first",
    gate=Gate(minimum=300, segments=("shop",)),
    data=visits,
)
'''
GOOD = '"first": StandardScaler() | LogisticRegression()'


def written(folder: Path, *, spent: str = 'field("spent")', models: str = GOOD) -> str:
    """The pipeline's file with this feature and these models; how it is named."""
    (folder / "visits.py").write_text(FILE.replace("SPENT", spent).replace("{MODELS}", "{" + models + "}"))
    return "visits.py:pipeline"


def headrace(*args: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(cli.main, args, prog_name="headrace")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setattr("sys.path", [*sys.path])
    return tmp_path


@pytest.fixture
def repository(place: Path) -> Path:
    """A git repository whose one commit has the good pipeline."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    written(place)
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    for arguments in (["init", "-q"], ["add", "visits.py"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], cwd=place, check=True)
    return place


def judged(result: Result) -> dict[str, Any]:
    """The one judgement of a run with --json."""
    (found,) = json.loads(result.stdout)["gate"]
    return dict(found)


def test_a_change_that_makes_the_model_worse_exits_1(repository: Path, monkeypatch: pytest.MonkeyPatch):
    """Against the last commit: a feature that has lost what it knew, with the evidence; no change exits 0."""
    name = written(repository, spent="blurred")
    worse = headrace("backtest", name, "--gate", "--against", "HEAD", "--json")
    assert (worse.exit_code, judged(worse)["verdict"]) == (1, "worse")
    evidence = judged(worse)["evidence"]
    assert evidence["candidate_loss"] > evidence["reference_loss"] + 0.05
    assert evidence["log_e_worse"] > evidence["log_threshold"]
    monkeypatch.delitem(sys.modules, "visits")
    same = headrace("backtest", written(repository), "--gate", "--against", "HEAD", "--json")
    assert (same.exit_code, judged(same)["verdict"]) == (0, "no difference shown")
    assert judged(same)["evidence"]["difference"] == 0


def test_what_cannot_be_compared_with_says_so(repository: Path):
    """An unknown revision, a file that did not exist then, and --against without --gate are wrong use."""
    name = written(repository)
    for more, said in (
        (["--gate", "--against", "nowhere"], "nowhere"),
        (["--gate", "--against", "missing.py:pipeline"], "There is no file missing.py"),
        (["--against", "HEAD"], "it needs --gate"),
        (["--gate"], "has no model but first"),
    ):
        result = headrace("backtest", name, *more)
        assert (result.exit_code, said in result.stderr) == (2, True), result.output
    shutil.copy(repository / "visits.py", repository / "newer.py")
    result = headrace("backtest", "newer.py:pipeline", "--gate", "--against", "HEAD")
    assert "There is no newer.py at HEAD" in result.stderr


def test_other_models_against_the_champion(place: Path):
    """Without --against every other model is judged against the champion; a bad one is worse, a copy is not."""
    bad = '"slow": StandardScaler() | LogisticRegression(optimizer=__import__("river").optim.SGD(1e-9))'
    name = written(place, models=f"{GOOD}, {GOOD.replace('first', 'twin')}, {bad}")
    result = headrace("backtest", name, "--gate")
    assert result.exit_code == 1, result.output
    assert "slow is worse than first: its brier loss is higher by" in result.stdout
    told = headrace("backtest", name, "--gate", "--json")
    verdicts = {each["candidate"]: each["verdict"] for each in json.loads(told.stdout)["gate"]}
    assert verdicts == {"twin": "no difference shown", "slow": "worse"}


def test_too_few_examples_are_said_to_be_that(place: Path):
    """A test that could not be made is not told as one that found nothing."""
    name = written(place, models=f"{GOOD}, {GOOD.replace('first', 'twin')}")
    said = {limit: headrace("backtest", name, "--gate", "--limit", limit).stdout for limit in ("100", "500")}
    assert "examples are too few for the test" in said["100"]
    assert "too few" not in said["500"]


def test_a_model_alone_has_no_schedule_and_no_reaction():
    """Both may name another model, which is not there: its retraining ended the comparison as an error of our own."""
    models = {name: linear_model.LogisticRegression() for name in ("first", "second")}
    watch = watch_error(drift.ADWIN(), react=fall_back("second"))
    declared = small(models=models, champion="first", retrain=[Retrain("second", examples=2)], drift=[watch])
    alone = serving(declared, "first")
    events, labels = [event(str(i), i) for i in range(5)], [known(str(i), i + 0.5) for i in range(5)]
    assert (len(play(alone, events, labels).examples), alone.drift) == (5, ())


# -- judging -----------------------------------------------------------------------------------------------------------


CLASSED = {"schema": LABEL | {"fields": [*LABEL["fields"][:2], {"name": "y", "type": "string"}]}}


def served(n: int, p: Any, *, task: str = "binary", seed: int = 1) -> Served:
    """Predictions with P(True) = p(i, y) and the examples that came of them."""
    chance, predictions, examples = random.Random(seed), [], []
    for i in range(n):
        y = chance.random() < 0.5
        probability = p(i, y)
        predictions.append(
            {
                "event_id": i,
                "prediction": None if probability is None else probability > 0.5,
                "probability": probability,
                "probabilities": None,
            }
        )
        examples.append({"event_id": i, "label": y})
    return Served(pd.DataFrame(predictions), pd.DataFrame(examples))


def right(by: float, noise: int = 1) -> Any:
    """P(True) that is on the right side by so much, more or less."""
    chance = random.Random(noise)
    return lambda i, y: min(1.0, max(0.0, 0.5 + (by if y else -by) + chance.gauss(0, 0.2)))


@pytest.mark.parametrize(
    ("before", "now", "verdict"), [(0.1, 0.3, "better"), (0.3, 0.1, "worse"), (0.2, 0.2, "no difference shown")]
)
def test_better_worse_and_neither(before: float, now: float, verdict: str):
    """Each of the three verdicts, where it is due."""
    asked = small(gate=Gate(calibration=None))
    found = judge(asked, served(2_000, right(before)), served(2_000, right(now, 2)), pd.DataFrame({"id": []}))
    assert found.verdict == verdict
    assert bool(found.why) == (verdict == "worse")


@pytest.mark.parametrize("classes", ["abc", (1, 2, 3)])
@pytest.mark.parametrize(("graded", "losses"), [(True, (0.09, 0.28)), (False, (0.1, 0.4))])
def test_several_classes(classes: Any, graded: bool, losses: tuple[float, float]):
    """Text or numbers, with probabilities or without, of which the first prediction has neither."""

    def made(sure: float) -> Served:
        """Answers that are right so often, and so sure of it."""
        chance, predictions, examples = random.Random(1), [], []
        for i in range(1_000):
            y = chance.choice(classes)
            said = y if chance.random() < sure else next(each for each in classes if each != y)
            p = {str(each): sure if each == said else (1 - sure) / 2 for each in classes}
            predictions.append(
                {"event_id": i, "prediction": said if i else None, "probabilities": p if graded and i else None}
            )
            examples.append({"event_id": i, "label": str(y)})
        return Served(flat(pd.DataFrame(predictions)), pd.DataFrame(examples))

    asked = small(task="multiclass", labels=CLASSED, gate=Gate(calibration=None))
    found = judge(asked, made(0.9), made(0.6), pd.DataFrame({"id": []}))
    assert found.verdict == "worse"
    assert [found.evidence[f"{side}_loss"] for side in ("reference", "candidate")] == pytest.approx(losses, abs=0.03)


def test_a_worse_segment_is_worse():
    """A change that is better on the whole and worse in one shop is told by the shop's name."""
    gate = Gate(minimum=300, segments=("shop",), segment_minimum=50)
    shops = pd.DataFrame({"id": range(2_000), "shop": ["x" if i % 5 == 0 else "y" for i in range(2_000)]})
    now = right(0.4, 2)
    found = judge(
        small(gate=gate),
        served(2_000, right(0.2)),
        served(2_000, lambda i, y: 0.5 if i % 5 == 0 else now(i, y)),
        shops,
    )
    assert (found.verdict, [why.endswith("where shop=x") for why in found.why]) == ("worse", [True])


def test_refusing_to_answer_is_worse():
    """What is not answered counts as the worst answer there is."""
    good = right(0.3)
    refusing = served(2_000, lambda i, y: None if i % 4 == 0 else good(i, y))
    assert judge(small(), served(2_000, right(0.3)), refusing, pd.DataFrame({"id": []})).verdict == "worse"


def test_other_labels_cannot_be_compared():
    """Two pipelines that mean different things by the label are no change of a model."""
    with pytest.raises(UsageError, match="do not predict the same thing"):
        judge(small(), served(50, right(0.3)), served(50, right(0.3), seed=2), pd.DataFrame({"id": []}))
