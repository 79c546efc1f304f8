"""Certificates that a test makes: each is its own authority."""

import ssl
import subprocess
from pathlib import Path

SERVER = "127.0.0.1"


class Certificate:
    """Of a server at 127.0.0.1, or of a client with that name."""

    def __init__(self, folder: Path, name: str = SERVER) -> None:
        prefix = "" if name == SERVER else f"{name}-"
        self.key, self.path = folder / f"{prefix}key.pem", folder / f"{prefix}certificate.pem"
        subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={'IP' if name[0].isdigit() else 'DNS'}:{name}"]
        files = ["-keyout", str(self.key), "-out", str(self.path)]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *subject]
        subprocess.run(command, check=True, capture_output=True)

    @property
    def both(self) -> Path:
        """A file with key and certificate."""
        path = self.path.with_suffix(".both.pem")
        path.write_bytes(self.key.read_bytes() + self.path.read_bytes())
        return path

    def of_a_server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context
