"""Several boxes behind one miner's host: the mesh between them, the router, a box that dies and one that comes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from app.backends.llama_local.model_file import find_model
from tests.ansible.playing import EACH_ROLE, ROOT, Played, Site
from tests.boxes.boxes import Box, Boxes, why_not
from tests.boxes.offline import offline_dir
from tests.peers.llama_build import built
from tests.peers.llama_server import MODEL, missing

ROUTER: Final = "http://127.0.0.1:8002"
ENGINE_PORT: Final = 8001
QUESTION: Final = {"model": MODEL, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 4}

pytestmark = [pytest.mark.slow, EACH_ROLE, pytest.mark.timeout(1500)]


def engine_box(boxes: Boxes, name: str) -> Box:
    """A box with llama.cpp's server and its model in it."""
    program = built()
    assert program is not None
    model = find_model(None)
    return boxes.create(name, "bookworm", read_only=[(program.parent, "/llama"), (model.parent, "/model")])


def serve(box: Box, address: str) -> None:
    """Start the engine on the mesh's address, as role vllm's unit does."""
    command = (
        *("/llama/llama-server", "--model", f"/model/{find_model(None).name}", "--alias", MODEL, "--offline"),
        *("--no-ui", "--host", address, "--port", str(ENGINE_PORT), "--ctx-size", "4096", "--threads", "1"),
    )
    environment = "--setenv=LD_LIBRARY_PATH=/llama"
    box.exec("systemd-run", "--unit=engine", "--property=Restart=always", environment, *command)


def play(site: Site, book: str, *roles: str, hosts: str = "all", **variables: Any) -> Played:  # noqa: ANN401 - Ansible's
    """Play roles on hosts, as site.yml does."""
    text = yaml.safe_dump([{"hosts": hosts, "become": True, "roles": list(roles)}])
    (site.folder / book).write_text(text, encoding="utf-8")
    return site.play(str(site.folder / book), **variables)


def network(site: Site, **variables: Any) -> list[Played]:  # noqa: ANN401 - Ansible's variables
    """The mesh on all, then the router and the firewall: one book, as the facts of one run belong together."""
    plays = [
        {"hosts": "all", "become": True, "roles": ["wireguard_mesh"]},
        {"hosts": "inference", "become": True, "roles": ["firewall"]},
    ]
    routed = [{"hosts": "miner", "become": True, "roles": ["router"]}]
    (site.folder / "network.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    (site.folder / "whole.yml").write_text(yaml.safe_dump([*plays, *routed]), encoding="utf-8")
    first = site.play(str(site.folder / "network.yml"), **variables)
    for box in site.groups["inference"]:
        if box.exec("systemctl", "is-active", "engine", check=False).returncode:
            serve(box, mesh_address(box))
    return [first, site.play(str(site.folder / "whole.yml"), **variables)]


def mesh_address(box: Box) -> str:
    """Its address in the mesh."""
    [card] = json.loads(box.exec("ip", "-json", "addr", "show", "wg-loosh").stdout)
    return next(str(one["local"]) for one in card["addr_info"] if one["family"] == "inet")


def asked(box: Box, path: str, body: object = None) -> tuple[int, Any]:
    """Ask over HTTP from a box; the status is 0 when nothing answers."""
    script = (
        "import json,sys,urllib.request as u,urllib.error as e\n"
        "body=sys.argv[2].encode() if sys.argv[2] else None\n"
        "try:\n r=u.urlopen(u.Request(sys.argv[1],body,{'content-type':'application/json'}),timeout=60);s=r.status\n"
        "except e.HTTPError as r2: r=r2;s=r.code\n"
        "except OSError: print(json.dumps([0,'']));sys.exit()\n"
        "print(json.dumps([s,r.read().decode()]))"
    )
    text = "" if body is None else json.dumps(body)
    status, said = json.loads(box.exec("python3", "-c", script, path, text).stdout)
    return status, said


@pytest.fixture(scope="module")
def boxes() -> Iterator[Boxes]:
    if reason := why_not() or missing():
        pytest.skip(reason)
    with Boxes() as boxes:
        yield boxes


def test_a_box_dies_and_another_comes_and_challenges_are_answered(boxes: Boxes, tmp_path: Path) -> None:
    front = boxes.create("tbfront", "bookworm")
    first, second = engine_box(boxes, "tbone"), engine_box(boxes, "tbtwo")
    lock = str(ROOT / "toolchain" / "tools.lock")
    site = Site(tmp_path, {"miner": [front], "inference": [first, second]}, python_runtime_lock=lock)
    play(site, "python.yml", "python_runtime", hosts="miner", miner_offline_dir=str(offline_dir()))
    network(site)

    def answers(times: int) -> list[int]:
        return [asked(front, f"{ROUTER}/v1/chat/completions", QUESTION)[0] for _ in range(times)]

    assert answers(6) == [200] * 6
    again = network(site)
    assert [one.changed for one in again] == [0, 0], again[-1].output

    # Private keys stay where they were made; the engine is for the miner's host alone.
    keys = {box.name: box.read("/etc/wireguard/wg-loosh.key").strip() for box in (front, first, second)}
    assert len(set(keys.values())) == len(keys)
    assert not any(key in again[-1].output for key in keys.values())
    assert first.sh("stat -c %a%U /etc/wireguard/wg-loosh.key").stdout.strip() == "600root"
    assert asked(front, f"http://{mesh_address(first)}:{ENGINE_PORT}/health")[0] == 200
    assert asked(second, f"http://{mesh_address(first)}:{ENGINE_PORT}/health")[0] == 0

    second.stop()
    assert answers(12) == [200] * 12

    third = engine_box(boxes, "tbthree")
    second.start()
    site.groups["inference"].append(third)
    started = front.exec("systemctl", "show", "--property=MainPID", "vllm-router").stdout
    serve(second, mesh_address(second))
    network(site)
    assert front.exec("systemctl", "show", "--property=MainPID", "vllm-router").stdout == started, "it was restarted"
    workers = json.loads(asked(front, f"{ROUTER}/workers")[1])["workers"]
    assert {one["url"] for one in workers} == {
        f"http://{mesh_address(box)}:{ENGINE_PORT}" for box in (first, second, third)
    }
    assert answers(6) == [200] * 6
    # Listens on loopback only, in its sandbox.
    listening = front.exec("ss", "-Hltn").stdout
    assert "127.0.0.1:8002" in listening
    assert "127.0.0.1:8003" in listening
    assert "0.0.0.0:800" not in listening
    exposure = ("systemd-analyze", "security", "--offline=true", "--threshold=15")
    front.exec(*exposure, "/etc/systemd/system/vllm-router.service")
