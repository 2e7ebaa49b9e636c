# SPDX-License-Identifier: Apache-2.0
"""The process behind RemoteModel: `python -m lamps_vllm.lengths.worker FOLDER TOKENIZER`.

Reads batches of token ids, one JSON line each, and answers with expected lengths; ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import IO

import numpy as np


def main(folder: str, tokenizer: str, asked: IO[str], answers: IO[str]) -> None:
    """Answers until there is no more to read. A failure to start is an answer too."""
    try:
        import torch  # noqa: PLC0415  (after the environment is known)

        from lamps_vllm.train.bases import load_tokenizer  # noqa: PLC0415
        from lamps_vllm.train.bins import expected  # noqa: PLC0415
        from lamps_vllm.train.card import load  # noqa: PLC0415

        torch.set_num_threads(1)
        card, model = load(Path(folder))
        served = load_tokenizer(tokenizer)
        means = np.asarray(card.bin_means)
        model.distributions(["warm up"])
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        return
    print(json.dumps("ready"), file=answers, flush=True)
    for line in asked:
        texts = served.batch_decode(json.loads(line), skip_special_tokens=True)
        lengths = expected(model.distributions(texts), means)
        print(json.dumps(lengths.tolist()), file=answers, flush=True)


if __name__ == "__main__":
    # Libraries that print must not be taken for an answer.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    main(sys.argv[1], sys.argv[2], sys.stdin, out)
