"""``headrace completion``: what a shell needs to complete commands, options, pipelines, roles and models."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from headrace.streams.commands.options import Headrace
from headrace.streams.errors import UsageError

__all__ = ["SHELLS", "completion"]

SHELLS = ("bash", "zsh", "fish")
_COLONS = "COMP_WORDBREAKS=${COMP_WORDBREAKS//:}  # a pipeline is one word: path.py:object\n"


@click.command(cls=Headrace)
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL: bash, zsh or fish.

    In ~/.bashrc: eval "$(headrace completion bash)"; in ~/.zshrc the same with zsh; for fish: headrace completion fish
    > ~/.config/fish/completions/headrace.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"{shell} cannot be completed here.")
    script = found(ctx.find_root().command, {}, "headrace", "_HEADRACE_COMPLETE").source()
    click.echo((_COLONS if shell == "bash" else "") + script)
