# SPDX-License-Identifier: Apache-2.0
"""Options: what is accepted, and that every refusal names field, value and range."""

import pytest

import lamps_ext
from lamps_vllm.options import LampsOptions, OptionError

# field -> (lowest, highest, below, above)
RANGES = {
    "rank_weight": (0.0, 1e6, -0.1, 1e6 + 1),
    "rank_horizon": (0.0, 1e6, -0.1, 1e6 + 1),
    "starvation_threshold": (1, 1_000_000_000, 0, 1_000_000_001),
    "starvation_seconds": (0.0, 1e6, -0.1, 1e6 + 1),
    "score_update_interval": (1, 1_000_000, 0, 1_000_001),
    "admission_share": (0.1, 1.0, 0.09, 1.1),
    "min_admission_share": (0.1, 1.0, 0.09, 1.1),
    "redecide_seconds": (1e-3, 3600.0, 0.0009, 3601.0),
    "forget_seconds": (1.0, 1e7, 0.5, 1e7 + 1),
    "victim_hysteresis": (0.0, 10.0, -0.1, 10.1),
}


def parse(**options) -> LampsOptions:
    return LampsOptions.from_additional_config({"lamps": options})


def refusal(given) -> str:
    with pytest.raises(OptionError) as caught:
        LampsOptions.from_additional_config({"lamps": given})
    message = str(caught.value)
    assert message.startswith('additional_config["lamps"]')
    return message


def test_the_ranges_here_cover_every_number():
    numbers = {name for name, value in LampsOptions() if isinstance(value, int | float)} - {
        "preserve", "predictions_seconds", "length_deadline_seconds",
    }  # fmt: skip
    assert numbers == set(RANGES)


@pytest.mark.parametrize("given", [None, {}, {"lamps": {}}, {"other": 1}, "not a mapping"])
def test_without_options_the_core_has_its_defaults(given):
    options = LampsOptions.from_additional_config(given)
    assert options == LampsOptions()
    core, default = options.to_core(), lamps_ext.Options()
    for name in [*RANGES, "preserve"]:
        assert getattr(core, name) == getattr(default, name)


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("end", [0, 1])
def test_the_ends_of_a_range_are_accepted_and_reach_the_core(name, end):
    value = RANGES[name][end]
    assert getattr(parse(**{name: value}).to_core(), name) == value


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("end", [0, 1])
def test_beyond_the_ends_the_message_names_field_value_and_bound(name, end):
    value, bound = RANGES[name][2 + end], RANGES[name][end]
    message = refusal({name: value})
    assert f"{name} = {value!r}" in message
    assert str(int(bound) if float(bound).is_integer() else bound) in message


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rank_weight", "20", "number"),
        ("rank_weight", float("nan"), "less than or equal to 1000000"),
        ("starvation_threshold", 1.5, "integer"),
        ("starvation_threshold", True, "integer"),
        ("preserve", 1, "boolean"),
        ("preserve", "true", "boolean"),
        ("decision_log", 3, "string"),
        ("policy", 3, "string"),
    ],
)
def test_types_are_not_guessed(name, value, expected):
    message = refusal({name: value})
    assert f"{name} = {value!r}" in message
    assert expected in message


@pytest.mark.parametrize("name", lamps_ext.policy_names())
def test_every_policy_is_accepted_by_name_and_reaches_the_core(name):
    assert parse(policy=name).to_core().policy == name


def test_an_unknown_policy_is_answered_with_the_known_ones():
    message = refusal({"policy": "lifo"})
    assert "policy = 'lifo': expected one of lamps, fcfs," in message
    with pytest.raises(lamps_ext.InvalidOption, match="'lifo': expected one of lamps, fcfs,"):
        lamps_ext.Options().policy = "lifo"


def test_a_floor_above_the_ceiling_is_refused():
    message = refusal({"min_admission_share": 0.9, "admission_share": 0.5})
    assert "min_admission_share = 0.9" in message
    assert "[0.1, 0.5]" in message


def test_lowering_the_ceiling_alone_lowers_the_floor():
    core = parse(admission_share=0.5).to_core()
    core.validate()
    assert core.min_admission_share == 0.5


def test_all_bad_fields_are_named_at_once():
    message = refusal({"rank_wait": 1, "rank_weight": -1})
    assert "rank_wait: unknown option; known are admission_share," in message
    assert "rank_weight = -1" in message


@pytest.mark.parametrize("given", [[], "rank_weight=1", 3, None])
def test_anything_but_an_object_is_refused(given):
    assert f"= {given!r}: expected an object" in refusal(given)


def test_options_do_not_change_after_the_start():
    with pytest.raises(ValueError, match="frozen"):
        LampsOptions().preserve = False


@pytest.mark.parametrize(
    ("given", "expected"), [(None, None), ("", None), ("a/b.jsonl", "a/b.jsonl")]
)
def test_decision_log_path(given, expected):
    path = parse(decision_log=given).log_path
    assert (path if path is None else path.as_posix()) == expected


def test_predictions_are_kept_where_the_operator_says():
    assert parse().predictions_path() is None
    options = parse(predictions="dir/p", predictions_seconds=60.0)
    assert str(options.predictions_path()) == "dir/p"
    assert str(options.predictions_path(3)) == "dir/p.3"
    for seconds in (0.5, 86_401.0):
        assert f"predictions_seconds = {seconds}" in refusal({"predictions_seconds": seconds})


def test_the_deadline_of_the_length_model_has_its_range():
    assert parse().length_model is None
    assert parse(length_deadline_seconds=0.2).length_deadline_seconds == 0.2
    for seconds in (0.0009, 10.1):
        assert f"length_deadline_seconds = {seconds}" in refusal(
            {"length_deadline_seconds": seconds}
        )
