"""The `luthier` command."""

from __future__ import annotations

import asyncio
import logging
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from importlib.metadata import version as package_version
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated, Any

import openai
import typer
from luthier.gateway.v1.api_key_pb2 import ApiKey
from luthier.gateway.v1.api_key_service_pb2 import CreateApiKeyRequest
from luthier_common.errors import PlatformError
from luthier_common.identity import Role
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from luthier_standalone import commands
from luthier_standalone.chat import converse
from luthier_standalone.data_dir import DEFAULT, Connection, DataDir
from luthier_standalone.gateway import Gateway
from luthier_standalone.library import Snapshot, import_snapshot, parse_model, refresh, starter
from luthier_standalone.platform import Platform
from luthier_standalone.rebuild import rebuild_records

app = typer.Typer(
    help="Private fine-tuning on this machine.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip
models_app = typer.Typer(help="Base models and tuned models.", no_args_is_help=True)
keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
records_app = typer.Typer(help="The records behind everything.", no_args_is_help=True)
commands_app = typer.Typer(help="Commands that were refused.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(keys_app, name="keys")
app.add_typer(records_app, name="records")
app.add_typer(commands_app, name="commands")

DataDirOption = Annotated[
    Path,
    typer.Option("--data-dir", envvar="LUTHIER_DATA_DIR", help="Everything the platform keeps."),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--model", help="PATH[=ID] of a model to import; default: the starter model."),
]
NatsUrlOption = Annotated[
    str | None,
    typer.Option(
        envvar="LUTHIER_NATS_URL",
        help="NATS server with the trainer's access; default: the running platform's.",
    ),
]
LettersOfOption = Annotated[str, typer.Option("--project", help="Of this project only.")]

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


@contextmanager
def _told() -> Iterator[None]:
    """Turn failures into one sentence on stderr and exit status 1."""
    try:
        yield
    except PlatformError as error:
        message = error.message
    except openai.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        message = str(body.get("message", error.message))
    except openai.APIError as error:
        message = error.message
    except OSError as error:
        message = str(error)
    else:
        return
    _err.print("[red]error:[/red] ", end="")
    _err.print(message, markup=False, soft_wrap=True)
    raise typer.Exit(1)


@contextmanager
def _scratch(prefix: str) -> Iterator[Path]:
    """A new folder, removed in the end; when something fails it is kept for a look."""
    folder = Path(mkdtemp(prefix=prefix))
    try:
        yield folder
    except Exception:
        _err.print(f"kept for a look: {folder}", soft_wrap=True)
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _until_signalled(main: Coroutine[Any, Any, None]) -> bool:
    """Run `main`; SIGINT and SIGTERM cancel it so that it cleans up. Whether one came.

    A second signal ends this process at once, and its children with it.
    """
    signalled = False

    async def run() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main)

        def cancel() -> None:
            nonlocal signalled
            signalled = True
            task.cancel()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, cancel)
        try:
            await task
        except asyncio.CancelledError:
            if not signalled:
                raise

    asyncio.run(run())
    return signalled


def _snapshots(models: list[str] | None) -> list[Snapshot]:
    return [parse_model(text) for text in models] if models else [starter()]


@app.command()
def up(
    data_dir: DataDirOption = DEFAULT,
    rest_port: Annotated[int, typer.Option(help="Port of the REST API; 0: any.")] = 8080,
    grpc_port: Annotated[int, typer.Option(help="Port of the gRPC API; 0: any.")] = 8081,
    model: ModelOption = None,
) -> None:
    """Start the platform and keep it running until Ctrl-C."""
    logging.basicConfig(
        level="WARNING", format="%(message)s", handlers=[RichHandler(console=_err, show_path=False)]
    )

    async def main() -> None:
        data = DataDir(data_dir)
        platform = Platform(
            data, rest_port=rest_port, grpc_port=grpc_port, models=_snapshots(model)
        )
        _out.print(f"starting the platform in {data.root} …")
        try:
            async with platform as connection:
                _welcome(connection, data_dir)
                await asyncio.Event().wait()
        finally:
            _out.print("stopped")

    with _told():
        _until_signalled(main())


def _welcome(connection: Connection, data_dir: Path) -> None:
    model = connection.models[0] if connection.models else "MODEL"
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    call = (
        f'client.chat.completions.create(model="{model}", '
        'messages=[{"role": "user", "content": "Hello!"}])'
    )
    client = f'OpenAI(base_url="{connection.rest}", api_key="{connection.api_key}")'
    lines = (
        "[bold green]the platform is up[/bold green] (Ctrl-C stops it)",
        f"  REST     {connection.rest}",
        f"  gRPC     {connection.grpc}",
        f"  API key  {connection.api_key}",
        "",
    )
    for line in lines:
        _out.print(line, soft_wrap=True)
    where = "" if data_dir == DEFAULT else f" --data-dir {shlex.quote(str(data_dir))}"
    pastes = (
        f"curl {connection.rest}/chat/completions "
        f'-H "Authorization: Bearer {connection.api_key}" '
        f"-H 'Content-Type: application/json' -d '{body}'",
        f"python -c 'from openai import OpenAI; client = {client}; print({call})'",
        f'luthier chat{where} --model {model} "Hello!"',
    )
    for paste in pastes:
        _out.print(paste, markup=False, soft_wrap=True)


