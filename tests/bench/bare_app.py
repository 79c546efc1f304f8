"""What gunicorn serves as a yardstick: a view that does nothing."""

from flask import Flask

app = Flask("bare")


@app.route("/", methods=["GET", "POST", "PUT"])
def empty() -> dict[str, str]:
    return {"status": "accepted"}
