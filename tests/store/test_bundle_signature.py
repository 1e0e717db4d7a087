"""A site can demand who packed a bundle, with the keys that OpenSSH has made."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from gguf_vl.errors import GgufVlError, MissingOrInvalid, VerificationFailed
from gguf_vl.store.bundle.create import create
from gguf_vl.store.bundle.install import install
from gguf_vl.store.bundle.reading import verify
from gguf_vl.store.bundle.signature import NAMESPACE
from gguf_vl.store.progress import Silent
from tests.store.bundles import Interrupting, Watching, key, needs_ssh_keygen, public, resealed

pytestmark = needs_ssh_keygen
SILENT = Silent()


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    return key(tmp_path, "alice")


@pytest.fixture
def signed(tmp_path: Path, alice: Path) -> Path:
    return create(["pocket"], tmp_path / "p.tar", SILENT, sign=alice).files[0]


def test_a_bundle_is_accepted_from_who_is_trusted(signed: Path, alice: Path, tmp_path: Path) -> None:
    found = verify(signed, SILENT, public(alice))
    assert found.signed
    assert (found.signed_by or "").startswith("ED25519 key SHA256:")
    signers = tmp_path / "allowed"
    signers.write_text(f'# ours\nbob@site,alice@site namespaces="{NAMESPACE}" {public(alice).read_text()}')
    assert "@site, ED25519 key SHA256:" in (verify(signed, SILENT, signers).signed_by or "")
    assert install(signed, SILENT, signers).bundle.signed


def test_without_asking_a_signature_is_not_taken_for_a_checked_one(signed: Path) -> None:
    found = verify(signed, SILENT)
    assert (found.signed, found.signed_by) == (True, None)


def test_another_key_another_purpose_or_no_signature_is_refused(signed: Path, alice: Path, tmp_path: Path) -> None:
    mallory = key(tmp_path, "mallory")
    for_mail = tmp_path / "mail"
    for_mail.write_text(f'alice namespaces="file" {public(alice).read_text()}')
    for trust in (public(mallory), for_mail):
        with pytest.raises(VerificationFailed, match="not by anybody"):
            install(signed, SILENT, trust)
    unsigned = create(["pocket"], tmp_path / "u.tar", SILENT).files[0]
    with pytest.raises(VerificationFailed, match="is not signed"):
        install(unsigned, SILENT, public(alice))


def test_a_manifest_changed_after_it_was_signed_is_refused_even_when_the_rest_fits(
    signed: Path, alice: Path, tmp_path: Path
) -> None:
    data = signed.read_bytes()
    start, end = data.index(b"{\n", 1024), data.index(b"\n}\n", 1024) + 3
    plain = json.loads(data[start:end])
    assert data[start:end] == resealed(plain, indent=1)
    plain["models"][0]["licence"] = "Apache-9.0"
    signed.write_bytes(data[:start] + resealed(plain, indent=1) + data[end:])
    assert verify(signed, SILENT).signed
    with pytest.raises(VerificationFailed, match="changed after it was signed"):
        verify(signed, SILENT, public(alice))


def test_openssh_alone_checks_what_the_bundle_holds(signed: Path, alice: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "xf", signed, "manifest.json", "manifest.json.sig"], cwd=tmp_path, check=True)
    signers = tmp_path / "allowed"
    signers.write_text(f"alice {public(alice).read_text()}")
    words = ["verify", "-f", str(signers), "-I", "alice", "-n", NAMESPACE, "-s", str(tmp_path / "manifest.json.sig")]
    subprocess.run(["ssh-keygen", "-Y", *words], input=(tmp_path / "manifest.json").read_bytes(), check=True)
    assert json.loads((tmp_path / "manifest.json").read_bytes())["models"][0]["name"] == "pocket"


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])  # the last signs differently every time
@pytest.mark.parametrize("given", ["private", "public"])
def test_an_interrupted_signed_bundle_is_continued_behind_what_is_packed(tmp_path: Path, kind: str, given: str) -> None:
    private = key(tmp_path, kind, kind)
    with pytest.raises(KeyboardInterrupt):
        create(["pocket"], tmp_path / "x.tar", Interrupting(7_000_000), sign=private)
    part = tmp_path / "x.tar.part"
    lengths: list[int] = []
    watching = Watching(lambda done: lengths.append(part.stat().st_size))
    if given == "public":  # its private half, for whoever asks ssh-keygen to sign, may be in an agent
        private.rename(tmp_path / "away")
        create(["pocket"], tmp_path / "x.tar", watching, sign=public(private))
    else:
        create(["pocket"], tmp_path / "x.tar", watching, sign=private)
    assert "going on" in watching.notes[0]
    assert min(lengths) > 3_260_128
    assert verify(tmp_path / "x.tar", SILENT, public(private)).signed


def test_a_signature_that_was_left_is_not_kept_for_another_key_or_another_manifest(tmp_path: Path) -> None:
    alice, bob = key(tmp_path, "alice", "ecdsa"), key(tmp_path, "bob", "ecdsa")
    for names in (["pocket"], ["pocket:f16"]):
        with pytest.raises(KeyboardInterrupt):
            create(names, tmp_path / "x.tar", Interrupting(7_000_000), sign=alice)
        part = tmp_path / "x.tar.part"
        if names == ["pocket:f16"]:
            part.write_bytes(part.read_bytes().replace(b"Apache-2.0", b"Apache-9.0"))
    create(["pocket"], tmp_path / "x.tar", SILENT, sign=bob)
    assert verify(tmp_path / "x.tar", SILENT, public(bob)).signed


def test_what_is_no_key_is_said(signed: Path, tmp_path: Path, alice: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("hello\n")
    for trust in (junk, alice, tmp_path / "nowhere", tmp_path):
        with pytest.raises(MissingOrInvalid):
            verify(signed, SILENT, trust)
    with pytest.raises(MissingOrInvalid, match="no key"):
        create(["pocket"], tmp_path / "y.tar", SILENT, sign=tmp_path / "nowhere")
    with pytest.raises(GgufVlError, match="cannot sign"):
        create(["pocket"], tmp_path / "y.tar", SILENT, sign=junk)
    assert not list(tmp_path.glob("y.tar*"))


def test_without_ssh_keygen_the_package_to_install_is_named(
    signed: Path, alice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingOrInvalid, match="ssh-keygen") as caught:
        verify(signed, SILENT, public(alice))
    assert "openssh-client" in caught.value.fix
