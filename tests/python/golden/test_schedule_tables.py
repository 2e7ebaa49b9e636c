# SPDX-License-Identifier: Apache-2.0
"""What LAMPS decides in small scenes, as tables (see tests/support/golden.py). Blocks hold 32 tokens."""

import numpy as np
from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from lamps_vllm import LampsScheduler
from tests.support.driver import Driver, tokens
from tests.support.golden import Table

LAST = {"final_turn": True}


def schedule_of(scheduler_cls: type, burst: int, **config) -> list[list[tuple[str, int]]]:
    """Requests without sessions, with room for all of them: who got how many tokens, step by step."""
    rng = np.random.default_rng(3)
    driver = Driver(scheduler_cls, blocks=161, **config)
    steps = []
    for i in range(24):
        driver.send(f"r{i}", tokens(i, int(rng.integers(20, 200))), int(rng.integers(2, 40)))
        if i % burst == 0:
            steps += [driver.step().num_scheduled_tokens for _ in range(int(rng.integers(1, 4)))]
    while driver.scheduler.has_unfinished_requests():
        steps.append(driver.step().num_scheduled_tokens)
    return [list(step.items()) for step in steps]


def test_a_calm_engine_schedules_as_vllm_does():
    assert schedule_of(LampsScheduler, 1) == schedule_of(AsyncScheduler, 1)


def test_without_rank_bursts_go_in_order_of_arrival_as_in_vllm():
    lamps = schedule_of(LampsScheduler, 6, step_tokens=256, lamps={"rank_weight": 0.0})
    assert lamps == schedule_of(AsyncScheduler, 6, step_tokens=256)


def test_kv_is_kept_across_a_short_call():
    driver = Driver(blocks=21)
    table = Table(driver)
    first = driver.send("a0", 100, 8, session_id="A")
    table.drain()
    driver.wait(0.3)
    driver.follow("a1", first, 20, 5, session_id="A")
    assert driver.step().num_scheduled_tokens == {"a1": 32}  # 128 tokens, 96 of them kept
    table.drain()
    table.check("""
        step   waiting  running  held  free
        0-6    -        a0       -     16
        7-8    -        -        A     17
        9-11   -        a1       -     15
        12-13  -        -        A     16
    """)


def test_kept_kv_goes_before_anything_is_preempted():
    driver = Driver(blocks=11, lamps={"redecide_seconds": 3600.0})  # nothing but pressure frees it
    table = Table(driver)
    driver.send("a0", 120, 8, session_id="A")
    table.drain()
    driver.send("b0", 100, 140, session_id="B", hints=LAST)
    table.step()
    driver.send("c0", 20, 60, session_id="C", hints=LAST)
    table.drain()
    table.check("""
        step     waiting  running  held  free
        0-6      -        a0       -     6
        7-8      -        -        A     7
        9        -        b0       A     3
        10-22    -        b0 c0    A     2
        23-37    -        b0 c0    A     1
        38-54    -        b0 c0    A     0
        55-68    -        b0 c0    -     2
        69       -        b0       -     5
        70-101   -        b0       -     4
        102-133  -        b0       -     3
        134-147  -        b0       -     2
        148-149  -        -        -     10
    """)
    assert driver.scheduler._core.report()["preemptions"] == 0


def test_a_turn_whose_kv_is_here_goes_before_a_new_session():
    driver = Driver(blocks=41, max_num_seqs=1)
    table = Table(driver)
    first = driver.send("a0", 100, 4, session_id="A")
    table.drain()
    driver.send("b0", 60, 6, session_id="B", hints=LAST)
    table.step()
    driver.send("new", 60, 3, session_id="N", hints=LAST)
    table.step()
    driver.follow("a1", first, 10, 3, session_id="A", hints=LAST)
    table.drain()
    table.check("""
        step   waiting  running  held  free
        0-2    -        a0       -     36
        3-4    -        -        A     37
        5      -        b0       A     35
        6      new      b0       A     35
        7-9    a1 new   b0       A     35
        10     a1 new   -        A     37
        11-12  new      a1       -     36
        13     new      -        -     40
        14-15  -        new      -     38
        16-17  -        -        -     40
    """)


def serve_a_crowd(hints: dict) -> Table:
    """Each of r0..r4 needs 2 blocks at first and 5 at its peak: all five prompts would fit at once."""
    driver = Driver(blocks=17)
    table = Table(driver)
    driver.send("big", 400, 4, session_id="big", hints=LAST)
    table.step()
    for i in range(5):
        told = {"expected_output_tokens": 100, **hints}
        driver.send(f"r{i}", 60, 100, session_id=f"R{i}", hints=told)
    table.step()
    driver.wait(2.0)
    table.drain()
    return table


