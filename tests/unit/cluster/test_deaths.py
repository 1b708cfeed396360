"""Who has to hear of which deaths, and until when."""

from baton.ids import WorkerId
from cluster.deaths import DOUBTS_MAX, KEPT_MAX, Deaths, Doubt

D = WorkerId("decode-0")


def test_a_death_is_told_once() -> None:
    deaths = Deaths()
    assert deaths.untold(D, 1, ()) == ()
    deaths.confirm("a")
    assert deaths.untold(D, 1, ()) == ("a",)
    assert deaths.untold(D, 1, ()) == ("a",)
    deaths.told(D, 1, ("a",))
    assert deaths.untold(D, 1, ()) == ()


def test_whoever_goes_on_asking_is_told_again() -> None:
    deaths = Deaths()
    deaths.confirm("a")
    deaths.told(D, 1, ("a",))
    assert deaths.untold(D, 1, ("a", "alive")) == ("a",)


def test_a_new_start_hears_of_what_happens_from_then_on() -> None:
    deaths = Deaths()
    deaths.confirm("a")
    assert deaths.untold(D, 2, ()) == ()
    deaths.confirm("b")
    assert deaths.untold(D, 2, ()) == ("b",)


def test_engines_without_a_name_and_old_deaths_are_forgotten() -> None:
    deaths = Deaths()
    deaths.untold(D, 1, ())
    deaths.confirm("")
    for number in range(KEPT_MAX + 5):
        deaths.confirm(str(number))
    untold = deaths.untold(D, 1, ())
    assert len(untold) == KEPT_MAX
    assert untold[-1] == str(KEPT_MAX + 4)


def test_doubts_last_until_the_death_is_certain() -> None:
    deaths = Deaths()
    doubt = Doubt("a", None, ())
    deaths.doubt(doubt)
    deaths.doubt(doubt.later())
    assert [(d.agent, d.gap_s) for d in deaths.doubts] == [("a", 20.0)]
    deaths.confirm("a")
    assert deaths.doubts == ()


def test_doubts_are_few_patient_and_have_names() -> None:
    deaths = Deaths()
    deaths.doubt(Doubt("", None, ()))
    assert deaths.doubts == ()
    for number in range(DOUBTS_MAX + 3):
        deaths.doubt(Doubt(str(number), None, ()))
    assert len(deaths.doubts) == DOUBTS_MAX
    doubt = deaths.doubts[0]
    for _ in range(20):
        doubt = doubt.later()
    assert doubt.gap_s == 300.0
