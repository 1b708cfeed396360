"""Options of a load are no settings of a cluster."""

from deploy import given, parser


def test_the_model_asked_for_is_no_setting() -> None:
    args = parser.build().parse_args(["bench", "http://x/v1", "--model", "huge"])
    assert args.served_model == "huge"
    assert given.overrides(args) == {}
    assert given.reach(args).url == "http://x"


def test_the_model_that_is_measured_is_one() -> None:
    args = parser.build().parse_args(["profile", "--model", "huge", "--device", "cpu"])
    assert given.overrides(args) == {"model.path": "huge", "engine.device": "cpu"}
