"""The learning curve for TensorBoard, as TensorBoard's own reader sees it."""

import logging

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from streetvision_core.io.names import CURVE_NAME
from streetvision_core.training.report import EPOCH_COLUMNS, SETTINGS_TAG, TAGS
from tests.training.interrupt import RECIPE, fit_until
from tests.training.toy import fit

ON_CPU = {name: tag for name, tag in TAGS.items() if name != "gpu_peak_memory_mb"}


def read(directory):
    """Read the one file of a curve; a damaged record would end it with a word in the log."""
    assert [path.name for path in directory.iterdir() if path.is_file()] == [CURVE_NAME]
    events = EventAccumulator(str(directory))
    events.Reload()
    return events


def points(events, tag):
    return [(point.step, point.value) for point in events.Scalars(tag)]


def expected(rows, name):
    return [(row.epoch, pytest.approx(getattr(row, name), rel=1e-6)) for row in rows]


@pytest.mark.parametrize("method", ["finetune", "probe", "lora"])
def test_every_method_writes_the_same_tags_of_every_epoch(method, toy, backbone, tmp_path, caplog):
    reports, board = [], tmp_path / "board"
    with caplog.at_level(logging.WARNING):
        architecture = backbone if method != "lora" else None
        if architecture is None:
            from tests.training.toy import make_backbone

            architecture = make_backbone(tmp_path / "vit", architecture="test_vit", input_size=160)
        fit(architecture, toy, tmp_path / "out", method=method, tensorboard_to=board, on_epoch=reports.append)
        events = read(board)
    assert set(events.Tags()["scalars"]) == set(ON_CPU.values())
    for name, tag in ON_CPU.items():
        assert points(events, tag) == expected(reports, name)
    settings = events.Tensors(SETTINGS_TAG)[0].tensor_proto.string_val[0].decode()
    assert "| optimizer.ema_decay | 0.5 |" in settings
    assert f"| method.kind | {method} |" in settings
    assert not caplog.records


def test_what_lp_ft_trains_first_is_a_curve_of_its_own(toy, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr("streetvision_core.training.fitting.PROBE_EPOCHS", 3)
    checkpoint = fit(backbone, toy, tmp_path / "out", method="lp_ft", tensorboard_to=tmp_path / "board")
    mcc = TAGS["val_mcc"]
    assert points(read(tmp_path / "board"), mcc) == expected(checkpoint.epochs, "val_mcc")
    assert [step for step, _ in points(read(tmp_path / "board/probe"), mcc)] == [1, 2, 3]


def test_the_curve_is_there_while_it_trains(toy, backbone, tmp_path):
    seen = []

    def look(report):
        seen.append([step for step, _ in points(read(tmp_path / "board"), "loss/train")])

    fit(backbone, toy, tmp_path / "out", epochs=3, tensorboard_to=tmp_path / "board", on_epoch=look)
    assert seen == [[1], [1, 2], [1, 2, 3]]


def test_a_training_that_goes_on_has_a_whole_curve(go_on, tmp_path, toy, backbone):
    board, rows = tmp_path / "board", []
    _, epochs, _ = go_on(tensorboard_to=board)
    assert epochs == [3, 4]
    events = read(board)
    assert [step for step, _ in points(events, "loss/train")] == [1, 2, 3, 4]
    assert [step for step, _ in points(events, "speed/pictures_per_second")] == [3, 4]
    whole = fit(backbone, toy, tmp_path / "whole", on_epoch=rows.append, **RECIPE)
    for name in EPOCH_COLUMNS[1:]:
        assert points(events, TAGS[name]) == expected(whole.epochs, name)


def test_a_run_that_tries_again_begins_its_curve_anew(toy, backbone, tmp_path):
    board = tmp_path / "board"
    fit_until(2, backbone, toy, tmp_path / "first", tensorboard_to=board, **RECIPE)
    fit(backbone, toy, tmp_path / "again", tensorboard_to=board, **RECIPE)
    assert [step for step, _ in points(read(board), "loss/train")] == [1, 2, 3, 4]


def test_a_directory_that_cannot_be_written_is_told_once_and_ends_nothing(toy, backbone, tmp_path, notices):
    (tmp_path / "file").touch()
    checkpoint = fit(backbone, toy, tmp_path / "out", tensorboard_to=tmp_path / "file/board")
    assert len(checkpoint.epochs) == 2
    assert len(notices) == 1
    assert notices[0].startswith("The learning curve for TensorBoard ends here: the error 'Not a directory'")


def test_a_disk_that_is_full_ends_the_curve_and_not_the_training(toy, backbone, tmp_path, notices):
    """/dev/full takes nothing, and says so when it is written to."""
    board = tmp_path / "board"
    board.mkdir()
    (board / CURVE_NAME).symlink_to("/dev/full")
    checkpoint = fit(backbone, toy, tmp_path / "out", tensorboard_to=board)
    assert len(checkpoint.epochs) == 2
    assert len(notices) == 1
    assert "No space left on device" in notices[0]


def test_a_curve_changes_nothing_of_the_result_and_can_be_left_out(toy, backbone, tmp_path, undisturbed):
    board = tmp_path / "board"
    off = fit(backbone, toy, tmp_path / "off", **RECIPE)
    assert not board.exists()
    on = fit(backbone, toy, tmp_path / "on", tensorboard_to=board, **RECIPE)
    assert off.to_artifact().digest == on.to_artifact().digest == undisturbed
