#!/usr/bin/env python3
"""Explained differences against readers of logs that are not quotemill's: explain_check.py QUOTEMILL DRIVER SOURCE_ROOT

  fleet    machines of gen, tampered with and updated; the lists of events in the home's store are written here, from round 1's logs
           by gen_check's reader, and every event that verify names is the one that this reader finds
  runs     the same where run kept the events itself: of baselines that were enrolled, that it learned, and that were accepted
  logs     the corpus' logs (../shared/corpus beside the source root, or $QM_CORPUS; left out where there is none): lists of events
           of every PCR whose value the corpus knows, and what differs when a list differs"""
import binascii, glob, hashlib, json, os, sqlite3, struct, subprocess, sys, tempfile, time

from gen_check import NO_ACTION, measured_data, read_log, replay, spool_files, unpack

failures = []


def check(good, what):
    if not good: failures.append(what)
    return good


def encode(events):
    """A list as engine/explain.h lays it out: (type, digest, words, proved)."""
    words = b''.join(w for _, _, w, _ in events)
    return struct.pack('<II', len(events), len(words)) + \
        b''.join(struct.pack('<IBBxx', t, len(w), p) + d for t, d, w, p in events) + words


def decode(b):
    count, words_len = struct.unpack_from('<II', b)
    assert len(b) == 8 + 40 * count + words_len
    out, at = [], 8 + 40 * count
    for i in range(count):
        t, n, p = struct.unpack_from('<IBBxx', b, 8 + 40 * i)
        out.append((t, b[16 + 40 * i:48 + 40 * i], b[at:at + n], p))
        at += n
    assert at == len(b)
    return out


# ---- a fleet ----

def records(folder):
    out = {}
    for path in spool_files(folder):
        with open(path, 'rb') as f: b = f.read()
        at = 0
        while at < len(b):
            r, at = unpack(b, at)
            out[r['id']] = r
    return out


def of_pcr(events, pcr):
    """(index in the log, event): the header is event 0."""
    return [(i + 1, e) for i, e in enumerate(events) if e.pcr == pcr and e.type != NO_ACTION]


def first_difference(got, was, pcr):
    a, b = of_pcr(got, pcr), of_pcr(was, pcr)
    for i in range(max(len(a), len(b))):
        x, y = a[i] if i < len(a) else None, b[i] if i < len(b) else None
        if x is None or y is None or x[1].sha256 != y[1].sha256:
            return x, y
    return None


def check_event(what, said, got, was, pcr, texts):
    x, y = first_difference(got, was, pcr)
    index, e = x if x is not None else (len(got) + 1, y[1])
    check((said['pcr'], said['index'], said['type']) == (pcr, index, e.type), f'{what}: {said}, not event {index}')
    check(said.get('digest') == (x and x[1].sha256.hex()), f'{what}: digest')
    check(said.get('expected_digest') == (y and y[1].sha256.hex()), f'{what}: expected digest')
    if x is None:
        return check(said['text'] == 'as listed', f'{what}: {said["text"]}')
    data = measured_data(e)
    if data is not None and hashlib.sha256(data).digest() == e.sha256:
        check(said['proved'] is True, f'{what}: proved by the digest, and not said')
    check(texts[index]['proved'] == said['proved'], f'{what}: proved')
    want = texts[index]['text']
    check(said['text'] == want if len(want) <= 1024 else want.startswith(said['text'][:-3]), f'{what}: {said["text"]}, not {want}')


def run(quotemill, home, *args, code=(0,)):
    p = subprocess.run([quotemill, *args], capture_output=True, env=dict(os.environ, QUOTEMILL_HOME=home))
    check(p.returncode in code, f'{args}: exit {p.returncode}: {p.stderr.decode()}')
    return p.stdout.decode()


