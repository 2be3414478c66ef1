"""Validates Kubernetes objects on standard input: those of Kubernetes by its own schemas, those of KEDA by the definitions of its
release in the directory that is given. An unknown key is a mistake. Prints the kind and the name of each."""

import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml


def strict(schema):
    """The schema without room for unknown keys, which a cluster drops without a word."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def definitions(directory):
    found = {}
    for path in pathlib.Path(directory).glob("*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def main():
    known = definitions(sys.argv[1])
    for document in yaml.safe_load_all(sys.stdin):
        kind = document["apiVersion"], document["kind"]
        if kind in known:
            jsonschema.validate(document, known[kind])
        else:
            kubernetes_validate.validate(document, "1.37", strict=True)
        print(document["kind"], document["metadata"]["name"])


main()
