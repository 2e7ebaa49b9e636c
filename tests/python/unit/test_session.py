# SPDX-License-Identifier: Apache-2.0
"""Which session a request belongs to."""

from lamps_vllm.session import SessionBook


def test_a_name_is_one_session_whatever_the_prompt():
    book = SessionBook()
    first = book.resolve("a", ["h1"])
    assert book.resolve("a", ["other"]) == first
    assert book.resolve("b", ["h1"]) != first
    assert len(book) == 2
    assert book.name_of(first) == "a"


def test_without_a_name_the_prefix_chain_is_followed():
    book = SessionBook()
    first = book.resolve(None, ["h1", "h2"])
    book.remember(first, ["h1", "h2", "h3"], prompt_blocks=2)
    assert book.resolve(None, ["h1", "h2", "h3", "h4", "h5"]) == first
    assert book.name_of(first) == f"#{first}"


def test_a_continuation_of_the_prompt_alone_counts():
    """A client that tokenises the answer anew changes the blocks of the output."""
    book = SessionBook()
    first = book.resolve(None, ["h1", "h2"])
    book.remember(first, ["h1", "h2", "out"], prompt_blocks=2)
    assert book.resolve(None, ["h1", "h2", "out-again", "h4"]) == first


def test_another_prompt_is_another_session():
    book = SessionBook()
    first = book.resolve(None, ["h1", "h2"])
    book.remember(first, ["h1", "h2", "h3"], prompt_blocks=2)
    assert book.resolve(None, ["h1", "x2"]) != first, "a shared system prompt is no session"
    assert book.resolve(None, []) != first


def test_a_fork_is_a_new_session():
    book = SessionBook()
    first = book.resolve(None, ["h1"])
    book.remember(first, ["h1", "h2"], prompt_blocks=1)
    assert book.resolve(None, ["h1", "h2", "a"]) == first
    assert book.resolve(None, ["h1", "h2", "b"]) != first


def test_the_latest_turn_replaces_the_earlier_ends():
    book = SessionBook()
    first = book.resolve(None, ["h1"])
    book.remember(first, ["h1", "h2"], prompt_blocks=1)
    assert book.resolve(None, ["h1", "h2", "h3"]) == first
    book.remember(first, ["h1", "h2", "h3", "h4"], prompt_blocks=3)
    assert book.resolve(None, ["h1", "h2", "zz"]) != first
    assert book.resolve(None, ["h1", "h2", "h3", "h4"]) == first


def test_turns_shorter_than_a_block_leave_no_trace():
    book = SessionBook()
    first = book.resolve(None, [])
    book.remember(first, [], prompt_blocks=0)
    assert book.resolve(None, ["h1"]) != first


def test_named_sessions_are_not_found_by_their_blocks():
    book = SessionBook()
    first = book.resolve("a", ["h1"])
    book.remember(first, ["h1", "h2"], prompt_blocks=1)
    assert book.resolve(None, ["h1", "h2"]) != first


def test_forget_frees_name_chain_and_handle():
    book = SessionBook()
    named, chained = book.resolve("a", []), book.resolve(None, ["h1"])
    book.remember(chained, ["h1", "h2"], prompt_blocks=1)
    book.forget(named)
    book.forget(chained)
    assert len(book) == 0
    again = book.resolve(None, ["h1", "h2"]), book.resolve("a", [])
    assert set(again) == {named, chained}, "handles are used again"
    assert book.name_of(again[1]) == "a"
    assert book.name_of(again[0]) == f"#{again[0]}", "the new owner does not inherit a name"
    assert book.resolve("a", []) == again[1]


def test_two_sessions_with_one_tail_do_not_share_or_leak_it():
    book = SessionBook()
    one, two = book.resolve(None, ["h1"]), book.resolve(None, ["h1"])
    book.remember(one, ["h1", "h2"], prompt_blocks=1)
    book.remember(two, ["h1", "h2"], prompt_blocks=1)
    book.forget(one)
    assert book.resolve(None, ["h1", "h2", "h3"]) == two


def test_sessions_are_numbered_in_order_of_their_beginning():
    book = SessionBook()
    first, second = book.resolve("a", []), book.resolve("b", [])
    book.forget(first)
    third = book.resolve("c", [])  # takes the free handle
    assert third == first
    assert [book.number_of(handle) for handle in (second, third)] == [1, 2]
    assert book.number_of(book.resolve("b", [])) == 1
