# SPDX-License-Identifier: Apache-2.0
"""What the predictor has learned, on disk, so that the next run starts warm.

The snapshot is written by a thread, in slices of well under a millisecond: the core is only touched
while the interpreter's lock is held, so a step never meets a half-written state and never waits for more
than one slice. A file is replaced at once when its successor is complete. A damaged file is reported and
left where it is; serving then starts from priors.
"""

import threading
from pathlib import Path

from vllm.logger import init_logger

import lamps_ext
from lamps_vllm.files import replacing

logger = init_logger("vllm.lamps")

_SLICE = 32  # levels


def restore(core: "lamps_ext.PolicyCore", path: Path) -> bool:
    """Loads `path` into the core. False, with a reason in the log, if that was not possible."""
    try:
        core.restore_predictions(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        logger.info("LAMPS starts without predictions: %s does not exist yet", path)
        return False
    except (OSError, UnicodeDecodeError, lamps_ext.BadSnapshot) as error:
        logger.error("LAMPS starts without predictions: cannot use %s: %s", path, error)
        return False
    logger.info("LAMPS starts with the predictions in %s", path)
    return True


def save(core: "lamps_ext.PolicyCore", path: Path) -> None:
    """Writes a snapshot; the old file stays until the new one is complete."""
    writer = lamps_ext.SnapshotWriter(core)
    with replacing(path) as file:
        while part := writer.next(_SLICE):
            file.write(part)


class PredictionStore:
    """Restores at the start, saves every `interval` seconds and at the end. Does nothing without a path.

    Call :meth:`start` once and :meth:`close` once.
    """

    def __init__(self, core: "lamps_ext.PolicyCore", path: Path | None, interval: float) -> None:
        self._core, self._path, self._interval = core, path, interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._path is None:
            return
        restore(self._core, self._path)
        self._thread = threading.Thread(target=self._run, name="lamps-predictions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes the last snapshot."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._thread = None
        self._save()

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._save()

    def _save(self) -> None:
        try:
            save(self._core, self._path)
        except OSError as error:
            logger.error("LAMPS could not save its predictions to %s: %s", self._path, error)
