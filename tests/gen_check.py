#!/usr/bin/env python3
"""Checks `quotemill gen` from the outside, with nothing of quotemill's own: an independent reader of its records, logs, quotes
and keys (Python's standard library; the openssl command for signatures; tpm2_eventlog for the logs, where it is installed).

    gen_check.py QUOTEMILL            the whole suite
    gen_check.py --fleet DIR ROUND    every record of one round of a fleet that is there

Prints one line a failure and exits 0 only if there is none."""
import base64, collections, hashlib, json, os, resource, shutil, stat, struct, subprocess, sys, tempfile, time

failures = 0


def check(good, what):
    global failures
    if not good:
        failures += 1
        print('FAIL', what)
    return good


# --- msgpack, what a record may hold ---

def unpack(b, o):
    t = b[o]
    o += 1
    if t < 0x80:
        return t, o
    if t & 0xf0 == 0x80:
        return unpack_map(b, o, t & 15)
    if t & 0xe0 == 0xa0:
        return b[o:o + (t & 31)].decode(), o + (t & 31)
    for base, kind in ((0xc4, 'bin'), (0xd9, 'str')):
        if base <= t <= base + 2:
            w = 1 << (t - base)
            n = int.from_bytes(b[o:o + w], 'big')
            o += w
            assert o + n <= len(b), 'cut short'
            return (b[o:o + n] if kind == 'bin' else b[o:o + n].decode()), o + n
    if 0xcc <= t <= 0xcf:
        w = 1 << (t - 0xcc)
        return int.from_bytes(b[o:o + w], 'big'), o + w
    if t in (0xde, 0xdf):
        w = 2 if t == 0xde else 4
        return unpack_map(b, o + w, int.from_bytes(b[o:o + w], 'big'))
    raise ValueError('msgpack type %02x' % t)


def unpack_map(b, o, n):
    m = {}
    for _ in range(n):
        k, o = unpack(b, o)
        v, o = unpack(b, o)
        assert k not in m, 'a key twice'
        m[k] = v
    return m, o


# --- event logs ---

Event = collections.namedtuple('Event', 'pcr type sha1 sha256 data')
NO_ACTION = 3


def read_log(b):
    pcr, kind = struct.unpack_from('<II', b, 0)
    size, = struct.unpack_from('<I', b, 28)
    assert (pcr, kind) == (0, NO_ACTION) and b[32:48] == b'Spec ID Event03\0'
    count, a1, s1, a2, s2 = struct.unpack_from('<IHHHH', b, 32 + 24)
    assert (count, a1, s1, a2, s2) == (2, 4, 20, 11, 32) and size == 37
    o, events = 32 + size, []
    while o < len(b):
        pcr, kind, count, alg = struct.unpack_from('<IIIH', b, o)
        assert count == 2 and alg == 4
        sha1, (alg,) = b[o + 14:o + 34], struct.unpack_from('<H', b, o + 34)
        assert alg == 11
        sha256, (size,) = b[o + 36:o + 68], struct.unpack_from('<I', b, o + 68)
        assert o + 72 + size <= len(b), 'event cut short'
        events.append(Event(pcr, kind, sha1, sha256, b[o + 72:o + 72 + size]))
        o += 72 + size
    return events


def replay(events):
    pcrs = {i: bytes(32) for i in range(24)}
    for e in events:
        if e.type == NO_ACTION:
            if e.pcr == 0 and e.data[:16] == b'StartupLocality\0':
                pcrs[0] = bytes(31) + e.data[16:17]
            continue
        pcrs[e.pcr] = hashlib.sha256(pcrs[e.pcr] + e.sha256).digest()
    return pcrs


def measured_data(e):
    """What the specification (or grub) says the digest is over; None where that is not in the log."""
    if e.type in (0x04, 0x08, 0x11, 0x80000001, 0x8000000c, 0x80000006, 0x80000007, 0x800000e0):
        return e.data
    if e.type == 0x80000002:
        n, d = struct.unpack_from('<QQ', e.data, 16)
        return e.data[32 + 2 * n:32 + 2 * n + d]
    if e.type == 0x0d and e.pcr == 8:
        for prefix, cut in ((b'grub_cmd: ', 1), (b'kernel_cmdline: ', 1), (b'grub_kernel_cmdline ', 1), (b'grub_cmd ', 0)):
            if e.data.startswith(prefix):
                return e.data[len(prefix):len(e.data) - cut]
    return None


