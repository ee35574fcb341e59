"""What libraries say by themselves goes to a log file; the terminal belongs to the user's progress and errors."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from koala_ray.home import state_folder

LOGGERS = ("ray", "ray.train", "ray.serve", "DeepSpeed", "transformers")
SWITCHES = {
    # No usage report, no bars, no hints repeated by each worker.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TQDM": "0",
    "RAY_DATA_LOGGING_CONFIG": str(Path(__file__).with_name("ray_data_logging.yaml")),
    # A worker that failed is noticed within a second; preempt/signals.py watches for notices by itself.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # A private Ray that is told to end should end: there is nothing to drain to.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
}
_handler: logging.FileHandler | None = None


def set_switches() -> None:
    """Set the libraries' own environment switches, before they are imported; the user's settings win."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)


def log_file() -> Path:
    """This process's log file for what libraries say."""
    folder = state_folder() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{time.strftime('%Y%m%d')}-{os.getpid()}.log"


def send_logs_to_file() -> None:
    """Send what libraries log in this process to :func:`log_file`.

    Call it again after importing one: some set up their handlers on import.
    """
    global _handler
    if _handler is None:
        _handler = logging.FileHandler(log_file(), delay=True)
        _handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_handler], False


@contextmanager
def stderr_to_log() -> Iterator[None]:
    """Send what is printed on stderr to the log file: for bars that have no switch."""
    with open(log_file(), "a", encoding="utf-8") as file, redirect_stderr(file):
        yield


def quiet_transformers() -> None:
    """No bars and no advice while transformers loads or saves a model."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if "DS_ACCELERATOR" not in os.environ:
        import torch

        if not torch.cuda.is_available():
            os.environ["DS_ACCELERATOR"] = "cpu"  # saves DeepSpeed's warning that it looked for a GPU
