"""What NVIDIA's driver tells of a GPU, without TensorFlow, which does not pass it on."""

import ctypes

_DRIVER = "libcuda.so.1"


def memory(index: int) -> int | None:
    """Return the bytes of memory of a GPU, used or not; None where there is no driver to tell.

    Args:
        index: of the GPU among those that the process sees (``CUDA_VISIBLE_DEVICES``).
    """
    device, size = ctypes.c_int(), ctypes.c_size_t()
    try:
        driver = ctypes.CDLL(_DRIVER)
        # Each returns 0 for success (cuda.h, CUresult). The first may be called again and again.
        failed = (
            driver.cuInit(0)
            or driver.cuDeviceGet(ctypes.byref(device), index)
            or driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        )
    except (OSError, AttributeError):
        return None
    return None if failed else size.value
