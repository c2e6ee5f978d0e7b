#!/usr/bin/env python3
"""Runs the Wycheproof vectors that apply through every kernel: wycheproof.py DRIVER SOURCE_ROOT.

The vectors are not part of this project. They are looked for in $QM_CORPUS/wycheproof, else in ../shared/corpus/wycheproof
beside the source root; where they are missing the test is skipped (exit 77).

What is expected, and how it is counted. The contract is stricter than Wycheproof in places, so that a vector's "valid" is not
always ours:
  passed         the kernel's answer is the expected one. Expected is valid only where the vector says "valid" and the contract
                 takes its parameters: PSS with MGF1 over the same hash and a salt as long as the digest or the longest that
                 fits. The other way round, a vector that is wrong only by a salt length other than its group's is valid
                 where the contract takes that length ("s_len changed to 222"). "acceptable" (PKCS#1 without the NULL) is
                 invalid: blocks are compared whole.
  by structure   refused before any kernel: a DER signature that is not strict DER of two positive integers, r or s longer than
                 the curve's numbers, an RSA signature whose length is not the modulus'. The vector must say "invalid".
                 r or s outside [1, n-1] is refused there too, and goes through the portable kernel and the oracle besides.
  key refused    the key is not one that can be enrolled (an RSA exponent under 65537).
  not applicable the hash is not one that a quote is signed with (SHA-1, SHA-224)."""
import collections
import glob
import json
import os
import re
import subprocess
import sys

HASHES = {"SHA-256": ("sha256", 32), "SHA-384": ("sha384", 48), "SHA-512": ("sha512", 64)}
CURVES = {
    "secp256r1": ("p256", 32, 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551),
    "secp384r1": ("p384", 48, 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973),
}


def der_integer(data, at):
    """A positive INTEGER in the fewest bytes, of a short length: (value, end), or None."""
    if at + 2 > len(data) or data[at] != 0x02 or not 0 < data[at + 1] < 0x80:
        return None
    end = at + 2 + data[at + 1]
    body = data[at + 2:end]
    if end > len(data) or body[0] & 0x80 or (len(body) > 1 and body[0] == 0 and not body[1] & 0x80):
        return None
    return int.from_bytes(body, "big"), end


def der_pair(data):
    """(r, s) of a SEQUENCE of two INTEGERs in strict DER, or None. Both curves' signatures fit lengths of one byte."""
    if len(data) < 2 or data[0] != 0x30 or data[1] >= 0x80 or data[1] != len(data) - 2:
        return None
    r = der_integer(data, 2)
    s = r and der_integer(data, r[1])
    return (r[0], s[0]) if s and s[1] == len(data) else None


def ecdsa(group, test):
    key = group["publicKey"]
    name, size, order = CURVES[key["curve"]]
    sig = bytes.fromhex(test["sig"])
    if group["type"] == "EcdsaP1363Verify":
        pair = (int.from_bytes(sig[:size], "big"), int.from_bytes(sig[size:], "big")) if len(sig) == 2 * size else None
    else:
        pair = der_pair(sig)
    if pair is None or max(pair) >= 1 << 8 * size:
        return None
    outside = not all(0 < v < order for v in pair)
    rs = b"".join(v.to_bytes(size, "big") for v in pair)
    return [name, HASHES[group["sha"]][0], "ecdsa-outside" if outside else "ecdsa", "0", key["wx"], key["wy"],
            test["msg"] or "-", rs.hex()]


def rsa(group, test):
    key = group["publicKey"]
    bits = int(key["modulus"], 16).bit_length()
    if len(test["sig"]) // 2 != (bits + 7) // 8:
        return None
    return ["rsa", HASHES[group["sha"]][0], "rsapss" if "Pss" in group["type"] else "rsassa", key["publicExponent"],
            key["modulus"], "-", test["msg"] or "-", test["sig"]]


def expect_valid(group, test):
    """What the contract says to this vector."""
    if "Pss" not in group["type"]:
        return test["result"] == "valid"
    changed = re.fullmatch(r"s_len changed to (\d+)", test["comment"])
    if test["result"] != "valid" and not changed:
        return False
    salt_len = int(changed[1]) if changed else group["sLen"]
    size = HASHES[group["sha"]][1]
    longest = (int(group["publicKey"]["modulus"], 16).bit_length() - 1 + 7) // 8 - size - 2
    return group["mgf"] == "MGF1" and group["mgfSha"] == group["sha"] and salt_len in (size, longest)


def main():
    driver, root = sys.argv[1:3]
    folder = os.path.join(os.environ.get("QM_CORPUS") or os.path.join(root, "..", "shared", "corpus"), "wycheproof")
    files = sorted(glob.glob(os.path.join(folder, "*.json")))
    if not files:
        print("skipped: no Wycheproof vectors in", folder)
        sys.exit(77)
    lines, expected, failures = [], {}, []
    count = collections.Counter()
    for path in files:
        with open(path) as f:
            groups = json.load(f)["testGroups"]
        for group in groups:
            for test in group["tests"]:
                ident = "%s#%d" % (os.path.basename(path).removesuffix("_test.json"), test["tcId"])
                count["vectors"] += 1
                if group["sha"] not in HASHES:
                    count["not applicable"] += 1
                    continue
                words = (rsa if group["type"].startswith("Rsassa") else ecdsa)(group, test)
                if words is None:
                    count["by structure"] += 1
                    if test["result"] == "valid":
                        failures.append("%s is valid and refused by its structure: %s" % (ident, test["comment"]))
                    continue
                want = expect_valid(group, test)
                count["expected valid" if want else "expected invalid"] += 1
                if words[2] == "ecdsa-outside" and want:
                    failures.append("%s is valid with r or s out of range" % ident)
                expected[ident] = ("valid" if want else "invalid", test["comment"], group)
                lines.append(" ".join([ident] + words))
    done = subprocess.run([driver], input="\n".join(lines) + "\n", capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit("the driver ended with %d: %s" % (done.returncode, done.stderr))
    by_kernel, answered = collections.Counter(), set()
    for line in done.stdout.splitlines():
        ident, kernel, answer = line.split()[:3]
        want, comment, group = expected[ident]
        answered.add(ident)
        if answer == "refused":
            count["key refused"] += 1
            if int(group["publicKey"].get("publicExponent", "010001"), 16) >= 65537:
                failures.append("%s: a good key is refused: %s" % (ident, line))
        elif answer == want:
            by_kernel[kernel] += 1
        else:
            failures.append("%s: %s says %s, expected %s: %s" % (ident, kernel, answer, want, comment))
    failures += ["%s: no answer" % i for i in expected if i not in answered]
    for failure in failures[:40]:
        print(failure)
    print(", ".join("%s %d" % item for item in count.items()))
    print("passed: " + ", ".join("%s %d" % item for item in by_kernel.items()) + "; failed: %d" % len(failures))
    sys.exit(1 if failures else 0)


main()
