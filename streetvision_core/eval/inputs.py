"""The conversion of callers' inputs to NumPy, once, and their refusal with one readable paragraph.

Lists, NumPy arrays and torch tensors on any device are taken alike. Torch is recognised by its
methods and never imported. What comes out is a bool vector for labels and decisions, a float64
vector of probabilities, or a float64 vector of margins for logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from streetvision_core.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    Values: TypeAlias = npt.ArrayLike | torch.Tensor
    Bools: TypeAlias = npt.NDArray[np.bool_]
    Floats: TypeAlias = npt.NDArray[np.float64]


def binary_vector(values: Values, *, name: str) -> Bools:
    """Take labels or decisions, 0/1 or bool of shape [N], as a bool vector.

    Raises:
        DataError: not one-dimensional, empty, or holding anything but 0 and 1.
    """
    array = _numbers(values, name=name)
    _require_shape(array.ndim == 1, array, name=name, wanted="one-dimensional [N]")
    ones: Bools = array if array.dtype == np.bool_ else array == 1
    other = ~(ones | (array == 0))
    if other.any():
        position = int(np.argmax(other))
        raise DataError(
            f"{name} to hold only 0 (None) and 1 (Roadwork)",
            f"the value {array[position]}",
            f"position {position} of {array.size}",
            "Turn probabilities into decisions with a threshold first, and class names into 0 and 1.",
        )
    return ones


def probability_vector(values: Values, *, name: str) -> Floats:
    """Take probabilities of roadwork, shape [N] in [0, 1], as float64.

    Raises:
        DataError: not one-dimensional, empty, not finite or outside [0, 1].
    """
    array = finite_vector(values, name=name)
    if array.min() < 0 or array.max() > 1:
        raise DataError(
            f"{name} to lie in [0, 1]",
            f"values from {array.min():g} to {array.max():g}",
            f"{array.size} values",
            "Turn logits into probabilities with positive_probability first.",
        )
    return array


def finite_vector(values: Values, *, name: str) -> Floats:
    """Take numbers of shape [N] as float64.

    Raises:
        DataError: not one-dimensional, empty, or not finite.
    """
    array = _numbers(values, name=name).astype(np.float64, copy=False)
    _require_shape(array.ndim == 1, array, name=name, wanted="one-dimensional [N]")
    _require_finite(array, name=name)
    return array


def margin_vector(logits: Values) -> Floats:
    """Reduce logits to margins, float64 [N]: roadwork minus none for [N, 2], the logit itself for [N].

    Softmax over two classes depends on nothing but this difference.

    Raises:
        DataError: another shape, empty, or a margin that is not finite.
    """
    array = _numbers(logits, name="logits")
    shaped = array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 2)
    _require_shape(shaped, array, name="logits", wanted="of shape [N, 2] or [N]")
    if array.ndim == 1:
        margins = array.astype(np.float64)
    else:
        # inf - inf and an overflowing difference are reported below, as a paragraph instead of a warning.
        with np.errstate(invalid="ignore", over="ignore"):
            margins = np.subtract(array[:, 1], array[:, 0], dtype=np.float64)
    _require_finite(margins, name="logits")
    return margins


def require_equal_length(**arrays: npt.NDArray[Any]) -> None:
    """Refuse arrays that do not describe the same N images.

    Raises:
        DataError: the lengths differ.
    """
    if len({array.shape[0] for array in arrays.values()}) > 1:
        lengths = " and ".join(f"{array.shape[0]} {name}" for name, array in arrays.items())
        raise DataError(
            f"as many {' as '.join(arrays)}",
            lengths,
            "one entry an image is needed in each",
            "Pass arrays of the same images in the same order.",
        )


def require_both_classes(labels: Bools, *, purpose: str) -> None:
    """Refuse labels of one class, with which `purpose` has no answer.

    Raises:
        DataError: every label is the same.
    """
    positives = int(np.count_nonzero(labels))
    if positives in {0, labels.size}:
        raise DataError(
            f"images of both classes to {purpose}",
            f"{positives} of Roadwork and {labels.size - positives} of None",
            f"{labels.size} labels",
            "Use a set that holds both classes, or make this role larger in the splits.",
        )


def _numbers(values: Any, *, name: str) -> npt.NDArray[Any]:
    array = _as_array(values, name=name)
    if array.dtype.kind not in "buif":
        raise DataError(
            f"{name} to be numbers",
            f"an array of dtype {array.dtype}",
            f"shape {list(array.shape)}",
            "Pass integers, floats or booleans without gaps, rows of equal length.",
        )
    return array


def _as_array(values: Any, *, name: str) -> npt.NDArray[Any]:
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        # NumPy has no bfloat16, and float64 holds every narrower float exactly.
        return np.asarray((tensor.double() if tensor.is_floating_point() else tensor).numpy())
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} that NumPy can read as an array",
            f"{type(values).__name__}, of which it says: {error}",
            "before any computation",
            "Pass a NumPy array, a torch tensor or a list of numbers.",
        ) from error


def _require_shape(fits: bool, array: npt.NDArray[Any], *, name: str, wanted: str) -> None:
    if not fits:
        raise DataError(
            f"{name} {wanted}",
            f"shape {list(array.shape)}",
            f"{array.size} values",
            "Reshape the array; N counts images.",
        )
    if array.size == 0:
        raise DataError(f"at least one image in {name}", "none", f"shape {list(array.shape)}", "Pass data.")


def _require_finite(array: Floats, *, name: str) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        position = int(np.argmin(finite))
        raise DataError(
            f"{name} to be finite",
            f"{array.size - int(np.count_nonzero(finite))} that are NaN or infinite",
            f"the first at image {position} of {array.size}",
            "Look for a training that diverged or an image that was read wrongly; nothing is guessed here.",
        )
