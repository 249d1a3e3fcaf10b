"""Addresses to listen on, and whether only this machine can reach them."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether a host is ``localhost`` or an address of the loopback interface.

    Other host names do not count: they are not resolved.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
