"""The command line.  One file a command; `options.py` has what several take, `terminal.py` what they print with.

PyTorch takes a second to import and `--help` should not wait for it: commands import what they need when they run.
"""

from __future__ import annotations

import contextlib
from typing import NoReturn

import click

from bnncc._version import __version__
from bnncc.cli.baseline import baseline_command
from bnncc.cli.bench import bench_command
from bnncc.cli.bundle import bundle_command
from bnncc.cli.check import check_command
from bnncc.cli.compile import compile_command
from bnncc.cli.crash import machine_refuses, report_crash
from bnncc.cli.deploy import deploy_command
from bnncc.cli.doctor import doctor_command
from bnncc.cli.inspect import inspect_command
from bnncc.cli.reporting import Reporter, asks_for_json, reporter
from bnncc.cli.run import run_command
from bnncc.cli.targets import targets_command
from bnncc.cli.terminal import (
    INTERRUPTED,
    READER_LEFT,
    reader_left,
    say_every_name,
    tell_error,
    terminated_as_by_ctrl_c,
)
from bnncc.cli.verify import verify_command
from bnncc.errors import BnnccError


class _Group(click.Group):
    """Prints a BnnccError without a traceback and exits with its code; with 130 behind Ctrl-C, 3 behind a bug.

    With --json the error is a JSON document on standard output too.
    """

    _command_line: tuple[list[str], click.Command | None] = ([], None)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        self._command_line = [*rest], command  # a copy: reading them takes them out of the list
        return name, command, rest

    def invoke(self, ctx: click.Context) -> object:
        say_every_name()
        self._command_line = [], None
        own = reporter()
        try:
            with terminated_as_by_ctrl_c():
                result = super().invoke(ctx)
                own.finish()
                return result
        except BnnccError as error:
            tell_error(str(error))
            self._fail(own, str(error), error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            self._fail(own, "interrupted", INTERRUPTED)
        except click.ClickException as error:
            if asks_for_json(*self._command_line):
                own.keep_output_for_json()
            own.finish(error.format_message(), error.exit_code)
            raise
        except click.exceptions.Exit as end:
            own.finish("interrupted" if end.exit_code == INTERRUPTED else None, end.exit_code)
            raise
        except click.Abort:
            raise
        except Exception as error:
            if isinstance(error, BrokenPipeError) and reader_left():
                ctx.exit(READER_LEFT)
            refusal = machine_refuses(error)
            if refusal is None:
                code = report_crash(error)
                self._fail(own, f"a bug in bnncc: {type(error).__name__}: {error}", code)
            tell_error(refusal)
            self._fail(own, refusal, BnnccError.exit_code)

    def _fail(self, own: Reporter, message: str, exit_code: int) -> NoReturn:
        """End the command.  That nobody reads the document changes nothing."""
        with contextlib.suppress(OSError):
            own.finish(message, exit_code)
        raise click.exceptions.Exit(exit_code)


EXIT_CODES = """\b
Exit codes:
  0    done
  1    the file disagrees with the network, or with a bar that was given
  2    something is wrong with the input: the message says what, where, and
       what to do
  3    a bug in bnncc: one line, and the traceback in a file
  130  interrupted
  141  who read the output left, as head does
"""


@click.group(cls=_Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bnncc")
def main() -> None:
    """Compile PyTorch binary neural networks to TensorFlow Lite files that run on Larq Compute Engine."""


for command in (
    compile_command,
    check_command,
    verify_command,
    baseline_command,
    run_command,
    bench_command,
    bundle_command,
    deploy_command,
    inspect_command,
    targets_command,
    doctor_command,
):
    main.add_command(command)