def test_a_crowded_engine_admits_what_it_can_serve_to_the_end():
    serve_a_crowd({}).check("""
        step     waiting      running   held   free
        0        -            big       -      3
        1        r1 r2 r3 r4  big r0    -      1
        2        r1 r2 r3 r4  r0 big    -      1
        3        r1 r2 r3 r4  r0        -      14
        4-5      r3 r4        r0 r1 r2  -      10
        6-8      r3 r4        r0 r1 r2  -      9
        9-37     r3 r4        r0 r1 r2  -      7
        38-40    r3 r4        r0 r1 r2  -      6
        41-69    r3 r4        r0 r1 r2  -      4
        70-72    r3 r4        r0 r1 r2  -      3
        73-99    r3 r4        r0 r1 r2  -      1
        100      r3 r4        r1 r2     R0     2
        101-102  r3           r1 r2 r4  -      4
        103      r3           r4        R1 R2  6
        104-105  -            r4 r3     -      12
        106-108  -            r4 r3     -      11
        109-137  -            r4 r3     -      10
        138-140  -            r4 r3     -      9
        141-169  -            r4 r3     -      8
        170-172  -            r4 r3     -      7
        173-199  -            r4 r3     -      6
        200-202  -            r3        R4     7
        203-204  -            -         R3 R4  8
    """)


def test_those_who_will_not_come_back_enter_as_in_vllm():
    serve_a_crowd(LAST).check("""
        step     waiting      running         held  free
        0        -            big             -     3
        1        r1 r2 r3 r4  big r0          -     1
        2        r1 r2 r3 r4  r0 big          -     1
        3        r1 r2 r3 r4  r0              -     14
        4-5      -            r0 r1 r2 r3 r4  -     6
        6-8      -            r0 r1 r2 r3 r4  -     5
        9-37     -            r0 r1 r2 r3 r4  -     1
        38-40    -            r0 r1 r2 r3 r4  -     0
        41-69    r4           r0 r1 r2 r3     -     0
        70-72    r3 r4        r0 r1 r2        -     3
        73-99    r3 r4        r0 r1 r2        -     1
        100      r3 r4        r1 r2           -     6
        101      r3           r1 r2 r4        -     2
        102      r3           r4 r1 r2        -     2
        103      r3           r4              -     12
        104-106  -            r4 r3           -     8
        107-132  -            r4 r3           -     7
        133-136  -            r4 r3           -     6
        137-162  -            r4              -     11
        163-164  -            -               -     16
    """)


def long_beside_short(starvation_threshold: int) -> Table:
    """One slot, memory wanted by more than fit: `long` waits from step 1, short ones come after it."""
    options = {
        "starvation_threshold": starvation_threshold, "starvation_seconds": 0.0,
        "rank_weight": 500.0, "rank_horizon": 1000.0, "score_update_interval": 1,
    }  # fmt: skip
    driver = Driver(blocks=21, max_num_seqs=1, lamps=options)
    table = Table(driver)
    driver.send("run", 60, 10, session_id="run", hints=LAST)
    table.step()
    driver.send("long", 600, 3, session_id="L", hints={"expected_output_tokens": 600, **LAST})
    for i in range(5):
        hints = {"expected_output_tokens": 3, **LAST}
        driver.send(f"s{i}", 40, 3, session_id=f"S{i}", hints=hints)
        driver.wait(1.0)
        table.step(2)
    table.drain()
    return table


def test_short_requests_go_first_when_memory_is_short():
    long_beside_short(1_000_000).check("""
        step   waiting              running  held  free
        0      -                    run      -     18
        1-2    long s0              run      -     18
        3-4    long s0 s1           run      -     18
        5-6    long s0 s1 s2        run      -     17
        7-8    long s0 s1 s2 s3     run      -     17
        9      long s0 s1 s2 s3 s4  -        -     20
        10-11  long s1 s2 s3 s4     s0       -     18
        12     long s1 s2 s3 s4     -        -     20
        13-14  long s2 s3 s4        s1       -     18
        15     long s2 s3 s4        -        -     20
        16-17  long s3 s4           s2       -     18
        18     long s3 s4           -        -     20
        19-20  long s4              s3       -     18
        21     long s4              -        -     20
        22-23  long                 s4       -     18
        24     long                 -        -     20
        25-26  -                    long     -     1
        27-28  -                    -        -     20
    """)


