"""What the server calls on a caller's word, and what it does not."""

import asyncio
import ipaddress
from typing import Any

import pytest

from app.addresses import Forbidden, check_url, is_public, resolved


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/x",
        "file:///etc/passwd",
        "example.org",
        "http://",
        "http://user:word@example.org/",
        "http://example.org:port/",
        "http://[::1",
        "http://localhost/",
        "http://api.localhost/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "http://localhost./",
        "http://127.0.0.1./",
        "http://①②⑦.⓪.⓪.①/",
        "http://[::127.0.0.1]/",
        "http://[fec0::1]/",
        "http://[64:ff9b:1::7f00:1]/",
        "http://[3fff::1]/",
        "http://[5f00::1]/",
        "http://a..example.org/",
    ],
)
def test_what_is_not_everybody_s_is_not_called(url: str) -> None:
    with pytest.raises(Forbidden):
        check_url(url, private=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "https://example.org:8443/a?b=c",
        "http://8.8.8.8/",
        "http://1e100.net/",
        "http://bücher.example/",
        "http://[2606:4700::1111]/",
    ],
)
def test_what_is_may_be(url: str) -> None:
    assert check_url(url, private=False).hostname


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://localhost/", "http://[::1]/"])
def test_the_operator_may_allow_what_is_private(url: str) -> None:
    assert check_url(url, private=True).hostname
    with pytest.raises(Forbidden):
        check_url("ftp://127.0.0.1/", private=True)


async def test_a_name_goes_out_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(*_: object, **__: object) -> list[Any]:
        return [(None, None, 0, "", ("8.8.8.8", 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    target = await resolved("http://bücher.example/", private=False)
    assert (target.host, target.address) == ("xn--bcher-kva.example", "8.8.8.8")


def test_an_address_inside_another_is_what_counts() -> None:
    assert is_public(ipaddress.ip_address("64:ff9b::808:808"))
    assert not is_public(ipaddress.ip_address("64:ff9b::a00:1"))


async def test_a_name_is_checked_by_what_it_leads_to() -> None:
    target = await resolved("http://127.0.0.1:8080/a?b", private=True)
    assert (target.address, target.port, target.path) == ("127.0.0.1", 8080, "/a?b")
    with pytest.raises(Forbidden):
        await resolved("http://127.0.0.1:8080/", private=False)
