"""External meters: lines, sources that come and go, clocks that are not the device's. Time is an argument, so nothing waits."""

from __future__ import annotations

import json
import os
import pty
import random
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.power_trace import EPOCH_NS, PowerTrace, record
from device_agent.contract.device import Quantity
from device_agent.contract.energy import EXTERNAL, energy_of
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.measurement import Reading
from device_agent.sensors.external_meter import CHANNEL, ExternalMeter, external_meter, parse_line
from device_agent.sensors.meter_clock import MeterClock
from device_agent.sensors.meter_sources import Source, parse_source

S = 10**9


class Feeding:
    """A meter and a clock that moves only when told to."""

    def __init__(self, meter: ExternalMeter) -> None:
        self.meter = meter
        self.now_ns = 100 * S
        self.readings: list[Reading] = []

    def read(self, later_s: float = 0.0) -> list[Reading]:
        """Let time pass, then read once."""
        self.now_ns += round(later_s * S)
        found = list(self.meter.read(self.now_ns))
        assert all(reading.channel == CHANNEL for reading in found)
        self.readings += found
        return found

    def until(self, true: Callable[[], bool], later_s: float = 0.0) -> None:
        """Read until something holds; the kernel may take a moment to hand bytes over."""
        for _ in range(2000):
            self.read(later_s)
            if true():
                return
            time.sleep(0.005)
        raise AssertionError("it never came true")

    def watts(self) -> list[float]:
        return [reading.value for reading in self.readings]


@pytest.fixture
def feeding() -> Iterator[Callable[[str], Feeding]]:
    made: list[Feeding] = []

    def make(spec: str) -> Feeding:
        made.append(Feeding(external_meter(spec)))
        return made[-1]

    yield make
    for one in made:
        one.meter.close()


def lines(first_s: float, *watts: float, every_s: float = 0.5) -> bytes:
    return b"".join(f"{first_s + number * every_s:.6f} {value}\n".encode() for number, value in enumerate(watts))


@pytest.mark.parametrize(
    ("line", "sample"),
    [
        (b"12.5 3.25", (12_500_000_000, 3.25)),
        (b"12.5 3.25\r", (12_500_000_000, 3.25)),
        (b"  12.5\t3.25 5.01 0.65 volts and amperes", (12_500_000_000, 3.25)),
        (b"1732450000.25,-0.002", (1_732_450_000_250_000_000, -0.002)),
        (b"12.5;3;5", (12_500_000_000, 3.0)),
        (b"1e2 1e-3 # a remark", (100_000_000_000, 0.001)),
        (b"", None),
        (b" \r", None),
        (b"# time, power", None),
    ],
)
def test_lines(line: bytes, sample: tuple[int, float] | None) -> None:
    found = parse_line(line)
    assert (found is None) == (sample is None)
    if found is not None and sample is not None:
        assert found[1] == sample[1]
        assert abs(found[0] - sample[0]) < 1000


