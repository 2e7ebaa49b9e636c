# SPDX-License-Identifier: Apache-2.0
"""`python -m lamps_vllm.cli`: the `lamps` command where no console script is installed."""

from lamps_vllm.cli.app import main

if __name__ == "__main__":
    main()
