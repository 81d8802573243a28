"""`device-agent install`: a version of the agent beside the one that runs, as a service of its own user; then the switch.

Runs with nothing but Python 3.10 and a wheel: PYTHONPATH=boardfit-0.1.0-py3-none-any.whl python3 -m device_agent install
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import device_agent
from device_agent import environments
from device_agent.contract.errors import BoardfitError, InvalidRequest, StableError
from device_agent.environments import CommandFailed, Run
from device_agent.install_unit import STORE, UNIT, USER, Unit, groups_of, quoted
from device_agent.packing import pack_agent
from device_agent.switching import Installation
from device_agent.wheels import FROM_DISTRIBUTION, Platform, extras_for, this_platform, why_no_wheel

PREFIX = Path("/opt/boardfit")
_START_S = 60.0


class InstallFailed(StableError):
    """A step of the installation failed; the message says which, what it left, and how to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """What to install and how. `source` is a wheel, None for the agent that runs here.

    `serve` are further arguments of `device-agent serve`; `extras` None for those that fit the board. `service` False makes the
    environment only, and needs no root. `root` is the folder below which the system's files are.
    """

    prefix: Path = PREFIX
    source: Path | None = None
    listen: str = "127.0.0.1:50051"
    serve: tuple[str, ...] = ()
    extras: tuple[str, ...] | None = None
    service: bool = True
    dry_run: bool = False
    root: Path = Path("/")