# --- quotes and keys ---

Quote = collections.namedtuple('Quote', 'signer extra clock reset restart safe firmware digest')
HASHES = {11: 'sha256', 12: 'sha384'}
KINDS = {(1, 0x14): 'rsa2048', (1, 0x16): 'rsapss2048', (0x23, 3): 'p256', (0x23, 4): 'p384'}


def read_quote(b):
    magic, kind, n = struct.unpack_from('>IHH', b, 0)
    assert magic == 0xff544347 and kind == 0x8018
    signer, o = b[8:8 + n], 8 + n
    n, = struct.unpack_from('>H', b, o)
    extra, o = b[o + 2:o + 2 + n], o + 2 + n
    clock, reset, restart, safe, firmware, count, alg, size = struct.unpack_from('>QIIBQIHB', b, o)
    o += 32
    assert count == 1 and alg == 11 and size == 3 and b[o:o + 3] == b'\xff\x03\x00'
    n, = struct.unpack_from('>H', b, o + 3)
    assert o + 5 + n == len(b), 'left over'
    return Quote(signer, extra, clock, reset, restart, safe, firmware, b[o + 5:])


def read_public(b):
    """TPM2B_PUBLIC -> (kind, hash, DER SubjectPublicKeyInfo, Name)."""
    assert struct.unpack_from('>H', b, 0)[0] == len(b) - 2
    kind, name_alg, attributes, policy, symmetric, scheme, hash_alg = struct.unpack_from('>HHIHHHH', b, 2)
    assert name_alg == 11 and policy == 0 and symmetric == 0x10
    assert attributes & 0x70072 == 0x50072, 'restricted, sign, fixedTPM, fixedParent, sensitiveDataOrigin; not decrypt'
    name = b'\0\x0b' + hashlib.sha256(b[2:]).digest()

    def der(tag, body):
        n = len(body)
        return bytes([tag]) + (bytes([n]) if n < 128 else bytes([0x81, n]) if n < 256 else b'\x82' + struct.pack('>H', n)) + body
    if kind == 1:
        bits, exponent, n = struct.unpack_from('>HIH', b, 18)
        modulus = b[26:]
        assert (bits, exponent, n, len(modulus)) == (2048, 0, 256, 256)
        key = der(0x30, der(2, b'\0' + modulus) + der(2, b'\x01\x00\x01'))
        spki = der(0x30, der(0x30, bytes.fromhex('06092a864886f70d0101010500')) + der(3, b'\0' + key))
        return KINDS[kind, scheme], HASHES[hash_alg], spki, name
    curve, kdf, n = struct.unpack_from('>HHH', b, 18)
    x, y = b[24:24 + n], b[26 + n:]
    assert scheme == 0x18 and kdf == 0x10 and len(x) == len(y) == n
    oid = {3: '06082a8648ce3d030107', 4: '06052b81040022'}[curve]
    spki = der(0x30, der(0x30, bytes.fromhex('06072a8648ce3d0201' + oid)) + der(3, b'\0\4' + x + y))
    return KINDS[kind, curve], HASHES[hash_alg], spki, name


def openssl_verifies(kind, spki, sig, message):
    scheme, alg = struct.unpack_from('>HH', sig, 0)
    n, = struct.unpack_from('>H', sig, 4)
    with tempfile.TemporaryDirectory() as d:
        def put(name, data):
            with open(os.path.join(d, name), 'wb') as f:
                f.write(data)
            return os.path.join(d, name)
        options = []
        if kind.startswith('rsa'):
            assert len(sig) == 6 + n == 262 and scheme == (0x14 if kind == 'rsa2048' else 0x16)
            raw = sig[6:]
            if kind == 'rsapss2048':
                options = ['-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:digest']
        else:
            assert scheme == 0x18
            r, s = sig[6:6 + n], sig[8 + n:]
            assert len(r) == len(s) == (32 if kind == 'p256' else 48)

            def integer(v):
                v = v.lstrip(b'\0') or b'\0'
                v = b'\0' + v if v[0] & 0x80 else v
                return bytes([2, len(v)]) + v
            body = integer(r) + integer(s)
            raw = b'\x30' + bytes([len(body)]) + body
        pem = put('pub.pem', b'-----BEGIN PUBLIC KEY-----\n' + base64.encodebytes(spki) + b'-----END PUBLIC KEY-----\n')
        return subprocess.run(['openssl', 'dgst', '-' + HASHES[alg], '-verify', pem, '-signature', put('sig', raw), *options,
                               put('message', message)], capture_output=True).returncode == 0


