from engine.models.progress import Forward, Phase


def test_phase_of_a_phase_is_a_stretch_of_the_whole():
    said = []
    part = Phase(lambda *what: said.append(what)).part(0.2, 0.6).part(0.5, 1, "fitting spectral")
    part("factorising", 0.5)
    part("factorising", 7.0)
    assert said == [("fitting spectral", 0.5), ("fitting spectral", 0.6)]


def test_phase_without_a_name_keeps_the_parts_own():
    said = []
    Phase(lambda *what: said.append(what)).part(0, 0.5)("counting", 0.5)
    assert said == [("counting", 0.25)]


def test_forward_never_goes_back():
    said = []
    forward = Forward(lambda _phase, share: said.append(share))
    for share in (0.1, 0.5, 0.3):
        forward("", share)
    assert said == [0.1, 0.5, 0.5]