@app.command()
def chat(
    prompt: Annotated[
        str | None, typer.Argument(help="One question; none: a conversation.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A base or tuned model's name.")] = None,
    data_dir: DataDirOption = DEFAULT,
) -> None:
    """Talk to a model of the running platform."""
    with _told():
        converse(DataDir(data_dir).connection(), model, prompt, _out)


@models_app.command("list")
def list_models(data_dir: DataDirOption = DEFAULT) -> None:
    """List what `model` may be in a request."""
    with _told():
        connection = DataDir(data_dir).connection()
        table = Table("model", "owner")
        client = openai.OpenAI(base_url=connection.rest, api_key=connection.api_key)
        for entry in client.models.list():
            table.add_row(entry.id, entry.owned_by)
        _out.print(table)


@models_app.command("import")
def import_model(
    path: Annotated[Path, typer.Argument(help="Folder of a Hugging Face model.")],
    model_id: Annotated[str, typer.Option("--id", help="Its name in requests.")],
    data_dir: DataDirOption = DEFAULT,
) -> None:
    """Import a base model into the library of the running platform."""

    async def main() -> None:
        data = DataDir(data_dir)
        connection = data.connection()
        async with Gateway(connection) as gateway:
            model = await import_snapshot(gateway, data, Snapshot(path, model_id))
            await refresh(gateway, data, connection)
        _out.print(f"{model_id}: {model.architecture}, {model.parameter_count:,} parameters")
        _out.print(f"digest {model.digest}", soft_wrap=True)

    with _told():
        asyncio.run(main())


_ROLES = [role.name.lower() for role in Role if role is not Role.SERVICE]


@keys_app.command("create")
def create_key(
    project: Annotated[str, typer.Option(help="The project that the key opens.")],
    role: Annotated[str, typer.Option(help=f"One of {', '.join(_ROLES)}.")] = "tuner",
    data_dir: DataDirOption = DEFAULT,
) -> None:
    """Make an API key and show it, once."""
    if role not in _ROLES:
        raise typer.BadParameter(f"must be one of {', '.join(_ROLES)}", param_hint="--role")

    async def main() -> None:
        async with Gateway(DataDir(data_dir).connection()) as gateway:
            key = ApiKey(role=f"ROLE_{role.upper()}")
            request = CreateApiKeyRequest(parent=f"projects/{project}", api_key=key)
            made = await gateway.api_keys.CreateApiKey(request)
        _out.print(made.secret, markup=False, soft_wrap=True)

    with _told():
        asyncio.run(main())


@records_app.command("rebuild")
def rebuild(data_dir: DataDirOption = DEFAULT) -> None:
    """Make the records again from their journals; the platform must be stopped."""

    async def main() -> None:
        for owner, count in (await rebuild_records(DataDir(data_dir))).items():
            _out.print(f"{owner}: {count} records")

    with _told():
        asyncio.run(main())


@commands_app.command("list")
def list_commands(
    project: LettersOfOption = "",
    data_dir: DataDirOption = DEFAULT,
    nats_url: NatsUrlOption = None,
) -> None:
    """List the refused commands and why they were refused."""

    async def main() -> None:
        url = nats_url or DataDir(data_dir).connection().nats
        async with commands.open_dead_letters(url) as letters:
            _out.print(await commands.table(letters, project))

    with _told():
        asyncio.run(main())


@commands_app.command("replay")
def replay_commands(
    project: LettersOfOption = "",
    sequence: Annotated[int | None, typer.Option(min=1, help="This one only.")] = None,
    data_dir: DataDirOption = DEFAULT,
    nats_url: NatsUrlOption = None,
) -> None:
    """Publish refused commands again, once the cause is mended."""

    async def main() -> None:
        url, count = nats_url or DataDir(data_dir).connection().nats, 0
        async with commands.open_dead_letters(url) as letters:
            async for replayed in commands.replay(letters, project, sequence):
                count += 1
                _out.print(f"replayed {replayed}")
        _out.print(f"replayed in all: {count}")

    with _told():
        asyncio.run(main())


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("demo-report"),
    must_reach: Annotated[
        bool, typer.Option("--assert", help="Fail unless the figures keep their bounds.")
    ] = False,
) -> None:
    """Run the whole job, documents to answers, on a fresh platform; then stop it."""
    # Only here: matplotlib and its friends would slow every other command down.
    from luthier_standalone.demo.flow import goal_table, run_demo  # noqa: PLC0415

    passed = False

    async def main() -> None:
        nonlocal passed
        started = time.monotonic()
        with _scratch("luthier-demo-") as folder:
            _out.print("[bold]1. Start the whole platform on this machine[/bold]")
            platform = Platform(DataDir(folder), rest_port=0, grpc_port=0, models=[starter()])
            async with platform as connection:
                setup = time.monotonic() - started
                report = await run_demo(connection, out, _out, setup_seconds=setup)
        passed = not must_reach or all(goal.met for goal in report.asserted())
        if must_reach:
            _out.print(goal_table("asserted", report.asserted()))

    with _told():
        signalled = _until_signalled(main())
    if signalled or not passed:
        raise typer.Exit(130 if signalled else 1)


@app.command()
def version() -> None:
    """Show the version."""
    _out.print(f"luthier {package_version('luthier')}, Python {sys.version.split()[0]}")