# --- a fleet ---

class Machine:
    pass


def spool_files(spool):
    for where, _, names in sorted(os.walk(spool)):
        for name in sorted(names):
            yield os.path.join(where, name)


def read_enrolments(fleet):
    lines = {}
    with open(os.path.join(fleet, 'enroll.ndjson')) as f:
        for line in f:
            e = json.loads(line)
            assert e['id'] not in lines, 'an id twice'
            lines[e['id']] = e
    return lines


def read_round(fleet, r, per_file=1):
    """Every record of a round, checked as far as one record goes: id -> Machine."""
    enrolled, machines, keys = read_enrolments(fleet), {}, {}
    files = list(spool_files(os.path.join(fleet, 'spool-%d' % r)))
    for path in files:
        with open(path, 'rb') as f:
            b = f.read()
        o, count = 0, 0
        while o < len(b):
            record, o = unpack(b, o)
            count += 1
            m = Machine()
            m.record, m.id = record, record['id']
            m.enrolment = enrolled[m.id]
            assert m.id not in machines
            machines[m.id] = m
            ak = m.enrolment['ak']
            if ak not in keys:
                keys[ak] = read_public(base64.b64decode(ak))
            m.kind, m.hash, m.spki, name = keys[ak]
            m.quote, m.events = read_quote(record['quote']), read_log(record['log'])
            m.pcrs = replay(m.events)
            check(record['v'] == 1 and record['ak'] == name and len(m.quote.extra) == 32 and len(m.quote.signer) == 34,
                  m.id + ': fields')
            check(set(record) - {'pcrs'} == {'v', 'id', 'quote', 'sig', 'log', 'ak', 't', 'agent'}, m.id + ': keys')
            check(hashlib.new(m.hash, b''.join(m.pcrs[i] for i in range(10))).digest() == m.quote.digest,
                  m.id + ': the replayed log is not what was quoted')
            if 'pcrs' in record:
                check(record['pcrs'] == {11: {i: m.pcrs[i] for i in range(10)}}, m.id + ': pcrs')
            for i, e in enumerate(m.events):
                data = measured_data(e)
                if data is not None:
                    check(hashlib.sha256(data).digest() == e.sha256 and hashlib.sha1(data).digest() == e.sha1,
                          '%s: digest of event %d' % (m.id, i + 1))
        check(count == per_file or path == files[-1], path + ': %d records' % count)
    check(set(machines) == set(enrolled), 'records and enrolments differ in their ids')
    return machines


def baseline_of(m):
    return {int(k): bytes.fromhex(v) for k, v in m.enrolment['baseline'].items()}


def moved(m):
    base = baseline_of(m)
    assert set(base) == set(range(10))
    return {i for i in range(10) if base[i] != m.pcrs[i]}


class Runner:
    def __init__(self, binary, root):
        self.binary, self.root = binary, root

    def path(self, name):
        return os.path.join(self.root, name)

    def run(self, name, *args, expect=0):
        p = subprocess.run([self.binary, 'gen', '--out', self.path(name), *map(str, args)], capture_output=True, text=True)
        check(p.returncode == expect, 'gen %s %s: exit %d, not %d: %s' % (name, args, p.returncode, expect, p.stderr))
        if expect != 0:
            check(p.stderr.count('\n') == 1 and p.stdout == '', 'gen %s %s: one line on stderr: %r' % (name, args, p.stderr))
        return p


def tree(path):
    found = {}
    for where, _, names in os.walk(path):
        for name in names:
            full = os.path.join(where, name)
            with open(full, 'rb') as f:
                found[os.path.relpath(full, path)] = hashlib.sha256(f.read()).hexdigest()
    return found


