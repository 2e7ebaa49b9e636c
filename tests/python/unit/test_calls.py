# SPDX-License-Identifier: Apache-2.0
"""Tool calls read from the tokens of finished turns."""

import json
import time

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lamps_vllm.calls import CallReader

BAR, SPACE = "\uff5c", "\u2581"  # DeepSeek's special tokens are not ASCII
DEEPSEEK = [
    f"<{BAR}tool{SPACE}{rest}{BAR}>"
    for rest in (
        f"calls{SPACE}begin",
        f"call{SPACE}begin",
        "sep",
        f"call{SPACE}end",
        f"calls{SPACE}end",
    )
]
SPECIAL = {
    "qwen": ["<tool_call>", "</tool_call>", "<think>", "</think>", "<|im_end|>"],
    "llama": ["<|python_tag|>", "<|eom_id|>", "<|eot_id|>"],
    "mistral": ["[TOOL_CALLS]", "[ARGS]", "</s>"],
    "deepseek": [*DEEPSEEK, "</think>"],
    "harmony": ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|call|>", "<|end|>"],
    "plain": [],
}
TEXT = [
    'The weather in Paris is {"name": "get_weather", "arguments": {"city": "Paris"}} and 12 degrees.',
    "I shall look it up. <tool_call> <function=search> tool calls, functions and parameters",
    "assistantcommentary to=functions.lookup analysis json def main(): return 0",
] * 20


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """One small byte-level tokenizer per family, with that family's special tokens."""
    made = {}
    for family, special in SPECIAL.items():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(TEXT, trainer)
        made[family] = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        made[family].add_special_tokens({"additional_special_tokens": special})
    return made


def call(name: str, **arguments) -> str:
    return json.dumps({"name": name, "arguments": arguments})


LONG = "x = 1; print(x)\n" * 200
CASES = [
    ("qwen", f"Let me see.\n<tool_call>\n{call('get_weather', city='Paris')}\n</tool_call><|im_end|>",
     ["get_weather"]),
    ("qwen", f"<tool_call>\n{call('write', text=LONG)}\n</tool_call><|im_end|>", ["write"]),
    ("qwen", "".join(f"<tool_call>\n{call(n)}\n</tool_call>\n" for n in ("read", "read", "list")),
     ["read", "read", "list"]),
    ("qwen", "<tool_call>\n<function=run_shell>\n<parameter=cmd>\nls\n</parameter>\n</function>\n"
     "</tool_call>", ["run_shell"]),
    ("qwen", f"<think>I could <tool_call>{call('no')}</tool_call></think>It is sunny.<|im_end|>", []),
    ("qwen", f"<think>hm</think><tool_call>{call('yes')}</tool_call>", ["yes"]),
    ("llama", f"<|python_tag|>{call('search', query='x')}<|eom_id|>", ["search"]),
    ("llama", '<|python_tag|>brave_search.call(query="x")<|eom_id|>', ["brave_search"]),
    ("llama", '{"name": "search", "parameters": {"query": "x"}}<|eot_id|>', ["search"]),
    ("llama", '<function=search>{"query": "x"}</function><|eot_id|>', ["search"]),
    ("llama", '[get_weather(city="Paris"), get_time(zone="CET")]<|eot_id|>', ["get_weather", "get_time"]),
    ("mistral", f"[TOOL_CALLS][{call('search', q='x')}]</s>", ["search"]),
    ("mistral", '[TOOL_CALLS]search[ARGS]{"q": "x"}[TOOL_CALLS]read[ARGS]{"f": "y"}</s>',
     ["search", "read"]),
    ("mistral", '[TOOL_CALLS]search{"q": "x"}</s>', ["search"]),
    ("deepseek", "".join(DEEPSEEK[:2]) + f"function{DEEPSEEK[2]}get_weather\n```json\n{{}}\n```"
     + "".join(DEEPSEEK[3:]), ["get_weather"]),
    ("deepseek", "".join(DEEPSEEK[:2]) + f"get_weather{DEEPSEEK[2]}{{}}" + "".join(DEEPSEEK[3:]),
     ["get_weather"]),
    ("harmony", "<|channel|>analysis<|message|>I need it.<|end|><|start|>assistant<|channel|>commentary "
     'to=functions.get_weather <|constrain|>json<|message|>{"city": "x"}<|call|>', ["get_weather"]),
    ("harmony", '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant to=functions.lookup<|channel|>'
     "commentary json<|message|>{}<|call|>", ["lookup"]),
    ("harmony", "<|channel|>final<|message|>It is sunny.", []),
    ("plain", f"I shall look.\n<tool_call>\n{call('get_weather')}\n</tool_call>", ["get_weather"]),
    ("plain", '<function=search>{"q": 1}</function>', ["search"]),
    ("plain", call("search", q="x"), ["search"]),
    ("plain", f"```json\n{call('search', q='x')}\n```", ["search"]),
    ("plain", f"[{call('a')}, {call('b')}]", ["a", "b"]),
    ("plain", call("write", text=LONG), ["write"]),
    ("plain", '{"tool": "search", "args": {}}', ["search"]),
    ("plain", '{"name": "Ada", "born": 1815}', []),
    ("plain", '{"answer": 42}', []),
    ("plain", "[1, 2, 3]", []),
    ("plain", "The tool is called get_weather(city).", []),
    ("plain", "", []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("family", "text", "names"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_names_of_the_tools(tokenizers, family, text, names):
    tokenizer = tokenizers[family]
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert CallReader(tokenizer).names(ids) == names


def test_more_calls_than_are_told_apart(tokenizers):
    tokenizer = tokenizers["qwen"]
    ids = tokenizer.encode("".join(f"<tool_call>{call('t')}</tool_call>" for _ in range(50)))
    assert CallReader(tokenizer).names(ids) == ["t"] * 4


@pytest.mark.parametrize("before", [0, 50, 1000], ids="{} tokens before".format)
def test_a_marker_cut_into_other_tokens_than_usual(tokenizers, before):
    """A grammar lets the model choose any pieces that spell the marker."""
    tokenizer = tokenizers["plain"]
    ids = tokenizer.encode("Paris " * before)
    for character in f"<tool_call>\n{call('search', city='Paris')}\n</tool_call>":
        ids += tokenizer.encode(character)
    assert CallReader(tokenizer).names(ids) == ["search"]


@pytest.mark.parametrize("family", ["qwen", "mistral", "plain"])
def test_a_long_turn_costs_little(tokenizers, family):
    tokenizer = tokenizers[family]
    reader = CallReader(tokenizer)
    ids = tokenizer.encode(f"<tool_call>\n{call('write', text=LONG * 3)}\n</tool_call>")
    ids += [40 + i % 30 for i in range(4000)]
    reader.names(ids)
    best = min(_seconds(lambda: reader.names(ids)) for _ in range(20))
    assert best < 2e-3, "200 us on an idle machine; this guards against work per token"


def _seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
