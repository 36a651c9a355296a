"""What SAM and AWS's published tables make of the templates, for `cargo xtask templates` and
`cargo xtask deploy`.

One request as JSON on stdin, one answer as JSON on stdout; the judgement is in Rust. Nothing here
calls AWS.
"""

import contextlib
import json
import os
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path
from unittest import mock


def transform(request):
    """Each job's template as CloudFormation would get it, with these values of its parameters."""
    from boto3.session import Session
    from samcli.yamlhelper import yaml_parse
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    @cache
    def parsed(path):
        return yaml_parse(Path(path).read_text(encoding="utf-8"))

    def one(job):
        template = deepcopy(parsed(job["template"]))
        if "Transform" not in template:
            return template
        for name, resource in template["Resources"].items():
            if resource["Type"] == "AWS::Serverless::Function":
                # As `sam package` writes it.
                resource["Properties"]["CodeUri"] = {"Bucket": "artifacts", "Key": f"{name}.zip"}
        translator = Translator(None, Parser(), boto_session=Session(region_name=job["region"]))
        return translator.translate(
            template, parameter_values=job["parameters"], get_managed_policy_map=dict
        )

    return [one(job) for job in request["jobs"]]


def settings(request):
    """The options of `sam deploy` with each section of a samconfig.toml, by SAM's own reading."""
    from samcli.cli import main
    from samcli.commands.deploy import command

    # Only what the file says counts, and not what this machine has set.
    for name in [name for name in os.environ if name.startswith(("AWS_", "SAM_"))]:
        del os.environ[name]
    for name in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"]:
        os.environ[name] = os.devnull
    os.environ.update(request["environment"], SAM_CLI_TELEMETRY="0")
    os.chdir(request["folder"])
    names = command.do_cli.__code__.co_varnames[: command.do_cli.__code__.co_argcount]

    def one(section):
        taken = {}

        def do_cli(*given, **named):
            taken.update(zip(names, given), **named)

        with (
            mock.patch.object(command, "do_cli", do_cli),
            mock.patch("samcli.lib.telemetry.metric.Telemetry"),
        ):
            main.cli.main(["deploy", "--config-env", section], "sam", standalone_mode=False)
        return taken

    return {section: one(section) for section in request["sections"]}


def written(request):
    """The parameters of a samconfig.toml's sections as a reader takes them: Name=Value up to the end.

    With `samples`, these values take the place of those with a REPLACE, and the file is written to
    `folder`.
    """
    import tomlkit

    document = tomlkit.parse(Path(request["file"]).read_text(encoding="utf-8"))
    sections = {}

    def fill(name, value):
        return request["samples"].get(name, value) if "REPLACE" in value else value

    for section, commands in document.items():
        if not isinstance(commands, dict) or "deploy" not in commands:
            continue
        held = commands["deploy"]["parameters"]
        parameters = held.get("parameter_overrides", {})
        if isinstance(parameters, dict):
            for name in list(parameters):
                parameters[name] = fill(name, str(parameters[name]))
            sections[section] = dict(parameters)
        else:
            pairs = [item.split("=", 1) for item in parameters]
            bare = [(name, value.strip('"')) for name, value in pairs]
            sections[section] = {name: fill(name, value) for name, value in bare}
            # Quoted where the file quotes.
            for index, (name, value) in enumerate(pairs):
                quote = '"' if value.startswith('"') else ""
                parameters[index] = f"{name}={quote}{sections[section][name]}{quote}"
    if "folder" in request:
        Path(request["folder"], "samconfig.toml").write_text(tomlkit.dumps(document))
    return sections


def permissions(request):
    """The shapes of the ARNs that AWS authorises each action on; "*" where it knows none."""
    from policy_sentry.querying.actions import get_action_data

    def shapes(action):
        service, name = action.split(":")
        found = get_action_data(service, name) or {}
        return [row["resource_arn_format"] for row in found.get(service, [])]

    return {action: shapes(action) for action in request["actions"]}


request = json.load(sys.stdin)
# Whatever a library prints is not the answer.
with contextlib.redirect_stdout(sys.stderr):
    answer = globals()[request["do"]](request)
json.dump(answer, sys.stdout, default=str)