def check_fleet(run):
    """A fleet through its rounds: good, tampered twice, updated, good again."""
    n = 120
    p = run.run('a', '--instances', n, '--baseline', '--keys', 5, '--seed', 7, '--json')
    made = json.loads(p.stdout)
    check(p.stdout.count('\n') == 1 and made['records'] == n and made['files'] == n and made['keys'] == 5, 'gen --json: ' + p.stdout)
    check(made['bytes'] == sum(os.path.getsize(f) for f in spool_files(run.path('a/spool-1'))), '--json: bytes')
    with open(run.path('a/fleet.json')) as f:
        kept = json.load(f)
    check((kept['instances'], kept['keys'], kept['seed'], kept['baseline'], kept['key']) == (n, 5, 7, True, 'rsa2048'), 'fleet.json')
    mode = stat.S_IMODE(os.stat(run.path('a/keys')).st_mode)
    check(mode == 0o700 and all(stat.S_IMODE(os.stat(os.path.join(run.path('a/keys'), f)).st_mode) == 0o600
                                for f in os.listdir(run.path('a/keys'))), 'modes of keys')
    check(len(os.listdir(run.path('a/keys'))) == 5, 'number of keys')

    one = read_round(run.path('a'), 1)
    check(len(one) == n and not any(moved(m) for m in one.values()), 'round 1 is as its baseline')
    check(all(n in os.listdir(run.path('a/spool-1')) for n in (i + '.mpk' for i in one)), 'file names')
    groups = collections.defaultdict(list)
    for m in one.values():
        groups[m.enrolment.get('group')].append(m)
        check(55 <= len(m.events) + 1 <= 115 and 15000 <= len(m.record['log']) <= 45000, m.id + ': size of its log')
        check({e.pcr for e in m.events} <= set(range(10)) | {14}, m.id + ': PCRs of its log')
    check(len(groups) >= 6 and None in groups, 'images: %s' % list(groups))
    for group, members in groups.items():
        if group is None:
            continue
        for i in (0, 2, 3, 4, 7, 8, 9):
            check(len({m.pcrs[i] for m in members}) == 1, '%s: PCR %d is the same on all machines' % (group, i))
        for i in (1, 5):
            check(len({m.pcrs[i] for m in members}) == len(members), '%s: PCR %d is each machine\'s own' % (group, i))
        different = [sum(a != b for a, b in zip(members[0].events, m.events)) for m in members[1:]]
        check(all(d <= 12 for d in different), '%s: machines share most events' % group)
    for m in list(one.values())[:4]:
        check(openssl_verifies(m.kind, m.spki, m.record['sig'], m.record['quote']), m.id + ': signature')
        check(not openssl_verifies(m.kind, m.spki, m.record['sig'], m.record['quote'] + b'x'), m.id + ': the check checks')

    previous = one
    shown = {}
    for r, args, tampered, updated in ((2, ('--tamper', 0.05), 6, 0), (3, (), 0, 0), (4, ('--tamper', 0.05), 6, 0),
                                       (5, ('--update', 0.25), 0, 30), (6, ('--tamper', 0.1, '--update', 1), 12, n),
                                       (7, (), 0, 0)):
        p = run.run('a', '--round', r, *args, '--json')
        made = json.loads(p.stdout)
        now = read_round(run.path('a'), r)
        check((made['tampered'], made['updated']) == (tampered, updated), 'round %d: counts' % r)
        changed = {i: moved(m) for i, m in now.items() if moved(m)}
        if updated == 0:
            check(len(changed) == tampered, 'round %d: %d machines changed, not %d' % (r, len(changed), tampered))
            check(all(len(c) == 1 for c in changed.values()), 'round %d: one PCR a tampered machine: %s' % (r, changed))
            for i in changed:
                a, b = one[i].events, now[i].events
                check(len(a) == len(b) and sum(x.sha256 != y.sha256 for x, y in zip(a, b)) == 1 and
                      sum(x != y for x, y in zip(a, b)) == 1 and len(one[i].record['log']) == len(now[i].record['log']),
                      'round %d: one event of %s changed' % (r, i))
        elif tampered == 0:
            check(len(changed) == updated and all(c == {4, 8, 9} for c in changed.values()), 'round %d: updates' % r)
        else:
            check(len(changed) == n and all({4, 8, 9} <= c for c in changed.values()), 'round %d: updates and tampering' % r)
        shown[r] = {i: now[i].pcrs for i in changed}
        rebooted = resumed = 0
        for i, m in now.items():
            a, b = previous[i].quote, m.quote
            pcrs_moved = any(previous[i].pcrs[k] != m.pcrs[k] for k in range(10))
            check(b.clock > a.clock, '%s: clock in round %d' % (i, r))
            check(m.record['t'] > previous[i].record['t'] and b.extra != a.extra, '%s: t, nonce in round %d' % (i, r))
            check(b.reset - a.reset in (0, 1) and (not pcrs_moved or b.reset == a.reset + 1), '%s: reset in round %d' % (i, r))
            check(b.reset > a.reset or b.restart - a.restart in (0, 1), '%s: restart in round %d' % (i, r))
            rebooted += b.reset != a.reset
            resumed += b.reset == a.reset and b.restart != a.restart
        check((made['rebooted'], made['resumed']) == (rebooted, resumed), 'round %d: reboots counted' % r)
        check(rebooted >= tampered and (r in (6, 7) or rebooted < n), 'round %d: %d rebooted' % (r, rebooted))
        previous = now
    check(shown[2] == shown[4], 'the same machines are tampered with, to the same values, in rounds 2 and 4')

    # parameters are kept
    for args in (('--instances', n + 1), ('--key', 'p256'), ('--keys', 6), ('--events', 80), ('--log-bytes', 20000),
                 ('--per-file', 2), ('--seed', 8)):
        run.run('a', '--round', 8, *args, expect=2)
    check(not os.path.exists(run.path('a/spool-8')), 'a refused round leaves nothing')
    run.run('a', '--instances', n, '--baseline', '--keys', 5, '--seed', 7, '--round', 8)
    run.run('a', '--round', 8, expect=2)
    run.run('a', '--instances', n, expect=2)
    run.run('a', expect=2)
    check(len(list(spool_files(run.path('a/spool-8')))) == n, 'round 8 stands')
    # what run took away may be measured again
    shutil.rmtree(run.path('a/spool-8'))
    os.mkdir(run.path('a/spool-8'))
    run.run('a', '--round', 8)
    check(all(read.quote.clock > previous[i].quote.clock for i, read in read_round(run.path('a'), 8).items()), 'clock after round 8')


