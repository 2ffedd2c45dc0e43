"""The table of addresses that a webhook may not reach, in every spelling."""

import socket
from ipaddress import ip_address

import pytest

from studio.jobs.webhooks.addresses import ForbiddenAddressError, Reach, is_public, resolved

CLOSED = [
    "127.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "169.254.1.1",
    "100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "192.88.99.1", "192.0.2.1", "203.0.113.5", "::1", "::", "fd00:ec2::254", "fec0::1",
    "fe80::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "::7f00:1", "2001:0:7f00:1::1",
]  # fmt: skip
OPEN = ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "2001:4860:4860::8888", "64:ff9b::808:808", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", CLOSED)
def test_what_is_not_the_public_internet_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    reach = Reach(resolve=lambda host, port: ["93.184.216.34", address])
    with pytest.raises(ForbiddenAddressError, match="public internet"):
        reach.check("https://hooks.example/x")


@pytest.mark.parametrize("address", OPEN)
def test_the_public_internet_is_reached(address: str) -> None:
    assert is_public(ip_address(address))
    Reach(resolve=lambda host, port: [address]).check("https://hooks.example/x")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/",
        "https://[::1]/", "https://[::ffff:7f00:1]/", "https://[::ffff:127.0.0.1]:8443/x", "https://169.254.169.254/",
    ],
)  # fmt: skip
def test_every_spelling_of_a_closed_address_is_seen(url: str) -> None:
    with pytest.raises(ForbiddenAddressError, match=r"public internet|leads nowhere|no address"):
        Reach(resolve=resolved).check(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hooks.example/", "https"),
        ("ftp://hooks.example/", "https"),
        ("file:///etc/passwd", "https"),
        ("hooks.example", "https"),
        ("https://", "https"),
        ("https://me:word@hooks.example/", "password"),
        ("https://hooks.example@127.0.0.1/", "password"),
        ("https://hooks.example:22/", "port 22"),
        ("https://hooks.example:99999999/", "port 99999999"),
        ("https://exa\0mple/", "no address"),
    ],
)
def test_an_address_of_the_wrong_form_is_refused(url: str, words: str) -> None:
    with pytest.raises(ForbiddenAddressError, match=words):
        Reach(resolve=lambda host, port: ["8.8.8.8"]).check(url)


def test_a_host_without_an_address_leads_nowhere() -> None:
    def none(host: str, port: int) -> list[str]:
        raise socket.gaierror("none")

    for resolve in (none, lambda host, port: []):
        with pytest.raises(ForbiddenAddressError, match="leads nowhere"):
            Reach(resolve=resolve).check("https://hooks.example/")


def test_a_developer_may_reach_this_machine_and_no_other() -> None:
    reach = Reach(loopback=True)
    reach.check("http://127.0.0.1:9000/hooks")
    for url in ("http://10.0.0.1:9000/", "https://169.254.169.254/", "http://8.8.8.8/", "https://8.8.8.8:22/"):
        with pytest.raises(ForbiddenAddressError):
            reach.check(url)
