"""The address of a service on the web, wherever it is given."""

from urllib.parse import urlsplit

from pocket_agent.config.form import Form, Kind, line
from pocket_agent.config.unit import RefusedError


def url() -> Form:
    """An http or https URL."""
    return Form(Kind.TEXT, "an http or https URL", parse_url)


def origin_url() -> Form:
    """An http or https URL of a host alone: a web origin (RFC 6454, section 6.2)."""

    def parse(value: object) -> str:
        parts = urlsplit(parse_url(value))
        if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
            raise RefusedError("more than a scheme, a host and a port")
        return f"{parts.scheme}://{parts.netloc}".lower()

    return Form(Kind.TEXT, "an address such as https://agent.example", parse)


def parse_url(value: object) -> str:
    """An http or https URL with a host, as it was given.

    Raises:
        RefusedError: it is not.
    """
    text = line(value)
    try:
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not text.isascii() or " " in text:
        raise RefusedError("not such a URL")
    return text
