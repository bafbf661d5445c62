"""What the NixOS modules make of an operator's configuration: units, settings, refusals."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from app.settings import load
from tests.nix.evaluation import ROOT, evaluate, needs_nix, rendered_unit, run_nix
from tests.nix.options import PAGE, declared, page

pytestmark = needs_nix
ANALYZE: Final = shutil.which("systemd-analyze")
MOST_EXPOSURE: Final = 15
"""Tenths."""
ANSIBLE_UNIT: Final = ROOT / "ansible" / "roles" / "miner" / "templates" / "loosh-miner.service.j2"
HOTKEY: Final = "/var/lib/secrets/hotkey"
FULL: Final = f"""
  services.loosh-miner = {{
    enable = true;
    engine = "vllm";
    profile = "a100_80gb";
    hotkeyFile = "{HOTKEY}";
    hotkeyPasswordFile = "/var/lib/secrets/password";
    environmentFile = "/var/lib/secrets/miner.env";
    publicAddress = "203.0.113.7";
    openFirewall = true;
    validatorFirewall.enable = true;
    register.enable = true;
    nvidia.enable = true;
    monitoring.enable = true;
    settings.LOG_FORMAT = "json";
    settings.FIREWALL_ALLOW = [ "198.51.100.1" "198.51.100.0/24" ];
    settings.ENABLE_RATE_LIMITS = true;
  }};
