# SPDX-License-Identifier: Apache-2.0
"""Engines of two tests run at a time: each with one thread, on whichever core is free.

Left alone, vLLM binds the threads of every engine to the same first core.
"""

import os

os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("OMP_NUM_THREADS", "1")
