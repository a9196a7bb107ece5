#!/usr/bin/env python3
"""Write the vectors in this directory: an implementation of docs/formats.md that shares no code with Trousseau.

Needs Python's "cryptography". What is random in a real envelope is derived from a label here, so that running it again
changes nothing. docs/formats.md says what the fields of a vector mean.
"""

import base64
import hashlib
import json
import pathlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEED = bytes(range(32))
LIMIT = 1024


def fixed(size, *what):
    return hashlib.shake_256("/".join(map(str, what)).encode()).digest(size)


def short(data):
    """A string with its length in one byte before it."""
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">B", len(data)) + data


def labelled(label, *parts):
    return short(label) + b"".join(parts)


class Policy:
    def __init__(self, name="prod-eu-1", lineage=fixed(16, "lineage"), generation=0, keys=("bao",), need=1):
        self.name, self.lineage, self.generation, self.need = name, lineage, generation, need
        self.keys = sorted(keys)
        self.cluster = short(name) + lineage
        self.cluster_tag = hashlib.sha256(labelled("trs1 cluster", self.cluster)).digest()[:4]
        self.hash = hashlib.sha256(labelled(
            "trs1 policy", self.cluster, struct.pack(">IBB", generation, need, len(self.keys)), *map(short, self.keys),
        )).digest()
        self.content_info = labelled("trs1 content", self.cluster, self.hash)

    def share_aad(self, slot=0):
        return labelled("trs1 share", self.cluster, self.hash, bytes([slot]))

    def key_id(self, versions):
        took_part = b"".join(bytes([slot]) + short(v) for slot, v in enumerate(versions) if v)
        digest = hashlib.sha256(labelled("trs1 key id", self.hash, took_part)).digest()
        return "t1." + base64.urlsafe_b64encode(digest[:20]).decode().rstrip("=")

    def json(self):
        return {"cluster": self.name, "lineage": self.lineage.hex(), "generation": self.generation, "need": self.need,
                "keys": self.keys, "policy_hash": self.hash.hex(), "cluster_tag": self.cluster_tag.hex()}


def material(key, version):
    return fixed(32, "material", key, version)


def wrap(key, version, secret, aad, label):
    """What the key of a vector does: AES-256-GCM, nonce (12) || ciphertext || tag (16)."""
    nonce = fixed(12, "nonce", label)
    return nonce + AESGCM(material(key, version)).encrypt(nonce, secret, aad)


def share(slot, version, wrapped, digest=b"", size=None):
    return (bytes([slot]) + short(version) + digest
            + struct.pack(">H", len(wrapped) if size is None else size) + wrapped)


def header(policy, total, here, magic=b"trs1", cluster_tag=None, policy_tag=None, need=None, count=None):
    return (magic + (cluster_tag or policy.cluster_tag) + (policy_tag or policy.hash[:8])
            + bytes([policy.need if need is None else need, len(policy.keys) if count is None else count, total, here]))


class Sealed:
    """An envelope of 1 of 1. The arguments after the plaintext make it wrong in one way each."""

    def __init__(self, name, policy, plaintext=SEED, version="v1", key=None, aad=None, root_size=32, spill=False,
                 wrapped=None, info=None, nonce=bytes(12), slot=0, stated=None, share_size=None, authenticated=None, **head):
        self.policy, self.version, self.plaintext = policy, version, plaintext
        self.root = fixed(root_size, "root", name)
        self.aad = policy.share_aad() if aad is None else aad
        self.wrapped = wrapped or wrap(key or policy.keys[0], version, self.root, self.aad, name)
        self.share = share(slot, version if stated is None else stated, self.wrapped, size=share_size)
        self.here = head.pop("here", 0 if spill else 1)
        total = head.pop("total", 1)
        shares = b"" if spill else self.share
        self.spilled = self.share if spill else None
        self.authenticated = authenticated or header(policy, total, total, **head) + self.share
        content_key = HKDF(SHA256(), 32, None, policy.content_info if info is None else info).derive(self.root)
        self.seal = AESGCM(content_key).encrypt(nonce, plaintext, self.authenticated)
        self.bytes = header(policy, total, self.here, **head) + shares + self.seal
        self.key_id = policy.key_id([version])


