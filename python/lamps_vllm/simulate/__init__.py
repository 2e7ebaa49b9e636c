# SPDX-License-Identifier: Apache-2.0
"""Simulated runs of the policy core: cases, sweeps, capacity search, reports."""
