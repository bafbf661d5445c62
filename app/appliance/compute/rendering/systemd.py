"""A unit for vLLM, and drop-ins for units that others bring: Ollama's own, and the miner's.

The unit's sandbox is that of a process with a GPU: its devices and nothing else of /dev, memory that a compiler may
write and run, and no network but loopback and that of the boxes it was told to answer.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from app.appliance.compute.rendering.plan import VLLM_VERSION, Plan
from app.appliance.compute.rendering.words import headline, unpinned

_SANDBOX: Final = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
UMask=0077
ProtectSystem=strict
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=no
DevicePolicy=closed
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
IPAddressDeny=any
IPAddressAllow=localhost
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
"""
_HOMES: Final = ("/home", "/root", "/run/user")


def as_systemd(plan: Plan) -> str:
    """Write the unit or drop-in; its first line says where it belongs."""
    match plan.profile.engine:
        case "vllm":
            return _unit(plan)
        case "ollama":
            return _drop_in(plan, "/etc/systemd/system/ollama.service.d/loosh-miner.conf", plan.environment)
        case "llamacpp":
            return _drop_in(plan, "/etc/systemd/system/loosh-miner.service.d/engine.conf", plan.miner)


def _drop_in(plan: Plan, place: str, environment: dict[str, str]) -> str:
    lines = [f"# {place}", f"# {headline(plan)}", "", "[Service]"]
    lines += [f"Environment={_quoted(f'{name}={value}')}" for name, value in environment.items()]
    return "\n".join(lines) + "\n"


def _unit(plan: Plan) -> str:
    lines = ["# /etc/systemd/system/vllm.service", f"# {headline(plan)}"]
    if (told := unpinned(plan)) is not None:
        lines.append(f"# {told}")
    lines += [
        "",
        "[Unit]",
        f"Description=vLLM: {plan.profile.served_name}",
        "After=network.target nvidia-persistenced.service",
        "Wants=nvidia-persistenced.service",
        *_asserts(plan),
        # However often it failed, it is tried again: nobody watches this box at night.
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        "User=vllm",
        "Group=vllm",
        # The device nodes are made on first use, which takes root.
        "ExecStartPre=+/usr/bin/nvidia-modprobe -c0 -u",
        f"ExecStart={_command(plan)}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in plan.environment.items()),
        "CacheDirectory=vllm",
        "CacheDirectoryMode=0700",
        "TimeoutStartSec=45min",
        "TimeoutStopSec=90s",
        "KillMode=mixed",
        "Restart=always",
        "RestartSec=10s",
        "LimitMEMLOCK=infinity",
        "LimitNOFILE=65536",
        "",
        *_SANDBOX.splitlines(),
        *((f"IPAddressAllow={plan.peers}",) if plan.peers else ()),
        *_homes(plan),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _asserts(plan: Plan) -> Iterator[str]:
    """Let the start fail with the file's name, not with a trace of vLLM's."""
    words = plan.command
    if "--chat-template" in words:
        file = PurePosixPath(words[words.index("--chat-template") + 1])
        yield f"# vLLM's wheel lacks it: take examples/{file.name} from the source of vLLM {VLLM_VERSION}."
        yield f"AssertPathExists={_quoted(str(file))}"


def _command(plan: Plan) -> str:
    """One flag a line."""
    program, verb, repository, *flags = plan.command
    lines = [f"{program} {verb} {_argument(repository)}"]
    for word in flags:
        if word.startswith("--"):
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {_argument(word)}"
    return " \\\n".join(lines)


def _homes(plan: Plan) -> Iterator[str]:
    """Open just the folders that the operator keeps elsewhere."""
    at_home = [folder for folder in plan.folders if any(PurePosixPath(folder).is_relative_to(home) for home in _HOMES)]
    yield f"ProtectHome={'tmpfs' if at_home else 'yes'}"
    for folder in plan.folders:
        yield f"{'BindPaths' if folder in at_home else 'ReadWritePaths'}={_quoted(folder)}"


def _argument(word: str) -> str:
    """Only a command has variables."""
    return _quoted(word.replace("$", "$$"))


def _quoted(word: str) -> str:
    """Write a word so that systemd reads it as one, and takes nothing in it for a specifier."""
    word = word.replace("%", "%%")
    if any(letter in word for letter in " \t\"'\\;"):
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return word
