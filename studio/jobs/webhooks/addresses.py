"""Where a webhook may lead: never into a private network, and to the address that was checked.

A name is resolved once, every address that it has is checked, and ``transport`` connects to one of these; so a name
server that answers otherwise the next time (DNS rebinding) changes nothing. Asked when a webhook is made or changed,
and again at each attempt.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx2

PORTS = frozenset({443, 8443})
"""Of addresses beyond this machine."""

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
"""Takes host and port; returns addresses as text, and raises OSError if there are none."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""Source: RFC 6052."""
_COMPATIBLE = IPv6Network("::/96")
"""IPv4 in IPv6 as RFC 4291 had it."""
_CLOSED = (
    IPv4Network("192.88.99.0/24"),  # relays of 6to4: the packet would go on to another network
    IPv4Network("192.0.0.0/24"),  # protocol assignments; a cloud keeps its metadata here
    IPv4Network("100.64.0.0/10"),  # carriers, and another cloud's metadata
    IPv6Network("64:ff9b:1::/48"),  # NAT64 into the network itself
)


class ForbiddenAddressError(Exception):
    """A webhook may not lead there; the text says why, lower case, without a full stop."""


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public internet, and what is hidden in it does, too.

    Source: the special-purpose registries of IANA through ``ipaddress``, RFC 6052, RFC 3056, RFC 4380.
    """
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address in _COMPATIBLE or address.is_site_local:
            return False
        hidden = [address.sixtofour, *(address.teredo or ())]
        if not all(is_public(inner) for inner in hidden if inner is not None):
            return False
        if address.sixtofour is not None:
            return True
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_private or address.is_link_local)
        and not any(address in network for network in _CLOSED if network.version == address.version)
    )


def resolved(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as the system knows them; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in found))


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be reached.

    Args:
        loopback: whether this machine itself may, also over plain http and on any port: for development.
        resolve: finds the addresses of a host.
    """

    loopback: bool = False
    resolve: Resolve = resolved

    def parsed(self, url: str) -> httpx2.URL:
        """Return an address that has the right form; raises ForbiddenAddressError."""
        try:
            found = httpx2.URL(url)
        except (httpx2.InvalidURL, UnicodeError):
            raise ForbiddenAddressError("is no address") from None
        if found.scheme not in ("https", "http") or not found.host:
            raise ForbiddenAddressError("is no address that begins with https://")
        if found.userinfo:
            raise ForbiddenAddressError("holds a name or a password")
        if not self.loopback:
            if found.scheme != "https":
                raise ForbiddenAddressError("does not begin with https://")
            if port_of(found) not in PORTS:
                raise ForbiddenAddressError(f"names port {port_of(found)}, and only 443 and 8443 are open")
        return found

    def addresses(self, url: httpx2.URL) -> list[str]:
        """Return the addresses behind a parsed address, every one of them checked.

        Raises:
            ForbiddenAddressError: there are none, or one of them may not be reached.
        """
        host, port = url.host, port_of(url)
        try:
            found = [ip_address(text) for text in self.resolve(host, port)]
        except (OSError, ValueError, UnicodeError):
            found = []
        if not found:
            raise ForbiddenAddressError(f"leads nowhere: {host} has no address")
        for address in found:
            local = self.loopback and address.is_loopback
            if not local and not is_public(address):
                raise ForbiddenAddressError(f"leads to {address}, which is not on the public internet")
            if not local and (url.scheme != "https" or port not in PORTS):
                raise ForbiddenAddressError("does not begin with https://, or names a port other than 443 and 8443")
        return [str(address) for address in found]

    def check(self, url: str) -> None:
        """Raise ForbiddenAddressError if a webhook may not lead there now; asks the name server."""
        self.addresses(self.parsed(url))


def port_of(url: httpx2.URL) -> int:
    """Return the port of an address, that of its scheme where it names none."""
    return url.port or (443 if url.scheme == "https" else 80)