def check_fleet(quotemill, top):
    fleet, home = os.path.join(top, 'fleet'), os.path.join(top, 'home')
    run(quotemill, home, 'gen', '--instances', '60', '--key', 'p256', '--seed', '11', '--baseline', '--out', fleet)
    run(quotemill, home, 'gen', '--out', fleet, '--round', '2', '--tamper', '0.5')
    run(quotemill, home, 'gen', '--out', fleet, '--round', '3', '--update', '0.5')
    run(quotemill, home, 'init')
    run(quotemill, home, 'enroll', f'{fleet}/enroll.ndjson')
    sent = {n: records(f'{fleet}/spool-{n}') for n in (1, 2, 3)}
    rounds = {n: {i: read_log(r['log']) for i, r in sent[n].items()} for n in sent}
    was = rounds[1]
    lacking, shortened = sorted(was)[::7], {}
    lists = {}
    for i, events in was.items():
        for pcr in range(10):
            if i not in lacking:
                lists[pcr, replay(events)[pcr]] = encode([(e.type, e.sha256, b'as listed', 0) for _, e in of_pcr(events, pcr)])
    # for some machines, as if the log that changed had lost its last event; not where others that changed share the value
    changed = {i: [p for p in range(10) if replay(was[i])[p] != replay(rounds[2][i])[p]] for i in was}
    for i in sorted(i for i in was if changed[i])[::3]:
        pcr = changed[i][0]
        value = replay(was[i])[pcr]
        alone = all(pcr not in changed[j] for j in was if j != i and replay(was[j])[pcr] == value)
        if (pcr, value) not in lists or not alone or any(p == pcr for p in (4, 8, 9)): continue
        shortened[i] = pcr
        lists[pcr, value] = encode([(e.type, e.sha256, b'', 0) for _, e in of_pcr(rounds[2][i], pcr)] + [(7, bytes(32), b'as listed', 0)])
    db = sqlite3.connect(f'{home}/fleet.db')
    with db:
        db.executemany('INSERT INTO pcr_events VALUES(?, ?, ?)', [(p, v, b) for (p, v), b in lists.items()])
        db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
    db.close()
    run(quotemill, home, 'enroll', f'{fleet}/enroll.ndjson')
    count = 0
    for n, code in (1, (0,)), (2, (1,)), (3, (1,)):
        for line in run(quotemill, home, 'verify', '--format', 'ndjson', f'{fleet}/spool-{n}', code=code).splitlines():
            r = json.loads(line)
            if r['kind'] != 'status': continue
            what = f'round {n}, {r["id"]}'
            pcr = r.get('first_fail')
            known = pcr is not None and (pcr, replay(was[r['id']])[pcr]) in lists
            check((r['reason'] == 'pcr_mismatch') == (pcr is not None), f'{what}: {r["reason"]}')
            if not check(('event' in r) == known, f'{what}: an event where its log is kept, and only there'): continue
            if not known: continue
            count += 1
            got = rounds[n][r['id']]
            if shortened.get(r['id']) == pcr and n == 2:
                e = r['event']
                check('digest' not in e and (e['index'], e['type'], e['expected_digest'], e['text']) ==
                      (len(got) + 1, 7, '00' * 32, 'as listed'), f'{what}: {e}')
                continue
            log = os.path.join(top, 'log')
            with open(log, 'wb') as f: f.write(sent[n][r['id']]['log'])
            texts = json.loads(run(quotemill, home, 'log', '--json', log))['events']
            check_event(what, r['event'], got, was[r['id']], pcr, texts)
    check(count > 40, f'only {count} events were told')
    check(len(shortened) > 0, 'no log lost an event')
    print(f'fleet: {count} events told, {len(shortened)} absent, of {len(lists)} lists')


# ---- runs ----