"""
PLAIN: Final = f'services.loosh-miner = {{ enable = true; hotkeyFile = "{HOTKEY}"; }};'
CONFIGURATIONS: Final = {
    "development": "services.loosh-miner = { enable = true; development = true; };",
    "embedded": PLAIN,
    "cuda": PLAIN + " services.loosh-miner.llamacpp.cuda = true; services.loosh-miner.nvidia.enable = true;",
    "external": f"""{PLAIN}
        services.loosh-miner.engine = "external";
        services.loosh-miner.external.addresses = [ "http://10.0.0.2:8001/v1" ];
    """,
    "ollama": PLAIN + ' services.loosh-miner.engine = "ollama"; services.loosh-miner.profile = "a10_24gb";',
    "full": FULL,
}


def made(folder: Path, configuration: str) -> Any:  # noqa: ANN401 - JSON
    """What comes of it."""
    return evaluate(folder, f"{{ ... }}: {{ {configuration} }}")


def units(result: dict[str, Any]) -> dict[str, Any]:
    """Its services of ours that are whole; others only get something added."""
    services: dict[str, Any] = result["given"]["systemd"]["services"]
    return {name: service for name, service in services.items() if name.startswith("loosh-miner")}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_app_takes_the_units_settings(name: str, tmp_path: Path) -> None:
    result = made(tmp_path, CONFIGURATIONS[name])
    assert result["failed"] == []
    environment = units(result)["loosh-miner"]["environment"]
    assert all("%" not in value.removeprefix("%d/") for value in environment.values())
    loaded = load({**environment, "HOME": str(tmp_path)}, None)
    assert not [warning for warning in loaded.warnings if "is not a setting" in warning]
    assert loaded.settings.development_mode == ("on" if name == "development" else "off")
    assert str(loaded.settings.state_dir) == "/var/lib/loosh-miner"
    assert loaded.settings.llm_backend == {"full": "vllm", "external": "vllm", "ollama": "ollama"}.get(name, "llamacpp")


@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_systemd_takes_the_units_and_finds_little_exposed(name: str, tmp_path: Path) -> None:
    assert ANALYZE
    for unit, service in units(made(tmp_path, CONFIGURATIONS[name])).items():
        file = tmp_path / f"{unit}.service"
        # systemd looks whether the programs are there; here they are not.
        file.write_text(re.sub(r"(?<=ExecStart=)/nix/store/[^ \n]+", "/bin/true", rendered_unit(service)))
        environment = {**os.environ, "LANG": "C"}
        verified = subprocess.run(
            [ANALYZE, "verify", "--man=no", str(file)], env=environment, capture_output=True, text=True, check=False
        )
        assert f"{unit}.service:" not in verified.stderr, verified.stderr
        # These need a piece of root: to load rules, and to read a GPU's faults in the kernel's log.
        threshold = 20 if "firewall" in unit or "CAP_SYSLOG" in str(service) else MOST_EXPOSURE
        rated = subprocess.run(
            [ANALYZE, "security", "--offline=true", f"--threshold={threshold}", "--no-pager", str(file)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert rated.returncode == 0, (unit, rated.stdout[-300:], rated.stderr)


@pytest.mark.skipif(
    not ANSIBLE_UNIT.exists(), reason=f"{ANSIBLE_UNIT.name} is not in Ansible's role: nothing to compare"
)
def test_the_miners_limits_are_those_of_the_ansible_unit(tmp_path: Path) -> None:
    template = ANSIBLE_UNIT.read_text()
    service = units(made(tmp_path, PLAIN))["loosh-miner"]["serviceConfig"]
    for name in (
        *("Type", "Restart", "RestartSec", "KillMode", "TimeoutStartSec", "TimeoutStopSec", "LimitNOFILE"),
        *("OOMPolicy", "UMask", "StateDirectoryMode"),
    ):
        assert f"\n{name}={service[name]}\n" in template, name


def test_secrets_are_paths_only(tmp_path: Path) -> None:
    result = made(tmp_path, FULL)
    service = units(result)["loosh-miner"]
    assert service["serviceConfig"]["LoadCredential"] == [
        f"hotkey:{HOTKEY}",
        "hotkey-password:/var/lib/secrets/password",
    ]
    assert service["environment"]["HOTKEY_FILE"] == "%d/hotkey"
    assert service["serviceConfig"]["EnvironmentFile"] == "/var/lib/secrets/miner.env"
    # Who needs no hotkey gets none.
    for name in ("loosh-miner-weights", "loosh-miner-gpu", "loosh-miner-firewall"):
        assert "LoadCredential" not in units(result)[name]["serviceConfig"]
        assert "HOTKEY_FILE" not in units(result)[name]["environment"]


def test_the_command_of_who_administers_has_the_machines_settings(tmp_path: Path) -> None:
    (script,) = made(tmp_path, FULL)["commands"]
    words = shlex.split(script)
    given = {words[at + 1]: words[at + 2] for at, word in enumerate(words) if word == "--set-default"}
    assert given["HOTKEY_FILE"] == HOTKEY
    assert given["STATE_DIR"] == "/var/lib/loosh-miner"
    assert given["FIREWALL_ALLOW"] == "198.51.100.1,198.51.100.0/24"
    assert load({**given, "HOME": str(tmp_path)}, None).settings.enable_rate_limits


def test_the_engine_is_reached_from_this_machine_only(tmp_path: Path) -> None:
    given = made(tmp_path, FULL)["given"]
    container = given["virtualisation"]["oci-containers"]["containers"]["vllm"]
    assert container["ports"] == ["127.0.0.1:8001:8001"]
    assert container["devices"] == ["nvidia.com/gpu=all"]
    assert "--cap-drop=all" in container["extraOptions"]
    generator = "nvidia-container-toolkit-cdi-generator.service"
    engine = given["systemd"]["services"]["podman-vllm"]
    assert generator in engine["after"]
    assert generator in engine["requires"]
    assert given["networking"]["firewall"]["allowedTCPPorts"] == [8000]
    for path in (("prometheus", "listenAddress"), ("prometheus", "alertmanager", "listenAddress")):
        found: Any = given["services"]
        for name in path:
            found = found[name]
        assert found == "127.0.0.1"
    assert given["services"]["grafana"]["settings"]["server"]["http_addr"] == "127.0.0.1"


def test_weights_and_image_can_be_pinned(tmp_path: Path) -> None:
    lock: dict[str, Any] = {
        "version": 1,
        "weights": {"Qwen/Qwen2.5-32B-Instruct-AWQ": {"revision": "a" * 40, "files": []}},
    }
    (tmp_path / "models.lock.json").write_text(json.dumps(lock))
    digest = "sha256:" + "b" * 64
    pinned = FULL + (
        f"services.loosh-miner.vllm.modelsLock = {tmp_path}/models.lock.json;"
        f' services.loosh-miner.vllm.digest = "{digest}";'
    )
    result = made(tmp_path, pinned)
    container = result["given"]["virtualisation"]["oci-containers"]["containers"]["vllm"]
    assert container["image"] == f"docker.io/vllm/vllm-openai@{digest}"
    assert container["cmd"][-2:] == ["--revision", "a" * 40]
    assert result["warnings"] == []
    warned = made(tmp_path, FULL)
    assert len(warned["warnings"]) == 2
    container = warned["given"]["virtualisation"]["oci-containers"]["containers"]["vllm"]
    assert re.fullmatch(r"docker\.io/vllm/vllm-openai:v[0-9.]+", container["image"])


def test_a_rendered_profile_is_imported(tmp_path: Path) -> None:
    golden = ROOT / "tests" / "compute" / "golden"
    operators = f"""{{
        imports = [ {golden / "2xa100-80" / "engine.nix"} ];
        services.loosh-miner = {{
          enable = true;
          hotkeyFile = "{HOTKEY}";
          engine = "vllm";
          nvidia.enable = true;
        }};
    }}"""
    result = evaluate(tmp_path, operators)
    assert result["failed"] == []
    container = result["given"]["virtualisation"]["oci-containers"]["containers"]["vllm"]
    assert "--ipc=host" in container["extraOptions"]
    plan = json.loads((golden / "2xa100-80" / "plan.json").read_text())
    assert result["miner"]["settings"]["DEFAULT_MODEL"] == plan["miner"]["DEFAULT_MODEL"]
    assert container["cmd"][0] == plan["command"][2]


def test_the_appliance_holds_together(tmp_path: Path) -> None:
    hosts = ROOT / "nix" / "hosts" / "appliance"
    result = evaluate(tmp_path, f"{{ imports = [ {hosts}/configuration.nix {hosts}/hardware.nix ]; }}")
    assert result["failed"] == []
    given = result["given"]
    assert given["services"]["openssh"]["settings"]["PasswordAuthentication"] is False
    assert given["system"]["autoUpgrade"]["enable"] is False
    assert given["hardware"]["nvidia"]["open"] is True
    assert given["hardware"]["nvidia-container-toolkit"]["enable"] is True
    unit = given["systemd"]["services"]["loosh-miner"]
    assert unit["unitConfig"]["ConditionPathExists"] == result["miner"]["hotkeyFile"]


def test_the_file_systems_are_those_of_the_disks_layout(tmp_path: Path) -> None:
    """Disko names a partition after its disk and itself."""
    hosts = ROOT / "nix" / "hosts" / "appliance"
    expression = f"(import {hosts}/disko.nix {{ lib.mkDefault = given: given; }}).disko.devices.disk"
    done = run_nix(tmp_path, "--eval", "--strict", "--json", "--expr", expression)
    assert done.returncode == 0, done.stderr
    disks = json.loads(done.stdout)
    layout = {
        partition["content"]["mountpoint"]: (
            f"/dev/disk/by-partlabel/disk-{disk}-{name}",
            partition["content"]["format"],
        )
        for disk, of in disks.items()
        for name, partition in of["content"]["partitions"].items()
    }
    given = evaluate(tmp_path, f"import {hosts}/hardware.nix")["given"]["fileSystems"]
    assert {place: (each["device"], each["fsType"]) for place, each in given.items()} == layout


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ("services.loosh-miner.enable = true;", "hotkeyFile: the miner needs a hotkey"),
        (PLAIN + "services.loosh-miner.development = true;", "remove one of the two"),
        (CONFIGURATIONS["development"] + "services.loosh-miner.openFirewall = true;", "keeps to loopback"),
        (PLAIN + 'services.loosh-miner.engine = "vllm";', "name services.loosh-miner.profile"),
        (PLAIN + 'services.loosh-miner.profile = "a10_24gb";', "nothing fits a10_24gb with engine llamacpp"),
        (
            PLAIN + 'services.loosh-miner.engine = "vllm"; services.loosh-miner.profile = "a10_24gb";',
            "services.loosh-miner.nvidia.enable",
        ),
        (
            FULL
            + f"""services.loosh-miner.engineProfile =
                (builtins.fromJSON (builtins.readFile {ROOT}/nix/profiles.json)).a100_80gb.vllm
                // {{ context = 8192; }};
            """,
            "under the 16384 tokens",
        ),
        (
            FULL + 'services.loosh-miner.engineProfile = { engine = "vllm"; };',
            "engineProfile lacks arguments, context,",
        ),
        (FULL + "services.loosh-miner.settings.MAX_CONCURRENT_REQUESTS = 100;", "64 sequences: lower it"),
        (PLAIN + "services.loosh-miner.adminPort = 8000;", "are both 8000: give one of them another port"),
        (FULL + "services.loosh-miner.monitoring.grafana.port = 8001;", "are both 8001"),
        (PLAIN + "services.loosh-miner.settings.API_PROT = 1;", "API_PROT is no setting"),
        (PLAIN + 'services.loosh-miner.settings.HF_TOKEN = "hf_x";', "HF_TOKEN is a secret"),
        (PLAIN + 'services.loosh-miner.settings.HOTKEY_FILE = "/x";', "use services.loosh-miner.hotkeyFile"),
        (PLAIN + "services.loosh-miner.validatorFirewall.enable = true;", "set services.loosh-miner.openFirewall"),
        (PLAIN + 'services.loosh-miner.engine = "external";', "where is the engine?"),
        (
            'services.loosh-miner = { enable = true; development = true; hotkeyPasswordFile = "/x"; };',
            "but no hotkeyFile",
        ),
        (FULL + "services.loosh-miner.llamacpp.cuda = true;", "is for engine llamacpp, not vllm"),
    ],
)
def test_what_cannot_work_is_refused_with_the_options_name(configuration: str, said: str, tmp_path: Path) -> None:
    failed = made(tmp_path, configuration)["failed"]
    texts = [" ".join(text.split()) for text in failed]
    assert [text for text in texts if said in text], texts
    assert all("services.loosh-miner" in text for text in texts)


def test_a_secret_in_the_store_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not in the Nix store"):
        made(tmp_path, 'services.loosh-miner = { enable = true; hotkeyFile = "/nix/store/abc-hotkey"; };')


def test_every_option_is_typed_and_documented(tmp_path: Path) -> None:
    options = declared(tmp_path)
    assert len(options) > 30
    for option in options:
        assert option["type"], option["name"]
        assert option["description"], option["name"]
        assert option["description"].strip().endswith("."), option["name"]
    required = [option["name"] for option in options if option["required"]]
    assert required == [], "say a default, or in words what it is"
    assert PAGE.read_text() == page(options), "run `just nix-write`"