EXP, LOG = [0] * 510, [0] * 256
power = 1
for exponent in range(255):
    EXP[exponent] = EXP[exponent + 255] = power
    LOG[power] = exponent
    power ^= power << 1  # times 3, which generates the field
    power ^= 0x11B if power & 0x100 else 0


def times(a, b):
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def shamir(root, need, slot, label):
    """The share in a slot: by Horner's rule, the coefficient of the highest power first."""
    coefficients = [fixed(len(root), "coefficient", label, power) for power in range(1, need)]
    share = bytes(len(root))
    for coefficient in [*reversed(coefficients), root]:
        share = bytes(times(byte, slot + 1) ^ c for byte, c in zip(share, coefficient))
    return share


class Quorum:
    """An envelope of several keys. versions are by slot, "" where a key takes no part. wrong replaces shares after the split
    and before they are wrapped, digests what stands in the header."""

    def __init__(self, name, policy, versions, here=None, wrong=None, digests=None):
        self.policy, self.plaintext = policy, SEED
        self.root = fixed(32, "root", name)
        slots = [slot for slot, version in enumerate(versions) if version]
        self.aad = policy.share_aad(slots[0])
        parts = []
        for slot in slots:
            piece = shamir(self.root, policy.need, slot, name)
            digest = hashlib.sha256(piece).digest()[:8] if policy.need > 1 else b""
            piece = (wrong or {}).get(slot, piece)
            wrapped = wrap(policy.keys[slot], versions[slot], piece, policy.share_aad(slot), f"{name} {slot}")
            parts.append(share(slot, versions[slot], wrapped, (digests or {}).get(slot, digest)))
        here = len(parts) if here is None else here
        self.authenticated = header(policy, len(parts), len(parts)) + b"".join(parts)
        content_key = HKDF(SHA256(), 32, None, policy.content_info).derive(self.root)
        self.seal = AESGCM(content_key).encrypt(bytes(12), self.plaintext, self.authenticated)
        self.bytes = header(policy, len(parts), here) + b"".join(parts[:here]) + self.seal
        self.spilled = b"".join(parts[here:]) or None
        self.key_id = policy.key_id(versions)
        self.used = {policy.keys[slot]: [versions[slot]] for slot in slots}


def write(name, says, ciphertext, spilled=None, stored="", keys=None, policies=(), limit=LIMIT, **outcome):
    used = keys or {key: ["v1"] for policy in policies for key in policy.keys}
    out = {
        "says": says,
        "policies": [policy.json() for policy in policies],
        "keys": {key: {v: material(key, v).hex() for v in versions} for key, versions in sorted(used.items())},
        "limit": limit,
        "ciphertext": ciphertext.hex(),
        "spilled": None if spilled is None else spilled.hex(),
        "stored_key_id": stored,
        **outcome,
    }
    path = pathlib.Path(__file__).parent / f"{name}.json"
    path.write_text(json.dumps(out, indent=2, ensure_ascii=False) + "\n")


def good(name, says, sealed, stored=None, policies=None, **more):
    write(name, says, sealed.bytes, sealed.spilled, sealed.key_id if stored is None else stored,
          policies=policies or [sealed.policy], share_aad=sealed.aad.hex(), content_info=sealed.policy.content_info.hex(),
          root=sealed.root.hex(), authenticated=sealed.authenticated.hex(), key_id=sealed.key_id,
          plaintext=sealed.plaintext.hex(), **more)


