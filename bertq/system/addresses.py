"""Addresses that programs listen on: which of them only this machine reaches."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether a host is ``localhost`` or an address of the loopback interface.

    No other name is one: what it stands for is not looked up.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