def told(quotemill, top, home, spool, sent, known):
    """What verify says of a spool, against the logs that runs have seen: (PCR, value) -> events."""
    count = 0
    for line in run(quotemill, home, 'verify', '--format', 'ndjson', spool, code=(0, 1)).splitlines():
        r = json.loads(line)
        if r.get('reason') != 'pcr_mismatch':
            check('event' not in r, f'{line}: an event of what passes')
            continue
        pcr = r['first_fail']
        expected = bytes.fromhex(next(s['expected'] for s in r['stages'] if s['pcr'] == pcr))
        what = f'{home}, {spool}, {r["id"]}'
        if not check(((pcr, expected) in known) == ('event' in r), f'{what}: explained where a log of the expected value was seen'): continue
        if 'event' not in r: continue
        count += 1
        log = os.path.join(top, 'log')
        with open(log, 'wb') as f: f.write(sent[r['id']]['log'])
        check_event(what, r['event'], read_log(sent[r['id']]['log']), known[pcr, expected], pcr,
                    json.loads(run(quotemill, home, 'log', '--json', log))['events'])
    return count


def see(known, sent):
    for r in sent.values():
        events = read_log(r['log'])
        for pcr, value in replay(events).items():
            known.setdefault((pcr, value), events)


def missing(home):
    db = sqlite3.connect(f'{home}/fleet.db')
    n, = db.execute('SELECT count(*) FROM events_missing').fetchone()
    db.close()
    return n


def check_runs(quotemill, top, baseline):
    name = 'enrolled' if baseline else 'learned'
    fleet, home = os.path.join(top, 'fleet-' + name), os.path.join(top, 'home-' + name)
    run(quotemill, home, 'gen', '--instances', '40', '--key', 'p256', '--seed', '12', '--out', fleet, *(['--baseline'] if baseline else []))
    for n, how in (2, ('--tamper', '0.5')), (3, ('--update', '1')), (4, ('--tamper', '0.5')):
        run(quotemill, home, 'gen', '--out', fleet, '--round', str(n), *how)
    sent = {n: records(f'{fleet}/spool-{n}') for n in (1, 2, 3, 4)}
    run(quotemill, home, 'init')
    run(quotemill, home, 'enroll', f'{fleet}/enroll.ndjson')
    known = {}
    if baseline:
        check(told(quotemill, top, home, f'{fleet}/spool-2', sent[2], known) == 0 and missing(home) > 0, f'{name}: no log was seen yet')
    time.sleep(0.1)  # the table is made for explanations a hundredth of the time at most: 24 ms with 40 machines
    run(quotemill, home, 'run', f'{fleet}/spool-1')
    see(known, sent[1])
    check(missing(home) == 0, f'{name}: {missing(home)} values lack events after a run that saw them')
    first = told(quotemill, top, home, f'{fleet}/spool-2', sent[2], known)
    check(first == 20, f'{name}: {first} events of 20 machines')
    run(quotemill, home, 'run', f'{fleet}/spool-2', code=(1,))
    see(known, sent[2])
    numbers = [str(json.loads(a)['no']) for a in run(quotemill, home, 'alerts', 'list', '--json').splitlines()]
    run(quotemill, home, 'alerts', 'accept', '--reason', 'test', *numbers)
    check(told(quotemill, top, home, f'{fleet}/spool-4', sent[4], {}) == 0, f'{name}: what was accepted passes')
    second = told(quotemill, top, home, f'{fleet}/spool-3', sent[3], known)
    check(second == 40, f'{name}: {second} events of 40 machines')
    against = 0
    for line in run(quotemill, home, 'verify', '--format', 'ndjson', f'{fleet}/spool-3', code=(1,)).splitlines():
        r = json.loads(line)
        if 'event' in r:
            value = bytes.fromhex(next(s['expected'] for s in r['stages'] if s['pcr'] == r['first_fail']))
            against += value != replay(read_log(sent[1][r['id']]['log']))[r['first_fail']]
    check(against > 0, f'{name}: none differs from what was accepted from an alert')
    print(f'runs: {first} and {second} events told ({name}), {against} against what was accepted')


# ---- the corpus' logs ----

SIZES = {4: 20, 11: 32, 12: 48, 13: 64, 0x12: 32}