def bad(name, says, failure, sealed, ciphertext=None, spilled=None, stored=None, policies=None, **more):
    """What sealed has, unless ciphertext and spilled replace it, is refused. Policies are those of the reader."""
    write(name, says, sealed.bytes if ciphertext is None else ciphertext,
          sealed.spilled if ciphertext is None else spilled, sealed.key_id if stored is None else stored,
          policies=policies or [sealed.policy], failure=failure, **more)


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def parse_only(name, says, policy, parts, total, here, limit):
    """An envelope of several shares: its form alone, the shares are filler."""
    shares = [share(slot, version, wrapped, digest) for slot, version, digest, wrapped in parts]
    seal = fixed(48, name, "seal")
    ciphertext = header(policy, total, here) + b"".join(shares[:here]) + seal
    write(name, says, ciphertext, b"".join(shares[here:]) or None, limit=limit, parsed={
        "cluster_tag": policy.cluster_tag.hex(), "policy_tag": policy.hash[:8].hex(), "need": policy.need,
        "keys": len(policy.keys), "seal": seal.hex(),
        "shares": [{"slot": slot, "version": version, "digest": digest.hex(), "wrapped": wrapped.hex()}
                   for slot, version, digest, wrapped in parts],
    })


PROD = Policy()
NEXT = Policy(generation=7)
FORMER = Policy(name="prod-eu-0", lineage=fixed(16, "former lineage"))
LONG = Policy(name="c" * 63, lineage=b"\xff" * 16, generation=0xFFFFFFFF, keys=["k" * 255])

good("seed", "32 bytes, as an API server asks for", Sealed("seed", PROD))
good("seed-without-key-id", "KMS v1 stores no key id", Sealed("seed", PROD), stored="")
good("ping", "4 bytes, as the health check of KMS v1 sends", Sealed("ping", PROD, b"ping"), stored="")
good("plaintext-empty", "no byte: the seal is a bare tag", Sealed("plaintext-empty", PROD, b""))
good("generation-7", "another generation has another hash and key id", Sealed("seed", NEXT))
good("policy-listed-second", "sealed under a policy that only opens now", Sealed("seed", PROD), policies=[NEXT, PROD])
good("former-cluster", "sealed in a cluster that is listed to open", Sealed("former", FORMER), policies=[PROD, FORMER])
good("version-older", "sealed with a version that is not the newest", Sealed("seed", PROD), keys={"bao": ["v1", "v2"]})
good("names-long", "the longest names and the greatest generation", Sealed("long", LONG, version="v" * 64),
     keys={LONG.keys[0]: ["v" * 64]})
good("key-id-utf8", "names are bytes", Sealed("utf8", Policy(keys=["schlüssel"])))
good("share-spilled", "the share is beside the envelope: the seal is as if it were in it",
     Sealed("spilled", PROD, spill=True), limit=100)

s = Sealed("bad", PROD)
at_share, at_wrapped, at_seal = 20, len(s.authenticated) - len(s.wrapped), len(s.authenticated)
bad("empty", "no byte", "malformed", s, b"")
bad("another-plugin", "bytes of another plugin", "malformed", s, b"vault:v1:" + fixed(60, "vault"))
bad("next-format", "a format that does not exist yet", "malformed", Sealed("bad", PROD, magic=b"trs2"))
bad("cut-in-header", "the first 19 bytes", "malformed", s, s.bytes[:19])
bad("cut-in-share", "the first 60 bytes", "malformed", s, s.bytes[:60])
bad("cut-in-seal", "a seal of 15 bytes", "malformed", s, s.bytes[:at_seal + 15])
bad("need-zero", "k is 0", "malformed", Sealed("bad", PROD, need=0))
bad("need-above-keys", "2 of 1", "malformed", Sealed("bad", PROD, need=2))
bad("keys-nine", "1 of 9", "malformed", Sealed("bad", PROD, count=9))
bad("shares-none", "no share, 1 is needed", "malformed", s, header(PROD, 0, 0) + s.seal)
bad("shares-above-keys", "2 shares of 1 key", "malformed", s,
    header(PROD, 2, 2) + s.share + share(1, "v1", s.wrapped) + s.seal)
bad("shares-here-above-all", "2 shares here, 1 in all", "malformed", s, header(PROD, 1, 2) + s.share * 2 + s.seal)
bad("slot-out-of-range", "slot 1 of 1 key", "malformed", Sealed("bad", PROD, slot=1))
bad("slot-twice", "slot 0 twice", "malformed", s, header(PROD, 2, 2, count=2) + s.share * 2 + s.seal)
bad("slots-descend", "slot 1 before slot 0", "malformed", s,
    header(PROD, 2, 2, count=2) + share(1, "v1", s.wrapped) + s.share + s.seal)