def check_determinism(run):
    for name, workers in (('d1', 1), ('d2', 3)):
        run.run(name, '--instances', 40, '--keys', 1, '--seed', 11, '--workers', workers)
        shutil.rmtree(run.path(name + '/keys'))
        if name == 'd1':
            os.mkdir(run.path('d1/keys'), 0o700)
            subprocess.run(['openssl', 'genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out',
                            run.path('d1/keys/000000.pem')], check=True, capture_output=True)
        else:
            shutil.copytree(run.path('d1/keys'), run.path('d2/keys'))
        run.run(name, '--round', 2, '--tamper', 0.3, '--update', 0.3, '--workers', workers)
    check(tree(run.path('d1/spool-2')) == tree(run.path('d2/spool-2')), 'the same seed, keys and parameters: the same bytes')
    a, b = read_round(run.path('d1'), 1), read_round(run.path('d2'), 1)
    check(all(m.record['log'] == b[i].record['log'] and m.quote.extra == b[i].quote.extra for i, m in a.items()),
          'round 1: the same but for the keys')
    run.run('d3', '--instances', 40, '--keys', 1, '--seed', 12)
    c = read_round(run.path('d3'), 1)
    check(set(a) != set(c), 'another seed: another fleet')


def check_shapes(run):
    for name, args, kinds in (('p256', ('--key', 'p256'), {'p256'}), ('p384', ('--key', 'p384', '--keys', 3), {'p384'}),
                              ('pss', ('--key', 'rsapss2048', '--keys', 2), {'rsapss2048'}),
                              ('mix', ('--key', 'mix', '--keys', 4), {'rsa2048', 'rsapss2048', 'p256', 'p384'})):
        run.run(name, '--instances', 24, *args)
        run.run(name, '--round', 2)
        for r in (1, 2):
            machines = read_round(run.path(name), r)
            check({m.kind for m in machines.values()} == kinds, '%s: kinds of keys' % name)
            check(all('baseline' not in m.enrolment and 'nonce' not in m.enrolment for m in machines.values()), name + ': no baseline')
            for kind in kinds:
                m = next(m for m in machines.values() if m.kind == kind)
                check(openssl_verifies(m.kind, m.spki, m.record['sig'], m.record['quote']), '%s %s: signature' % (name, kind))
        if name == 'p256':
            check(len({m.enrolment['ak'] for m in machines.values()}) == 24, 'P-256: one key a machine')
    for events, size in ((80, 24576), (24, 3000), (24, 60000), (55, 15000), (115, 45000), (400, 100000), (80, 2048)):
        name = 'e%d-%d' % (events, size)
        run.run(name, '--instances', 30, '--keys', 1, '--key', 'p256', '--events', events, '--log-bytes', size, '--per-file', 30,
                '--baseline')
        run.run(name, '--round', 2, '--tamper', 0.5, '--update', 0.5)
        for r in (1, 2):
            for m in read_round(run.path(name), r, 30).values():
                check(len(m.events) + 1 == events, '%s: %d events in %s' % (name, len(m.events) + 1, m.id))
                have = len(m.record['log'])
                check(have == size or (size < 10000 and have > size), '%s: log of %d bytes' % (name, have))
                check(r == 2 or not moved(m), name + ': baseline')
        run.run(name, '--round', 3, '--tamper', 0.5)
        check(sum(len(moved(m)) == 1 for m in read_round(run.path(name), 3, 30).values()) == 15, name + ': tampered')
        run.run(name, '--round', 4, '--update', 0.5)
        check(sum(moved(m) == {4, 8, 9} for m in read_round(run.path(name), 4, 30).values()) == 15, name + ': updated')
    run.run('files', '--instances', 25, '--keys', 2, '--key', 'p256', '--per-file', 10)
    check(sorted(os.listdir(run.path('files/spool-1'))) == ['batch-00000%d.mpk' % i for i in range(3)], '--per-file 10')
    read_round(run.path('files'), 1, 10)


