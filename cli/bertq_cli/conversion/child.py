"""Conversion of pickled weights to safetensors with torch, as a child of ``bertq convert``.

Run as a script, ``python child.py JSON`` with a list of pairs ``[source, target]``, by a Python
that has torch and may lack bertq. Each line that it prints is a JSON object: ``{"source", "names",
"bytes"}`` for a converted file. The last one may be ``{"missing"}`` with a package, ``{"old"}``
with torch's version, or ``{"error"}`` with a reason.

This module writes the format without the safetensors library, tensor by tensor: memory contains the
weights only once, and tensors that share memory need no special case.
"""

import ctypes
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

#: Before this version, a crafted file could run code even with ``weights_only=True``
#: (CVE-2025-32434).
_SAFE = (2, 6)

#: The names of torch's types in safetensors.
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def main(pairs: list[list[str]]) -> None:
    """Convert files, one after another."""
    # Modules in the same folder may have names of the standard library, such as http.py.
    sys.path[:] = [path for path in sys.path if Path(path) != Path(__file__).parent]
    try:
        import torch
    except ImportError as error:
        _fail("missing", str(error.name or "torch"))
    version = str(torch.__version__)
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < _SAFE:
        _fail("old", f"torch {version}")
    for source, target in pairs:
        _convert(torch, source, target)


def _convert(torch: Any, source: str, target: str) -> None:
    tensors = _load(torch, source)
    try:
        size = _write(tensors, Path(target))
    except OSError as error:
        _fail("error", f"{target} cannot be written: {error.strerror}")
    _say({"source": source, "names": list(tensors), "bytes": size})


def _load(torch: Any, source: str) -> dict[str, Any]:
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        # Omit torch's own message: it recommends opening the file without the check.
        found = re.search(r"GLOBAL:?\s+`?([\w.]+)", str(error))
        if found:
            _fail(
                "error",
                f"{source} holds more than tensors ({found[1]}): opening it could run code, so it "
                "is not converted",
            )
        shown = "" if "eights" in str(error) else f" ({_first_line(error)})"
        _fail("error", f"{source} cannot be read: it is cut, damaged or not of torch{shown}")
    if not isinstance(loaded, dict) or not loaded:
        _fail("error", f"{source} holds no tensors by name")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            kind = type(tensor).__name__
            _fail("error", f"{source} holds more than tensors by name: {name!r} is a {kind}")
        if name == "__metadata__" or tensor.layout != torch.strided or _dtype(tensor) is None:
            _fail("error", f"{source} has a tensor that safetensors cannot hold: {name!r}")
    return loaded


def _write(tensors: dict[str, Any], target: Path) -> int:
    """Write a safetensors file; return the bytes of all tensors."""
    # Largest element size first, so that all tensors are aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name in order:
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _dtype(tensor),
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            whole = tensors[name].contiguous()
            size = whole.numel() * whole.element_size()
            if size:
                file.write((ctypes.c_char * size).from_address(whole.data_ptr()))
        file.flush()
        os.fsync(file.fileno())
    return offset


def _dtype(tensor: Any) -> "str | None":
    return _DTYPES.get(str(tensor.dtype).rpartition(".")[2])


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0].partition(". ")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _say(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


def _fail(kind: str, text: str) -> NoReturn:
    _say({kind: text})
    sys.exit(1)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
