"""Memory sizes of GPUs from NVIDIA's driver; TensorFlow does not report them."""

import ctypes

_DRIVER = "libcuda.so.1"


def is_installed() -> bool:
    """Return whether NVIDIA's driver is installed."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True


def memory(index: int) -> int | None:
    """Return the total memory of a GPU in bytes, or None if the driver is not available.

    Args:
        index: number of the GPU among those visible to the process (``CUDA_VISIBLE_DEVICES``).
    """
    device, size = ctypes.c_int(), ctypes.c_size_t()
    try:
        driver = ctypes.CDLL(_DRIVER)
        # Each function returns 0 for success (cuda.h, CUresult). cuInit may be called repeatedly.
        failed = (
            driver.cuInit(0)
            or driver.cuDeviceGet(ctypes.byref(device), index)
            or driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        )
    except (OSError, AttributeError):
        return None
    return None if failed else size.value
