#!/usr/bin/env python3
"""Reference values from CoRIM manifests (draft-ietf-rats-corim): what is taken, for whom, and what is refused with which words.

    corim_test.py QUOTEMILL QUOTE_MAKER

The manifests are encoded here, by nothing that the program uses. Exit 77 where libfaketime is not installed."""
import os, struct, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fleet_kit as kit
import rules_test as rules
from fleet_kit import DAY, HOUR
from rules_test import Lab, equal, said


class Tag:
    def __init__(self, number, of):
        self.number, self.of = number, of


def head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for info, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << 8 * width:
            return bytes([major << 5 | info]) + n.to_bytes(width, 'big')


def cbor(x):
    """RFC 8949, what of it the manifests need."""
    if isinstance(x, Tag):
        return head(6, x.number) + cbor(x.of)
    if isinstance(x, bool):
        return b'\xf5' if x else b'\xf4'
    if isinstance(x, int):
        return head(0, x) if x >= 0 else head(1, -1 - x)
    if isinstance(x, float):
        return b'\xfb' + struct.pack('>d', x)
    if isinstance(x, bytes):
        return head(2, len(x)) + x
    if isinstance(x, str):
        return head(3, len(x.encode())) + x.encode()
    if isinstance(x, list):
        return head(4, len(x)) + b''.join(map(cbor, x))
    return head(5, len(x)) + b''.join(cbor(k) + cbor(v) for k, v in x.items())


# ---- manifests ---------------------------------------------------------------------------------------------------------------


def digests(value, alg=1):
    return [[8, b'other' * 4], [alg, bytes.fromhex(value)]]


def by_key(values):
    return [{0: pcr, 1: {2: digests(value)}} for pcr, value in values.items()]


def by_register(values):
    return [{1: {14: {pcr: digests(value) for pcr, value in values.items()}}}]


def comid(measurements, environment=None, **more):
    """more: a4={...} is key 4 of the CoMID."""
    record = [environment or {0: {1: 'A Vendor', 2: 'A Model'}}, measurements]
    tag = {1: {0: 'image-24.04', 1: 3}, 4: {0: [record]}}
    tag.update({int(k[1:]): v for k, v in more.items()})
    return Tag(506, cbor(tag))


def manifest(*comids, tag=501, **more):
    top = {0: 'acme/2026-11', 1: list(comids)}
    top.update({int(k[1:]): v for k, v in more.items()})
    return cbor(Tag(tag, top))


def take(lab, raw, *args, codes=(0,)):
    return lab.must('baseline', 'import', '--format', 'corim', *args, stdin=raw, codes=codes)


def values_of(m, pcrs=range(10)):
    return {p: m.value(p) for p in pcrs}


GROUP = (0, 2, 3, 4, 7, 8, 9)

# ---- what is taken -----------------------------------------------------------------------------------------------------------


def for_a_machine(lab):
    for id, measurements in (('a', by_key), ('b', by_register)):
        m = lab.machine(id)
        take(lab, manifest(comid(measurements(values_of(m)))), '-', id)
        one, = lab.sets(id)
        equal((one['kind'], one['origin'], one['why'], one['until']), ('whole', 'imported', 'CoRIM acme/2026-11, CoMID image-24.04 version 3', None))
        equal({int(p): v for p, v in one['values'].items()}, values_of(m))
        equal(said(lab.wait().go(m.quote())), ['trusted/ok'])
        equal(said(lab.wait().go(m.boot(p9='implant').quote())), ['untrusted/pcr_mismatch'])
    again = take(lab, manifest(comid(by_key(values_of(m.boot(p9='pcr-9'))))), '--reason', 'from the vendor', '-', 'b')
    assert '0 added, 1 there already' in again.err, again


def for_machines(lab):
    a, b = lab.machine('a'), lab.machine('b')
    answer = take(lab, manifest(comid(by_register(values_of(a)))), '-', 'a', 'nobody', 'b', codes=(1,))
    assert "instance nobody: refused: no instance 'nobody'" in answer.err and '2 added' in answer.err and '1 refused' in answer.err, answer
    equal(said(lab.wait().go(a.quote(), b.quote())), ['trusted/ok', 'trusted/ok'])


def for_a_group(lab):
    a, b = lab.known('a', 'web'), lab.known('b', 'web')
    a.boot(p8='cmdline-2', p9='kernel-2')
    path = os.path.join(lab.top, 'kernel.corim')
    with open(path, 'wb') as f:
        f.write(manifest(comid(by_register(values_of(a, GROUP)))))
    lab.must('baseline', 'import', '--format', 'corim', '--group', 'web', '--reason', 'change 4711', path)
    one, = lab.sets('--group', 'web')
    equal((one['kind'], one['why']), ('group', 'change 4711'))
    equal(said(lab.wait().go(a.quote(), b.boot(p8='cmdline-2', p9='kernel-2').quote())), ['trusted/ok', 'trusted/ok'])
    equal(said(lab.wait().go(b.boot(p5='other-disk').quote())), ['untrusted/pcr_mismatch'])


