"""Hotkeys out of real wallet files, made by bittensor_core itself; every fault is named with its remedy."""

import json
import os
from pathlib import Path
from typing import Any, Final, cast

import bittensor_core  # pyright: ignore[reportMissingTypeStubs]
import msgspec
import pytest

from app.chain.wallet import _decode, has_wallets, load_hotkey  # pyright: ignore[reportPrivateUsage]
from app.errors import WalletError
from app.protocol.hotkeys import Hotkey, verify
from app.settings import Settings

CORE: Final[Any] = bittensor_core
SEED: Final = bytes(range(32))
PASSWORD: Final = "canary pässword"
PHRASE: Final = "range roof share example deputy grape siege sort injury help banner dumb"


def keyfile(keypair: object) -> bytes:
    return CORE.serialized_keypair_to_keyfile_data(keypair)


class Wallets:
    """A directory of wallets as btcli lays them out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hotkeys = root / "miner" / "hotkeys"
        self.hotkeys.mkdir(parents=True)
        self.file = self.hotkeys / "miner"

    def put(self, content: bytes | dict[str, Any], mode: int = 0o600) -> Path:
        self.file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        self.file.chmod(mode)
        return self.file

    def settings(self, **given: object) -> Settings:
        return msgspec.structs.replace(Settings(wallet_path=self.root), **given)

    def refusal(self, credentials: Path | None = None, **given: object) -> str:
        with pytest.raises(WalletError) as caught:
            load_hotkey(self.settings(**given), credentials=credentials)
        text = str(caught.value)
        assert "\n" not in text
        assert "canary" not in text
        assert SEED.hex() not in text
        return text


@pytest.fixture
def wallets(tmp_path: Path) -> Wallets:
    return Wallets(tmp_path / "wallets")


@pytest.fixture(scope="session")
def encrypted() -> bytes:
    """Takes seconds to make."""
    return CORE.encrypt_keyfile_data(keyfile(CORE.Keypair.from_seed(SEED)), PASSWORD)


def test_a_wallet_of_btclis(wallets: Wallets) -> None:
    wallets.put(keyfile(CORE.Keypair.from_seed(SEED)))
    hotkey = load_hotkey(wallets.settings())
    assert hotkey.ss58 == Hotkey.from_seed(SEED).ss58
    assert verify(hotkey.ss58, b"text", hotkey.sign(b"text"))


def test_a_hotkey_named_by_its_file(wallets: Wallets, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.json"
    wallets.put(keyfile(CORE.Keypair.from_seed(SEED))).rename(file)
    assert load_hotkey(wallets.settings(hotkey_file=file)).ss58 == Hotkey.from_seed(SEED).ss58


@pytest.mark.parametrize("form", ["secretSeed", "secretPhrase", "privateKey"])
@pytest.mark.parametrize("with_address", [True, False])
def test_any_one_form_of_the_secret_will_do(wallets: Wallets, form: str, *, with_address: bool) -> None:
    keypair = CORE.Keypair.create_from_mnemonic(PHRASE)
    whole = json.loads(keyfile(keypair))
    wallets.put({form: whole[form]} | ({"ss58Address": whole["ss58Address"]} if with_address else {}))
    hotkey = load_hotkey(wallets.settings())
    assert hotkey.ss58 == keypair.ss58_address
    assert verify(hotkey.ss58, b"text", hotkey.sign(b"text"))


def test_an_encrypted_hotkey_with_systemds_credential(wallets: Wallets, encrypted: bytes, tmp_path: Path) -> None:
    wallets.put(encrypted)
    (tmp_path / "hotkey-password").write_text(PASSWORD + "\n")
    (tmp_path / "hotkey-password").chmod(0o440)
    assert load_hotkey(wallets.settings(), credentials=tmp_path).ss58 == Hotkey.from_seed(SEED).ss58


def test_an_encrypted_hotkey_without_a_password(wallets: Wallets, encrypted: bytes) -> None:
    file = wallets.put(encrypted)
    text = wallets.refusal()
    assert str(file) in text
    assert "is encrypted, and there is no password" in text
    assert "HOTKEY_PASSWORD_FILE" in text


def test_a_wrong_password(wallets: Wallets, encrypted: bytes, tmp_path: Path) -> None:
    file = wallets.put(encrypted)
    password = tmp_path / "password"
    password.write_text("canary, but a wrong one")
    password.chmod(0o600)
    assert f"{file}: the password does not open it" in wallets.refusal(hotkey_password_file=password)


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"", 0o600, "is empty"),
        (b"\xff\xfe", 0o600, "is not UTF-8 text"),
        (b"canary", 0o644, "other users can read or change it (mode 0644): chmod 600"),
        (None, 0o600, "no such file: correct HOTKEY_PASSWORD_FILE"),
    ],
)
def test_a_password_file_that_is_none(
    wallets: Wallets, encrypted: bytes, tmp_path: Path, content: bytes | None, mode: int, says: str
) -> None:
    wallets.put(encrypted)
    password = tmp_path / "password"
    if content is not None:
        password.write_bytes(content)
        password.chmod(mode)
    text = wallets.refusal(hotkey_password_file=password)
    assert str(password) in text
    assert says in text


def test_no_directory_of_wallets(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match="no such directory: correct WALLET_PATH, or make it with `btcli"):
        load_hotkey(Settings(wallet_path=tmp_path / "none"))


def test_no_such_wallet_lists_what_there_is(wallets: Wallets) -> None:
    (wallets.root / "owner").mkdir()
    text = wallets.refusal(wallet_name="minor")
    assert f"{wallets.root / 'minor'}: no such wallet (there are: miner, owner): correct WALLET_NAME" in text


def test_no_such_hotkey_lists_what_there_is(wallets: Wallets) -> None:
    wallets.put(keyfile(CORE.Keypair.from_seed(SEED)))
    assert "no such hotkey (there are: miner): correct HOTKEY_NAME" in wallets.refusal(hotkey_name="minor")
    wallets.file.unlink()
    assert "no such hotkey (there are none)" in wallets.refusal()


def test_no_such_hotkey_file(wallets: Wallets, tmp_path: Path) -> None:
    assert "no such file: correct HOTKEY_FILE" in wallets.refusal(hotkey_file=tmp_path / "none")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_can_not_be_read(wallets: Wallets) -> None:
    wallets.put(keyfile(CORE.Keypair.from_seed(SEED)), mode=0o200)
    assert "can't be read (Permission denied)" in wallets.refusal()


def test_a_directory_in_the_files_place(wallets: Wallets) -> None:
    wallets.file.mkdir()
    assert "can't be read (Is a directory)" in wallets.refusal()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_threat_17_a_hotkey_that_others_can_read(wallets: Wallets, mode: int) -> None:
    file = wallets.put(keyfile(CORE.Keypair.from_seed(SEED)), mode=mode)
    text = wallets.refusal()
    assert f"{file}: other users can read or change it (mode {mode:04o}): chmod 600 {file}" in text


def test_a_credential_may_be_readable_by_a_group(wallets: Wallets) -> None:
    file = wallets.put(keyfile(CORE.Keypair.from_seed(SEED)), mode=0o440)
    assert load_hotkey(wallets.settings(hotkey_file=file), credentials=file.parent).ss58


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no wallet's key file (JSON)"),
        (b"canary", "is no wallet's key file (JSON)"),
        (b"\xff\xff", "is no wallet's key file (JSON)"),
        (b"[" * 60_000, "is no wallet's key file (JSON)"),
        (b"0x" + SEED.hex().encode(), "is no wallet's key file (JSON)"),
        (b"[1]", "is no wallet's key file (JSON)"),
        (b'{"secretSeed": 1}', "is no wallet's key file (JSON)"),
        (b'{"secretSeed": "0xcanary"}', "the secret in it is damaged"),
        (b'{"secretSeed": "0x1234"}', "the secret in it is damaged"),
        (b'{"secretPhrase": "canary canary"}', "the secret in it is damaged"),
        (b'{"privateKey": "0x00"}', "the secret in it is damaged"),
        (b'{"cryptoType": 0, "secretSeed": "0x00"}', "is not an sr25519 key"),
        (b"{}", "holds only a public key"),
        (b" " * 65537, "is larger than 65536 bytes"),
    ],
)
def test_a_file_that_is_no_hotkey(wallets: Wallets, content: bytes, says: str) -> None:
    file = wallets.put(content)
    text = wallets.refusal()
    assert text.startswith(f"{file}: ")
    assert says in text


def test_a_public_key_alone(wallets: Wallets) -> None:
    wallets.put(keyfile(CORE.Keypair(ss58_address=Hotkey.from_seed(SEED).ss58)))
    assert "holds only a public key, which can't sign" in wallets.refusal()


def test_an_address_that_is_another_keys(wallets: Wallets) -> None:
    whole = json.loads(keyfile(CORE.Keypair.from_seed(SEED)))
    other = Hotkey.from_seed(bytes(32)).ss58
    wallets.put(whole | {"ss58Address": other})
    text = wallets.refusal()
    assert other in text
    assert Hotkey.from_seed(SEED).ss58 in text


def test_threat_17_a_coldkey_beside_the_hotkey(wallets: Wallets) -> None:
    wallets.put(keyfile(CORE.Keypair.from_seed(SEED)))
    coldkey = wallets.root / "miner" / "coldkey"
    coldkey.write_text("canary")
    text = wallets.refusal()
    assert text.startswith(f"{coldkey}: a coldkey can be read here")
    assert "move it off this machine" in text
    assert load_hotkey(wallets.settings(allow_coldkey=True)).ss58
    coldkey.rename(coldkey.with_name("coldkeypub.txt"))
    assert load_hotkey(wallets.settings()).ss58


def test_threat_17_a_coldkey_of_another_wallet(wallets: Wallets, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.json"
    wallets.put(keyfile(CORE.Keypair.from_seed(SEED))).rename(file)
    coldkey = wallets.root / "owner" / "coldkey"
    coldkey.parent.mkdir()
    coldkey.write_text("canary")
    assert wallets.refusal(hotkey_file=file).startswith(f"{coldkey}: a coldkey can be read here")
    assert load_hotkey(wallets.settings(hotkey_file=file, allow_coldkey=True)).ss58


@pytest.mark.parametrize("form", ["secretSeed", "secretPhrase", "privateKey"])
def test_threat_17_what_was_read_shows_no_secret(form: str) -> None:
    fields = _decode(Path("hotkey"), json.dumps({form: "canary"}).encode())
    assert "***" in repr(fields)
    assert "canary" not in repr(fields)


@pytest.mark.parametrize("encrypt", [False, True])
def test_a_wallet_made_by_bittensors_own_tools(tmp_path: Path, *, encrypt: bool) -> None:
    from bittensor import Wallet  # noqa: PLC0415 - takes over a second

    made = Wallet(name="miner", hotkey="miner", path=str(tmp_path))
    made.create_new_hotkey(
        use_password=encrypt, hotkey_password=PASSWORD if encrypt else None, overwrite=True, suppress=True
    )
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    hotkey = load_hotkey(Settings(wallet_path=tmp_path, hotkey_password_file=password))
    assert hotkey.ss58 == cast("Any", made).hotkeypub.ss58_address


def test_whether_there_are_wallets(tmp_path: Path) -> None:
    assert not has_wallets(Settings(wallet_path=tmp_path / "none"))
    assert not has_wallets(Settings(wallet_path=tmp_path))
    (tmp_path / ".DS_Store").write_text("")
    assert not has_wallets(Settings(wallet_path=tmp_path))
    (tmp_path / "owner").mkdir()
    assert has_wallets(Settings(wallet_path=tmp_path))
