#!/usr/bin/env python3
"""Prints the values that the tests TestXxxGolden of topic and envelope compare with.

Written from docs/formats.md alone: hashlib and hmac of Python, AES from the openssl
program, ChaCha20-Poly1305 from the "cryptography" package, X25519 and Noise X from
RFC 7748 and the Noise specification."""
import hashlib
import hmac
import struct
import subprocess

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

P = 2**255 - 19
BASE = (9).to_bytes(32, "little")


def clamp(b):
    b = bytearray(b)
    b[0] &= 248
    b[31] = b[31] & 127 | 64
    return bytes(b)


def x25519(secret, public):
    k = int.from_bytes(clamp(secret), "little")
    x1 = int.from_bytes(public, "little") & (2**255 - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % P, b * b % P, d * a % P, c * b % P
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def blake2b(size, b):
    return hashlib.blake2b(b, digest_size=size).digest()


def hkdf32(secret, salt, info):
    prk = hmac.digest(salt, secret, "sha512")
    return hmac.digest(prk, info + b"\1", "sha512")[:32]


def aes_block(key, block):
    command = ["openssl", "enc", "-aes-256-ecb", "-nopad", "-K", key.hex()]
    return subprocess.run(command, input=block, capture_output=True, check=True).stdout


def topic(a, b):
    return hashlib.pbkdf2_hmac("sha512", min(a, b), max(a, b), 10240, 32)


def pair_secret(own, peer, id_a, id_b, key_a, key_b):
    info = b"asmtp/2 pair" + b"\1" + id_a + id_b + key_a + key_b
    return hkdf32(x25519(own, peer), topic(key_a, key_b), info)


def tag_key(secret, epoch):
    return hkdf32(secret, b"asmtp/2 tag", struct.pack(">I", epoch))


def noise_x(prologue, own, peer, ephemeral, payload):
    h = ck = b"Noise_X_25519_ChaChaPoly_BLAKE2b".ljust(64, b"\0")

    def mix_hash(data):
        nonlocal h
        h = blake2b(64, h + data)

    def mix_key(secret):
        nonlocal ck
        temp = hmac.digest(ck, secret, "blake2b")
        ck = hmac.digest(temp, b"\1", "blake2b")
        return hmac.digest(temp, ck + b"\2", "blake2b")[:32]

    def encrypt(key, plain):
        c = ChaCha20Poly1305(key).encrypt(bytes(12), plain, h)
        mix_hash(c)
        return c

    mix_hash(prologue)
    mix_hash(peer)
    e = x25519(ephemeral, BASE)
    mix_hash(e)
    s = encrypt(mix_key(x25519(ephemeral, peer)), x25519(own, BASE))
    return e + s + encrypt(mix_key(x25519(own, peer)), payload)


def show(**values):
    for name, v in values.items():
        print(name, v.hex() if isinstance(v, bytes) else v)


EXPIRES = 216_000_000
EPOCH = EXPIRES // 1_209_600
HEAD = b"\2" + struct.pack(">I", EXPIRES)

alice, bob = clamp(bytes(range(1, 33))), clamp(bytes(range(101, 133)))
ephemeral = clamp(bytes(range(201, 233)))
ka, kb = x25519(alice, BASE), x25519(bob, BASE)
ida, idb = b"\xa1" * 16, b"\xb2" * 16
ab = pair_secret(alice, kb, ida, idb, ka, kb)
key = tag_key(ab, EPOCH)
show(alice=alice, bob=bob, topic=topic(ka, kb), alice_to_bob=ab)
show(bob_to_alice=pair_secret(bob, ka, idb, ida, kb, ka))
show(alice_to_self=pair_secret(alice, ka, ida, ida, ka, ka))
show(tag_key_0=tag_key(ab, 0), epoch=EPOCH, tag_key=key)

for size in 1024, 4096, 16384, 61440:
    sealed = bytes(i % 251 for i in range(size))
    seal_hash = blake2b(32, HEAD + sealed)
    tag = aes_block(key, seal_hash[:16])
    show(size=size, seal_hash=seal_hash, tag=tag, id=blake2b(32, seal_hash + tag))

body = b"hello, mesh"
part = bytes([1, 0, 0]) + b"\xc3" * 16 + blake2b(16, body) + struct.pack(">IHH", len(body), 0, 1)
part += b"\xd4" * 16 + b"\xe5" * 16 + struct.pack(">H", len(body)) + body
show(part=part)
prologue = b"asmtp/2 part" + b"\1" + ida + idb + HEAD
sealed = noise_x(prologue, alice, kb, ephemeral, part.ljust(1024 - 96, b"\0"))
seal_hash = blake2b(32, HEAD + sealed)
tag = aes_block(key, seal_hash[:16])
envelope = HEAD + tag + sealed
show(ephemeral=ephemeral, envelope=envelope[:64], id=blake2b(32, seal_hash + tag))
show(envelope_sha256=hashlib.sha256(envelope).hexdigest())
