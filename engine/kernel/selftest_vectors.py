#!/usr/bin/env python3
"""Writes selftest_vectors.h: keys, digests and signatures made by the openssl command, for qm_kernels_selftest.

Run by hand: selftest_vectors.py >selftest_vectors.h. Every run makes new keys, forgets the private ones and gives a header
as good as the last; the build does not call it."""
import hashlib
import re
import subprocess
import sys
import tempfile

HASHES = ("sha256", "sha384", "sha512")
# name, bits, exponent, [(scheme, hash, salt length; None: none, -1: that of the digest, -3: the longest)]
ALL = [("RSASSA", h, None) for h in HASHES] + [("RSAPSS", h, s) for s in (-1, -3) for h in HASHES]
SOME = [("RSASSA", "sha256", None), ("RSASSA", "sha384", None), ("RSAPSS", "sha256", -1), ("RSAPSS", "sha512", -3)]
RSA = (
    ("RSA-2048", 2048, 65537, ALL),
    ("RSA-2048, an exponent of 33 bits", 2048, 2**32 + 15, SOME[::2]),
    ("RSA-3072", 3072, 65537, SOME),
    ("RSA-4096", 4096, 65537, SOME),
    # the encoded PSS message is a byte shorter than a modulus of 8 k + 1 bits (RFC 8017, 8.1.1)
    ("RSA-2049", 2049, 65537, SOME),
)
# OpenSSL makes two primes of equal length only, hence an even number of bits; of three primes it makes any
ODD = ((), ("-pkeyopt", "rsa_keygen_primes:3"))
CURVES = (("P-256", "P256", 32), ("P-384", "P384", 48))


def openssl(*args):
    done = subprocess.run(("openssl",) + args, capture_output=True)
    if done.returncode != 0:
        sys.exit(done.stderr.decode())
    return done.stdout


def digest_of(name):
    return hashlib.new(name, b"quotemill self-test").digest()


def hex_lines(data):
    text = data.hex()
    return "\n".join('        "%s"' % text[i:i + 88] for i in range(0, len(text), 88))


def sign(key, folder, hash_name, options):
    path = folder + "/digest"
    with open(path, "wb") as f:
        f.write(digest_of(hash_name))
    extra = [word for o in ("digest:" + hash_name, *options) for word in ("-pkeyopt", o)]
    return openssl("pkeyutl", "-sign", "-inkey", key, "-in", path, *extra)


def ints_of_der(der):
    """The two integers of an ECDSA signature shorter than 128 bytes."""
    out, at = [], 2
    for _ in range(2):
        out.append(int.from_bytes(der[at + 2:at + 2 + der[at + 1]], "big"))
        at += 2 + der[at + 1]
    return out


def numbers(text, label):
    found = re.search(label + r":\n((?: +[0-9a-f:]+\n)+)", text)
    return bytes.fromhex(re.sub(r"[\s:]", "", found.group(1)))


def main():
    keys, sigs = [], []
    with tempfile.TemporaryDirectory() as folder:
        key = folder + "/key"
        for name, bits, exponent, cases in RSA:
            openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:%d" % bits, "-pkeyopt",
                    "rsa_keygen_pubexp:%d" % exponent, "-out", key, *ODD[bits % 2])
            modulus = openssl("rsa", "-in", key, "-noout", "-modulus").decode().strip().split("=")[1]
            keys.append("    {/* %s */ true, QM_SIG_CLASS_COUNT, %dull,\n%s,\n        NULL, NULL, NULL}," %
                        (name, exponent, hex_lines(bytes.fromhex("0" * (len(modulus) % 2) + modulus))))
            for scheme, hash_name, salt in cases:
                options = ["rsa_padding_mode:pkcs1"] if salt is None else [
                    "rsa_padding_mode:pss", "rsa_pss_saltlen:%s" % {-1: "digest", -3: "max"}[salt],
                    "rsa_mgf1_md:" + hash_name]
                sig = sign(key, folder, hash_name, options)
                sigs.append((len(keys) - 1, scheme, hash_name, sig))
        for curve, name, size in CURVES:
            # two keys; the second is the one that signs
            coordinates = []
            for _ in range(2):
                openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:" + curve, "-out", key)
                point = numbers(openssl("pkey", "-in", key, "-noout", "-text").decode(), "pub")
                coordinates = [hex_lines(point[1:1 + size]), hex_lines(point[1 + size:])] + coordinates
            keys.append("    {/* %s */ false, QM_SIG_%s, 0,\n%s}," % (curve, name, ",\n".join(coordinates)))
            for hash_name in HASHES:
                r, s = ints_of_der(sign(key, folder, hash_name, []))
                sigs.append((len(keys) - 1, "ECDSA", hash_name, r.to_bytes(size, "big") + s.to_bytes(size, "big")))

    print("/* Made by selftest_vectors.py: keys made for this purpose alone, and signatures over the hash of\n"
          " * selftest_message. Not to be edited. */\n/* clang-format off */")
    print("#ifndef QM_SELFTEST_VECTORS_H\n#define QM_SELFTEST_VECTORS_H\n")
    print('#include "engine/kernel/kernel.h"\n')
    print("static const char selftest_message[] = \"quotemill self-test\";\n")
    print("/* a: modulus or x, b: y; hex, big-endian. other: a key that signed nothing here, EC only */")
    print("static const struct selftest_key {\n    bool rsa;\n    enum qm_sig_class ec_class;\n    uint64_t exponent;\n"
          "    const char *a, *b, *other_a, *other_b;\n} selftest_keys[] = {")
    print("\n".join(keys))
    print("};\n")
    print("static const struct selftest_signature {\n    uint8_t key; /* index into selftest_keys */\n    uint8_t scheme;\n"
          "    uint8_t hash;\n    const char *sig;\n} selftest_signatures[] = {")
    for key, scheme, hash_name, sig in sigs:
        print("    {%d, QM_SCHEME_%s, QM_HASH_%s,\n%s}," % (key, scheme, hash_name.upper(), hex_lines(sig)))
    print("};\n\n#endif")


main()
