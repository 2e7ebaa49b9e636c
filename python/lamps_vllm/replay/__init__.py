# SPDX-License-Identifier: Apache-2.0
"""Agent workloads: their files, their generator, open-loop replay over HTTP, and the figures."""
