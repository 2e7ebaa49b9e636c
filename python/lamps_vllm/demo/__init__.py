# SPDX-License-Identifier: Apache-2.0
"""`make demo`: real tool calls, then real agent prompts under overload, stock vLLM and LAMPS."""
