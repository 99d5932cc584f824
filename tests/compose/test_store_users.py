"""What each service of docker-compose.yaml, and those who deliver, may do in the object store."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from support.compose_stack import BUCKET, Compose

STORE_REQUESTS = """
import json, os, sys
import botocore.exceptions
from nightshift.io.object_store import s3_client

bucket, another = sys.argv[1:]
client = s3_client(os.environ["AWS_ENDPOINT_URL"], os.environ["AWS_DEFAULT_REGION"], retries={"max_attempts": 1})
requests = {
    "list": lambda: client.list_objects_v2(Bucket=bucket),
    "list another bucket": lambda: client.list_objects_v2(Bucket=another),
    "read another bucket": lambda: client.get_object(Bucket=another, Key="object"),
    "write another bucket": lambda: client.put_object(Bucket=another, Key="object", Body=b"changed"),
    "create a bucket": lambda: client.create_bucket(Bucket=f"{another}-2"),
    "delete the bucket": lambda: client.delete_bucket(Bucket=bucket),
    "open the bucket": lambda: client.put_bucket_policy(Bucket=bucket, Policy="{}"),
}
for folder in ("probe", "mlflow", "landing"):
    key = {"Bucket": bucket, "Key": f"{folder}/object"}
    requests |= {
        f"list {folder}/": lambda folder=folder: client.list_objects_v2(Bucket=bucket, Prefix=f"{folder}/"),
        f"read {folder}/": lambda key=key: client.get_object(**key),
        f"write {folder}/": lambda key=key: client.put_object(**key, Body=b"changed"),
        f"delete {folder}/": lambda key=key: client.delete_object(**key),
    }
answers = {}
for name, send in requests.items():
    try:
        send()
        answers[name] = "done"
    except botocore.exceptions.ClientError as error:
        answers[name] = error.response["Error"]["Code"]
print(json.dumps(answers))
"""
"""Requests with the key in the environment, and what came of each."""

DO_ALL, DO_READ = ("list", "read", "write", "delete"), ("list", "read")
MAY = {
    "worker": {"list", *(f"{verb} {folder}/" for verb in DO_ALL for folder in ("probe", "mlflow", "landing"))},
    "api-server": {"list", *(f"{verb} {folder}/" for verb in DO_READ for folder in ("probe", "mlflow", "landing"))},
    "mlflow": {f"{verb} mlflow/" for verb in DO_ALL},
    "landing": {f"{verb} landing/" for verb in DO_ALL},
}
"""What is done with the key of a service, or of those who deliver; all else is denied."""


@pytest.mark.parametrize("who", MAY)
def test_keys_of_the_store_do_what_their_service_needs(compose: Compose, who: str) -> None:
    root = compose.store("nightshift", compose.variables["MINIO_PASSWORD"])
    another = f"another-{who}"
    root.create_bucket(Bucket=another)
    objects = [(another, "object"), *((BUCKET, f"{folder}/object") for folder in ("probe", "mlflow", "landing"))]
    for bucket, key in objects:
        root.put_object(Bucket=bucket, Key=key, Body=b"before")
    try:
        answers = _store_answers(compose, who, another)
        assert {name for name, answer in answers.items() if answer == "done"} == MAY[who]
        assert {answer for answer in answers.values() if answer != "done"} == {"AccessDenied"}
        assert root.get_object(Bucket=another, Key="object")["Body"].read() == b"before"
    finally:
        for bucket, key in objects:
            root.delete_object(Bucket=bucket, Key=key)
        root.delete_bucket(Bucket=another)


def _store_answers(compose: Compose, who: str, another: str) -> dict[str, str]:
    script = ("python", "-c", STORE_REQUESTS, BUCKET, another)
    if who != "landing":
        answer = compose("exec", "--no-TTY", who, *script)
    else:
        environment = os.environ | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{compose.variables['NIGHTSHIFT_S3_PORT']}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": who,
            "AWS_SECRET_ACCESS_KEY": compose.variables[f"MINIO_{who.upper()}_PASSWORD"],
        }
        command = [sys.executable, *script[1:]]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    answers: dict[str, str] = json.loads(answer.splitlines()[-1])
    return answers


@pytest.mark.parametrize(
    ("user", "secret"), [("nightshift", "MINIO_PASSWORD"), ("pipeline", "MINIO_PIPELINE_PASSWORD")]
)
def test_users_of_the_store_are_listed_by_its_root_only(compose: Compose, user: str, secret: str) -> None:
    alias = f"MC_HOST_tried=http://{user}:{compose.variables[secret]}@localhost:9000"
    command = ("exec", "--no-TTY", "--env", alias, "minio", "mc", "admin", "user", "list", "tried")
    if user == "nightshift":
        users = compose(*command)
        assert all(name in users for name in ("pipeline", "pages", "mlflow", "landing"))
    else:
        with pytest.raises(AssertionError, match=r"(?i)access ?denied"):
            compose(*command)
