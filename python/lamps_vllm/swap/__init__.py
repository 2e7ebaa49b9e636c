# SPDX-License-Identifier: Apache-2.0
"""KV in host memory: what :class:`lamps_vllm.connector.LampsConnector` is made of.

``tier`` (scheduler side) says what is copied and keeps the books, ``worker`` copies, ``messages`` is what
they tell each other; ``sessions`` carries out what LAMPS decides about paused sessions.
"""
