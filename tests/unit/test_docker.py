"""What the Dockerfile copies is let through by .dockerignore. (There is no Docker engine where tests run.)"""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_dockerfile_copies_what_dockerignore_lets_through() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    names = {name for sources in copied for name in sources} - {"."}
    let_through = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert names - let_through == set()
    assert all((ROOT / name).exists() for name in names)
