"""Values that cannot be fitted: kept as they were given, left out of the fit with a reason, and flagged."""

import json
import math
import random
from collections import Counter

from fault_ledger import effort, record
from foretrain.analysis import Question, analyze
from foretrain.axes import Counts
from foretrain.flags import FlagKind
from foretrain.observation import Observation, RunInfo
from foretrain.store import ObservationStore, StudyReader

NOT_FINITE = (math.nan, math.inf, -math.inf)
NOT_POSITIVE = (0.0, -0.0, -1e-300, -5e-324, -0.5, -1e308)
POSITIVE = (5e-324, 1e-300, 1e300, 1.7976931348623157e308)


def series(chance):
    """Values of a run: a falling loss, with some replaced by what a broken run logs."""
    length = chance.choice([*range(1, 8), 12, 30])
    odd = chance.choice([0.0, 0.1, 0.4, 0.9, 1.0])
    kinds = chance.sample((NOT_FINITE, NOT_POSITIVE, POSITIVE), chance.randrange(1, 4))
    return [
        chance.choice(chance.choice(kinds)) if chance.random() < odd else 2.0 + 3.0 / math.sqrt(step)
        for step in range(1, length + 1)
    ]


def same(one, other):
    """Equal to the bit, the sign of a zero included; one NaN is as good as another."""
    both_nan = math.isnan(one) and math.isnan(other)
    return both_nan or (one == other and math.copysign(1, one) == math.copysign(1, other))


def why_left_out(value, step):
    """The documented reason, None for a value that is fitted."""
    if math.isnan(value) or math.isinf(value):
        return "not finite"
    if not value > 0:
        return "not positive"
    return "before the first update" if step == 0 else None


def test_what_cannot_be_fitted_is_kept_left_out_with_a_reason_and_flagged(tmp_path):
    chance, count = random.Random(11), effort(30, 1_000)
    given = {f"run{number}": series(chance) for number in range(count)}
    # Every fifth run was validated before its first update, too.
    first = {run: 0 if number % 5 == 0 else 1 for number, run in enumerate(given)}
    for run, values in given.items():
        store = ObservationStore(tmp_path)
        store.begin(RunInfo(run=run))
        for step, value in enumerate(values, first[run]):
            assert store.append(Observation(run, "val_loss", value, Counts(64 * step, step)))
        store.finish("finished")
        store.close()
    study = StudyReader(store.study_dir).read()
    assert study.damaged == 0 and set(study.runs) == set(given)
    lost, wrong = 0, 0
    for run, values in given.items():
        points = list(enumerate(values, first[run]))
        kept = {o.counts.steps: o.value for o in study.runs[run].observations}
        lost += len({step for step, _ in points} - kept.keys())
        wrong += sum(not same(kept[step], value) for step, value in points)
        report = analyze({run: study.runs[run]}, Question(run))
        reasons = [why_left_out(value, step) for step, value in points]
        fitted = [(64.0 * step, value) for (step, value), why in zip(points, reasons, strict=True) if not why]
        wrong += list(report.points) != fitted
        wrong += dict(report.excluded) != dict(Counter(why for why in reasons if why))
        flagged = [flag.step for flag in report.flags if flag.kind is FlagKind.NOT_FINITE]
        judged = [p for p in points if why_left_out(p[1], p[0]) in (None, "not finite")]
        told = [(step, math.isfinite(value)) for step, value in judged]
        starts = [step for k, (step, finite) in enumerate(told) if not finite and (k == 0 or told[k - 1][1])]
        wrong += flagged != starts  # one for each stretch
        json.loads(report.to_json(), parse_constant=lambda name: 1 / 0)
    record(11, "mixed series: NaN, infinite, zero, negative, extreme", count, 1_000, lost=lost + wrong)
    assert (lost, wrong) == (0, 0)
