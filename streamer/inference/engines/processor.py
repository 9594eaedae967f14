"""What the processor is, and which units it has."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def bfloat16_units() -> str:
    """The CPU's units for bfloat16 matrices, or nothing: without them it is slower than float32."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ""
    try:
        flags = set(CPUINFO.read_text().split())
    except OSError:
        return ""
    return "AMX" if "amx_bf16" in flags else "AVX512-BF16" if "avx512_bf16" in flags else ""


def processor_name() -> str:
    """As the system calls it."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