def test_an_overdue_request_goes_before_short_ones():
    long_beside_short(14).check("""
        step   waiting              running  held  free
        0      -                    run      -     18
        1-2    long s0              run      -     18
        3-4    long s0 s1           run      -     18
        5-6    long s0 s1 s2        run      -     17
        7-8    long s0 s1 s2 s3     run      -     17
        9      long s0 s1 s2 s3 s4  -        -     20
        10-11  long s1 s2 s3 s4     s0       -     18
        12     long s1 s2 s3 s4     -        -     20
        13-14  long s2 s3 s4        s1       -     18
        15     long s2 s3 s4        -        -     20
        16-17  s2 s3 s4             long     -     1
        18     s2 s3 s4             -        -     20
        19-20  s3 s4                s2       -     18
        21     s3 s4                -        -     20
        22-23  s4                   s3       -     18
        24     s4                   -        -     20
        25-26  -                    s4       -     18
        27-28  -                    -        -     20
    """)


def two_that_outgrow_the_pool(prompt: int, output: int) -> Table:
    driver = Driver(blocks=11)
    table = Table(driver)
    driver.send("x", 100, 100, session_id="X", hints={"expected_output_tokens": 100, **LAST})
    table.step()
    hints = {"expected_output_tokens": output, **LAST}
    driver.send("y", prompt, output, session_id="Y", hints=hints)
    table.drain()
    return table


def test_the_victim_is_who_loses_least_for_the_memory_it_frees():
    """vLLM would preempt y, the last to start; x has longer to go and is cheaper to compute again."""
    two_that_outgrow_the_pool(prompt=130, output=60).check("""
        step     waiting  running  held  free
        0        -        x        -     6
        1        -        x y      -     1
        2-28     -        y x      -     1
        29-31    -        y x      -     0
        32-59    x        y        -     4
        60       x        -        -     10
        61-89    -        x        -     5
        90-121   -        x        -     4
        122-127  -        x        -     3
        128-129  -        -        -     10
    """)


def test_equals_keep_their_order_as_victims():
    two_that_outgrow_the_pool(prompt=100, output=100).check("""
        step     waiting  running  held  free
        0        -        x        -     6
        1-28     -        x y      -     2
        29       -        x y      -     1
        30-60    -        x y      -     0
        61-92    y        x        -     4
        93-98    y        x        -     3
        99       y        -        -     10
        100      -        y        -     5
        101-132  -        y        -     4
        133-138  -        y        -     3
        139-140  -        -        -     10
    """)


def pause_while_others_wait(hints: dict) -> Table:
    """Session A calls a tool while three new sessions want its memory."""
    driver = Driver(blocks=16, step_tokens=256)
    table = Table(driver)
    driver.send("b0", 200, 40, session_id="B", hints={"expected_output_tokens": 40, **LAST})
    table.step()
    driver.send("a0", 200, 4, session_id="A", hints={"expected_output_tokens": 4, **hints})
    table.step()
    for i in range(3):
        driver.send(f"w{i}", 200, 10, session_id=f"W{i}", hints=LAST)
    table.step()
    driver.wait(2.0)
    table.step(8)
    return table


def test_a_long_call_is_not_worth_its_memory_when_others_wait():
    pause_while_others_wait({"expected_call_seconds": 600}).check("""
        step  waiting   running  held  free
        0     -         b0       -     8
        1     -         b0 a0    -     1
        2-3   w0 w1 w2  a0 b0    -     1
        4     w0 w1 w2  b0       A     2
        5-10  w1 w2     b0 w0    -     1
    """)


def test_a_call_that_is_about_to_end_is():
    pause_while_others_wait({"expected_call_seconds": 0.01}).check("""
        step  waiting   running  held  free
        0     -         b0       -     8
        1     -         b0 a0    -     1
        2-3   w0 w1 w2  a0 b0    -     1
        4-10  w0 w1 w2  b0       A     2
    """)


def test_a_final_turn_keeps_nothing():
    driver = Driver(blocks=16)
    table = Table(driver)
    driver.send("a0", 100, 4, session_id="A", hints=LAST)
    driver.send("b0", 100, 4, session_id="B")
    table.drain()
    table.check("""
        step  waiting  running  held  free
        0-2   -        a0 b0    -     7
        3     -        -        B     12
        4     -        -        -     15
    """)
