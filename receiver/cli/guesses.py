"""What people type for a command or an option that is called otherwise, and what they are told."""

import click

COMMANDS = {
    **dict.fromkeys(("list", "ls", "ps", "jobs", "queue"), "receiver tasks"),
    **dict.fromkeys(("show", "get", "info", "describe"), "receiver task ID"),
    **dict.fromkeys(("run", "create", "order", "generate"), "receiver submit MODEL"),
    **dict.fromkeys(("start", "up", "server"), "receiver serve"),
    **dict.fromkeys(("health", "ready", "overview", "stats"), "receiver status"),
    **dict.fromkeys(("follow", "watch"), "receiver task ID --follow"),
    **dict.fromkeys(("fetch", "files", "results"), "receiver download ID"),
    **dict.fromkeys(("webhooks", "callbacks"), "receiver deliveries"),
    **dict.fromkeys(("retry", "redo", "rerun"), "receiver replay --name NAME, or receiver actions retry ID"),
    **dict.fromkeys(("balance", "credits", "money"), "receiver account"),
    **dict.fromkeys(("ack", "acknowledge"), "receiver alerts ack ID"),
    **dict.fromkeys(("init", "setup", "configure"), "receiver config example"),
    **dict.fromkeys(("completion", "completions"), "receiver docs commands, which shows how to turn completion on"),
    "logs": "receiver status for what is wrong; the log itself is what receiver serve prints",
    "log": "receiver status for what is wrong; the log itself is what receiver serve prints",
    "events": "receiver tasks, or receiver deliveries for the callbacks",
    "restart": "receiver serve; to stop it, send it SIGTERM",
    "stop": "receiver docs operating: a server is stopped by SIGTERM",
    "version": "receiver --version",
    "help": "receiver --help",
    "actions ls": "receiver actions list",
    "actions run": "receiver actions retry ID, or receiver actions test NAME",
    "alerts ls": "receiver alerts list",
    "alerts acknowledge": "receiver alerts ack ID",
    "alerts seen": "receiver alerts ack ID",
    "alerts resolve": "receiver alerts close ID",
    "alerts dismiss": "receiver alerts close ID",
    "replay ls": "receiver replay list",
    "replay start": "receiver replay --name NAME",
    "replay stop": "receiver replay cancel ID",
}
"""By what was typed after `receiver`: what it is called, or what serves."""
OPTIONS = {
    "submit --model": "the model comes first, without an option: receiver submit MODEL KEY=VALUE",
    "submit --prompt": "an input is written as KEY=VALUE: receiver submit MODEL prompt=TEXT",
    "tasks --watch": "use --follow",
    "tasks --status": "use --state",
    "replay --everything": "use --all",
}


SENTENCE = 200
"""Letters of a help's first sentence that a list of commands shows: all of them, in as many lines as it takes."""


class Guessed(click.Group):
    """A group of commands that knows what its commands are also called by those who guess."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, but with the whole first sentence of each."""
        commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(SENTENCE)) for name, command in commands])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        typed = " ".join(filter(None, (_below_root(ctx), args[0])))
        if typed in COMMANDS and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command {args[0]!r}. Use {COMMANDS[typed]}.")
        return super().resolve_command(ctx, args)


def with_guess(error: click.NoSuchOption) -> click.UsageError:
    """The error about an option that does not exist, with what serves, where that is known."""
    meant = OPTIONS.get(f"{_below_root(error.ctx) if error.ctx else ''} {error.option_name}")
    return error if meant is None else click.UsageError(f"{error.message} {meant[0].upper()}{meant[1:]}.", error.ctx)


def _below_root(ctx: click.Context) -> str:
    """The command's name as it is typed after `receiver`."""
    names: list[str] = []
    while ctx.parent is not None:
        names.insert(0, ctx.info_name or "")
        ctx = ctx.parent
    return " ".join(names)
