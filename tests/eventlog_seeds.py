#!/usr/bin/env python3
"""Makes the seeds of fuzz_eventlog: eventlog_seeds.py FOLDER. Everything in them is made up here; the same every time."""
import hashlib, os, struct, sys, uuid

ALGS = {4: 'sha1', 11: 'sha256', 12: 'sha384', 13: 'sha512'}
GLOBAL = uuid.UUID('8be4df61-93ca-11d2-aa0d-00e098032b8c').bytes_le
SECURITY = uuid.UUID('d719b2cb-3d3a-4596-a3bc-dad00e67656f').bytes_le
X509 = uuid.UUID('a5c059a1-94e4-4aa7-87b5-ab155c2bf072').bytes_le
SHA256 = uuid.UUID('c1c41626-504c-4092-aca9-41f936934328').bytes_le
OWNER = uuid.UUID('11111111-2222-3333-4444-555555555555').bytes_le


def ucs2(text): return text.encode('utf-16-le')


def spec_id(algs, vendor=b'', sizes=None):
    d = b'Spec ID Event03\0' + struct.pack('<IBBBBI', 0, 0, 2, 0, 2, len(algs))
    for a in algs: d += struct.pack('<HH', a, (sizes or {}).get(a) or hashlib.new(ALGS[a]).digest_size)
    d += bytes([len(vendor)]) + vendor
    return struct.pack('<II20sI', 0, 3, bytes(20), len(d)) + d


def event(pcr, kind, data, algs=(4, 11), measured=None):
    d = struct.pack('<III', pcr, kind, len(algs))
    for a in algs:
        d += struct.pack('<H', a) + hashlib.new(ALGS[a], data if measured is None else measured).digest()
    return d + struct.pack('<I', len(data)) + data


def legacy(pcr, kind, data): return struct.pack('<II20sI', pcr, kind, hashlib.sha1(data).digest(), len(data)) + data


def node(kind, sub, body): return struct.pack('<BBH', kind, sub, 4 + len(body)) + body


END = node(0x7f, 0xff, b'')
PCI = node(2, 1, struct.pack('<II', 0x0a0341d0, 0)) + node(1, 1, b'\0\x1f')
HD = node(4, 1, struct.pack('<IQQ', 1, 2048, 4096) + OWNER + b'\2\2')
FILE = node(4, 4, ucs2('\\EFI\\BOOT\\BOOTX64.EFI\0'))


def paths():
    yield PCI + node(3, 18, struct.pack('<HHH', 1, 0xffff, 0)) + HD + FILE + END
    yield PCI + node(3, 5, b'\1\0') + node(3, 15, struct.pack('<HHBBB', 1, 2, 3, 4, 5)) + node(4, 2, bytes(20)) + END
    yield PCI + node(3, 23, struct.pack('<I', 1) + bytes(range(8))) + node(3, 17, b'\1') + END
    yield node(3, 11, bytes(range(32)) + b'\1') + node(3, 12, bytes(23)) + node(3, 24, b'http://x.example/') + END
    yield node(3, 13, bytes(56)) + node(3, 14, bytes(15)) + node(3, 31, b'\0' + bytes(16)) + END
    yield node(1, 3, bytes(20)) + node(1, 4, OWNER + b'hi') + node(1, 5, bytes(4)) + node(4, 6, OWNER) + node(4, 7, OWNER) + END
    yield node(2, 2, bytes(12) + b'A\0B\0C\0') + node(2, 3, bytes(8)) + node(4, 8, bytes(20)) + node(5, 1, bytes(4) + b'disk\0') + END
    yield node(3, 16, bytes(6) + ucs2('serial')) + node(3, 19, bytes(14) + b'iqn.x') + node(3, 28, b'ssid' + bytes(28)) + END
    yield node(3, 22, bytes(20)) + node(3, 21, bytes(20)) + node(3, 9, bytes(44)) + node(3, 2, bytes(4)) + node(3, 1, bytes(4)) + END
    yield PCI + node(0x7f, 1, b'') + PCI + END + FILE  # two instances, then bytes behind the end
    yield b'\1\1\0\0' + PCI          # a node of no length
    yield b'\1\1\xff\xff' + PCI      # and one that is too long
    yield node(9, 9, b'?') + node(1, 1, b'')  # unknown, and too short for its type


