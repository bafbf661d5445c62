"""`engine render --listen`: vLLM on the mesh's address, for the boxes of that network only, and never public."""

from pathlib import Path

import pytest

from tests.cli.command import Outcome, run


def render(home: Path, listen: str, form: str = "systemd") -> Outcome:
    return run(home, "engine", "render", "--hardware", "a100-80", "--format", form, "--listen", listen)


def test_the_mesh_address_is_bound_and_its_network_alone_let_in(tmp_path: Path) -> None:
    unit = render(tmp_path, "10.78.0.2/24").out
    assert "--host 10.78.0.2" in unit
    assert "IPAddressDeny=any\nIPAddressAllow=localhost\n" in unit
    assert "IPAddressAllow=10.78.0.0/24\n" in unit
    assert "VLLM_HOST_IP=127.0.0.1" in unit
    assert "10.78.0.2:8001:8001" in render(tmp_path, "10.78.0.2/24", "compose").out


def test_loopback_opens_nothing(tmp_path: Path) -> None:
    assert "--host 127.0.0.1" in render(tmp_path, "127.0.0.1/8").out
    assert render(tmp_path, "127.0.0.1/8").out.count("IPAddressAllow") == 1


@pytest.mark.parametrize("address", ["1.2.3.4/24", "8.8.8.8/8", "0.0.0.0/0", "10.78.0.2", "::/0", "mesh"])
def test_a_public_or_unclear_address_is_refused(tmp_path: Path, address: str) -> None:
    done = render(tmp_path, address)
    assert done.code == 2
    assert "10.78.0.2/24" in done.err
