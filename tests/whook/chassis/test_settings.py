"""Settings: precedence, unknown names, secrets, and errors that name their origin."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import Field, SecretBytes, SecretStr, ValidationError

from whook.chassis.settings import DaemonSettings, Settings, SettingsError


class Part(Settings):
    section: ClassVar[str] = "part"

    heartbeat: float = Field(20.0, gt=0)
    listen: str = "127.0.0.1:1"
    hosts: list[str] = Field(default_factory=list)
    key: SecretStr | None = None
    pin: SecretBytes = SecretBytes(b"0000")


class Needy(Settings):
    section: ClassVar[str] = "needy"

    url: str


class Root(Settings):
    color: str = "red"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "whook.toml"


def faults(error: pytest.ExceptionInfo[SettingsError]) -> list[str]:
    return error.value.faults


def test_defaults() -> None:
    assert Part.load().heartbeat == 20


def test_flag_over_environment_over_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[part]\nheartbeat = 1\nlisten = "file"\nhosts = ["file"]')
    monkeypatch.setenv("WHOOK_PART_HEARTBEAT", "2")
    monkeypatch.setenv("WHOOK_PART_LISTEN", "environment")
    loaded = Part.load({"heartbeat": 3, "listen": None}, file)
    assert (loaded.heartbeat, loaded.listen, loaded.hosts) == (3, "environment", ["file"])


def test_direct_construction_reads_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOOK_PART_HEARTBEAT", "2")
    assert Part().heartbeat == 20
    assert Part(heartbeat=7).heartbeat == 7
    with pytest.raises(ValidationError, match="heartbeet"):
        Part(heartbeet=7)  # type: ignore[call-arg]


def test_lists_come_as_json_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOOK_PART_HOSTS", '["a", "b"]')
    assert Part.load().hosts == ["a", "b"]
    monkeypatch.setenv("WHOOK_PART_HOSTS", "a,b")
    with pytest.raises(SettingsError, match="hosts"):
        Part.load()


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOOK_PART_HEARTBEAT", "")
    assert Part.load().heartbeat == 20


def test_unknown_names_are_refused_wherever_they_come_from(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("[part]\nheart-beat = 1\n[other]\nanything = 1\n")
    monkeypatch.setenv("WHOOK_PART_LISTENS", "x")
    monkeypatch.setenv("WHOOK_OTHER_THING", "x")
    with pytest.raises(SettingsError) as caught:
        Part.load({"zzz": 1}, file)
    assert faults(caught) == [
        f"unknown setting heart_beat in [part] of {file}; did you mean heartbeat in [part] of {file}?",
        "unknown setting WHOOK_PART_LISTENS; did you mean WHOOK_PART_LISTEN?",
        "unknown setting --zzz",
    ]


def test_values_that_do_not_fit_name_their_origin(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[part]\nhosts = [1]\n")
    monkeypatch.setenv("WHOOK_PART_HEARTBEAT", "-2")
    with pytest.raises(SettingsError) as caught:
        Part.load({"listen": 5}, file)
    assert faults(caught) == [
        "WHOOK_PART_HEARTBEAT: Input should be greater than 0",
        "--listen: Input should be a valid string",
        f"hosts in [part] of {file} (0): Input should be a valid string",
    ]


def test_a_missing_value_names_its_variable() -> None:
    with pytest.raises(SettingsError, match="WHOOK_NEEDY_URL is not set"):
        Needy.load()


def test_the_root_section_ignores_the_tables_of_others(file: Path) -> None:
    file.write_text('color = "blue"\n[part]\nheartbeat = 1\n')
    assert Root.load(config_file=file).color == "blue"
    file.write_text('colour = "blue"\n')
    with pytest.raises(SettingsError, match="did you mean color in"):
        Root.load(config_file=file)


@pytest.mark.parametrize("content", [b"not toml", b"\xff", b"part = 1", None])
def test_unusable_files(content: bytes | None, file: Path) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"whook\.toml") as caught:
        Part.load(config_file=file)
    assert len(faults(caught)) == 1


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOOK_PART_KEY", "hunter2")
    loaded = Part.load()
    assert loaded.key is not None
    assert loaded.key.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{loaded!r} {loaded} {loaded.model_dump()} {loaded.model_dump_json()}"


def test_errors_do_not_show_values(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as caught:
        Part.load({"key": ["hunter2"], "listen": ["hunter2"]})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("where", ["flag", "environment", "file"])
def test_secrets_come_from_files(
    where: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2 \n")
    flags: dict[str, Any] = {}
    file.touch()
    if where == "flag":
        flags["key_file"] = secret
    elif where == "environment":
        monkeypatch.setenv("WHOOK_PART_KEY_FILE", str(secret))
    else:
        file.write_text(f'[part]\nkey_file = "{secret}"')
    loaded = Part.load(flags, file)
    assert loaded.key is not None
    assert loaded.key.get_secret_value() == "hunter2 "


def test_a_secret_from_a_file_has_the_precedence_of_its_source(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("from file")
    file.write_text(f'[part]\npin_file = "{tmp_path / "secret"}"')
    monkeypatch.setenv("WHOOK_PART_PIN", "1234")
    assert Part.load(config_file=file).pin.get_secret_value() == b"1234"


def test_secret_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 70_000)
    monkeypatch.setenv("WHOOK_PART_KEY_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError) as caught:
        Part.load({"pin_file": large})
    assert faults(caught) == [
        f"WHOOK_PART_KEY_FILE: cannot read {tmp_path / 'missing'}: No such file or directory",
        f"--pin-file: {large} is larger than 65536 bytes",
    ]


def test_a_secret_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOOK_PART_KEY", "a")
    monkeypatch.setenv("WHOOK_PART_KEY_FILE", "b")
    with pytest.raises(SettingsError, match="WHOOK_PART_KEY_FILE and WHOOK_PART_KEY are both set"):
        Part.load()


def test_only_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHOOK_PART_LISTEN_FILE", "x")
    with pytest.raises(SettingsError, match="unknown setting WHOOK_PART_LISTEN_FILE"):
        Part.load()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Part().heartbeat = 3  # type: ignore[misc]


def test_daemon_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DaemonSettings.load({"admin": ""}).admin == ""
    monkeypatch.setenv("WHOOK_DAEMON_ADMIN", "localhost")
    with pytest.raises(SettingsError, match="WHOOK_DAEMON_ADMIN: address 'localhost' has no port"):
        DaemonSettings.load()


def test_a_secret_from_a_credential_of_the_service_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sample(Settings):
        section = "sample"
        key: SecretStr = SecretStr("")

    (tmp_path / "sample.key").write_text("from a credential\n")
    config = tmp_path / "whook.toml"
    config.write_text('[sample]\nkey = "from the file"\n')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Sample.load(config_file=config).key.get_secret_value() == "from a credential"
    monkeypatch.setenv("WHOOK_SAMPLE_KEY", "from the environment")
    assert Sample.load(config_file=config).key.get_secret_value() == "from the environment"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "nowhere"))
    monkeypatch.delenv("WHOOK_SAMPLE_KEY")
    assert Sample.load(config_file=config).key.get_secret_value() == "from the file"