def check_refusals(run):
    run.run('no', expect=2)
    run.run('no', '--round', 2, expect=2)
    run.run('no', '--instances', 0, expect=2)
    run.run('no', '--instances', 5, '--tamper', 1.5, expect=2)
    run.run('no', '--instances', 5, '--key', 'dsa', expect=2)
    run.run('no', '--instances', 5, '--events', 3, expect=2)
    check(not os.path.exists(run.path('no')), 'a refused call makes nothing')
    run.run('no/deep', '--instances', 5, expect=3)
    # a directory with somebody else's keys is left alone
    os.makedirs(run.path('other/keys'))
    run.run('other', '--instances', 5, '--keys', 1, expect=2)
    check(os.listdir(run.path('other')) == ['keys'], 'a refused directory is left alone')
    # a killed first round is no fleet, and made anew
    run.run('killed', '--instances', 5, '--keys', 1, '--key', 'p256')
    os.rename(run.path('killed/fleet.json'), run.path('killed/fleet.json.part'))
    run.run('killed', '--round', 2, expect=2)
    run.run('killed', '--instances', 6, '--keys', 1, '--key', 'p256')
    check(len(read_round(run.path('killed'), 1)) == 6, 'made anew')
    check(sorted(os.listdir(run.path('killed'))) == ['enroll.ndjson', 'fleet.json', 'keys', 'spool-1', 'state.bin'], 'nothing left over')
    # damage
    for name, damage in (('fleet.json', b'{"kind":"quotemill-gen"}'), ('fleet.json', b'nonsense'), ('state.bin', b'QMGENST1'),
                         ('keys/000000.pem', b'')):
        path = run.path('killed/' + name)
        with open(path, 'rb') as f:
            good = f.read()
        with open(path, 'wb') as f:
            f.write(damage)
        run.run('killed', '--round', 2, expect=3)
        with open(path, 'wb') as f:
            f.write(good)
    run.run('killed', '--round', 2)
    if os.path.exists('/dev/full'):
        p = subprocess.run([run.binary, 'gen', '--out', run.path('killed'), '--round', '3', '--json'], stdout=open('/dev/full', 'w'),
                           stderr=subprocess.PIPE, text=True)
        check(p.returncode == 3 and p.stderr.count('\n') == 1, 'a full disk behind stdout')


