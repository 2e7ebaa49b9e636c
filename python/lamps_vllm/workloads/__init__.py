# SPDX-License-Identifier: Apache-2.0
"""Workloads for the simulator and for replays: generators by name, traces, scaling, predictions."""
