"""Is what the driver tells kept when it does not answer everything?"""

from __future__ import annotations

from typing import Any

import pytest

from perfgate.measure.device_conditions import DeviceConditions


class Nvml:
    """An NVML that refuses some questions."""

    NVML_CLOCK_SM = NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, *refused: str) -> None:
        self._refused = refused

    def _answer(self, question: str, answer: Any) -> Any:
        if question in self._refused:
            raise self.NVMLError
        return answer

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int) -> int:  # NVML's own names
        return int(self._answer("clock", 1980))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int:
        return int(self._answer("reasons", 0x4 | 0x1))

    def nvmlDeviceGetTemperature(self, handle: Any, kind: int) -> int:
        return int(self._answer("temperature", 41))

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
        return int(self._answer("power", 120_400))

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[int]:
        return list(self._answer("processes", [1, 2]))


EVERYTHING = {
    "clock": ("sm_clock_mhz", [1980, 1980]),
    "reasons": ("throttle_reasons", ["power cap"]),
    "temperature": ("temperature_c", 41),
    "power": ("power_w", 120),
    "processes": ("other_processes", 1),
}


@pytest.mark.parametrize("refused", [None, *EVERYTHING])
def test_a_question_that_is_refused_takes_no_other_answer_with_it(refused: str | None) -> None:
    conditions = DeviceConditions(Nvml(*filter(None, [refused])), handle=object())
    conditions.watch()
    conditions.watch()
    assert conditions.report() == dict(entry for question, entry in EVERYTHING.items() if question != refused)
    assert conditions.speeds() == ({} if refused == "clock" else {"sm_clock": 1980e6})


def test_without_nvml_there_is_nothing() -> None:
    conditions = DeviceConditions()
    conditions.watch()
    assert conditions.report() == {}
    assert conditions.speeds() == {}