def for_its_own_pcrs(lab):
    m = lab.machine('a', 'web')
    take(lab, manifest(comid(by_register(values_of(m, GROUP)))), '--group', 'web', '-')
    take(lab, manifest(comid(by_key(values_of(m, (1, 5, 6))))), '--own', '-', 'a')
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])


def comids_are_sets(lab):
    m = lab.machine('a')
    first = values_of(m)
    second = values_of(m.boot(p8='cmdline-2', p9='kernel-2'))
    take(lab, manifest(comid(by_key(first)), comid(by_register(second))), '-', 'a')
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])
    equal(said(lab.wait().go(m.boot(p8='pcr-8', p9='pcr-9').quote())), ['trusted/ok'])
    equal(said(lab.wait().go(m.boot(p8='cmdline-2').quote())), ['untrusted/pcr_mismatch'])


def as_in_earlier_drafts(lab):
    m = lab.machine('a')
    environment = {0: {1: 'A Vendor'}}
    records = [[environment, one] for one in by_key(values_of(m))]
    tag = Tag(506, cbor({1: {0: b'\x00' * 16}, 4: {0: records}}))
    take(lab, cbor(Tag(500, Tag(501, {0: 'x', 1: [tag]}))), '-', 'a')
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])


def validity(lab):
    m = lab.machine('a')
    now = lab.now // 1000
    good = comid(by_key(values_of(m)))

    def until(before, after):
        return manifest(good, a4={**({0: Tag(1, before)} if before else {}), 1: Tag(1, after)})
    early = take(lab, until(now + 60, now + 86400), '-', 'a', codes=(1,))
    assert 'not valid yet' in early.err, early
    late = take(lab, until(now - 86400, now - 1), '-', 'a', codes=(1,))
    assert 'not valid any more' in late.err, late
    take(lab, until(None, float(now + 86400)), '-', 'a')
    equal(lab.sets('a')[0]['until'], lab.now + DAY)
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])
    lab.config('learn', 'never')
    equal(said(lab.wait(DAY).go(m.quote())), ['new/no_baseline'])


def names_are_escaped(lab):
    lab.machine('a')
    raw = cbor(Tag(501, {0: 'evil\x1b[31m', 1: [comid(by_key(values_of(lab.machine('b'))))]}))
    take(lab, raw, '-', 'b')
    shown = lab.must('baseline', 'show', 'b')
    assert '\x1b' not in shown.out and 'evil\\\\u{1b}[31m' in shown.out, shown.out
    answer = take(lab, raw, '-', 'no\x1b[31mbody', codes=(1,))
    assert '\x1b' not in answer.err, answer


# ---- what is refused ---------------------------------------------------------------------------------------------------------

V = '11' * 32
ALL = {p: V for p in range(10)}


def one(values, key=0):
    return manifest(comid([{0: key, 1: values}]))


