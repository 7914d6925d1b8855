"""As much of a W&B server as W&B's client needs to be online: it keeps what it is told, and can fall silent."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer(ThreadingHTTPServer):
    """A server on a free port of this machine.

    Attributes:
        runs: run id → what its last upsert said.
        rows: run id → the rows of its history.
        artifacts: the types of the artifacts that were created.
        silent: set, it accepts requests and answers none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.artifacts: list[str] = []
        self.silent = threading.Event()
        self.released = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error here."""

    def answer(self, query: str, told: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        project = {"id": "1", "name": "latent-lab", "entity": {"id": "1", "name": "me"}}
        if "upsertBucket" in query:
            self.runs[told["name"]] = {k: v for k, v in told.items() if v is not None} | {
                k: v for k, v in self.runs.get(told["name"], {}).items() if told.get(k) is None
            }
            bucket = {"id": "1", "name": told["name"], "historyLineCount": 0, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            files = [
                {"name": name, "uploadUrl": f"{self.address}/upload"} for name in told["files"]
            ]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        if "createArtifact(" in query:
            self.artifacts.append(told["input"]["artifactTypeName"])
            artifact = {"id": "1", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
            return {"createArtifact": {"artifact": artifact}}
        if "query ArtifactType" in query:
            return {"project": {"artifact": None}}
        if "RunResumeStatus" in query:
            return {"model": project | {"bucket": None}}
        if "viewer" in query:
            teams: dict[str, list[Any]] = {"edges": []}
            return {
                "viewer": {
                    "id": "1",
                    "entity": "me",
                    "username": "me",
                    "flags": "{}",
                    "teams": teams,
                }
            }
        return {"serverInfo": {"features": []}} if "serverInfo" in query else {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_POST(self) -> None:
        content = self._content()
        if self.path == "/graphql":
            asked = json.loads(content)
            self._reply({"data": self.server.answer(asked["query"], asked.get("variables") or {})})
            return
        if self.path.endswith("/file_stream"):
            lines = (
                json.loads(content)
                .get("files", {})
                .get("wandb-history.jsonl", {})
                .get("content", [])
            )
            rows = self.server.rows.setdefault(self.path.split("/")[-2], [])
            rows += [json.loads(line) for line in lines]
        self._reply({})

    def do_PUT(self) -> None:
        self._content()
        self._reply({})

    def do_GET(self) -> None:
        self._reply({})

    def _content(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.silent.is_set():
            self.server.released.wait()
        return (
            gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content
        )

    def _reply(self, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is printed."""
