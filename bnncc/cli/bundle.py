"""`bnncc bundle`."""

from __future__ import annotations

from pathlib import Path

import click

from bnncc.cli.options import FILE
from bnncc.cli.progress import working
from bnncc.cli.reporting import quiet_option
from bnncc.cli.terminal import say, warn
from bnncc.errors import InputError


@click.command("bundle")
@click.argument("path", metavar="FILE.tflite", type=FILE)
@click.option("--target", "name", help="The device; that of the file without it.  `bnncc targets` lists them.")
@click.option("-o", "--output", type=FILE, required=True, metavar="DIR", help="The folder to write.")
@click.option("--data", help="Images for the device's check, as `bnncc check` takes them; random ones without.")
@click.option(
    "--compiler",
    type=click.Choice(["zig", "debian", "ndk"]),
    default="zig",
    show_default=True,
    help="pip's ziglang, Debian's cross compilers (Raspberry Pi), or the NDK of ANDROID_NDK_HOME (Android).",
)
@click.option("--force", is_flag=True, help="Replace an older bundle.")
@quiet_option
def bundle_command(
    path: Path,
    name: str | None,
    output: Path,
    data: str | None,
    compiler: str,
    force: bool,
) -> None:
    """Write a folder with all that a device needs to run FILE.tflite.

    The model, the delegate compiled for the device, a program that runs them, labels and preprocessing, a README.  For
    Android the program is one for `adb shell` that needs nothing else, and a Kotlin class adds the delegate to an app's
    Interpreter.
    """
    from bnncc.bundle import write_bundle
    from bnncc.data.preprocessing import takes_pictures
    from bnncc.inference import Model
    from bnncc.targets import find_target

    model = Model.read(path)
    if name is None and model.target is None:
        raise InputError(f"{path} does not say for which device it was compiled: give --target")
    if (
        model.inputs[0].is_float
        and takes_pictures([spec.shape for spec in model.inputs])
        and not model.preprocessing.says_pixels
    ):
        warn(
            f"{path} does not say what pixels become, so the bundle takes no pictures, only arrays of floats: compile "
            "the network with --mean and --std, or with --pixels"
        )
    target = find_target(name or model.target or "")
    with working("compiling the delegate"):  # some seconds
        write_bundle(model, target, output, compiler=compiler, data=data, force=force)
    say(f"wrote {output} for {target.title}; its README.md says how to run it")
