import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors import safe_open

from streetvision_core.io import tensors_bytes, write_tensors_atomic
from streetvision_core.io.tensors import read_tensors

DTYPES = [np.bool_, np.uint8, np.int8, np.int16, np.float16, np.int32, np.float32, np.int64, np.float64]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: name != "__metadata__"), ARRAYS))
def test_the_library_reads_back_what_was_written(arrays):
    data = tensors_bytes(arrays)
    assert data == tensors_bytes(dict(reversed(arrays.items())))
    for loaded in (read_tensors(data), {k: v.numpy() for k, v in safetensors.torch.load(data).items()}):
        assert loaded.keys() == arrays.keys()
        for name, array in arrays.items():
            assert loaded[name].dtype == array.dtype
            assert loaded[name].shape == array.shape
            assert loaded[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.bool, torch.int64]
)
def test_torch_tensors_of_every_kind_are_written(dtype):
    tensors = {
        "a": torch.arange(6).reshape(2, 3).to(dtype),
        "scalar": torch.tensor(1).to(dtype),
        "empty": torch.zeros(0),
    }
    loaded = safetensors.torch.load(tensors_bytes(tensors))
    assert all(
        torch.equal(loaded[k].view(torch.uint8), v.view(torch.uint8)) for k, v in tensors.items() if v.dim()
    )
    assert loaded["a"].dtype == dtype


def test_views_gradients_and_foreign_layouts_are_written_as_what_they_show():
    base = torch.arange(24.0, requires_grad=True).reshape(2, 3, 4)
    tensors = {
        "transposed": base.transpose(0, 2),
        "slice": base[:, ::2],
        "parameter": torch.nn.Parameter(base[0]),
    }
    loaded = safetensors.torch.load(tensors_bytes(tensors))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    strided = np.arange(12).reshape(3, 4).T
    assert np.array_equal(read_tensors(tensors_bytes({"a": strided}))["a"], strided)


def test_metadata_goes_into_the_header(tmp_path):
    write_tensors_atomic(tmp_path / "t.safetensors", {"a": np.ones(1)}, metadata={"format": "pt"})
    with safe_open(tmp_path / "t.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}


def test_arrays_that_were_read_own_their_memory():
    read_tensors(tensors_bytes({"a": np.zeros(2)}))["a"][0] = 7


def test_a_dtype_without_a_name_is_refused_by_name():
    with pytest.raises(TypeError, match="the tensor odd is of dtype complex128"):
        tensors_bytes({"odd": np.zeros(1, np.complex128)})