def read_any(b):
    """Every event of a crypto-agile log with SHA-256: (pcr, type, digest, data), the header in front."""
    size, = struct.unpack_from('<I', b, 28)
    count, = struct.unpack_from('<I', b, 32 + 24)
    for i in range(count):
        alg, n = struct.unpack_from('<HH', b, 32 + 28 + 4 * i)
        assert SIZES.setdefault(alg, n) == n
    events, o = [(0, NO_ACTION, None, b'')], 32 + size
    end = len(b.rstrip(b[-1:])) if b[-1:] in (b'\0', b'\xff') else len(b)
    while o < end:
        pcr, kind, count = struct.unpack_from('<III', b, o)
        o += 12
        sha256 = None
        for _ in range(count):
            alg, = struct.unpack_from('<H', b, o)
            if alg == 11: sha256 = b[o + 2:o + 34]
            o += 2 + SIZES[alg]
        n, = struct.unpack_from('<I', b, o)
        events.append((pcr, kind, sha256, b[o + 4:o + 4 + n]))
        o += 4 + n
    return events


def check_log(driver, path, expected):
    with open(path, 'rb') as f: b = f.read()
    name = os.path.basename(path)
    values = expected['pcrs'].get('sha256', {})
    p = subprocess.run([driver, path, *(f'{pcr}={v}' for pcr, v in values.items())], capture_output=True)
    check(p.returncode == 0, f'{name}: exit {p.returncode}')
    events = read_any(b)
    lists = 0
    for line in p.stdout.decode('ascii').splitlines():
        said = json.loads(line)
        pcr, what = said['pcr'], f'{name}, PCR {said["pcr"]}'
        mine = [(i, e) for i, e in enumerate(events) if e[0] == pcr and e[1] != NO_ACTION]
        if not check(said['list'] != '', f'{what}: no list'): continue
        lists += 1
        listed = decode(binascii.unhexlify(said['list']))
        check([(t, d) for t, d, _, _ in listed] == [(e[1], e[2]) for _, e in mine], f'{what}: events')
        for (_, e), (_, _, _, proved) in zip(mine, listed):
            check(proved or hashlib.sha256(e[3]).digest() != e[2], f'{what}: the whole data is proved, and not said')
        for i, d in enumerate(said['changed'][1:]):
            at, e = mine[i]
            check(d[:3] == [at, e[1], e[2].hex()] and d[3] == (bytes([e[2][0] ^ 1]) + e[2][1:]).hex(), f'{what}: event {i} changed: {d}')
            check(d[5] == bool(listed[i][3]), f'{what}: event {i}: proved')
            words = listed[i][2].decode('ascii')
            check(d[4] == words or (words.endswith('...') and d[4].startswith(words[:-3])), f'{what}: event {i}: words')
        check(said['more'][1:] == [[len(events), 77, '', '010203' + '00' * 29, '', False]], f'{what}: one more: {said["more"]}')
        if mine:
            at, e = mine[-1]
            check(said['less'][1][:4] == [at, e[1], e[2].hex(), ''], f'{what}: one less: {said["less"]}')
    return lists


def check_corpus(driver, corpus):
    logs = lists = 0
    with open(os.path.join(corpus, 'logs.ndjson')) as f:
        for line in f:
            e = json.loads(line)
            if e['status'] != 'ok' or not e['pcrs'].get('sha256'): continue
            logs += 1
            lists += check_log(driver, os.path.join(corpus, e['file']), e)
    check(logs > 50 and lists > 400, f'only {lists} lists of {logs} logs')
    print(f'logs: {lists} lists of {logs} logs')


quotemill, driver, root = (os.path.abspath(p) for p in sys.argv[1:4])
with tempfile.TemporaryDirectory(prefix='explain-') as top:
    check_fleet(quotemill, top)
    for baseline in True, False:
        check_runs(quotemill, top, baseline)
corpus = os.environ.get('QM_CORPUS', os.path.join(root, '..', 'shared', 'corpus'))
if glob.glob(os.path.join(corpus, 'logs', '*')):
    check_corpus(driver, corpus)
else:
    print('logs: no corpus here')
for f in failures[:40]: print('FAIL', f)
print(len(failures), 'failures')
sys.exit(failures != [])
