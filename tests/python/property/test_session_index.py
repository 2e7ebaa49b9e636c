# SPDX-License-Identifier: Apache-2.0
"""Session inference against what the clients really did."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import lamps_ext
from lamps_ext import SessionIndex

BLOCK = 4
OPENING = 4  # tokens at the end of a prompt that may change; SessionIndex::kOpening
LEAST = 2 * BLOCK + OPENING  # tokens of a turn; shorter ones may be told apart a turn later
SYSTEM_PROMPTS = [[10_000 * i + j for j in range(length)] for i, length in enumerate((7, 40, 1500))]


def hashes(tokens: list[int]) -> list[bytes]:
    """8 bytes per block that depend on everything before it."""
    out, state = [], 1
    for i in range(0, len(tokens) - BLOCK + 1, BLOCK):
        state = hash((state, *tokens[i : i + BLOCK]))
        out.append(state.to_bytes(8, "little", signed=True))
    return out


@dataclass(eq=False)
class Client:
    """What a client knows of its session."""

    prompt: list[int]
    first: int
    """Tokens of its first prompt."""
    parent: "Client | None" = None
    context: list[int] = field(default_factory=list)
    turns: int = 1
    at_work: bool = True


def forebears(client: Client) -> list[Client]:
    """Itself, its parent, and so on."""
    return [client, *forebears(client.parent)] if client.parent else [client]


class IndexMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = SessionIndex(BLOCK)
        self.clients: dict[int, Client] = {}
        self.next_token = 1_000_000

    def fresh(self, count: int) -> list[int]:
        """Tokens that nobody else has."""
        self.next_token += count
        return list(range(self.next_token - count, self.next_token))

    def waiting(self) -> list[int]:
        return [handle for handle, client in self.clients.items() if not client.at_work]

    def working(self) -> list[int]:
        return [handle for handle, client in self.clients.items() if client.at_work]

    def find(self, prompt: list[int]) -> tuple[int, int, int]:
        return self.index.find(hashes(prompt), prompt)

    def begin(self, handle: int, prompt: list[int]) -> None:
        self.index.begin(handle, hashes(prompt), prompt)

    def new_handle(self) -> int:
        return min(set(range(len(self.clients) + 1)) - self.clients.keys())

    @rule(system=st.sampled_from(SYSTEM_PROMPTS), question=st.integers(LEAST, 30))
    def starts(self, system, question):
        prompt = system + self.fresh(question)
        assert self.find(prompt)[:2] == (SessionIndex.NEW, -1)
        handle = self.new_handle()
        self.begin(handle, prompt)
        self.clients[handle] = Client(prompt, len(prompt))

    @precondition(lambda self: self.working())
    @rule(data=st.data(), output=st.integers(LEAST, 1500))
    def finishes(self, data, output):
        handle = data.draw(st.sampled_from(self.working()))
        client = self.clients[handle]
        client.context, client.at_work = client.prompt + self.fresh(output), False
        self.index.finish(handle, hashes(client.context), False)

    def goes_on(self, handle: int, prompt: list[int]) -> None:
        relation, found, _ = self.find(prompt)
        # A turn of a few tokens may end before the block in which the turn before it ended.
        assert (relation, found) in {(SessionIndex.CONTINUES, handle), (SessionIndex.EDITS, handle)}
        self.begin(handle, prompt)
        client = self.clients[handle]
        client.prompt, client.at_work, client.turns = prompt, True, client.turns + 1

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), result=st.integers(LEAST, 300))
    def continues(self, data, result):
        handle = data.draw(st.sampled_from(self.waiting()))
        self.goes_on(handle, self.clients[handle].context + self.fresh(result))

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), result=st.integers(LEAST, 300))
    def continues_with_its_answer_tokenised_anew(self, data, result):
        handle = data.draw(st.sampled_from(self.waiting()))
        self.goes_on(handle, self.clients[handle].prompt + self.fresh(result))

    @precondition(lambda self: self.working())
    @rule(data=st.data(), question=st.integers(LEAST, 100))
    def forks(self, data, question):
        handle = data.draw(st.sampled_from(self.working()))
        parent = self.clients[handle]
        prompt = parent.prompt + self.fresh(question)
        # A first question, and what hardly goes beyond it, is not enough to tell.
        found = self.find(prompt)[:2]
        known = len(parent.prompt) >= parent.first + 2 * BLOCK + OPENING
        if known:
            assert found == (SessionIndex.FORKS, handle)
        elif found[0] != SessionIndex.NEW:  # or it is taken for what a forebear could have sent
            assert self.clients[found[1]] in forebears(parent)
        child = self.new_handle()
        self.begin(child, prompt)
        self.clients[child] = Client(prompt, len(prompt), parent)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def ends(self, data):
        handle = data.draw(st.sampled_from(sorted(self.clients)))
        self.index.forget(handle)
        del self.clients[handle]

    @invariant()
    def is_consistent(self):
        self.index.check_invariants()
        assert self.index.sessions == len(self.clients)


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_block_of_nothing_is_refused():
    try:
        SessionIndex(0)
    except lamps_ext.InvalidOption as error:
        assert "block_tokens" in str(error)
    else:
        raise AssertionError("accepted")
