"""Page servers for tests: Godwit's and CRIU's, with certificates, in directories that the caller removes."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

START_WITHIN = 10
END_WITHIN = 30


class Certificates:
    """An authority and one node below it, for 127.0.0.1 and whatever else is named."""

    def __init__(self, directory: Path, names: str = "IP:127.0.0.1"):
        self.ca, self.certificate, self.key = (directory / name for name in ("ca.crt", "node.crt", "node.key"))
        if not self.ca.exists():
            self.issue(directory, names)

    def issue(self, directory: Path, names: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)

        def openssl(*words: str) -> None:
            subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
        openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", *curve[:-2], "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=127.0.0.1")
        (directory / "names").write_text(f"subjectAltName={names}\n")
        openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "names", "-out", "node.crt")

    def revoked(self, directory: Path, itself: bool) -> list[str]:
        """Options for a list of what the authority has revoked: the node's own certificate, or nothing."""
        directory.mkdir()
        home = self.ca.parent
        serial = subprocess.run(["openssl", "x509", "-in", self.certificate, "-noout", "-serial"], check=True,
                                capture_output=True, text=True).stdout.strip().partition("=")[2]
        (directory / "index").write_text(f"R\t491231000000Z\t250101000000Z\t{serial}\tunknown\t/CN=x\n" if itself else "")
        (directory / "config").write_text(f"[ca]\ndefault_ca=a\n[a]\ndatabase={directory}/index\ndefault_md=sha256\n"
                                          "default_crl_days=1\n")
        subprocess.run(["openssl", "ca", "-gencrl", "-config", directory / "config", "-keyfile", home / "ca.key", "-cert",
                        self.ca, "-out", directory / "list.pem"], check=True, capture_output=True)
        return ["--tls-cacrl", str(directory / "list.pem")]

    def options(self) -> list[str]:
        return ["--tls", "--tls-cacert", str(self.ca), "--tls-cert", str(self.certificate), "--tls-key", str(self.key)]


@dataclass
class PageServer:
    """One `page-server` process, godwit's or CRIU's: `program` is what stands in front of `page-server`."""

    program: list[str]
    directory: Path
    options: list[str] = field(default_factory=list)
    address: str = "127.0.0.1"
    port: int = 0

    def __enter__(self) -> "PageServer":
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = self.directory.parent / f"{self.directory.name}.page-server.log"
        ours, theirs = os.pipe()
        # CRIU says which port it took only to those who ask by RPC: take one that was free a moment ago.
        self.port = self.port or free_port()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "page-server", "-D", str(self.directory), "--address", self.address, "--port",
                 str(self.port), "--status-fd", str(theirs), *self.options],
                pass_fds=[theirs], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(theirs)
        ready = os.read(ours, 1)
        os.close(ours)
        if ready != b"\0":
            raise AssertionError(f"the page server did not start: {self.said()}")
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def wait(self) -> int:
        return self.process.wait(END_WITHIN)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def client_options(self) -> list[str]:
        return ["--page-server", "--address", self.address, "--port", str(self.port)]


def free_port() -> int:
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