bad("version-empty", "a share without a version", "malformed", Sealed("bad", PROD, stated=""))
bad("version-65-bytes", "a version of 65 bytes", "malformed", Sealed("bad", PROD, stated="v" * 65))
bad("wrapped-empty", "a share without wrapped bytes", "malformed", s, header(PROD, 1, 1) + share(0, "v1", b"") + s.seal)
bad("wrapped-longer-than-all", "a share that ends behind the envelope", "malformed", Sealed("bad", PROD, share_size=0xFFFF))
p = Sealed("bad", PROD, spill=True)
bad("spilled-missing", "the spilled share is not there", "malformed", p, p.bytes)
bad("spilled-cut", "the spilled share is cut", "malformed", p, p.bytes, p.spilled[:-1])
bad("spilled-longer", "a byte after the spilled share", "malformed", p, p.bytes, p.spilled + b"\0")
bad("spilled-unasked", "a share beside an envelope that has all of them", "malformed", s, s.bytes, s.share)

bad("cluster-another-name", "sealed in a cluster of another name", "cluster", Sealed("bad", Policy(name="prod-eu-2")),
    policies=[PROD])
bad("cluster-another-lineage", "sealed in another cluster of this name", "cluster",
    Sealed("bad", Policy(lineage=fixed(16, "another lineage"))), policies=[PROD])
bad("cluster-tag-flipped", "a bit of the cluster tag is flipped", "cluster", s, flipped(s.bytes, 4))
bad("policy-another-generation", "sealed under a generation that is not listed", "policy", Sealed("bad", NEXT),
    policies=[PROD])
bad("policy-another-key", "sealed under a configured key that is no policy of its own", "policy",
    Sealed("bad", Policy(keys=["hsm"])), policies=[PROD, Policy(keys=["hsm"], generation=1)])
bad("policy-tag-flipped", "a bit of the policy tag is flipped", "policy", s, flipped(s.bytes, 8))
bad("policy-keys-changed", "1 of 2 under the tag of a 1 of 1", "policy", Sealed("bad", PROD, count=2))
bad("key-id-of-another-version", "stored under the key id of another version", "key-id", s, stored=PROD.key_id(["v2"]),
    keys={"bao": ["v1", "v2"]})
bad("key-id-of-another-policy", "stored under the key id of another policy", "key-id", s, stored=NEXT.key_id(["v1"]),
    policies=[PROD, NEXT])
bad("key-id-unknown", "stored under a key id of another plugin", "key-id", s, stored="1")
bad("version-changed", "the version in the envelope is another one", "key-id", Sealed("bad", PROD, stated="v2"),
    keys={"bao": ["v1", "v2"]})

bad("seal-flipped", "the last bit is flipped", "forged", s, flipped(s.bytes, len(s.bytes) - 1))
bad("seal-longer", "a byte more at the end", "forged", s, s.bytes + b"\0")
bad("seal-of-another-envelope", "share and seal are of two envelopes", "forged", s,
    s.bytes[:at_seal] + Sealed("other", PROD).seal)
bad("share-of-another-envelope", "the share was replaced by one that opens", "forged", s,
    s.bytes[:at_share] + Sealed("other", PROD).share + s.seal)
bad("root-31-bytes", "a root of 31 bytes", "forged", Sealed("bad", PROD, root_size=31))
bad("root-33-bytes", "a root of 33 bytes", "forged", Sealed("bad", PROD, root_size=33))
bad("nonce-one", "sealed with a nonce that is not zero", "forged", Sealed("bad", PROD, nonce=bytes(11) + b"\1"))
bad("info-of-another-policy", "the content key is of another policy", "forged", Sealed("bad", PROD, info=NEXT.content_info))
bad("header-not-authenticated", "the seal does not cover the shares", "forged",
    Sealed("bad", PROD, authenticated=header(PROD, 1, 1)))
