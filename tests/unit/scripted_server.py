"""A server of HTTP that answers by a script, on loopback."""

import socket
import threading
import time

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"

FIN_SENT = 4
"""TCP_FIN_WAIT1 of Linux: the client's side has not acknowledged it yet."""


class Server:
    """Says one prepared answer a request, and remembers the requests. None: it hangs up instead.

    An answer may be a list of parts; with None at its end the server hangs up after it.
    """

    def __init__(self, answers, tls=None):
        self.answers, self.requests, self.connections = list(answers), [], 0
        self.has_hung_up = threading.Event()
        """The client's side knows, too, that the server hung up after an answer."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._tls = tls
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while self.answers:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            try:
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                self._talk(connection)
            except OSError:
                pass
            finally:
                connection.close()

    def _talk(self, connection):
        while self.answers:
            request = b""
            while b"\r\n\r\n" not in request or len(request.partition(b"\r\n\r\n")[2]) < self._length(request):
                data = connection.recv(65_536)
                if not data:
                    return
                request += data
            self.requests.append(request)
            answer = self.answers.pop(0)
            if answer is None:
                return
            for part in answer if isinstance(answer, list) else [answer]:
                if part is None:
                    self._hang_up(connection)
                    return
                connection.sendall(part)
                time.sleep(0.01)

    def _hang_up(self, connection):
        connection.shutdown(socket.SHUT_WR)
        while connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == FIN_SENT:
            time.sleep(0.001)
        self.has_hung_up.set()

    @staticmethod
    def _length(request):
        headers = request.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
        return next((int(line.split(b":")[1]) for line in headers if line.startswith(b"content-length")), 0)

    def close(self):
        self.answers.clear()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
