#!/usr/bin/env python3
"""Write the vectors in this directory: an implementation of docs/formats.md that shares no code with Trousseau.

Needs Python's "cryptography" 44 or later. What is random in a real keystore is derived from the vector's name here, so that
running it again changes nothing.
"""

import base64
import hashlib
import json
import pathlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PASSPHRASE, KEY, NONE = 1, 2, 3
NAMES = {PASSPHRASE: "passphrase", KEY: "key", NONE: "none"}
STATES = ["enabled", "open only", "disabled"]
CHEAP = (8, 1, 1)
SECRET = {PASSPHRASE: "correct horse battery staple", KEY: "b3f1Jx0V9yQ4mW7eKc2sT8uN5rL6pZaD", NONE: ""}


def fixed(size, *what):
    return hashlib.shake_256("/".join(map(str, what)).encode()).digest(size)


def version(key, created=1767225600, state=0):
    return struct.pack(">QB", created, state) + key


def checksummed(data):
    return data + hashlib.sha256(data).digest()


def keystore(name, sealing, records, secret=None, cost=None, salt=None, magic=b"trk1", extra=0, tail=b""):
    """A keystore file; the last arguments make it wrong in one way each."""
    secret = SECRET.get(sealing, "") if secret is None else secret
    cost = cost or (CHEAP if sealing == PASSPHRASE else (0, 0, 0))
    salt = salt or (fixed(16, name, "salt") if sealing in (PASSPHRASE, KEY) else bytes(16))
    size = len(records) + (0 if sealing not in (PASSPHRASE, KEY) else 28) + extra
    header = magic + struct.pack(">BIBB", sealing, *cost) + salt + struct.pack(">H", size)
    body = records
    if sealing == PASSPHRASE and cost[1] and cost[0] <= 64 << 10:
        key = Argon2id(salt=salt, length=32, iterations=cost[1], lanes=cost[2], memory_cost=cost[0]).derive(secret.encode())
    else:
        key = HKDF(SHA256(), 32, salt, b"trousseau keystore trk1").derive(secret.encode())
    if sealing in (PASSPHRASE, KEY):
        nonce = fixed(12, name, "nonce")
        body = nonce + AESGCM(key).encrypt(nonce, records, header)
    return checksummed(header + body + tail)


def vector(name, says, sealing, content, secret=None, records=None, failure=None):
    out = {
        "says": says,
        "sealing": NAMES[sealing],
        "secret": SECRET[sealing] if secret is None else secret,
        "file": content.hex(),
    }
    if failure:
        out["failure"] = failure
    else:
        out["versions"] = []
        for at in range(0, len(records), 41):
            created, state = struct.unpack(">QB", records[at:at + 9])
            key = records[at + 9:at + 41]
            digest = hashlib.sha256(b"trousseau keystore version\0" + key).digest()
            out["versions"].append({
                "id": base64.urlsafe_b64encode(digest[:9]).decode(), "created": created, "state": STATES[state],
                "key": key.hex(),
            })
    path = pathlib.Path(__file__).parent / f"{name}.json"
    path.write_text(json.dumps(out, indent=2, ensure_ascii=False) + "\n")


def good(name, says, sealing, records, **how):
    vector(name, says, sealing, keystore(name, sealing, records, **how), records=records, secret=how.get("secret"))


def bad(name, says, failure, sealing, content, secret=None):
    vector(name, says, sealing, content, secret=secret, failure=failure)


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def resummed(data, at):
    return checksummed(flipped(data[:-32], at))


ONE = version(fixed(32, "first"))
THREE = (version(fixed(32, "first"), 1767225600, 2) + version(fixed(32, "second"), 1775001600, 1)
         + version(fixed(32, "third"), 1782864000, 0))

good("passphrase", "one version, argon2id as new files have it", PASSPHRASE, ONE, cost=(64 << 10, 3, 4))
good("passphrase-least-cost", "the least argon2id that is accepted", PASSPHRASE, ONE)
good("passphrase-utf8", "a passphrase is its bytes", PASSPHRASE, ONE, secret="Schlüssel für den Bären")
good("key", "one version", KEY, ONE)
good("key-three-states", "three versions, one in each state", KEY, THREE)
good("none", "one version, not sealed", NONE, ONE)
good("none-same-second", "two versions made in one second", NONE, ONE + version(fixed(32, "second")))

