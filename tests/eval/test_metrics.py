"""The metrics agree with scikit-learn, with exact integers, and between containers."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streetvision_core.errors import DataError
from streetvision_core.eval import compute_all_metrics, compute_mcc
from streetvision_core.eval.metrics import Confusion, count_confusion, mcc_from_counts

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


def sklearn_numbers(labels, predictions):
    from sklearn import metrics

    tn, fp, fn, tp = metrics.confusion_matrix(labels, predictions, labels=[0, 1]).ravel().tolist()
    recall = metrics.recall_score(labels, predictions, zero_division=0)
    specificity = metrics.recall_score(labels, predictions, pos_label=0, zero_division=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A single label was found")
        mcc = metrics.matthews_corrcoef(labels, predictions)
    return {
        "mcc": mcc,
        "accuracy": metrics.accuracy_score(labels, predictions),
        "precision": metrics.precision_score(labels, predictions, zero_division=0),
        "recall": recall,
        "f1": metrics.f1_score(labels, predictions, zero_division=0),
        "fnr": 1 - recall if tp + fn else 0.0,
        "fpr": 1 - specificity if tn + fp else 0.0,
        "tp": tp,
        "tn": tn,
        "fp": fp,
        "fn": fn,
    }


@settings(max_examples=40)
@given(PAIRS)
def test_all_numbers_are_those_of_scikit_learn_also_with_zero_denominators(pairs):
    labels, predictions = [label for label, _ in pairs], [decision for _, decision in pairs]
    ours = compute_all_metrics(labels, predictions)
    assert list(ours) == list(sklearn_numbers(labels, predictions))
    assert ours == pytest.approx(sklearn_numbers(labels, predictions), abs=1e-12)
    assert ours["mcc"] == compute_mcc(labels, predictions)


def test_counts_are_int_and_everything_else_is_float():
    numbers = compute_all_metrics([0, 1, 1], [0, 0, 1])
    assert {name for name, value in numbers.items() if type(value) is int} == {"tp", "tn", "fp", "fn"}
    assert {type(value) for value in numbers.values()} == {int, float}


@given(PAIRS)
def test_lists_numpy_and_torch_give_the_same_numbers(pairs):
    import torch

    labels, predictions = [label for label, _ in pairs], [decision for _, decision in pairs]
    expected = compute_all_metrics(labels, predictions)
    for kind in (np.int64, np.uint8, np.bool_, np.float32):
        assert compute_all_metrics(np.array(labels, kind), np.array(predictions, kind)) == expected
    for kind in (torch.int64, torch.bool, torch.bfloat16):
        assert compute_all_metrics(torch.tensor(labels, dtype=kind), torch.tensor(predictions)) == expected


@pytest.mark.gpu
def test_tensors_on_a_gpu_give_the_same_numbers():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    labels, predictions = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0])
    assert compute_all_metrics(labels.cuda(), predictions.cuda()) == compute_all_metrics(labels, predictions)


def test_a_tensor_is_moved_to_the_cpu_before_numpy_reads_it():
    """A tensor on another device refuses to become an array until it was detached and copied."""

    class Remote:
        steps = ()

        def __array__(self, *_args, **_kwargs):
            raise TypeError("can't convert a device tensor to numpy")

        def detach(self):
            self.steps += ("detach",)
            return self

        def cpu(self):
            self.steps += ("cpu",)
            return self

        def is_floating_point(self):
            return False

        def numpy(self):
            assert self.steps == ("detach", "cpu")
            return np.array([0, 1])

    assert compute_mcc(Remote(), [0, 1]) == 1.0


def test_mcc_is_right_where_the_product_of_four_counts_overflows_int64():
    confusion = Confusion(tp=90_000, tn=95_000, fp=30_000, fn=35_000)
    sums = (120_000, 125_000, 125_000, 130_000)
    assert math.prod(sums) > 2**63
    assert confusion.mcc == pytest.approx(
        (90_000 * 95_000 - 30_000 * 35_000) / math.sqrt(math.prod(sums)), rel=1e-14
    )


def test_mcc_of_count_arrays_does_not_overflow_either():
    tp, tn, fp, fn = np.array([[3_000_000, 10], [2_000_000, 20], [1_000_000, 3], [500_000, 4]])
    expected = [
        (a * b - c * d) / math.sqrt(math.prod((a + c, a + d, b + c, b + d)))
        for a, b, c, d in zip(tp.tolist(), tn.tolist(), fp.tolist(), fn.tolist(), strict=True)
    ]
    assert mcc_from_counts(tp=tp, tn=tn, fp=fp, fn=fn).tolist() == pytest.approx(expected, rel=1e-14)


COUNT = st.integers(0, 40_000_000)


@given(COUNT, COUNT, COUNT, COUNT)
def test_mcc_never_leaves_its_range_and_turns_its_sign_with_the_decisions(tp, tn, fp, fn):
    mcc = Confusion(tp=tp, tn=tn, fp=fp, fn=fn).mcc
    assert -1 <= mcc <= 1
    assert Confusion(tp=fn, tn=fp, fp=tn, fn=tp).mcc == -mcc
    assert Confusion(tp=tn, tn=tp, fp=fn, fn=fp).mcc == mcc


@given(st.integers(1, 90_000_000), st.integers(1, 90_000_000))
def test_a_perfect_classifier_has_an_mcc_of_exactly_one(tp, tn):
    assert Confusion(tp=tp, tn=tn, fp=0, fn=0).mcc == 1.0


def test_a_confusion_counts_every_image_once():
    assert count_confusion([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]) == Confusion(tp=2, tn=1, fp=1, fn=1)
    assert count_confusion([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]).total == 5


@pytest.mark.parametrize(
    ("y_true", "y_pred", "fragments"),
    [
        ([], [], ["at least one image in y_true", "none"]),
        ([0, 1], [0, 1, 1], ["2 y_true and 3 y_pred"]),
        ([0, 1], [[0], [1]], ["y_pred one-dimensional [N]", "shape [2, 1]"]),
        ([0, 2], [0, 1], ["y_true to hold only 0", "the value 2", "position 1 of 2"]),
        ([0, 1], [0.3, 0.8], ["y_pred to hold only 0", "the value 0.3", "threshold"]),
        ([0, 1], [0, float("nan")], ["the value nan"]),
        ([0, -1], [0, 1], ["the value -1"]),
        (["None", "Roadwork"], [0, 1], ["y_true to be numbers", "dtype"]),
        ([0, None], [0, 1], ["y_true to be numbers", "object"]),
        ([[0], [0, 1]], [0, 1], ["y_true that NumPy can read"]),
        (1, 1, ["one-dimensional", "shape []"]),
    ],
)
def test_what_is_not_a_pair_of_binary_vectors_is_refused_in_one_paragraph(y_true, y_pred, fragments):
    with pytest.raises(DataError) as caught:
        compute_all_metrics(y_true, y_pred)
    message = str(caught.value)
    assert message.startswith("Expected ")
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message
