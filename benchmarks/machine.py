"""What stands beside every figure: the machine and the versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

__all__ = ["machine"]

_LIBRARIES = ("headrace", "confluent-kafka", "river", "msgspec", "fastavro", "numpy")


def machine() -> dict[str, object]:
    """Processor, cores, memory, system, Python and library versions; nothing that names this machine."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
        "kafka": "4.3.0",
        "versions": {name: metadata.version(name) for name in _LIBRARIES},
    }


def _field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)