p, k, n = keystore("bad", PASSPHRASE, ONE), keystore("bad", KEY, ONE), keystore("bad", NONE, ONE)
bad("wrong-passphrase", "another passphrase", "wrong-secret", PASSPHRASE, p, secret="incorrect horse battery")
bad("wrong-key", "another key", "wrong-secret", KEY, k, secret=SECRET[KEY][::-1])
bad("short-key", "31 bytes are no key", "weak-secret", KEY, k, secret=SECRET[KEY][:31])
bad("unsealed-for-passphrase", "an unsealed file in place of a sealed one", "other-sealing", PASSPHRASE, n)
bad("unsealed-for-key", "an unsealed file in place of a sealed one", "other-sealing", KEY, n)
bad("key-for-passphrase", "sealed by a key, opened with a passphrase", "other-sealing", PASSPHRASE, k)
bad("sealed-for-none", "a sealed file where none is expected", "other-sealing", NONE, p)
bad("empty", "no bytes at all", "damaged", KEY, b"")
bad("cut-in-magic", "the first three bytes", "damaged", KEY, k[:3])
bad("cut-in-header", "the first 20 bytes", "damaged", KEY, k[:20])
bad("cut-last-byte", "all bytes but the last", "damaged", KEY, k[:-1])
bad("flipped-salt", "a bit of the salt is flipped", "damaged", KEY, flipped(k, 11))
bad("flipped-body", "a bit of the body is flipped", "damaged", KEY, flipped(k, 60))
bad("flipped-checksum", "a bit of the checksum is flipped", "damaged", KEY, flipped(k, len(k) - 1))
bad("flipped-key-unsealed", "a bit of an unsealed key is flipped", "damaged", NONE, flipped(n, 40))
bad("forged-salt", "another salt, with a right checksum", "wrong-secret", KEY, resummed(k, 11))
bad("forged-cost", "two lanes for one, with a right checksum", "wrong-secret", PASSPHRASE,
    checksummed(p[:5] + struct.pack(">IBB", 16, 1, 2) + p[11:-32]))
bad("forged-body", "another body, with a right checksum", "wrong-secret", KEY, resummed(k, 60))
bad("not-a-keystore", "something else", "invalid", KEY, b"-----BEGIN PRIVATE KEY-----\n" * 8)
bad("next-format", "a format that does not exist yet", "invalid", KEY, keystore("bad", KEY, ONE, magic=b"trk2"))
bad("unknown-sealing", "a way of sealing that does not exist", "invalid", KEY, keystore("bad", 4, ONE))
bad("zero-sealing", "a zeroed way of sealing", "invalid", NONE, keystore("bad", 0, ONE))
bad("cost-memory-high", "4 TiB of memory", "invalid", PASSPHRASE, keystore("bad", PASSPHRASE, ONE, cost=(0xFFFFFFFF, 1, 1)))
bad("cost-memory-low", "less than 8 KiB for each lane", "invalid", PASSPHRASE,
    checksummed(p[:5] + struct.pack(">IBB", 15, 1, 2) + p[11:-32]))
bad("cost-no-pass", "no pass", "invalid", PASSPHRASE, keystore("bad", PASSPHRASE, ONE, cost=(8, 0, 1)))
bad("cost-many-passes", "17 passes", "invalid", PASSPHRASE, keystore("bad", PASSPHRASE, ONE, cost=(8, 17, 1)))
bad("key-with-cost", "argon2id parameters where a key seals", "invalid", KEY, keystore("bad", KEY, ONE, cost=CHEAP))
bad("unsealed-with-salt", "a salt where nothing seals", "invalid", NONE, keystore("bad", NONE, ONE, salt=fixed(16, "salt")))
bad("no-version", "no version", "invalid", KEY, keystore("bad", KEY, b""))
bad("half-version", "one version and a half", "invalid", KEY, keystore("bad", KEY, ONE + ONE[:20]))
bad("length-long", "a body that is longer than the file", "invalid", KEY, keystore("bad", KEY, ONE, extra=41))
bad("trailing-byte", "a byte between body and checksum", "invalid", KEY, keystore("bad", KEY, ONE, tail=b"\0"))
bad("created-zero", "a version without a time", "invalid", KEY, keystore("bad", KEY, version(fixed(32, "first"), 0)))
bad("created-year-10000", "a time that cannot be written", "invalid", KEY,
    keystore("bad", KEY, version(fixed(32, "first"), 253402300800)))
bad("unknown-state", "a state that does not exist", "invalid", KEY, keystore("bad", KEY, version(fixed(32, "first"), state=3)))
bad("same-key-twice", "two versions with one key", "invalid", KEY, keystore("bad", KEY, ONE + ONE))
bad("newest-first", "versions in the wrong order", "invalid", KEY,
    keystore("bad", KEY, version(fixed(32, "second"), 1767225601) + ONE))
