"""Sockets and files of TLS, whatever goes wrong with them."""

import os
import socket
import ssl
import struct

import pytest

from backends.deadline_socket import PromptTlsSocket
from backends.tls import TlsSocket, trust
from coupon.domain.errors import ConfigurationError
from tests.certificates import Certificate

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER with which a close is a reset."""


@pytest.mark.parametrize("kind", [TlsSocket, PromptTlsSocket])
def test_a_connection_that_was_reset_before_tls_began_is_closed(kind: type[ssl.SSLSocket]) -> None:
    context = trust(tls=True)
    assert context is not None
    context.sslsocket_class = kind
    with socket.create_server(("127.0.0.1", 0)) as listener:
        before = len(os.listdir("/proc/self/fd"))
        connection = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        theirs.close()
        with pytest.raises(ConnectionError) as raised:
            context.wrap_socket(connection, server_hostname="127.0.0.1", do_handshake_on_connect=False)
        assert len(os.listdir("/proc/self/fd")) == before
        assert raised.traceback  # which holds the socket


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path) -> None:
    certificate = Certificate(tmp_path)
    secret = tmp_path / "secret.pem"
    command = f"openssl pkcs8 -topk8 -v2 aes256 -passout pass:S3cret -in {certificate.key} -out {secret}"
    assert os.system(command) == 0
    with pytest.raises(ConfigurationError, match=f"with key='{secret}' cannot be used"):
        trust(tls=True, certificate=str(certificate.path), key=str(secret))
    assert trust(tls=True, certificate=str(certificate.path), key=str(certificate.key)) is not None
