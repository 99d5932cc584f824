"""MLflow with a proxy before it, for nights that train, and what they leave there."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from chaos import http_proxy
from chaos.outcome import Left
from chaos.proxy import Proxy
from nightshift.io.tracking import HASH_TAG, MODEL_FOLDER
from nightshift.local import processes
from nightshift.local.layout import service_environment
from nightshift.local.processes import ProcessRecord
from nightshift.local.services import mlflow_command

if TYPE_CHECKING:
    from mlflow import MlflowClient


START_SECONDS = 180.0
"""Longer than on an idle machine: steps and other servers take most of it."""


class MlflowServer:
    """A server on a free port, with its database at `database_url` and its artifacts below `folder`."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._folder, self._database_url = folder, database_url
        (self._port,) = processes.free_ports(1)
        self._process = self._start()
        self.proxy = Proxy(
            lambda: socket.create_connection(("127.0.0.1", self._port)), partial(http_proxy.serve, service="mlflow")
        )

    def _start(self) -> ProcessRecord:
        log = self._folder / "mlflow.log"
        record = processes.spawn(
            mlflow_command(self._port, self._database_url, self._folder / "artifacts"),
            log=log,
            env=service_environment({}),
            cwd=self._folder,
        )
        health = f"http://127.0.0.1:{self._port}/health"
        processes.wait_until(
            lambda: processes.http_get(health) is not None, record=record, name="MLflow", log=log, timeout=START_SECONDS
        )
        return record

    def crash(self) -> None:
        """SIGKILL."""
        server = psutil.Process(self._process.pid)
        family = [server, *server.children(recursive=True)]
        for one in family:
            one.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=30)

    def restart(self) -> None:
        self._process = self._start()

    def close(self) -> None:
        self.proxy.close()
        processes.stop(self._process)

    def left(self) -> Left:
        """Runs, versions and aliases that are there, without MLflow's ids and the clock."""
        from mlflow import MlflowClient

        uri = f"http://127.0.0.1:{self._port}"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiments = [one.experiment_id for one in client.search_experiments()]
        runs = {run.info.run_id: run for run in client.search_runs(experiments)}
        versions = client.search_model_versions()
        hashes = {str(version.version): version.tags[HASH_TAG] for version in versions}
        return {
            "mlflow runs": _lines(
                {
                    "status": run.info.status,
                    "tags": _own(run.data.tags),
                    "parameters": run.data.params,
                    "metrics": run.data.metrics,
                    "files": sorted(_files(client, run_id)),
                }
                for run_id, run in runs.items()
            ),
            "mlflow versions": _lines(
                {"tags": _own(version.tags), "run": runs[version.run_id].data.tags[HASH_TAG]} for version in versions
            ),
            "mlflow aliases": _lines(
                {alias: hashes[str(number)] for alias, number in model.aliases.items()}
                for model in client.search_registered_models()
            ),
        }


def _own(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name.startswith("nightshift.")}


def _files(client: MlflowClient, run_id: str) -> Iterator[str]:
    for folder in ("", MODEL_FOLDER):
        yield from (one.path for one in client.list_artifacts(run_id, folder) if not one.is_dir)


def _lines(found: Iterator[Mapping[str, object]]) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True) for one in found)