bad("spilled-authenticated-as-spilled", "the seal covers the header as it is stored", "forged",
    Sealed("bad", PROD, spill=True, authenticated=header(PROD, 1, 0) + s.share))

bad("wrapped-flipped", "a bit of the wrapped share is flipped", "refused", s, flipped(s.bytes, at_wrapped + 30))
bad("wrapped-by-another-key", "the share is wrapped by other material", "refused", Sealed("bad", PROD, key="hsm"))
bad("share-of-another-cluster", "the share is bound to another cluster: header and seal are ours", "refused",
    Sealed("bad", PROD, aad=FORMER.share_aad()))
bad("share-of-another-generation", "the share is bound to another generation", "refused",
    Sealed("bad", PROD, aad=NEXT.share_aad()))
bad("share-of-another-slot", "the share is bound to another slot", "refused", Sealed("bad", PROD, aad=PROD.share_aad(1)))
bad("version-unknown", "a version that the key does not have", "refused", Sealed("bad", PROD, version="v9"))

TWO = Policy(keys=["bao", "eu", "hsm"], need=2)
THREE_SHARES = [(0, "v1", fixed(8, "digest 0"), fixed(60, "w0")), (1, "v7", fixed(8, "digest 1"), fixed(92, "w1")),
                (2, "v2", fixed(8, "digest 2"), fixed(512, "w2"))]
parse_only("two-of-three", "three shares, all here", TWO, THREE_SHARES, 3, 3, 1024)
parse_only("two-of-three-spilled", "the last share is spilled", TWO, THREE_SHARES, 3, 2, 512)
parse_only("two-of-three-all-spilled", "no share is here", TWO, THREE_SHARES, 3, 0, 68)
parse_only("two-of-three-one-missing", "slot 1 took no part", TWO, THREE_SHARES[::2], 2, 2, 1024)
parse_only("one-of-two", "no digests where one share opens", Policy(keys=["bao", "eu"]),
           [(0, "v1", b"", fixed(60, "w0")), (1, "v7", b"", fixed(92, "w1"))], 2, 2, 1024)

FIVE = Policy(keys=["a", "b", "c", "d", "e", "f", "g", "h"], need=5)
ANY = Policy(keys=["bao", "eu"], need=1)
q = Quorum("two of three", TWO, ["v1", "v7", "v2"])
good("quorum-2-of-3", "two of three keys open", q, keys=q.used)
good("quorum-2-of-3-two-left", "one of the three keys is lost", q, keys={k: v for k, v in q.used.items() if k != "eu"})
q = Quorum("two of three, two shares", TWO, ["v1", "", "v2"])
good("quorum-2-of-3-two-shares", "one of the three keys took no part", q, keys=q.used)
q = Quorum("spilled", TWO, ["v1", "v7", "v2"], here=1)
good("quorum-2-of-3-spilled", "two shares are beside the envelope", q, keys=q.used, limit=200)
q = Quorum("five of eight", FIVE, ["v1"] * 8)
good("quorum-5-of-8", "five of eight keys open", q, keys=q.used)
q = Quorum("one of two", ANY, ["v1", "v1"])
good("quorum-1-of-2", "either key opens", q, keys=q.used)
q = Quorum("one garbage", TWO, ["v1", "v7", "v2"], wrong={0: bytes(32)})
good("quorum-2-of-3-one-garbage", "one key answers garbage", q, keys=q.used)

q = Quorum("two of three", TWO, ["v1", "v7", "v2"])
bad("quorum-one-key-left", "one key of the two that are needed", "refused", q, keys={"bao": ["v1"], "eu": [], "hsm": []})
q = Quorum("two garbage", TWO, ["v1", "v7", "v2"], wrong={0: bytes(32), 2: bytes(32)})
bad("quorum-two-garbage", "two of three keys answer garbage", "share", q, keys=q.used)
q = Quorum("digests", TWO, ["v1", "v7", ""], wrong={0: bytes(32)}, digests={0: hashlib.sha256(bytes(32)).digest()[:8]})
bad("quorum-share-that-does-not-fit", "a share that matches its digest and no other share", "forged", q, keys=q.used)
