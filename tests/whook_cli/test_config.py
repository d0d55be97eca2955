"""Flag, environment, ./whook.toml, user's whook.toml: which one counts, and what they refuse."""

import contextlib
import os
import string
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import pytest
from cyclopts import App, CycloptsError, Parameter
from hypothesis import given
from hypothesis import strategies as st

from whook_cli.config import Environment, Files, read_file
from whook_cli.options import (
    KEYS,
    ForwardOptions,
    OutputOptions,
    ServerOptions,
    TunnelOptions,
)


class Layers:
    """The four layers, and what a command sees of them."""

    def __init__(self, folder: Path) -> None:
        self.local = folder / "here" / "whook.toml"
        self.user = folder / "user" / "whook.toml"
        self.local.parent.mkdir()
        self.user.parent.mkdir()
        self.environ: dict[str, str] = {}

    def connect(self, *flags: str) -> tuple[str | None, TunnelOptions, ForwardOptions, OutputOptions]:
        files = Files(lambda: self.local, lambda: self.user)
        app = App(config=(Environment(self.environ), files), result_action="return_value")

        @app.command
        def connect(
            project: str | None = None,
            *,
            tunnel: Annotated[TunnelOptions, Parameter(name="*")] = TunnelOptions(),  # noqa: B008
            forward: Annotated[ForwardOptions, Parameter(name="*")] = ForwardOptions(),  # noqa: B008
            output: Annotated[OutputOptions, Parameter(name="*")] = OutputOptions(),  # noqa: B008
        ) -> object:
            return project, tunnel, forward, output

        @app.command
        def bare() -> None: ...

        command = flags if flags[:1] == ("bare",) else ("connect", *flags)
        return app(command, exit_on_error=False, print_error=False)  # type: ignore[no-any-return]


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


def test_nothing_given_is_the_defaults(layers: Layers) -> None:
    assert layers.connect() == (None, TunnelOptions(), ForwardOptions(), OutputOptions())


def test_each_layer_covers_the_one_below(layers: Layers) -> None:
    def forward(*flags: str) -> str | None:
        return layers.connect(*flags)[2].forward

    layers.user.write_text('forward = "user"')
    assert forward() == "user"
    layers.local.write_text('forward = "local"')
    assert forward() == "local"
    layers.environ["WHOOK_FORWARD"] = "env"
    assert forward() == "env"
    assert forward("--forward", "flag") == "flag"
    layers.environ["WHOOK_FORWARD"] = ""
    assert forward() == "local"


def test_every_type_of_value(layers: Layers) -> None:
    layers.local.write_text(
        'project = "shop"\nhost-header = "rewrite"\nrespond = 204\nverbose = true\njson = false\n'
        "forward = 3000\n"
    )
    layers.environ |= {"WHOOK_MAX_EXCHANGES": "7", "WHOOK_JSON": "1"}
    project, _, forward, output = layers.connect()
    assert project == "shop"
    assert forward == ForwardOptions(host_header="rewrite", respond=204, forward="3000", max_exchanges=7)
    assert output == OutputOptions(verbose=True, json=True)


def test_a_flag_can_switch_off_what_a_file_switches_on(layers: Layers) -> None:
    layers.local.write_text("verbose = true\n")
    assert layers.connect("--verbose=false")[3] == OutputOptions()


def test_keys_of_other_commands_are_let_be(layers: Layers) -> None:
    layers.local.write_text('data-dir = "/x"\nport = 1\ndrain-timeout = 3\n')
    assert layers.connect()[1] == TunnelOptions()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('foward = "x"', 'unknown key "foward"; did you mean "forward"?'),
        ("host_header = 1", 'unknown key "host_header"; did you mean "host-header"?'),
        ("zzz = 1", 'unknown key "zzz"; the keys are the long options, without "--"'),
        ("[server]\nx = 1", '"server" is a table; write a text, a number, true or false'),
        ("forward = [1]", '"forward" is a list'),
        ("forward = 2020-01-01", '"forward" is a date or time'),
        ("forward = ", "is not TOML: Invalid value"),
    ],
)
def test_files_are_refused_by_name_with_the_mend(layers: Layers, content: str, message: str) -> None:
    layers.user.write_text(content)
    with pytest.raises(CycloptsError) as caught:
        layers.connect()
    assert str(layers.user) in str(caught.value)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(layers: Layers) -> None:
    layers.user.write_bytes(b'forward = "\xff"')
    with pytest.raises(CycloptsError, match="not UTF-8"):
        layers.connect()
    layers.user.unlink()
    layers.user.mkdir()
    with pytest.raises(CycloptsError, match="cannot read"):
        layers.connect()


def test_a_broken_file_does_not_stop_commands_without_options(layers: Layers) -> None:
    layers.local.write_text("nonsense")
    layers.connect("bare")


@pytest.mark.parametrize("layer", ["local", "environ"])
def test_a_value_of_the_wrong_type_names_where_it_stands(layers: Layers, layer: str) -> None:
    if layer == "local":
        layers.local.write_text('respond = "soon"')
    else:
        layers.environ["WHOOK_RESPOND"] = "soon"
    with pytest.raises(CycloptsError) as caught:
        layers.connect()
    expected = f"respond from {layers.local}" if layer == "local" else "WHOOK_RESPOND from the environment"
    assert expected in str(caught.value)


EVIL = "https://evil.example"


@pytest.mark.parametrize("place", ["environ", "user"])
def test_a_strangers_directory_cannot_redirect_a_token(layers: Layers, place: str) -> None:
    layers.local.write_text(f'server = "{EVIL}"')
    if place == "environ":
        layers.environ["WHOOK_TOKEN"] = "whk_secret"
    else:
        layers.user.write_text('token = "whk_secret"')
    with pytest.raises(CycloptsError) as caught:
        layers.connect()
    assert EVIL in str(caught.value)
    assert "whk_secret" not in str(caught.value)
    assert layers.connect("--server", EVIL)[1].server == EVIL
    layers.environ["WHOOK_SERVER"] = EVIL
    assert layers.connect()[1] == TunnelOptions(server=EVIL, token="whk_secret")


def test_a_directory_may_name_the_server_that_the_user_named(layers: Layers) -> None:
    layers.local.write_text('server = "https://hooks.example/"')
    layers.user.write_text('server = "https://hooks.example"\ntoken = "whk_secret"')
    assert layers.connect()[1].token == "whk_secret"


def test_a_directory_may_bring_its_own_token_or_get_one_as_a_flag(layers: Layers) -> None:
    layers.local.write_text(f'server = "{EVIL}"\ntoken = "whk_own"')
    assert layers.connect()[1] == TunnelOptions(server=EVIL, token="whk_own")
    layers.local.write_text(f'server = "{EVIL}"')
    assert layers.connect("--token", "whk_flag")[1] == TunnelOptions(server=EVIL, token="whk_flag")


def test_every_option_is_a_key() -> None:
    names = {
        f.name
        for group in (ForwardOptions, OutputOptions, TunnelOptions, ServerOptions)
        for f in fields(group)
    }
    assert {name.replace("_", "-") for name in names} | {"project", "drain-timeout"} == KEYS


@given(key=st.text(string.ascii_lowercase + "-_", min_size=1), content=st.binary())
def test_no_content_of_a_file_is_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, key: str, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any-{os.getpid()}.toml"
    for data in (content, key.encode() + b" = " + content, key.encode() + b' = "' + content + b'"'):
        path.write_bytes(data)
        with contextlib.suppress(CycloptsError):
            assert read_file(path).keys() <= KEYS
