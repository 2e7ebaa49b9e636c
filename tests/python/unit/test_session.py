# SPDX-License-Identifier: Apache-2.0
"""Which session a request belongs to."""

import hashlib

from lamps_vllm.session import SessionBook

BLOCK = 4


def blocks(tokens: list[int]) -> list[bytes]:
    """Block hashes as vLLM makes them: each stands for all tokens before it."""
    hashes, state = [], hashlib.sha256()
    for i in range(0, len(tokens) - BLOCK + 1, BLOCK):
        state.update(repr(tokens[i : i + BLOCK]).encode())
        hashes.append(state.digest())
    return hashes


class Chat:
    """A book, and sessions that are sent to it as token lists."""

    def __init__(self) -> None:
        self.book = SessionBook(BLOCK)

    def turn(self, prompt, output=(), name=None, aborted=False):
        resolved = self.book.begin(name, blocks(prompt), prompt)
        self.book.end(resolved.session, blocks([*prompt, *output]), aborted=aborted)
        return resolved


def words(seed: int, count: int) -> list[int]:
    return [1000 * seed + i for i in range(count)]


def test_a_name_is_one_session_whatever_the_prompt():
    chat = Chat()
    first = chat.turn(words(1, 20), name="a")
    assert first.is_new
    again = chat.turn(words(2, 20), name="a")
    assert (again.session, again.is_new) == (first.session, False)
    assert chat.turn(words(1, 20), name="b").session != first.session
    assert len(chat.book) == 2
    assert chat.book.name_of(first.session) == "a"


def test_without_a_name_the_prefix_chain_is_followed():
    chat = Chat()
    prompt, output = words(1, 21), words(2, 13)
    first = chat.turn(prompt, output)
    second = chat.turn([*prompt, *output, *words(3, 9)])
    assert (second.session, second.is_new) == (first.session, False)
    assert chat.book.name_of(first.session) == f"#{first.session}"


def test_an_answer_that_was_tokenised_anew_is_followed():
    chat = Chat()
    first = chat.turn(words(1, 21), words(2, 13))
    assert chat.turn([*words(1, 21), *words(9, 20)]).session == first.session


def test_a_shared_system_prompt_is_no_session():
    chat = Chat()
    system = words(1, 40)
    first = chat.turn([*system, *words(2, 9)], words(3, 9))
    other = chat.turn([*system, *words(4, 9)], words(5, 9))
    assert other.is_new
    assert other.session != first.session
    assert other.parent == -1


def test_a_branch_of_a_session_at_work_is_its_child():
    chat = Chat()
    prompt, output = words(1, 21), words(2, 13)
    first = chat.turn(prompt, output)
    history = [*prompt, *output, *words(3, 12)]
    chat.book.begin(None, blocks(history), history)
    child = chat.turn([*history, *words(4, 12)], words(5, 8))
    assert child.is_new
    assert child.parent == first.session
    grandchild = chat.turn([*history, *words(4, 12), *words(5, 8), *words(6, 8)])
    assert grandchild.session == child.session


def test_named_sessions_are_not_found_by_their_blocks():
    chat = Chat()
    named = chat.turn(words(1, 20), words(2, 8), name="a")
    assert chat.turn([*words(1, 20), *words(2, 8), 5]).session != named.session


def test_prompts_without_tokens_are_followed_by_their_blocks():
    book = SessionBook(BLOCK)
    prompt, whole = blocks(words(1, 20)), blocks([*words(1, 20), *words(2, 20)])
    first = book.begin(None, prompt, None)
    book.end(first.session, whole, aborted=False)
    assert book.begin(None, blocks([*words(1, 20), *words(2, 20), *words(3, 9)]), None) == (
        first.session, False, -1,
    )  # fmt: skip


def test_turns_shorter_than_a_block_leave_no_trace():
    chat = Chat()
    first = chat.turn([1, 2])
    assert chat.turn([1, 2, 3]).session != first.session
    assert chat.turn([]).is_new


def test_forget_frees_name_chain_and_handle():
    chat = Chat()
    named, chained = chat.turn([], name="a").session, chat.turn(words(1, 20), words(2, 9)).session
    chat.book.forget(named)
    chat.book.forget(chained)
    assert len(chat.book) == 0
    again = {chat.turn([*words(1, 20), *words(2, 9), 3]), chat.turn([], name="a")}
    assert {resolved.session for resolved in again} == {named, chained}, "handles are used again"
    assert all(resolved.is_new for resolved in again)


def test_sessions_are_numbered_in_order_of_their_beginning():
    chat = Chat()
    first, second = chat.turn([], name="a").session, chat.turn([], name="b").session
    chat.book.forget(first)
    third = chat.turn([], name="c").session  # takes the free handle
    assert third == first
    assert [chat.book.number_of(handle) for handle in (second, third)] == [1, 2]
    assert chat.book.number_of(chat.turn([], name="b").session) == 1
