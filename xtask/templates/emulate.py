"""Deploys the transformed templates into moto's CloudFormation, for `cargo xtask templates`.

The request is JSON on stdin: the stacks in their order, each with its template and the values of
its parameters, where {"output": name} is an output of a stack before it. The answer is JSON on
stdout: what became of each stack, and where moto does not go as far as AWS does.
"""

import contextlib
import json
import re
import sys
import warnings
from unittest import mock

import boto3
from moto import mock_aws
from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel

REGION = "us-east-1"
ACCOUNT = "123456789012"


class StandIn(CloudFormationModel):
    """A resource of a type that moto does not know: it has an id and attributes, and does nothing."""

    # By its module moto finds the service of a model.
    __module__ = "moto.cloudformation.stand_in"


    def __init__(self, kind, name, properties):
        service = kind.split("::")[1].lower()
        self.name, self.attributes = name, {}
        self.arn = f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"
        if kind == "AWS::SecretsManager::Secret":
            self.arn = f"arn:aws:{service}:{REGION}:{ACCOUNT}:secret:{properties['Name']}-AbCdEf"
            self.name = self.arn

    @property
    def physical_resource_id(self):
        return self.name

    def get_cfn_attribute(self, name):
        return {"Arn": self.arn, **self.attributes}.get(name, f"{self.name}-{name}")

    @classmethod
    def has_cfn_attr(cls, attr):
        return True

    @staticmethod
    def cloudformation_name_type():
        return ""

    @staticmethod
    def cloudformation_type():
        return ""

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, *_, **__):
        kind, properties = cloudformation_json["Type"], cloudformation_json["Properties"]
        made = StandIn(kind, resource_name, properties)
        client = boto3.client("lambda", region_name=REGION)
        if kind == "AWS::Lambda::Version":
            version = client.publish_version(FunctionName=properties["FunctionName"])
            made.name, made.attributes = version["FunctionArn"], {"Version": version["Version"]}
        if kind == "AWS::Lambda::Alias":
            made.name = client.create_alias(**properties)["AliasArn"]
        return made


def unresolved(value, where):
    """Where moto left a reference in what it made: it fills in what it finds, and says nothing."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from unresolved(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from unresolved(inner, f"{where}[{index}]")
    elif isinstance(value, str) and "${" in value and "Shape" not in where:
        yield f"{where}: {value}"


def deploy(stack, outputs):
    client = boto3.client("cloudformation", region_name=REGION)
    template = stack["template"]
    template.pop("Transform", None)
    values = {
        name: outputs[value["output"]] if isinstance(value, dict) else value
        for name, value in stack["parameters"].items()
    }
    left, made = [], []
    parse, create = parsing.parse_resource, parsing.parse_and_create_resource
    clean = parsing.clean_json

    def clean_json(value, resources):
        cleaned = clean(value, resources)
        # What is AWS::NoValue is not in a list; moto has it there as None.
        if isinstance(cleaned, list):
            return [inner for inner in cleaned if inner is not None]
        return cleaned

    def parse_resource(resource, resources):
        parsed = parse(resource, resources)
        if parsed:
            left.extend(unresolved(parsed[1].get("Properties", {}), resource["Type"]))
        return parsed

    def create_resource(name, *given, **named):
        resource = create(name, *given, **named)
        if resource is not None:
            made.append(name)
        return resource

    with (
        mock.patch.object(parsing, "clean_json", clean_json),
        mock.patch.object(parsing, "parse_resource", parse_resource),
        mock.patch.object(parsing, "parse_and_create_resource", create_resource),
    ):
        client.create_stack(
            StackName=stack["name"],
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": n, "ParameterValue": v} for n, v in values.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
    described = client.describe_stacks(StackName=stack["name"])["Stacks"][0]
    outputs.update({o["OutputKey"]: o["OutputValue"] for o in described.get("Outputs", [])})
    return {
        "name": stack["name"],
        "status": described["StackStatus"],
        "made": made,
        "unresolved": sorted(set(left)),
        "outputs": sorted(outputs),
    }


def run(request):
    s3 = boto3.client("s3", region_name=REGION)
    s3.create_bucket(Bucket="artifacts")
    for key in request["artifacts"]:
        s3.put_object(Bucket="artifacts", Key=key, Body=b"PK\x05\x06" + bytes(18))
    layers = boto3.client("lambda", region_name=REGION)
    layer = layers.publish_layer_version(LayerName="pulse-database-ca", Content={"ZipFile": b"PK\x05\x06" + bytes(18)})
    for kind in request["unknown"]:
        if kind in parsing.get_model_map():
            raise SystemExit(f"moto knows {kind}: take it off the list")
    stood_in = request["unknown"] + request["wrong"]
    by_type = parsing.resource_class_from_type
    mock.patch.object(
        parsing, "resource_class_from_type", lambda kind: StandIn if kind in stood_in else by_type(kind)
    ).start()
    outputs = {"DatabaseCaLayerArn": layer["LayerVersionArn"]}
    return [deploy(stack, outputs) for stack in request["stacks"]]


request = json.load(sys.stdin)
warnings.simplefilter("ignore")
# moto is told not to look for Docker: no function is called.
with contextlib.redirect_stdout(sys.stderr), mock_aws(config={"lambda": {"use_docker": False}}):
    answer = run(request)
json.dump(answer, sys.stdout)
