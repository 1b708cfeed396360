import pytest

from simulator.engine_model.fit import fit
from simulator.engine_model.profile import PrefillSample, Profile, ProfileError, StepSample
from simulator.engine_model.times import EngineTimes

TRUE = EngineTimes(
    0.018, 0.0068, 2.25e-5, 7.6e-10, 5.2e-7, 4.9e-3, 1.3e-5, 2.2e-3, 2.9e-5, 3e-8, 1000
)
LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
STEPS = [(b, c) for c in (512, 2048, 8192) for b in (1, 4, 16, 64, 128, 256, 384)]


def measured(times: EngineTimes) -> Profile:
    alone = [PrefillSample(n, (times.prefill_s(n),)) for n in LENGTHS]
    after = [
        PrefillSample(n, (times.prefill_s(n, c),), c)
        for n in (256, 2048)
        for c in (4096, 16384, 30000)
    ]
    batch = PrefillSample(512, (times.iteration_s(4 * times.chunk_s(512, 0), 0, 0),), 0, 4)
    steps = tuple(StepSample(b, c, times.step_s(b, b * c)) for b, c in STEPS)
    return Profile("", 1000, (*alone, *after, batch), steps)


def test_a_model_is_found_again():
    found = fit(measured(TRUE))
    for name in TRUE.__slots__:
        assert getattr(found.times, name) == pytest.approx(getattr(TRUE, name), rel=1e-3), name
    assert all(error.worst < 1e-3 for error in found.errors)


def test_errors_are_told():
    lines = str(fit(measured(TRUE))).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "prefill",
        "prefill after a cached prefix",
        "batched prefill (not fitted)",
        "decode step",
    ]
    assert "9 points, mean error 0.0%" in lines[0]


def test_terms_that_would_be_negative_are_left_out():
    shrinking = [PrefillSample(n, (0.01 + 1e-5 * n**0.9,)) for n in LENGTHS]
    steps = (StepSample(1, 512, 0.005), StepSample(8, 512, 0.005), StepSample(8, 2048, 0.0049))
    times = fit(Profile("", 1, tuple(shrinking), steps)).times
    assert times.prefill_pair_s == 0.0
    assert times.step_kv_token_s == 0.0


def test_a_flat_profile_has_no_model():
    flat = tuple(PrefillSample(n, (0.01,)) for n in (1, 2, 3))
    steps = tuple(StepSample(b, 512, 0.005) for b in (1, 2, 3))
    with pytest.raises(ProfileError, match="too few lengths"):
        fit(Profile("", 1, flat, steps))