@pytest.mark.parametrize(
    "line",
    [b"12.5", b"time power", b"12.5 nan", b"inf 3", b"12.5 inf", b"1732450000250 3", b"1 1e9", b"\xff\xfe 1", b"1 3W"],
)
def test_bad_lines(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse_line(line)


@pytest.mark.parametrize(
    "spec",
    ["", "serial:", "serial:/dev/ttyUSB0@", "serial:@9600", "tcp:10.0.0.1", "tcp::5", "tcp:10.0.0.1:0", "tcp:10.0.0.1:70000",
     "tcp:10.0.0.1:x", "file:", "usb:1", "/dev/ttyUSB0"],
)  # fmt: skip
def test_a_wrong_spec_says_what_a_right_one_is(spec: str) -> None:
    with pytest.raises(InvalidRequest, match="give serial:/dev/ttyUSB0@115200, tcp:ADDRESS:PORT or file:PATH"):
        parse_source(spec)


def test_a_speed_that_no_port_has_and_a_name_that_no_host_has() -> None:
    with pytest.raises(InvalidRequest, match="no speed 12345"):
        parse_source("serial:/dev/ttyUSB0@12345")
    with pytest.raises(InvalidRequest, match="no speed 0"):
        parse_source("serial:/dev/ttyUSB0@0")
    with pytest.raises(InvalidRequest, match=r"'no-such-host\.invalid'.*give a numeric one"):
        parse_source("tcp:no-such-host.invalid:5")
    assert parse_source("tcp:[::1]:5").spec == "tcp:[::1]:5"


def test_the_channel_says_what_it_is() -> None:
    (channel,) = external_meter("file:/tmp/watts").channels
    assert (channel.meter, channel.site, channel.quantity) == (EXTERNAL, "board", Quantity.POWER)
    assert "file:/tmp/watts" in channel.source


def test_a_serial_port_its_noise_at_the_start_and_its_loss(tmp_path: Path, feeding: Callable[[str], Feeding]) -> None:
    master, slave = pty.openpty()
    port = tmp_path / "ttyUSB0"
    port.symlink_to(os.ttyname(slave))
    meter = feeding(f"serial:{port}@9600")
    assert meter.read() == []
    local, speed = termios.tcgetattr(slave)[3:5]
    assert not local & (termios.ICANON | termios.ECHO)
    assert speed == termios.B9600
    os.write(master, b"99.0 7777\n")  # the end of a line whose beginning was lost; it looks whole
    os.write(master, lines(0.0, 1, 2) + b"1.0 ")
    meter.read(0.5)
    os.write(master, b"3\r\n" + lines(1.5, 4))
    meter.until(lambda: meter.watts() == [1, 2, 3, 4], 0.5)

    os.close(master)
    os.close(slave)
    meter.until(lambda: meter.meter.losses > 0)
    meter.read(10)
    assert meter.meter.losses > 1
    master, slave = pty.openpty()
    port.unlink()
    port.symlink_to(os.ttyname(slave))
    meter.read(10)
    os.write(master, b"\n" + lines(5.0, 5, 6))
    meter.read(0.1)
    os.write(master, lines(6.0, 7))
    meter.until(lambda: meter.watts() == [1, 2, 3, 4, 5, 6, 7], 1.0)
    os.close(master)
    os.close(slave)


def test_a_file_is_no_serial_port_and_a_port_no_file(
    tmp_path: Path, feeding: Callable[[str], Feeding], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "watts").touch()
    for spec, said in (
        (f"serial:{tmp_path}/watts", "is no serial port"),
        ("file:/dev/null", "neither a file nor a FIFO"),
    ):
        meter = feeding(spec)
        assert meter.read() == []
        assert meter.meter.losses == 1
        assert said in caplog.text


def test_a_socket_that_refuses_then_speaks_then_hangs_up(
    feeding: Callable[[str], Feeding], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        meter = feeding(f"tcp:localhost:{port}")
        meter.until(lambda: meter.meter.losses > 0)  # bound and not listening: refused
    before = meter.meter.losses
    assert meter.read(0.4) == []
    assert meter.meter.losses == before, "it tries again later, not at once"
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(10)
        meter.read(10)
        connection, _ = server.accept()
        assert meter.read() == []  # a silent meter keeps nobody waiting
        connection.sendall(lines(3.0, 1, 2, 3))
        meter.read(0.1)
        connection.sendall(lines(4.5, 4))
        meter.until(lambda: meter.watts() == [1, 2, 3, 4], 0.5)
        connection.sendall(lines(5.0, 5))
        connection.close()
        meter.until(lambda: meter.watts()[-1] == 5)
        meter.until(lambda: meter.meter.losses > before)
        meter.read(10)
        connection, _ = server.accept()
        connection.sendall(lines(0.0, 6, 7, 8))  # the meter was restarted, and so was its clock
        meter.read(0.1)
        connection.sendall(lines(1.5, 9))
        meter.until(lambda: meter.watts() == [1, 2, 3, 4, 5, 6, 7, 8, 9], 1.0)
        connection.close()
    assert meter.meter.jumps == 0
    times = [reading.time_ns for reading in meter.readings]
    assert times == sorted(times)
    assert caplog.text.count("trying again") == 1, "said once"


def test_a_growing_file(tmp_path: Path, feeding: Callable[[str], Feeding]) -> None:
    path = tmp_path / "watts"
    path.write_bytes(lines(0.0, 100, 101) + b"1.0 10")
    meter = feeding(f"file:{path}")
    meter.read()
    with path.open("ab", buffering=0) as file:
        file.write(b"2\n" + lines(1.5, 1, 2))
        meter.read(0.1)
        file.write(lines(2.5, 3))
        meter.read(1.0)
        assert meter.watts() == [1, 2, 3], "what was there before, and the line that was begun, is of another time"
        file.write(lines(3.0, 4))
        assert [reading.value for reading in meter.read(0.5)] == [4]
        file.truncate(0)
        file.write(lines(3.5, 5))
        assert [reading.value for reading in meter.read(0.5)] == [5]
    other = tmp_path / "other"
    other.write_bytes(lines(4.0, 6, 7, 8, 9))
    other.replace(path)
    meter.read(0.5)
    assert meter.meter.losses == 1
    meter.read(5)
    with path.open("ab") as file:
        file.write(lines(6.0, 10))
    meter.read(1.5)
    assert meter.watts() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


def test_a_file_that_comes_later_and_a_fifo(tmp_path: Path, feeding: Callable[[str], Feeding]) -> None:
    later = feeding(f"file:{tmp_path}/later")
    assert later.read() == []
    (tmp_path / "later").write_bytes(lines(0.0, 1, 2, 3))
    later.read(10)
    with (tmp_path / "later").open("ab") as file:
        file.write(lines(1.5, 4))
    later.read(1.5)
    assert later.watts() == [1, 2, 3, 4]

    os.mkfifo(tmp_path / "fifo")
    fifo = feeding(f"file:{tmp_path}/fifo")
    assert fifo.read() == []
    with (tmp_path / "fifo").open("wb", buffering=0) as writer:
        writer.write(lines(0.0, 1, 2, 3))
        fifo.read(1)
        writer.write(lines(1.5, 4))
        fifo.until(lambda: fifo.watts() == [1, 2, 3, 4], 1.5)
    assert fifo.read(1) == []
    assert fifo.meter.losses == 0, "another writer may come"


def test_bad_lines_are_counted_and_said_once(
    tmp_path: Path, feeding: Callable[[str], Feeding], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "watts"
    path.touch()
    meter = feeding(f"file:{path}")
    meter.read()
    with path.open("ab", buffering=0) as file:
        file.write(b"time,power\n# fine\n\n" + lines(0.0, 1, 2) + b"garbage\n\xff\xff\n" + lines(1.0, 3))
        meter.read(0.1)
        file.write(b"x" * 5000)
        meter.read(0.1)
        file.write(b"x" * 5000)
        meter.read(0.1)
        file.write(b"x\n" + lines(1.5, 4))
        meter.read(1)
    assert meter.watts() == [1, 2, 3, 4]
    assert meter.meter.bad_lines == 4
    assert caplog.text.count("is not '<seconds> <watts>'") == 1


def test_two_jobs_with_one_meter(tmp_path: Path, feeding: Callable[[str], Feeding]) -> None:
    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    path = tmp_path / "watts"
    path.touch()
    meter = feeding(f"file:{path}")
    before = descriptors()
    for job in range(2):
        meter.read(100)
        assert descriptors() == before + 1
        for later_s, watts in ((0.0, 1), (1.5, 2)):
            with path.open("ab") as file:
                file.write(lines(job * 50 + later_s, watts))
            meter.read(later_s)
        meter.meter.close()
        meter.meter.close()
        assert descriptors() == before
        with path.open("ab") as file:
            file.write(lines(job * 50 + 20, 99))  # nobody measures
    assert meter.watts() == [1, 2, 1, 2]


def test_fast_samples_are_averaged_and_keep_their_energy(tmp_path: Path, feeding: Callable[[str], Feeding]) -> None:
    path = tmp_path / "watts"
    path.touch()
    meter = feeding(f"file:{path}")
    meter.read()
    rng = random.Random(1)
    watts = [rng.uniform(1, 5) for _ in range(3000)]
    for part in range(60):
        with path.open("ab") as file:
            file.write(lines(part * 0.05, *watts[part * 50 : part * 50 + 50], every_s=0.001))
        meter.read(0.05)
    assert 290 <= len(meter.readings) <= 320
    assert sum(meter.watts()) / len(meter.readings) == pytest.approx(sum(watts) / len(watts), rel=0.005)


def drive(clock: MeterClock, samples: list[tuple[float, float]]) -> list[float]:
    """Give (meter's time, arrival) in seconds; return mapped times in seconds, in the order of the samples."""
    ready = [
        sample
        for number, (meter, arrival) in enumerate(samples)
        for sample in clock.take(round(meter * S), float(number), round(arrival * S))
    ]
    assert [value for _, value in ready] == sorted(value for _, value in ready)
    return [when / S for when, _ in ready]


def test_the_quickest_sample_of_the_first_second_sets_the_offset() -> None:
    delays = [0.3, 0.05, 0.2, 0.08, 0.4, 0.1, 0.6, 0.1]
    samples = [(5000 + 0.2 * n, 7 + 0.2 * n + delay) for n, delay in enumerate(delays)]
    assert drive(MeterClock(), samples) == pytest.approx([7.05 + 0.2 * n for n in range(8)])


def test_a_quicker_sample_later_corrects_the_offset_at_once() -> None:
    delays = [0.3] * 8 + [0.1, 0.3]
    samples = [(0.2 * n, 0.2 * n + delay) for n, delay in enumerate(delays)]
    assert drive(MeterClock(), samples)[-2:] == pytest.approx([1.6 + 0.1, 1.8 + 0.1])


def test_a_clock_that_is_set_is_settled_anew() -> None:
    for jump in (-3600.0, 3600.0, 1.0):
        clock = MeterClock()
        samples = [(0.1 * n + (jump if n >= 30 else 0), 50 + 0.1 * n) for n in range(60)]
        assert drive(clock, samples) == pytest.approx([50 + 0.1 * n for n in range(60)], abs=1e-6)
        assert clock.jumps == 1


def test_a_drifting_clock_is_followed_and_a_stall_is_none() -> None:
    drift = 3e-4
    for sign in (1, -1):
        clock = MeterClock()
        mapped = drive(clock, [(0.1 * n * (1 + sign * drift), 9 + 0.1 * n) for n in range(6000)])
        assert clock.jumps == 0
        assert max(abs(when - 9 - 0.1 * n) for n, when in enumerate(mapped)) < 0.03
    clock = MeterClock()
    stalled = [(0.1 * n, 9 + 0.1 * n if n < 100 else max(22.0, 9 + 0.1 * n)) for n in range(300)]
    assert drive(clock, stalled) == pytest.approx([9 + 0.1 * n for n in range(300)])


def test_samples_without_a_time_of_their_own_are_left_out() -> None:
    assert drive(MeterClock(), [(0, 0), (0, 0.2), (0, 0.4), (1, 1.0), (1, 1.2), (2, 2.0)]) == [0, 1, 2]


class Scripted(Source):
    """Lines that arrive when they are due, on a fake clock."""

    spec = "scripted"
    joins_midway = False

    def __init__(self, due: list[tuple[float, bytes]]) -> None:
        self._due = sorted(due)
        self.now_s = 0.0

    def open(self) -> None:
        pass

    def read(self) -> bytes:
        ready = [line for when, line in self._due if when <= self.now_s]
        del self._due[: len(ready)]
        return b"".join(ready)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("seed", range(5))
def test_a_meter_behind_a_slow_link_gives_the_energy_and_says_how_well_it_is_aligned(seed: int) -> None:
    rng = random.Random(seed)
    trace = PowerTrace.drawn(rng, idle_s=2.5, load_s=5.0, ripple=0.03)
    least_s = rng.uniform(0.05, 0.5)  # what no arrival can tell
    due = []
    for number in range(1000):
        made = 0.01 * number
        line = f"{86_400 + made:.4f} {trace.power_w(made) + rng.gauss(0, 0.02):.4f}\n".encode()
        due.append((made + least_s + rng.expovariate(100), line))
    # Lines keep their order on one connection.
    arrived = 0.0
    ordered = []
    for when, line in due:
        arrived = max(arrived + 1e-6, when)
        ordered.append((arrived, line))
    source = Scripted(ordered)
    meter = ExternalMeter(source)
    readings: list[Reading] = []
    for tick in range(220):
        source.now_s = 0.05 * tick
        readings += meter.read(EPOCH_NS + round(source.now_s * S))
    samples = {CHANNEL: [((reading.time_ns - EPOCH_NS) / S, reading.value) for reading in readings]}
    energy = energy_of(record(trace, samples, runs=50), meter.channels)
    (estimate,) = energy.estimates
    truth = (trace.energy_j(trace.end_s) - trace.energy_j(trace.start_s)) / 50
    net = truth - (trace.idle_j(trace.end_s) - trace.idle_j(trace.start_s)) / 50
    assert estimate.alignment_error_s is not None
    assert estimate.alignment_error_s < 0.03
    assert abs(estimate.gross_j - truth) <= 1.5 * estimate.gross_uncertainty_j
    assert estimate.net_j == pytest.approx(net, rel=0.01)
    assert estimate.note is None


ROOT = Path(__file__).parents[2]


@pytest.fixture
def plug() -> Iterator[str]:
    """The script of the documentation, listening on a port of its own: 3 W, whatever the board does."""
    text = (ROOT / "docs/external-meters.md").read_text()
    script = text.split("```python\n")[1].split("```")[0]
    assert '("0.0.0.0", 5025)' in script
    script = script.replace('("0.0.0.0", 5025))', '("127.0.0.1", 0)); print(server.getsockname()[1], flush=True)')
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"tcp:127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


def device_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "device_agent", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_bench_on_the_board_with_the_script_of_the_documentation(plug: str, tmp_path: Path) -> None:
    model = str(ROOT / "tests/fixtures/models/tiny.onnx")
    options = (
        "--store",
        str(tmp_path),
        "--threads",
        "1",
        "--min-time",
        "1",
        "--max-time",
        "1",
        "--idle",
        "1",
        "--json",
    )
    ran = device_agent("bench", model, "--meter", plug, *options)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    first = document["energy"][0]
    assert first["meter"] == EXTERNAL
    assert first["mean_power_w"] == pytest.approx(3.0, rel=0.05)
    assert first["idle_power_w"] == pytest.approx(3.0, rel=0.05)
    assert document["energy_j_per_run"] == {"gross": first["gross_j"], "net": first["net_j"]}
    assert abs(first["net_j"]) <= 2 * first["uncertainty_j"]["net"]
    assert "by arrival only" in first["note"]
    assert first["alignment_error_s"] > 0.1


def test_sensors_shows_the_meter_and_serve_refuses_one_that_is_none(plug: str, tmp_path: Path) -> None:
    ran = device_agent("sensors", "--meter", plug, "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    (shown,) = (one for one in document["sensors"] if one["kind"] == "external-meter")
    assert shown["channels"][0]["value"] == pytest.approx(3.0, rel=0.15)
    assert "power" not in [one["kind"] for one in document["missing"]]
    for command in (("serve", "--listen", "127.0.0.1:0"), ("bench", str(ROOT / "tests/fixtures/models/tiny.onnx"))):
        refused = device_agent(*command, "--store", str(tmp_path), "--meter", "usb:0")
        assert refused.returncode == 2
        assert "'usb:0' is not a meter; give serial:" in refused.stderr
        assert "Traceback" not in refused.stderr
