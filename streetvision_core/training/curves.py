"""Learning curves for TensorBoard: one event file for each run, written epoch by epoch.

Every method writes the same tags (`TAGS`) at the same steps, the epochs counted from 1; the settings stand
beside them as text. What lp_ft trains first is a curve of its own, in the directory `probe`. A run that goes
on with the training of an earlier one writes the earlier epochs again, as far as they are known: the rows,
not the times.

A curve is something to look at. Where it cannot be written, that is said once and the training goes on.

`SummaryWriter` of torch is not used: a thread of it writes, prints a traceback of its own when the disk is
full, and is alive while the loader forks its workers; and its import takes half a second where the records
alone take a tenth. A record is its length, its bytes, and a checksum of each.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any

from streetvision_core.io.names import CURVE_NAME
from streetvision_core.training.config import FINETUNE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streetvision_core.training.config import TrainingConfig
    from streetvision_core.training.report import EpochReport, EpochRow

# Attributes of a row, and of a report, and what TensorBoard calls them; the part before / makes a group.
ROW_TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val_select",
    "val_mcc": "mcc/val_select",
    "learning_rate": "learning_rate",
}
TAGS = {
    **ROW_TAGS,
    "pictures_per_second": "speed/pictures_per_second",
    "data_wait_share": "speed/data_wait_share",
    "peak_memory_mb": "memory/peak_mb",
    "gpu_peak_memory_mb": "memory/gpu_peak_mb",
}
SETTINGS_TAG = "settings"


class Curves:
    """Writes the epochs of a run below `directory`; with None it writes nothing."""

    def __init__(
        self, directory: Path | None, *, config: TrainingConfig, on_notice: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._config = config
        self._on_notice = on_notice
        self._begun: set[Path] = set()

    def begin(self, rows: Sequence[EpochRow]) -> None:
        """Write the epochs that an earlier run has trained."""
        events = [_scalars(row, ROW_TAGS) for row in rows]
        if events:
            self._write("", events)

    def before(self, on_epoch: Callable[[EpochReport], None]) -> Callable[[EpochReport], None]:
        """Return what writes an epoch and then hands its report on."""

        def report(epoch: EpochReport) -> None:
            self._write("" if epoch.phase == FINETUNE else epoch.phase, [_scalars(epoch, TAGS)])
            on_epoch(epoch)

        return report

    def _write(self, phase: str, events: Sequence[bytes]) -> None:
        """Append events to the curve of a phase, which is new in this run when it comes first."""
        if self._directory is None:
            return
        path = self._directory / phase / CURVE_NAME
        first = path not in self._begun
        if first:
            events = [_header(), _text(SETTINGS_TAG, _settings(self._config)), *events]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb" if first else "ab") as file:
                file.write(b"".join(map(_record, events)))
        except OSError as error:
            self._directory = None
            self._on_notice(
                f"The learning curve for TensorBoard ends here: the error '{error.strerror}' at {path}."
                " The training goes on."
            )
        self._begun.add(path)


def _header() -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event

    return _serialized(Event(wall_time=time.time(), file_version="brain.Event:2"))


def _scalars(epoch: EpochRow | EpochReport, tags: Mapping[str, str]) -> bytes:
    """Return the event of an epoch with those of its numbers that it has."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    numbers = {tag: getattr(epoch, name) for name, tag in tags.items()}
    values = [
        Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items() if number is not None
    ]
    return _serialized(Event(wall_time=time.time(), step=epoch.epoch, summary=Summary(value=values)))


def _text(tag: str, markdown: str) -> bytes:
    """Return an event that TensorBoard shows as text."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto

    shown = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    tensor = TensorProto(dtype="DT_STRING", string_val=[markdown.encode()])
    value = Summary.Value(tag=tag, metadata=shown, tensor=tensor)
    return _serialized(Event(wall_time=time.time(), summary=Summary(value=[value])))


def _settings(config: TrainingConfig) -> str:
    rows = [f"| {name} | {value} |" for name, value in config.model_dump(mode="json").items()]
    return "\n".join(["| setting | value |", "| --- | --- |", *rows])


def _serialized(event: Any) -> bytes:
    data: bytes = event.SerializeToString()
    return data


def _record(data: bytes) -> bytes:
    """Return a TFRecord: length as uint64, its masked CRC-32C as uint32, the data, its masked CRC-32C."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    length = struct.pack("<Q", len(data))
    return b"".join(
        (length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data)))
    )
