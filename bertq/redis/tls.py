"""TLS to Redis: the parameters of a ``rediss://`` URL, and why a server is not trusted."""

import ssl
from collections.abc import Iterator, Mapping

from bertq.errors import SettingsError

#: Parameters that redis-py, kombu and celery all understand.
PARAMETERS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile")

_CERT_REQS = ("required", "optional", "none")


def complete(parameters: Mapping[str, str], source: str) -> dict[str, str]:
    """Return the parameters of a URL, with certificates required; check the files.

    Args:
        parameters: some of ``PARAMETERS``, by name.
        source: name of the setting, for the error.

    Raises:
        SettingsError: a value is unknown, a file holds no certificate, or a key does not match its
            certificate.
    """
    # Without this parameter, kombu disables TLS and celery's backend refuses to start.
    full = {**parameters, "ssl_cert_reqs": parameters.get("ssl_cert_reqs", "required")}
    if full["ssl_cert_reqs"] not in _CERT_REQS:
        raise SettingsError(
            f"{source} has ssl_cert_reqs={full['ssl_cert_reqs']}: it is one of "
            f"{', '.join(_CERT_REQS)}"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority := full.get("ssl_ca_certs"):
        try:
            context.load_verify_locations(authority)
        except OSError as error:
            setting = f"{source} has ssl_ca_certs={authority}"
            raise _invalid_file(setting, "certificates (PEM)", error) from None
    certificate, key = full.get("ssl_certfile"), full.get("ssl_keyfile")
    if key and not certificate:
        raise SettingsError(f"{source} has ssl_keyfile and no ssl_certfile: give both")
    if certificate:
        check_own(certificate, key, f"{source} has ssl_certfile=", context)
    return full


def check_own(
    certificate: str, key: str | None, source: str, context: ssl.SSLContext | None = None
) -> None:
    """Check that a file holds a certificate, and that it or a separate file holds the key.

    Args:
        certificate, key: paths of the files.
        source: name of the setting that has the paths, for the error.
        context: loads the files.

    Raises:
        SettingsError: the files cannot be read, or do not match.
    """
    context = context or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The empty password keeps OpenSSL from asking for one at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        contents = "a certificate and its key without a password (PEM)"
        files = " and ".join(filter(None, (certificate, key)))
        raise _invalid_file(f"{source}{files}", contents, error) from None


def untrusted_reason(error: BaseException) -> str | None:
    """Return why a server's certificate was refused; None if the error has another cause.

    Args:
        error: an error of redis-py.
    """
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"shows a certificate that is not trusted ({cause.verify_message.rstrip('.')}): "
                "the URL names the authority's file with ?ssl_ca_certs=FILE, and the host as the "
                "certificate does"
            )
    return None


def is_handshake_timeout(error: BaseException) -> bool:
    """Return whether an error of redis-py says that the server did not answer in TLS."""
    return any(
        isinstance(cause, TimeoutError) and "handshake" in str(cause) for cause in causes(error)
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """Return an error of redis-py and the errors that led to it."""
    # redis-py raises its own error while it handles the socket's error.
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _invalid_file(setting: str, contents: str, error: OSError) -> SettingsError:
    # An SSLError is an OSError too, but its number means something else.
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return SettingsError(f"{setting}: it must hold {contents} ({reason or error})")
