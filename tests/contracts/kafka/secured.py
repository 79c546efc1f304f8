"""A Kafka of the tests' own that knows its clients: by passwords, or by certificates."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from tests.certificates import Certificate
from tests.contracts.private_server import free_port
from tests.services import CANNOT_RUN_HERE, PrivateServers

HOST = "127.0.0.1"
USER, STRANGER = "ann,of=us", "bob"
PASSWORD = "s3cret/w+th?m#rks[%:@&="
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOLS = {
    "tls": "SSL",  # anybody
    "login": "SASL_SSL",  # who knows a password
    "renewed": "SASL_SSL",  # who knows it still, every two seconds
    "mutual": "SSL",  # who has a certificate
    "clear": "SASL_PLAINTEXT",
    "linked": "SSL",  # behind a proxy of the test's
    "elsewhere": "SSL",  # tells clients that it is at a name that its certificate does not have
}
PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},{advertised}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{protocols}
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={client}
listener.name.mutual.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{user};User:CN=coupon
"""
LOGIN = """
listener.name.{listener}.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required \
  "user_{user}"="{password}" "user_{stranger}"="{password}";
listener.name.{listener}.scram-sha-256.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.{listener}.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
"""
MODULES = "org.apache.kafka.common.security"
RENEWED = "listener.name.renewed.{mechanism}.connections.max.reauth.ms=2000\n"


class SecuredKafka:
    def __init__(self, servers: PrivateServers, ports: dict[str, int], folder: Path) -> None:
        self.servers, self.ports = servers, ports
        self.link = ports["linked"], free_port()
        """Where it listens for those who come by the proxy, and the proxy's port."""
        self.server, self.client = Certificate(folder), Certificate(folder, "coupon")
        self.stranger = Certificate(folder, "stranger")

    @property
    def plain(self) -> str:
        """The address at which everybody is let in, for what is not tested."""
        return f"127.0.0.1:{self.servers.port('kafka')}"

    def url(
        self, listener: str, options: str = "partitions=4", user: str = USER, password: str = PASSWORD, host: str = HOST
    ) -> str:
        """With the right certificates and credentials, unless others are given."""
        is_login = PROTOCOLS[listener].startswith("SASL")
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}@" if is_login and user else ""
        tls = f"tls=true&ca={self.server.path}&" if PROTOCOLS[listener].endswith("SSL") else ""
        mutual = f"certificate={self.client.path}&key={self.client.key}&" if listener == "mutual" else ""
        return f"kafka://{credentials}{host}:{self.ports[listener]}?{tls}{mutual}{options}"

    @contextmanager
    def namespace(self) -> Iterator[str]:
        """A prefix of topics that are deleted afterwards."""
        prefix = f"test-{uuid4().hex[:8]}."
        yield prefix
        admin = KafkaAdminClient(bootstrap_servers=self.plain)
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(prefix)])
        admin.close()

    def properties(self) -> str:
        listeners = {name.upper(): f"127.0.0.1:{port}" for name, port in self.ports.items()}
        others = {"ELSEWHERE": f"localhost:{self.ports['elsewhere']}", "LINKED": f"{HOST}:{self.link[1]}"}
        advertised = listeners | others
        text = PROPERTIES.format(
            plain=self.servers.port("kafka"),
            controller=self.servers.port("kafka") + 1,
            listeners=",".join(f"{name}://{address}" for name, address in listeners.items()),
            advertised=",".join(f"{name}://{address}" for name, address in advertised.items()),
            protocols=",".join(f"{name.upper()}:{protocol}" for name, protocol in PROTOCOLS.items()),
            server=self.server.both,
            client=self.client.path,
            user=USER,
        )
        for listener in (name for name, protocol in PROTOCOLS.items() if protocol.startswith("SASL")):
            text += LOGIN.format(listener=listener, user=USER, stranger=STRANGER, password=PASSWORD, modules=MODULES)
        return text + "".join(RENEWED.format(mechanism=mechanism.lower()) for mechanism in MECHANISMS)

    def add_users(self) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.plain)
        for mechanism in MECHANISMS[1:]:  # Kafka takes one of a user at a time
            users = [UserScramCredentialUpsertion(user, mechanism, PASSWORD) for user in (USER, STRANGER)]
            failures = admin.alter_user_scram_credentials(users)
            assert {*failures.values()} == {None}, failures
        admin.close()


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    ports = {name: free_port() for name in PROTOCOLS}
    file = folder / "kafka.properties"
    servers = PrivateServers(environ={"KAFKA_PROPERTIES": str(file)})
    try:
        kafka = SecuredKafka(servers, ports, folder)
        file.write_text(kafka.properties())
        done = servers.tell("up", "kafka")
        if done.returncode == CANNOT_RUN_HERE and "CI" not in os.environ:
            pytest.skip(done.stderr)
        assert done.returncode == 0, done.stderr
        kafka.add_users()
        yield kafka
    finally:
        servers.close()