REFUSED = [
    (b'', 'the CBOR is cut short'),
    (b'{"set":"whole"}', 'the CBOR is cut short'),  # text, as CBOR sees it, and longer than there is
    (b'\x1c', 'it is no CBOR'),
    (cbor({0: 'x', 1: []}), 'it is no CoRIM: tag 501 is missing'),
    (cbor(Tag(506, b'')), 'it is no CoRIM: tag 506 is in front'),
    (cbor(Tag(18, [b'', {}, b'', b''])), 'it is signed (COSE_Sign1): check the signature, take out its payload, and import that'),
    (cbor(Tag(500, Tag(502, Tag(18, [b'', {}, b'', b''])))), 'it is signed (COSE_Sign1)'),
    (manifest(comid(by_key(ALL))) + b'\0', 'something follows the CoRIM'),
    (cbor(Tag(501, {0: 'x'})), 'the CoRIM has no tags'),
    (manifest(comid(by_key(ALL)), a3='https://profile.example'), 'the CoRIM has a profile'),
    (manifest(Tag(505, b'')), 'the CoRIM has a part with tag 505 which is no CoMID (506)'),
    (manifest(comid(by_key(ALL), a5='https://profile.example')), 'a CoMID has a profile'),
    (manifest(comid(by_key(ALL), a4={1: []})), 'a CoMID has no reference triples'),
    (manifest(comid([])), 'a CoMID has no values'),
    (manifest(comid(by_key(ALL), a4={0: [[{0: {1: 'A'}}, by_key(ALL)], [{0: {1: 'B'}}, by_key(ALL)]]})), 'of more than one environment'),
    (manifest(comid(by_key(ALL) + by_key({4: '22' * 32}))), 'PCR 4 has two values in one CoMID'),
    (manifest(comid(by_key(ALL), a4={0: [[{0: {1: 'A'}}, by_key(ALL), 1]]})), 'not of environment and measurements'),
    (manifest(comid([{0: 4}])), 'a measurement has no mval'),
    (manifest(comid([{0: 4, 1: {2: digests(V)}, 2: []}])), 'more than mkey and mval'),
    (manifest(comid([{1: {2: digests(V)}}])), 'a measurement has digests and no mkey'),
    (one({2: digests(V)}, key='PCR4'), 'an mkey is something else than a PCR\'s number'),
    (one({2: digests(V)}, key=Tag(37, b'\0' * 16)), 'an mkey is something else than a PCR\'s number'),
    (one({2: digests(V)}, key=24), 'register 24 is no PCR'),
    (one({2: digests(V)}, key=2**40), f'register {2**40} is no PCR'),
    (one({14: {0: digests(V)}}), 'integrity-registers and an mkey'),
    (manifest(comid([{1: {14: {'0': digests(V)}}}])), 'an integrity register is named by something else'),
    (one({0: {0: '1.0'}}), 'neither digests nor integrity-registers'),
    (one({1: 7, 2: digests(V)}), 'svn (1), which is no value of a PCR'),
    (one({4: b'raw', 2: digests(V)}), 'raw-value (4), which is no value of a PCR'),
    (one({-80: 1, 2: digests(V)}), 'values of an extension'),
    (one({2: digests(V, alg=7)}), 'PCR 0 has no digest by SHA-256'),
    (one({2: digests(V[2:])}), 'the SHA-256 digest of PCR 0 is not 32 bytes long'),
    (one({2: []}), 'PCR 0 has no digest by SHA-256'),
    (one({2: [[1, bytes(32), 0]]}), 'no array of algorithm and value'),
    (one({2: [[1, V]]}), 'a digest\'s value is no bytes'),
    (manifest(comid(by_key(ALL)), a4={1: 5}) [:-1] + b'\x20', 'no seconds since the epoch'),
    (manifest(comid(by_key({p: V for p in range(9)}))), 'PCR 9 is compared, and has no value'),
    (manifest(comid(by_key({p: V for p in range(11)}))), 'PCR 10 has a value, and is none of this set\'s'),
    (b'\xd9\x01\xf5' + head(5, 2) + (cbor(1) + cbor([])) * 2, 'a map has a key twice'),
    (b'\xd9\x01\xf5' + head(5, 1) + cbor([]) + cbor([]), 'a key that is no number and no text'),
]


def whatever_else_is_refused(lab):
    lab.machine('a')
    for raw, words in REFUSED:
        answer = take(lab, raw, '-', 'a', codes=(1,))
        assert words in answer.err, (words, str(answer))
    equal(lab.sets(), [])


def how_it_is_called(lab):
    lab.machine('a', 'web')
    for args in (['-'], ['--group', 'web', '-', 'a'], []):
        equal(lab.call('baseline', 'import', '--format', 'corim', *args, stdin=b'').code, 2)
    equal(lab.call('baseline', 'show', '--format', 'corim').code, 2)
    for args in (['--group', 'web'], ['--own'], ['--format', 'json', '--own']):
        equal(lab.call('baseline', 'import', *args, '-', stdin=b'').code, 2)
    equal(lab.call('baseline', 'import', '--format', 'swid', '-', stdin=b'').code, 2)
    equal(lab.call('baseline', 'import', '--format', 'corim', '/nowhere/x', 'a').code, 3)
    long = take(lab, bytes(2**20 + 1), '-', 'a', codes=(1,))
    assert 'too long' in long.err, long


SCENARIOS = [for_a_machine, for_machines, for_a_group, for_its_own_pcrs, comids_are_sets, as_in_earlier_drafts, validity, names_are_escaped,
             whatever_else_is_refused, how_it_is_called]


def main():
    kit.skip_without(sys.argv[1], sys.argv[2])
    rules.program, rules.maker = sys.argv[1], kit.Maker(sys.argv[2])
    failed = 0
    for scenario in SCENARIOS:
        lab = Lab()
        try:
            scenario(lab)
            print(f'ok   {scenario.__name__}')
        except AssertionError as e:
            failed += 1
            print(f'FAIL {scenario.__name__}: {e}'[:1500])
        finally:
            lab.close()
    rules.maker.close()
    print(f'{len(SCENARIOS) - failed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