def variable(guid, name, value, units=None):
    n = ucs2(name)
    return guid + struct.pack('<QQ', len(n) // 2 if units is None else units, len(value)) + n + value


def sigs(kind, *datas, size=None, header=b''):
    s = 16 + len(datas[0]) if size is None else size
    body = header + b''.join(OWNER + d for d in datas)
    return kind + struct.pack('<III', 28 + len(body), len(header), s) + body


def der(tag, *parts):
    b = b''.join(parts)
    return bytes([tag]) + (bytes([len(b)]) if len(b) < 128 else b'\x82' + struct.pack('>H', len(b))) + b


def certificate(name):
    rdn = der(0x31, der(0x30, der(6, b'\x55\4\3'), der(12, name)))
    tbs = der(0x30, der(0xa0, der(2, b'\2')), der(2, b'\1'), der(0x30), der(0x30), der(0x30), der(0x30, rdn), bytes(0) + der(4, bytes(200)))
    return der(0x30, tbs, der(0x30), der(3, b'\0'))


def option(text, path, rest=b''): return struct.pack('<IH', 1, len(path)) + ucs2(text + '\0') + path + rest


def image(path): return struct.pack('<QQQQ', 0x1000, 4096, 0, len(path)) + path


def gpt(count=1, claimed=None, entry=128):
    head = b'EFI PART' + struct.pack('<IIIIQQQQ', 0x10000, 92, 0, 0, 1, 99, 34, 66) + OWNER + struct.pack('<QIII', 2, 128, entry, 0)
    one = uuid.UUID('c12a7328-f81f-11d2-ba4b-00a0c93ec93b').bytes_le + OWNER + struct.pack('<QQQ', 34, 40, 1) + ucs2('EFI').ljust(72, b'\0')
    return head + struct.pack('<Q', count if claimed is None else claimed) + one.ljust(entry, b'\0') * count


def tag(ident, data): return struct.pack('<II', ident, len(data)) + data


def datas():
    "(type, data) of every decoder, well-formed and not"
    cert = certificate(b'A test certificate')
    for p in paths(): yield 0x80000003, image(p)
    yield 0x80000004, image(END)[:-1]
    yield 0x80000001, variable(GLOBAL, 'SecureBoot', b'\1')
    yield 0x80000001, variable(GLOBAL, 'PK', sigs(X509, cert))
    yield 0x80000001, variable(SECURITY, 'dbx', sigs(SHA256, bytes(32), bytes(range(32))) + sigs(X509, cert, header=b'head'))
    yield 0x80000001, variable(SECURITY, 'db', sigs(SHA256, bytes(32), size=0))
    yield 0x80000001, variable(SECURITY, 'db', b'')
    yield 0x80000001, variable(GLOBAL, 'SecureBoot', b'\1', units=2 ** 63)
    yield 0x80000001, variable(GLOBAL, 'Caf\u00e9\ud83d\ude00'.encode('utf-16', 'surrogatepass').decode('utf-16'), b'text')
    yield 0x80000002, variable(GLOBAL, 'BootOrder', b'\1\0\2\0')
    yield 0x8000000c, variable(GLOBAL, 'Boot0001', option('debian', HD + FILE + END, ucs2('quiet')))
    yield 0x80000002, variable(GLOBAL, 'Boot0002', b'\1\0\0\0\xff\xffx\0')
    yield 0x800000e0, variable(SECURITY, 'db', OWNER + cert)
    yield 0x800000e0, variable(SECURITY, 'db', OWNER + bytes(32))
    yield 0x800000e0, variable(OWNER, 'Shim', cert)
    yield 0x800000e0, variable(OWNER, 'SbatLevel', b'sbat,1,2023012900\n') + b'\0'
    yield 0x80000006, gpt(2)
    yield 0x8000000d, gpt(1, claimed=2 ** 60)
    yield 0x80000006, gpt(1, entry=256)
    yield 0x80000008, struct.pack('<QQ', 0xff000000, 0x10000)
    yield 0x8000000a, b'\3FV\0' + struct.pack('<QQ', 0xff000000, 0x10000)
    yield 0x80000009, struct.pack('<Q', 1) + OWNER + bytes(8)
    yield 0x8000000b, b'\4Tab\0' + struct.pack('<Q', 2) + OWNER + bytes(8)
    yield 0x8000000b, b'\4Tab\0' + struct.pack('<Q', 1) + OWNER + bytes(8)
    yield 0x80000007, b'Calling EFI Application from Boot Option'
    yield 0x80000010, b'HCRTM'
    yield 0xd, b'grub_cmd: linux /vmlinuz root=/dev/sda1 \xff\xfe quiet\0'
    yield 0xd, ucs2('initrd=\\initrd.img ro\0')
    yield 6, tag(0x40010001, tag(0x00020002, b'\1\0\0\0') + tag(0x40010003, tag(0x70001, ucs2('\\winload.efi\0')))) + tag(0x8f3b22ed, b'LoadOptions\0')
    yield 6, tag(0x40010001, tag(0x40010001, b'\0\0\0\0')) + b'\1\0'
    yield 4, b'\0\0\0\0'
    yield 4, b'\1\0\0\0'
    yield 1, b'ACPI DATA'
    yield 8, ucs2('v1.0\0')
    yield 8, OWNER
    yield 9, b'microcode'
    yield 0xb, struct.pack('<Q', 0)
    yield 0xc, b'\x10\0\0\0'
    yield 0x11, b'Vendor\0\0\1\2\3'
    yield 0x800000e1, b'SPDM Device Sec\0' + struct.pack('<HHII', 1, 0, 2, 1) + b'\1\1\4\0abcd' + struct.pack('<Q', len(PCI + END)) + PCI + END + b'context'
    yield 0x800000e2, b'SPDM Device Sec2' + struct.pack('<HBBIIIIQQ', 2, 0, 0, 0, 1, 0, 4, 7, len(PCI + END)) + PCI + END + b'subhcontext'
    yield 3, b'StartupLocality\0\3'
    yield 3, b'SP800-155 Event\0' + struct.pack('<I', 1) + OWNER
    yield 3, b'SP800-155 Event3' + struct.pack('<I', 1) + OWNER + b'\2M\0\2P\0\1\0\2F\0' + struct.pack('<I', 1) + b'\2V\0' + struct.pack('<II', 1, 4) + b'http' + struct.pack('<II', 0, 0)
    yield 0x402, bytes(36)
    yield 0x12345678, b'?'


def seeds():
    many = list(datas())
    head = spec_id((4, 11))
    plain = b''.join(event(i % 8, t, d) for i, (t, d) in enumerate(many))
    yield 'every-type', head + plain
    yield 'legacy', b''.join(legacy(i % 8, t, d) for i, (t, d) in enumerate(many[:20]))
    short = event(0, 8, ucs2('v1\0')) + event(4, 4, bytes(4))
    yield 'short', head + short
    yield 'padding-00', head + short + bytes(40)
    yield 'padding-ff', head + short + b'\xff' * 7
    yield 'junk', head + short + b'\xff\xff\0'
    yield 'sha256-only', spec_id((11,)) + event(0, 8, b'v1', (11,))
    yield 'four-banks', spec_id((4, 11, 12, 13), b'vendor') + event(0, 8, b'v1', (13, 11)) + event(0, 4, bytes(4), ())
    yield 'sm3', spec_id((11, 18), sizes={18: 32}) + struct.pack('<IIIH', 0, 4, 2, 11) + bytes(32) + struct.pack('<H', 18) + bytes(32) + struct.pack('<I', 0)
    yield 'locality-hcrtm', head + event(0, 3, b'StartupLocality\0\3') + event(0, 0x80000010, b'HCRTM')
    yield 'drtm', head + event(17, 0x402, bytes(36)) + event(18, 0x410, b'')
    yield 'windows', head + event(0xffffffff, 3, tag(0xc0010004, tag(0x80080003, ucs2('Windows AIK\0')))) + short
    yield 'no-events', head
    yield 'no-digests', head + event(3, 4, bytes(4), ())
    yield 'twice', head + event(3, 4, bytes(4), (4, 4))
    yield 'cut', (head + short)[:-3]
    yield 'zero-algorithms', spec_id(())
    for version in (b'00', b'02', b'03'):  # the header's data as one event's, whose type is the byte in front
        yield f'data-header-{version.decode()}', b'\3' + head[32:].replace(b'Event03', b'Event' + version)
    yield 'lying-size', spec_id((4, 11), sizes={11: 20}) + short
    bases = (0, 0x400, 0x80000000, 0x800000e0)
    for i, (t, d) in enumerate(many):  # the data alone, its type in front
        base = max(b for b in bases if b <= t)
        if t - base < 32: yield f'data-{i:02}-{t:x}', bytes([bases.index(base) << 5 | (t - base)]) + d


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    for name, data in seeds():
        with open(os.path.join(folder, name), 'wb') as f: f.write(data)


if __name__ == '__main__': main()