def check_interrupted(run):
    """A full disk ends with exit 3; neither it nor a killed gen leaves what looks complete."""
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)) # no log fits

    def refuse(name, *args):
        p = subprocess.run([run.binary, 'gen', '--out', run.path(name), *map(str, args)], capture_output=True, text=True,
                           preexec_fn=small_files, restore_signals=False)  # SIGXFSZ stays ignored: a write fails
        check(p.returncode == 3 and p.stderr.count('\n') == 1, 'a full disk: %d %s' % (p.returncode, p.stderr))
    refuse('full', '--instances', 4, '--keys', 1, '--key', 'p256')
    check(not os.path.exists(run.path('full/fleet.json')) and not os.path.exists(run.path('full/spool-1')), 'a full disk: no fleet')
    run.run('full', '--instances', 4, '--keys', 1, '--key', 'p256')
    refuse('full', '--round', 2)
    check(not os.path.exists(run.path('full/spool-2')), 'a full disk: no round')
    run.run('full', '--round', 2)
    check(not any(n.endswith('.part') for n in os.listdir(run.path('full'))), 'nothing left over')

    for name, args, missing in (('k', ('--instances', 20000, '--keys', 1, '--key', 'p256'), 'fleet.json'),
                                ('full', ('--round', 3), 'spool-3')):
        if name == 'full':  # big enough to be killed in its round
            name = 'k2'
            run.run(name, '--instances', 20000, '--keys', 1, '--key', 'p256', '--per-file', 5000, '--events', 24, '--log-bytes', 3000)
        p = subprocess.Popen([run.binary, 'gen', '--out', run.path(name), *map(str, args)], stderr=subprocess.DEVNULL)
        part = run.path(name + ('/spool-1.part' if name == 'k' else '/spool-3.part'))
        while p.poll() is None and not os.path.exists(part):
            time.sleep(0.001)
        p.kill()
        if p.wait() != 0:
            check(not os.path.exists(run.path(name + '/' + missing)), name + ': a killed gen left ' + missing)
        if name == 'k':
            run.run(name, '--round', 2, expect=2 if not os.path.exists(run.path('k/fleet.json')) else 0)
            shutil.rmtree(run.path('k'))
        elif not os.path.exists(run.path('k2/spool-3')):
            run.run(name, '--round', 3)
            check(len(read_round(run.path(name), 3, 5000)) == 20000, 'after a kill')


def check_decoder(run):
    """tpm2_eventlog reads the logs of every image without a complaint and replays them to the same values."""
    if shutil.which('tpm2_eventlog') is None:
        print('tpm2_eventlog is not installed: logs were not decoded by it')
        return
    run.run('y', '--instances', 60, '--keys', 1, '--key', 'p256')
    run.run('y', '--round', 2, '--tamper', 1, '--update', 0.5)
    seen = set()
    for r in (1, 2):
        for m in read_round(run.path('y'), r).values():
            image = m.enrolment['tags']['os']
            if (image, r) in seen and r == 1:
                continue
            seen.add((image, r))
            path = run.path('y/log.bin')
            with open(path, 'wb') as f:
                f.write(m.record['log'])
            p = subprocess.run(['tpm2_eventlog', path], capture_output=True, text=True)
            check(p.returncode == 0 and p.stderr == '', '%s: tpm2_eventlog: %d %s' % (m.id, p.returncode, p.stderr[:300]))
            text, bank = p.stdout[p.stdout.rindex('pcrs:'):].split('\n'), None
            for line in text:
                if line.strip().endswith(':'):
                    bank = line.strip()[:-1]
                elif bank == 'sha256' and ':' in line:
                    i, value = line.split(':')
                    # 5.4 starts PCR 0 at zero whatever the StartupLocality event says
                    if int(i) != 0 or not any(e.type == NO_ACTION for e in m.events):
                        check(int(value, 16) == int.from_bytes(m.pcrs[int(i)], 'big'), '%s: PCR %s by tpm2_eventlog' % (m.id, i.strip()))


def main():
    if sys.argv[1] == '--fleet':
        with open(os.path.join(sys.argv[2], 'fleet.json')) as f:
            per_file = json.load(f)['per_file']
        print(len(read_round(sys.argv[2], int(sys.argv[3]), per_file)), 'records')
    else:
        with tempfile.TemporaryDirectory(prefix='gen-check-') as root:
            run = Runner(os.path.abspath(sys.argv[1]), root)
            for part in (check_fleet, check_determinism, check_shapes, check_refusals, check_interrupted, check_decoder):
                part(run)
    print('%d failures' % failures)
    sys.exit(failures != 0)


if __name__ == '__main__':
    main()
