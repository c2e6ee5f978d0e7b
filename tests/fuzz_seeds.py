#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets other than the event log's: small, made here, one of each shape.

    fuzz_seeds.py tests/corpus"""
import base64, os, struct, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import corim_test as corim


def put(name, i, data):
    os.makedirs(os.path.join(sys.argv[1], name), exist_ok=True)
    with open(os.path.join(sys.argv[1], name, f'{i:02}'), 'wb') as f:
        f.write(data)


def s(t): return bytes([0xa0 | len(t)]) + t.encode()
def b(v): return b'\xc5' + struct.pack('>H', len(v)) + v


attest = struct.pack('>IHH', 0xff544347, 0x8018, 0) + struct.pack('>H', 4) + b'once' + struct.pack('>QIIBQ', 7, 1, 2, 1, 3) + \
    struct.pack('>IHB', 1, 11, 3) + b'\xff\x03\0' + struct.pack('>H', 32) + bytes(32)
rsa = struct.pack('>HHH', 0x14, 0x0b, 256) + bytes(256)
ecdsa = struct.pack('>HHH', 0x18, 0x0b, 32) + b'\1' * 32 + struct.pack('>H', 32) + b'\2' * 32
good = [s('v') + b'\1', s('id') + s('machine-1'), s('quote') + b(attest), s('sig') + b(rsa)]
extra = [s('pcrs') + b'\x81\x0b\x82\0' + b(bytes(32)) + b'\x07' + b(bytes(32)), s('t') + b'\xcf' + bytes(8), s('agent') + s('seed'),
         s('log') + b(bytes(16)), s('other') + b'\x93\1\xc0\x81\1\2']
record = lambda pairs: bytes([0x80 | len(pairs)]) + b''.join(pairs)
for i, data in enumerate([record(good), record(good + extra), record(good) + record(good + extra), record(good)[:-9], b'\x80', b'\xc1',
                          record(good + [s('x') + b'\xd4\0\0']), record(good + [s('x') + b'\x91' * 9 + b'\0']),
                          b'\xdf\xff\xff\xff\xff', record(good + good[:1])]):
    put('evidence', i, data)
rsa_public = bytes.fromhex('0001000b000500720000001000140 00b0800000000000100'.replace(' ', '')) + b'\x80' + bytes(254) + b'\1'
ecc_public = bytes.fromhex('0023000b00050072000000100018000b000300100020') + b'\3' * 32 + b'\0\x20' + b'\4' * 32
for i, (which, data) in enumerate([(0, attest), (0, attest[:-1]), (0, attest + b'\0'), (1, rsa), (1, ecdsa), (1, ecdsa[:-3]), (2, rsa_public),
                                   (2, struct.pack('>H', len(rsa_public)) + rsa_public), (2, ecc_public)]):
    put('tpm2', i, bytes([which]) + data)
ak = base64.b64encode(rsa_public).decode()
hexes = '"%s"' % ('ab' * 32)
for i, line in enumerate([
        '{"id":"m","ak":"%s"}' % ak,
        '{"id":"m","ak":"%s","scheme":"rsassa-sha256","nonce":"00ff","require_log":true,"group":"g","tags":{"a":"b"}}' % ak,
        '{"id":"m","ak":"%s","select":[{"bank":"sha1","pcrs":[0]},{"bank":"sha256","pcrs":[0,7]}],"baselined":[7],"baseline":{"7":%s}}' % (ak, hexes),
        '{"id":"m","id":"n"}', '[]', '{"id":"\\ud800"}', '{"id":7}', '{"id":"m","ak":"-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----\\n"}']):
    put('enrolment', i, line.encode())
# EKs: L-2 with a point that is on its curve (of test_credential.c's known values), and one for RSA whose modulus is any odd number
policy = bytes.fromhex('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa')
two_b = lambda v: struct.pack('>H', len(v)) + v
ecc_ek = two_b(bytes.fromhex('0023000b000300b2') + two_b(policy) + bytes.fromhex('000600800043001000030010') +
               two_b(bytes.fromhex('106eadd550ecb605e96044e859d5fe7d42f24ec8f8da21f24b26058ddd790485')) +
               two_b(bytes.fromhex('c11540dc0fb9c9a1f480543f343d070b11d1e3e6317e2c02b3ca7d00448e720a')))
rsa_ek = two_b(bytes.fromhex('0001000b000300b2') + two_b(policy) + bytes.fromhex('0006008000430010080000000000') + two_b(b'\x80' + bytes(254) + b'\1'))
text = lambda v: base64.b64encode(v).decode()
proposal = '{"v":1,"kind":"proposal","id":"m","ak":"%s","scheme":"rsassa-sha256","ek":"%s","ek_cert":["%s"]}'
for i, line in enumerate([
        proposal % (text(two_b(rsa_public)), text(ecc_ek), text(b'0\x03\x02\x01\x01')), proposal % (text(two_b(ecc_public)), text(rsa_ek), 'AAAA'),
        proposal % (text(two_b(ecc_public)), text(two_b(ecc_public)), 'AAAA","AAAA'), '{"v":1,"kind":"proposal","id":"m","ak":"AAAA","more":[{}]}',
        '{"v":1,"kind":"answer","challenge":"%s","id":"m","proof":"%s"}' % ('0a' * 16, '0B' * 32), '{"kind":"answer","v":1,"id":"m"}']):
    put('ceremony', i, line.encode())
for i, data in enumerate([b'', b'\x10\0\1', bytes(range(60)), b'\x12\x40\xff\x12\x41\xff\x12\x48\x80', b'QMTABLE\n' + bytes(104)]):
    put('table', i, data)
listed = lambda kind, words, proved=1: struct.pack('<IBBxx', kind, len(words), proved) + bytes(32)
for i, data in enumerate([struct.pack('<II', 0, 0), struct.pack('<II', 1, 3) + listed(13, 'cmd') + b'cmd',
                          struct.pack('<II', 3, 5) + listed(13, 'cmd') + listed(4, '', 0) + listed(8, 'ok') + b'cmdok',
                          struct.pack('<II', 2, 5) + listed(13, 'cmd') + listed(4, '', 0) + b'cmdok',
                          struct.pack('<II', 1, 2) + listed(13, 'no') + b'\xc3\xa9']):
    put('explain', i, data)
both = [corim.by_key(corim.ALL), corim.by_register(corim.ALL)]
for i, data in enumerate([corim.manifest(*map(corim.comid, both)), corim.manifest(corim.comid(both[0]), a4={0: corim.Tag(1, 9), 1: corim.Tag(1, 2.5e9)})] +
                         [raw for raw, _ in corim.REFUSED]):
    put('corim', i, data)
