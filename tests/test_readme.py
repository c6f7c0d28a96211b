"""README is true: every setting with its default, every command, every path, and a configuration that loads."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from receiver.actions.names import PLACES
from receiver.cli import main
from receiver.records import ActionKind, Definition
from receiver.settings import FIELDS, Field, load_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def row(field: Field) -> str:
    """A setting's line of the table."""
    default = field.default
    if default is None:
        default = "none"
    elif default == []:
        default = "made"
    elif isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, float):
        default = int(default)
    variables = ", else ".join(f"`{name}`" for name in field.variables)
    return f"| `{field.key}` | {variables} | {default} | {field.help} |"


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.key)
def test_every_setting_stands_in_the_table_with_its_variable_default_and_purpose(field: Field) -> None:
    assert row(field) in README.splitlines(), f"README should have the line\n{row(field)}"


def test_every_command_is_listed_and_has_help() -> None:
    assert isinstance(main, click.Group)
    listed = set(re.findall(r"^\| .*", README, re.MULTILINE))
    for name, command in main.commands.items():
        assert any(f"`receiver {name}`" in line for line in listed), f"README does not list `receiver {name}`"
        assert command.help, f"{name} has no help"
    named = set(re.findall(r"`receiver ([a-z-]+)`", README))
    assert named <= set(main.commands)


def test_the_configuration_it_shows_loads(tmp_path: Path) -> None:
    block = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    (tmp_path / "receiver.toml").write_text(block.group(1))
    settings = load_settings({}, tmp_path)
    assert [each.kind.value for each in settings.definitions] == ["download", "http", "command", "python"]


@pytest.mark.slow
def test_the_python_action_it_shows_does_what_its_tests_say(tmp_path: Path) -> None:
    blocks = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", README, re.DOTALL))
    assert list(blocks) == ["shop/hooks.py", "test_hooks.py"]
    for name, code in blocks.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    settings = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert settings is not None
    (tmp_path / "receiver.toml").write_text(settings[1])
    python = [sys.executable, "-m"]
    words = [*python, "pytest", "-q", "-W", "error", "-p", "no:asyncio", "--basetemp", str(tmp_path / "temporary")]
    tested = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert "\n4 passed" in tested.stdout, tested.stdout + tested.stderr
    kinds = [*python, "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "."]
    checked = subprocess.run(kinds, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_every_file_and_folder_it_names_is_there() -> None:
    layout = README[README.index("## How the code is laid out") :]
    for name in re.findall(r"[\w./-]+(?:\.py|/)(?=[\s`.,;)]|$)", layout):
        found = [ROOT / name, ROOT / "receiver" / name, ROOT / "receiver" / "store" / name]
        assert any(path.exists() for path in found), f"README names {name}"
    for name in re.findall(r"scripts/\w+", README):
        assert (ROOT / name).exists(), f"README names {name}"


def test_the_procfile_is_one_line_that_readme_quotes() -> None:
    line = (ROOT / "Procfile").read_text()
    assert line == "web: receiver serve\n"
    assert f"`{line.strip()}`" in README


def test_every_place_of_a_file_s_path_is_explained_with_its_defaults() -> None:
    section = README[README.index("### Saved files") : README.index("## Deploy it")]
    table = "".join(line.rpartition("|")[0].rpartition("|")[0] for line in section.splitlines() if line[:1] == "|")
    assert set(re.findall(r"\{([\w.]+)\}", table)) == set(PLACES)
    defaults = Definition(name="keep", kind=ActionKind.DOWNLOAD, timeout=1)
    assert f"default `{defaults.files}`" in section
    assert f"`max_size` (bytes, {defaults.max_size})" in section
