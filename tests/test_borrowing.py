"""A young run borrows from its family: which points may tell, how two projections are one, what is said."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from foretrain.analysis import Question, analyze
from foretrain.axes import Counts
from foretrain.families.borrowing import combine, disagreement, on_the_way
from foretrain.families.family import family_moments
from foretrain.families.model import T_SCALE
from foretrain.families.relatives import Relatives, ending
from foretrain.observation import Observation, RunInfo, RunRecord, ScheduleUpdate
from foretrain.report import Report
from foretrain.reporting.comparison import RunCurve
from foretrain.reporting.entering import CONSTANT, DECAYED
from foretrain.reporting.findings import Borrowing, Entering, NamedProjection
from foretrain.reporting.sentences import borrowing_line
from foretrain.schedule import Schedule
from foretrain.storage.reader import StudyReader
from foretrain.store import ObservationStore
from foretrain.tensorboard.words import notes

SIZES = (1e6, 3e6, 1e7, 3e7)
NEW = 1.2e8
BATCH = 100


def steps_of(n):
    return round(0.4 * n**0.5)


def rates(total, low=0.1):
    s = np.arange(1, total + 1)
    warm = total // 50
    down = low + (1 - low) / 2 * (1 + np.cos(np.pi * np.maximum(s - warm, 0) / (total - warm)))
    return 1e-3 * np.minimum(1.0, s / warm) * down


def error(n, steps, u):
    """A law of size and of the training done, with a gain of annealing that comes at once."""
    done = BATCH * np.cumsum(u)[steps - 1]
    return (1.5 + 60 * n**-0.3 + 25 * done**-0.3) * (1 - 0.06 * (1 - u[steps - 1]))


def record(run, n, *, share=1.0, bad=0.0, seed=0, low=0.1, every=0.02, **info):
    total = steps_of(n)
    lr = rates(total, low) if low < 1 else 1e-3 * np.minimum(1.0, np.arange(1, total + 1) / (total // 50))
    at = np.unique(np.round(total * np.arange(every, share + 1e-9, every))).astype(int)
    rng = np.random.default_rng([seed, int(n)])
    level = error(n, at, lr / lr.max()) * np.exp(bad + rng.normal(0, 0.002) + rng.normal(0, 0.002, at.size))
    counts = [Counts(samples=BATCH * int(s), steps=int(s), params=int(n)) for s in (*at, total)]
    observations = tuple(
        Observation(run, "val_loss", float(y), c, lr=float(lr[c.steps - 1]))
        for y, c in zip(level, counts[:-1], strict=True)
    )
    state = "finished" if share == 1.0 else "running"
    info = RunInfo(run, planned=counts[-1], **info)
    return RunRecord(info, observations, state, Schedule.from_rates(lr), int(at[-1]), None)


def family(**changes):
    return {f"n{n:.0e}": record(f"n{n:.0e}", n, **changes) for n in SIZES}


def truth(n, low=0.1):
    total = steps_of(n)
    return float(error(n, np.array([total]), rates(total, low) / 1e-3)[0])


def end_of(report):
    (end,) = (p for p in report.projections if p.name == "planned end")
    return end


def width(projection):
    return math.log(projection.upper["0.9"] / projection.lower["0.9"])


def one(mean, scale):
    return np.array([float(mean)]), np.array([float(scale)])


# Two projections are one


def test_two_that_agree_count_by_their_precisions():
    found = combine(one(0.70, 0.04), one(0.72, 0.02), noise=0.0)
    at = np.linspace(0.0, 1.4, 200_001)
    density = np.exp(-0.5 * ((at - 0.70) / 0.04) ** 2 - 0.5 * ((at - 0.72) / 0.02) ** 2)
    assert found.moments[0][0] == pytest.approx((at * density).sum() / density.sum(), abs=1e-9)
    assert found.share[0] == pytest.approx(0.8)
    variance = ((at - found.moments[0][0]) ** 2 * density).sum() / density.sum()
    assert found.moments[1][0] == pytest.approx(math.sqrt(variance), rel=1e-6)


def test_the_noise_of_a_measurement_is_not_averaged_away():
    found = combine(one(0.70, 0.05), one(0.70, 0.001), noise=0.03)
    assert found.moments[1][0] == pytest.approx(0.03, rel=1e-3)
    certain = combine(one(0.70, 0.03), one(0.75, 0.02), noise=0.03)
    assert certain.share[0] == 0.0 and certain.moments[0][0] == 0.70 and certain.moments[1][0] == 0.03


def test_the_projection_passes_to_the_runs_own_points_as_they_tell_more():
    scales = np.geomspace(1.0, 1e-3, 40)
    found = combine((np.full(40, 0.70), scales), (np.full(40, 0.71), np.full(40, 0.02)), noise=1e-3)
    assert found.share[0] > 0.99 and found.share[-1] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(found.share) < 0).all()
    assert (np.abs(np.diff(found.moments[0])) < 0.002).all()  # by small steps


def test_a_run_that_departs_from_its_family_stands_on_its_own():
    found = combine(one(0.90, 0.02), one(0.70, 0.01), noise=0.0)
    departs = 0.2**2 - 0.02**2 - 0.01**2  # with this variance more, the two are one scale apart
    assert found.share[0] == pytest.approx(0.02**2 / (0.02**2 + 0.01**2 + departs))
    assert abs(found.moments[0][0] - 0.90) < 0.003
    assert found.moments[1][0] == pytest.approx((1 / 0.02**2 + 1 / (0.01**2 + departs)) ** -0.5)
    assert found.apart[0] == pytest.approx(0.2 / math.hypot(0.02, 0.01))


def test_on_the_way_a_place_is_moved_by_what_is_open_there():
    end = combine(one(0.70, 0.05), one(0.66, 0.01), noise=0.01)
    scale = np.sqrt(0.01**2 + np.array([0.0, 0.25, 1.0]) * (0.05**2 - 0.01**2))
    found = on_the_way((np.array([0.9, 0.8, 0.7]), scale), end, noise=0.01)
    shift = end.moments[0][0] - 0.70
    assert shift < -0.03
    assert found.moments[0] == pytest.approx([0.9, 0.8 + shift / 2, 0.7 + shift])
    assert found.moments[1][0] == pytest.approx(0.01) and found.moments[1][2] == pytest.approx(
        end.moments[1][0]
    )
    assert found.share == pytest.approx(end.share[0] * np.array([0.0, 0.25, 1.0]))


# Which points may tell

ENDED = Entering({DECAYED: (40.0, 40.0)})


def curve(run="a", n=1e6, phases=(0.5, 1.0, 1.0, 0.1), entering=ENDED, **changes):
    points = tuple((float(10 * (i + 1)), 3.0 - 0.1 * i) for i in range(len(phases) or 4))
    return RunCurve(run, n, points, phases=phases, finished=True, entering=entering, **changes)


@pytest.mark.parametrize(
    ("spans", "changes", "end", "kept"),
    [
        ({DECAYED: (40.0, 40.0)}, {}, 0.1, [40]),
        ({DECAYED: (40.0, 40.0)}, {}, 0.3, []),  # this run's rate comes less far down
        ({DECAYED: (40.0, 40.0)}, {}, 1.0, []),
        ({DECAYED: (30.0, 40.0)}, {}, 0.1, [30, 40]),  # a tail at the lowest rate
        ({CONSTANT: (20.0, 30.0)}, {}, 1.0, [20, 30]),  # one that held its rate and then let it fall
        ({CONSTANT: (20.0, 30.0)}, {}, 0.9, [20, 30]),
        ({CONSTANT: (20.0, 30.0)}, {}, 0.1, []),
        ({}, {}, 0.1, []),  # it is under way
        ({DECAYED: (40.0, 40.0)}, {"phases": ()}, 0.1, []),  # nobody knows where its rate was
        ({DECAYED: (40.0, 40.0)}, {"phases": ()}, None, [40]),
        ({DECAYED: (40.0, 40.0)}, {}, None, []),  # its own rates are known, this run's are not
        ({}, {"phases": ()}, None, []),
        ({DECAYED: (40.0, 40.0)}, {"phases": (), "conventions": {"schedule": "StepLR"}}, None, []),
    ],
)
def test_which_points_are_ends_as_this_run_will_have_one(spans, changes, end, kept):
    run = curve(**changes, entering=Entering(spans, rates_unknown=changes.get("phases") == ()))
    found = ending(run, curve("own", conventions={}), end)
    assert [x for x, _ in found.points] == kept and len(found.phases) in (0, len(kept))


def test_fewer_than_three_sizes_and_the_own_past_tell_nothing():
    own = curve("own", 1e8, past={"a": 20.0})
    runs = [curve(name, n) for name, n in (("a", 1e6), ("b", 3e6), ("c", 1e7))]
    assert Relatives.of(own, runs, 0.1) is None  # it goes on from the first
    assert Relatives.of(own, [*runs, curve("d", 3e7)], 0.1).runs == ("d", "c", "b")
    assert Relatives.of(curve("own", 0.0), [*runs, curve("d", 3e7)], 0.1) is None


def test_the_scale_holds_how_the_runs_missed_each_other():
    sizes, data = np.geomspace(1e6, 1e8, 5), np.geomspace(1e8, 1e9, 5)
    loss = (1.5 + 60 * sizes**-0.3 + 80 * data**-0.3) * np.exp([0.0, 0.1, 0.0, 0.0, 0.0])
    runs = [
        RunCurve(f"{n:g}", n, ((d, y),), phases=(0.1,), finished=True)
        for n, d, y in zip(sizes, data, loss, strict=True)
    ]
    at = np.array([4e9])
    found = Relatives.of(RunCurve("own", 4e8), runs, 0.1)
    scores = []
    for i in range(1, 5):
        rest = np.arange(5) != i
        told, _ = family_moments(sizes[rest], data[rest], loss[rest], sizes[i : i + 1], data[i : i + 1])
        scores.append((math.log(loss[i]) - told[0][0]) * T_SCALE / told[1][0])
    inflation = max(1.0, math.sqrt((2 + sum(s**2 for s in scores)) / (2 + 4)))
    (mean, scale), _ = family_moments(sizes[::-1], data[::-1], loss[::-1], np.array([4e8]), at)
    told = found.moments(at)
    assert found.n_scores == 4 and found.inflation == pytest.approx(inflation) and inflation > 2
    assert told[0] == pytest.approx(mean, rel=1e-9)
    assert told[1] == pytest.approx(inflation * scale, rel=1e-9)


# Reports


def test_a_run_of_a_new_size_shows_from_its_first_validations_where_it_ends():
    runs, came, shares = family(), truth(NEW), []
    for share in (0.04, 0.8):
        own = record("new", NEW, share=share)
        report, alone = (analyze({**others, "new": own}, Question("new")) for others in (runs, {}))
        end, lent = end_of(report), report.borrowing
        assert end.lower["0.9"] < came < end.upper["0.9"]
        assert abs(math.log(end.median / came)) < 0.02
        assert set(lent.runs) == set(runs) and lent.own.data == lent.family.data == end.data
        between = sorted((lent.own.median, lent.family.median))
        assert between[0] <= end.median <= between[1]
        assert Report.from_json(report.to_json()) == report
        shares.append(lent.share)
        if share < 0.1:
            assert alone.borrowing is None and width(end_of(alone)) > 5 * width(end)
            assert report.status == "family_borrowed" and "family_borrowed" in end.reasons
            assert not {"annealing_borrowed", "too_few_points"} & set(report.reasons)
            assert report.curve.median[-1] == pytest.approx(end.median, rel=1e-3)
            told = " ".join(notes(report, report.points, "samples"))
            assert f"rests to {100 * lent.share:.0f} % on the law of 4 other runs" in told
        else:
            assert "family_borrowed" not in report.reasons
    assert shares[0] > 0.6 > 0.3 > shares[1]


def test_at_a_constant_rate_every_point_of_the_others_tells():
    runs = family(low=1.0)
    own = record("new", NEW, share=0.06, low=1.0)
    report = analyze({**runs, "new": own}, Question("new"))
    total = steps_of(NEW)
    u = np.minimum(1.0, np.arange(1, total + 1) / (total // 50))
    came, end = float(error(NEW, np.array([total]), u)[0]), end_of(report)
    assert end.kind == "not annealed" and end.lower["0.9"] < came < end.upper["0.9"]
    assert abs(math.log(end.median / came)) < 0.02 and report.borrowing.share > 0.6
    assert width(end) < 1.01 * width(report.borrowing.family)  # three points leave all open, and add nothing
    decayed = analyze({**family(), "new": own}, Question("new"))
    assert decayed.borrowing is None  # ends of decayed runs say nothing of a rate that stays


def test_a_bad_recipe_is_not_hidden_by_its_family():
    own = record("new", NEW, share=0.5, bad=0.12)
    report = analyze({**family(), "new": own}, Question("new"))
    end, lent = end_of(report), report.borrowing
    assert lent is None and any("other runs predict" in doubt for doubt in report.doubts)
    assert abs(math.log(end.median / truth(NEW)) - 0.12) < 0.02


def test_a_finished_run_needs_no_one_for_its_end():
    runs = {**family(), "new": record("new", NEW)}
    report = analyze(runs, Question("new"))
    assert end_of(report).median == pytest.approx(report.points[-1][1], rel=0.01)
    assert report.borrowing is None or report.borrowing.own.name != "planned end"
    assert len(report.track) == 4 and all(abs(math.log(p.median / p.came)) < 0.02 for p in report.track)


def test_what_a_projection_rests_on_is_one_sentence():
    own = NamedProjection("planned end", 1e8, 1e9, 2.5, {"0.9": 2.0}, {"0.9": 3.125})
    kin = NamedProjection("planned end", 1e8, 1e9, 2.25, {"0.9": 2.2}, {"0.9": 2.3})
    assert borrowing_line(Borrowing(0.834, ("a", "b", "c"), own, kin)) == (
        "The planned end rests to 83 % on the law of 3 other runs, which tells 2.25 (2.2 to 2.3); the run's "
        "own points tell 2.5 (2 to 3.125)."
    )
    assert borrowing_line(None) == ""


@pytest.mark.parametrize(("apart", "told"), [(3.3, False), (3.4, True)])  # 98 % of Student's t, 5 degrees
def test_that_the_two_disagree_is_said_from_their_98_percent_interval_on(apart, told):
    own = NamedProjection("planned end", 1e8, 1e9, 2.5)
    kin = NamedProjection("planned end", 1e8, 1e9, 2.25)
    doubt = disagreement(Borrowing(0.1, ("a", "b", "c"), own, kin, apart))
    sentence = (
        "The study's other runs tell 2.25 for the planned end, this run's own points 2.5: further apart"
    )
    assert doubt.startswith(sentence) if told else doubt == ""


# A study of several people


def keep(root, run):
    """Writes a run as the process that trains it does."""
    store = ObservationStore(root, "digits")
    store.begin(run.info)
    for i, observation in enumerate(run.observations):
        store.append(observation, ScheduleUpdate(used=run.schedule) if i == 0 else None)
    store.finish(run.state)
    store.close()


WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
from test_borrowing import keep, record
for size in sys.argv[4:]:
    name, counted = f"{sys.argv[3]}-{float(size):.0e}", {"params": sys.argv[3]}
    keep(sys.argv[2], record(name, float(size), conventions=counted))
"""


def test_runs_that_several_processes_wrote_under_one_root_are_one_study(tmp_path):
    """Four runs of two processes at once, and one whose process counted parameters in another way."""
    here = str(Path(__file__).parent)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, here, str(tmp_path), *what])
        for what in (("all", "1e6", "1e7"), ("all", "3e6", "3e7"), ("other", "4e6"))
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    runs = dict(StudyReader(folder).read().runs)
    assert len(runs) == 5 and {run.state for run in runs.values()} == {"finished"}
    runs["new"] = record("new", NEW, share=0.1, conventions={"params": "all"})
    report = analyze(runs, Question("new"))
    assert set(report.borrowing.runs) == {"all-1e+06", "all-3e+06", "all-1e+07", "all-3e+07"}
    assert "1 runs counted by other conventions were left out" in report.joint.sentence
    directly = {f"all-{n:.0e}": record(f"all-{n:.0e}", n, conventions={"params": "all"}) for n in SIZES}
    assert analyze({**directly, "new": runs["new"]}, Question("new")).borrowing == report.borrowing
