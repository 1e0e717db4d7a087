"""Which addresses pictures may be fetched from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.media.addresses import is_public


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_what_is_not_in_the_open_internet_is_closed(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "172.32.0.1",
        "193.0.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_what_is_in_the_open_internet_is_open(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_is_open_that_python_calls_private_or_multicast(address: IPv4Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_unspecified:
        assert not is_public(address)


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_is_open_that_python_calls_private_or_multicast(address: IPv6Address) -> None:
    special = address.is_link_local or address.is_loopback or address.is_site_local or address.is_unspecified
    if special or address.is_multicast or (address.is_private and not address.ipv4_mapped):
        assert not is_public(address)


@given(st.ip_addresses(v=4), st.integers(0, 2**64 - 1))
def test_an_ipv4_address_is_as_closed_in_the_clothes_of_ipv6(address: IPv4Address, rest: int) -> None:
    inner = int(address)
    mapped = IPv6Address(0xFFFF << 32 | inner)
    nat64 = IPv6Address(0x64FF9B << 96 | inner)
    assert is_public(mapped) == is_public(nat64) == is_public(address)
    six_to_four = IPv6Address(0x2002 << 112 | inner << 80 | rest)
    teredo = IPv6Address(0x20010000 << 96 | (rest >> 32) << 32 | inner ^ 0xFFFFFFFF)
    compatible = IPv6Address(inner)
    assert not any(map(is_public, (six_to_four, teredo, compatible)))