class Installer:
    """Does the steps, or in a dry run says them. `run` runs a command; `say` takes a line for the user."""

    def __init__(
        self,
        options: InstallOptions,
        *,
        say: Callable[[str], None],
        run: Run = environments.run,
        here: Platform | None = None,
        user_id: Callable[[], int] = os.geteuid,
        answers: Callable[[str, float], bool] | None = None,
    ) -> None:
        self._options = replace(options, prefix=options.prefix.absolute())
        self._installation = Installation(self._options.prefix / "versions")
        self._say = say
        self._run = run
        self._here = here or this_platform()
        self._user_id = user_id
        self._answers = answers or _answers
        self._unit = options.root / "etc/systemd/system" / UNIT

    def install(self) -> None:
        """Install, or upgrade in place. InvalidRequest before anything is done; InstallFailed with what is left."""
        extras = self._extras()
        self._check()
        with tempfile.TemporaryDirectory(prefix="boardfit-install-") as folder:
            Path(folder).chmod(0o755)  # pip runs as the agent's own user
            source = self._wheel(Path(folder))
            name = environments.name_of(source)
            before = self._installation.current()
            if self._options.service:
                self._user()
            self._step(f"make {self._options.prefix}", self._make_folders, "Is the disk full or read-only?")
            self._environment(name, f"boardfit[{','.join(extras)}] @ {source.as_uri()}")
        self._step("put the launcher there", self._write_launcher, "Is the disk full?")
        if self._options.service:
            self._step(f"write {self._unit}", self._write_unit, "Is /etc read-only?")
        words = f"make {name} the current version (before: {before or 'none'})"
        self._step(words, lambda: self._as_user(lambda: self._switch(name)), "")
        if self._options.service:
            self._start(name, before)
        self._step("remove older versions", lambda: self._as_user(self._remove_others), "They only take room.")
        self._say(self._next(name))

    def uninstall(self, *, purge: bool) -> None:
        """Stop and remove the service and its environments; with `purge` also the store and the user. InstallFailed."""
        if not self._options.dry_run and self._options.service and self._user_id() != 0:
            raise InvalidRequest("removing a service needs root: run it with sudo")
        if self._unit.exists() or self._options.dry_run:
            self._command("stop the service", ["systemctl", "disable", "--now", UNIT], "systemctl status says more.")
            self._step(f"remove {self._unit}", lambda: self._unit.unlink(missing_ok=True), "")
            self._command("let systemd know", ["systemctl", "daemon-reload"], "")
        self._step(f"remove {self._options.prefix}", lambda: _remove_tree(self._options.prefix), "")
        store = self._options.root / STORE.relative_to("/")
        if purge:
            self._step(f"remove {store}", lambda: _remove_tree(store), "")
            if self._options.service:
                self._command(f"remove the user {USER}", ["userdel", USER], "")
        else:
            self._say(f"{store} is left: the device's identity, certificates and models; --purge removes it too")

    def _wheel(self, folder: Path) -> Path:
        """Return a copy of the wheel that the agent's user can read."""
        found = self._options.source or own_wheel()
        if found is None:
            return pack_agent(folder)
        environments.version_of(found)
        copy = Path(shutil.copy(found, folder))
        copy.chmod(0o644)
        return copy

    def _environment(self, name: str, wanted: str) -> None:
        installation = self._installation
        if environments.is_complete(installation, name):
            self._say(f"- {name} is here already, complete")
            return
        commands = environments.make_commands(installation, name, wanted, self._here, environments.base_python())
        self._step(
            f"make the environment {name}, and let it describe this board",
            lambda: self._as_user(lambda: environments.make(installation, name, commands, self._run)),
            "Does the board reach the package index (pip config list shows which)? Nothing of the new version is left.",
            commands=commands,
        )

    def _as_user(self, action: Callable[[], object]) -> None:
        """Do something in the agent's own folder with the rights of its user: root trusts nothing that lies there."""
        if self._options.service and self._user_id() == 0:
            as_user(USER, self._options.prefix, action)
        else:
            action()

    def _extras(self) -> tuple[str, ...]:
        if self._options.extras is not None:
            return self._options.extras
        extras = extras_for(self._here)
        if not extras:
            reasons = "; ".join(
                f"{name}: {why_no_wheel(name, self._here)}" for name in ("onnxruntime", "litert", "tflite-runtime")
            )
            raise InvalidRequest(
                f"no runtime has a wheel for this board ({self._here}): {reasons}. Use a 64-bit system with Python 3.10 to 3.13, "
                "or start this with another python3"
            )
        self._say(f"{self._here}: installs {' and '.join(extras)}")
        # Where hosts are to find it by mDNS.
        return (*extras, "discover") if "--announce" in self._options.serve else extras

    def _check(self) -> None:
        """Find out what is wanting before anything is changed."""
        problems = []
        if self._options.service:
            if self._user_id() != 0 and not self._options.dry_run:
                problems.append(
                    "a service needs root: run this with sudo, or make only the environment with --no-service"
                )
            if not (self._options.root / "run/systemd/system").is_dir():
                problems.append(
                    "this system does not run systemd: use --no-service, and start device-agent serve your way"
                )
        if importlib.util.find_spec("ensurepip") is None:
            problems.append("this Python cannot make environments: sudo apt install python3-venv")
        if self._here.is_32_bit_arm:
            wanting = [
                package for module, package in FROM_DISTRIBUTION.items() if importlib.util.find_spec(module) is None
            ]
            if wanting:
                problems.append(f"there are no 32-bit wheels of these: sudo apt install {' '.join(wanting)}")
        if problems and self._options.dry_run:
            for problem in problems:
                self._say(f"first: {problem}")
        elif problems:
            raise InvalidRequest(
                "cannot install here. " + " ".join(f"({n}) {text}." for n, text in enumerate(problems, 1))
            )

    def _user(self) -> None:
        names = groups_of(self._read("etc/passwd"))
        if USER not in names:
            command = ["useradd", "--system", "--user-group", "--home-dir", str(STORE), "--no-create-home"]
            self._command(
                f"make the user {USER}", [*command, "--shell", "/usr/sbin/nologin", USER], "Is /etc read-only?"
            )

    def _make_folders(self) -> None:
        self._options.prefix.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._installation.folder.mkdir(exist_ok=True)
        if self._options.service and self._user_id() == 0:
            # The agent puts upgrades there that a host sends; all else is root's.
            shutil.chown(self._installation.folder, USER, USER)

    def _write_launcher(self) -> None:
        text = _source_of("switching.py")
        temporary = self._options.prefix / ".launch.py.tmp"
        temporary.write_bytes(text)
        temporary.chmod(0o644)
        temporary.replace(self._options.prefix / "launch.py")

    def _write_unit(self) -> None:
        compatible = self._read("proc/device-tree/compatible")
        total = re.search(r"^MemTotal:\s+(\d+) kB", self._read("proc/meminfo"), re.MULTILINE)
        if total is None:
            raise CommandFailed("/proc/meminfo has no MemTotal")
        unit = Unit(
            prefix=self._options.prefix,
            python=environments.base_python(),
            serve=quoted(["--listen", self._options.listen, "--store", str(STORE), *self._options.serve]),
            memory_bytes=int(total[1]) * 1024,
            groups=groups_of(self._read("etc/group")),
            has_rapl=any((self._options.root / "sys/class/powercap").glob("intel-rapl:*")),
            is_jetson="nvidia,tegra" in compatible,
        )
        temporary = self._unit.with_name(f".{self._unit.name}.tmp")
        temporary.write_text(unit.text(), encoding="utf-8")
        temporary.chmod(0o644)
        temporary.replace(self._unit)

    def _switch(self, name: str) -> None:
        trial = self._installation.trial()
        if trial is not None:
            self._installation.go_back(trial, "another version was installed")
        self._installation.switch(name)

    def _start(self, name: str, before: str | None) -> None:
        advice = f"journalctl -u {UNIT} -n 30 says why."
        self._command("let systemd know", ["systemctl", "daemon-reload"], advice)
        self._command("start it at every boot", ["systemctl", "enable", UNIT], advice)
        self._command("start it now", ["systemctl", "restart", UNIT], advice)
        if self._options.dry_run:
            self._say(
                f"- wait until it answers at {self._options.listen}; if it does not, go back to {before or 'nothing'}"
            )
            return
        if self._answers(self._options.listen, _START_S):
            return
        if before is None or before == name:
            raise InstallFailed(f"{name} is installed, and does not answer at {self._options.listen}. {advice}")
        self._as_user(lambda: self._installation.switch(before))
        self._run(["systemctl", "restart", UNIT])
        raise InstallFailed(f"{name} did not answer at {self._options.listen}, so {before} runs again. {advice}")

    def _remove_others(self) -> None:
        environments.remove_others(self._installation, (self._installation.current(), self._installation.previous()))

    def _step(
        self, words: str, action: Callable[[], object], advice: str, *, commands: Sequence[Sequence[str]] = ()
    ) -> None:
        self._say(f"- {words}")
        if self._options.dry_run:
            for command in commands:
                self._say(f"    {' '.join(command)}")
            return
        try:
            action()
        except (OSError, CommandFailed) as error:
            runs = self._installation.current()
            state = f" The version {runs} still runs." if runs else ""
            raise InstallFailed(f"could not {words}: {error}. {advice}{state}".replace("..", ".")) from error

    def _command(self, words: str, command: Sequence[str], advice: str) -> None:
        self._step(words, lambda: self._run(command), advice, commands=[command])

    def _read(self, name: str) -> str:
        try:
            return (self._options.root / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _next(self, name: str) -> str:
        if self._options.dry_run:
            return "nothing was done (--dry-run)"
        if not self._options.service:
            return f"installed {name}; start it with {self._installation.folder}/current/bin/device-agent serve"
        return (
            f"installed {name}; it listens on {self._options.listen}. What is still missing on this board: "
            f"sudo -u {USER} {self._installation.folder}/current/bin/device-agent doctor --store {STORE}"
        )


def own_wheel() -> Path | None:
    """Return the wheel that this code runs from, None for an installed package or a checkout."""
    folder = Path(device_agent.__file__).parent.parent
    return folder.absolute() if folder.is_file() else None


def as_user(user: str, home: Path, action: Callable[[], object]) -> None:
    """Do something in a child process with a user's rights. CommandFailed with the words of what it raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reader)
            account = pwd.getpwnam(user)
            os.initgroups(user, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            os.environ.update(HOME=str(home), USER=user, LOGNAME=user)
            os.chdir("/")
            action()
            status = 0
        except BaseException as error:
            os.write(writer, str(error).encode(errors="replace")[:4000])
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as words:
        said = words.read()
    if os.waitpid(child, 0)[1]:
        raise CommandFailed(said or "the process ended without a word")


def _source_of(name: str) -> bytes:
    """Return a file of this package, which may lie in a wheel."""
    loader = device_agent.__loader__
    path = str(Path(device_agent.__file__).parent / name)
    get_data = getattr(loader, "get_data", None)
    if get_data is None:
        raise BoardfitError(f"cannot read {path}")
    data: bytes = get_data(path)
    return data


def _answers(listen: str, within_s: float) -> bool:
    """Wait until somebody listens at ADDRESS:PORT."""
    host, _, port = listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1", "localhost": "127.0.0.1"}.get(host, host.strip("[]"))
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
        except OSError:
            time.sleep(0.5)
        else:
            return True
    return False


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def main(options: InstallOptions, *, uninstall: bool, purge: bool) -> None:
    """Install or remove the agent, with a line for every step on stdout. Errors are those of the Installer."""
    installer = Installer(options, say=_print)
    if uninstall:
        installer.uninstall(purge=purge)
    else:
        installer.install()


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command's result goes to stdout
