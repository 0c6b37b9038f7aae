"""`config check` and `config show`."""

from tests.cli.conftest import Program


def test_check_says_which_file_was_read(program: Program) -> None:
    told = program("config", "check")
    assert (told.status, told.out.splitlines()) == (
        0,
        ["the settings are good; there is no file, so defaults apply"],
    )
    (program.folder / "config").mkdir()
    (program.folder / "config/ordergate.yaml").write_text("reconcile:\n  settle_after_s: 7\n")
    assert program("config", "check", "--json").value == {"file": "config/ordergate.yaml"}
    assert program("config", "check").out.splitlines() == ["the settings are good; config/ordergate.yaml was read"]


def test_show_names_every_source_and_hides_secrets(program: Program) -> None:
    environ = {"ORDERGATE_ADMIN_API__TOKEN": "canary-8f3b6c1d2e4a5907", "ORDERGATE_LOG__LEVEL": "debug"}
    shown = program("config", "show", "--json", **environ)
    settings = {one["setting"]: one for one in shown.value}
    assert settings["admin_api.token"] == {
        "setting": "admin_api.token",
        "value": "***",
        "source": "$ORDERGATE_ADMIN_API__TOKEN",
    }
    assert settings["log.level"]["value"] == "debug"
    assert settings["tenant_api.max_body_bytes"] == {
        "setting": "tenant_api.max_body_bytes",
        "value": 262_144,
        "source": "default",
    }
    table = program("config", "show", **environ).out
    assert "canary" not in shown.out + table
    assert ["log.level", "debug", "$ORDERGATE_LOG__LEVEL"] in [line.split() for line in table.splitlines()]
    assert not (program.folder / "var").exists()
