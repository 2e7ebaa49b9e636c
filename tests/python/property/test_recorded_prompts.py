# SPDX-License-Identifier: Apache-2.0
"""Whatever a per-turn trace holds, the sessions made of it send the prompts that it recorded."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from lamps_vllm.workloads.traces import load_trace

sizes = st.integers(1, 5_000)


@st.composite
def turns(draw: st.DrawFn) -> list[dict]:
    made = []
    for _ in range(draw(st.integers(1, 8))):
        prompt = draw(sizes)
        if made and draw(st.booleans()):  # most turns extend the one before
            prompt = made[-1]["in"] + made[-1]["out"] + draw(st.integers(-100, 100))
            prompt = max(1, prompt)
        new = min(prompt, draw(st.integers(0, 5_000)))
        if made and prompt > made[-1]["in"] and draw(st.booleans()):
            new = min(prompt, prompt - made[-1]["in"] + draw(st.integers(0, 63)))
        made.append({"in": prompt, "out": draw(st.integers(0, 300)), "new": new, "gap": 1.0})
    made[-1]["gap"] = None
    return made


@settings(max_examples=200, deadline=None)
@given(recorded=turns())
def test_prompts_are_the_recorded_ones(tmp_path_factory, recorded):
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    path.write_text(json.dumps({"id": "x", "turns": recorded}) + "\n")
    (session,) = load_trace(path).sessions
    assert [turn.prompt for turn in session.turns()] == [turn["in"] for turn in recorded]
    for turn in session.turns():
        assert 0 <= turn.kept < turn.prompt < turn.end
