#!/usr/bin/env python3
"""How long decisions over a large cohort take: alerts_bench.py QUOTEMILL [--instances N] [--dir DIR] [--strict]

N machines of one group, each with values of its own beside the group's, all of which show the same change of PCRs 4, 8 and 9. One machine
is enrolled by the program; the others are its copies, written into the store behind its back with their sets, ledger entries and alerts.
Then the cohort is listed, accepted for the group, withdrawn, and accepted machine by machine, each on a copy of the home; what status says
afterwards is compared. Publishing the table is part of it. Prints JSON lines like the bench; --strict ends with 1 where a figure is missed."""
import argparse, hashlib, json, os, resource, shutil, sqlite3, struct, subprocess, sys, tempfile, time

BLOCK, CHANGED = 31, (4, 8, 9)
FLAGS = 1 | 4 | 8 | 32  # QM_LEDGER_SEEN, STATUS, ALERTS, PROVEN
UNTRUSTED, MISMATCH, REPLAYED = 1, 8, 5


def value(*what):
    return hashlib.sha256(repr(what).encode()).digest()


def entry(vals, change, group, now):
    """struct qm_ledger (engine/ledger.h)."""
    e = bytearray(256)
    struct.pack_into('<QII', e, 0, 60_000, 5, 1)
    struct.pack_into('<QQ', e, 160, now, 0)
    struct.pack_into('<IIIIII', e, 196, 1, vals, 0, change, 0, group)
    struct.pack_into('<I', e, 236, now // 1000 - 86400)
    struct.pack_into('<BBBBB', e, 248, FLAGS, UNTRUSTED, MISMATCH, REPLAYED, 4)
    return bytes(e)


def fill(program, home, top, count):
    subprocess.run([program, 'init', '--home', home], check=True, capture_output=True)
    subprocess.run([program, 'gen', '--out', os.path.join(top, 'one'), '--instances', '1', '--key', 'p256'], check=True, capture_output=True)
    line = json.loads(open(os.path.join(top, 'one', 'enroll.ndjson')).readline())
    line = {'id': 'machine-0000001', 'ak': line['ak'], 'group': 'web', 'baseline': {str(p): value('group', p).hex() for p in range(10)}}
    subprocess.run([program, 'enroll', '--home', home, '-'], input=json.dumps(line).encode(), check=True, capture_output=True)
    now = int(time.time() * 1000)
    db = sqlite3.connect(os.path.join(home, 'fleet.db'), isolation_level=None)
    for pragma in ('synchronous=OFF', 'cache_size=-262144'):
        db.execute('PRAGMA ' + pragma)
    db.execute('BEGIN')
    columns = [row[1] for row in db.execute('PRAGMA table_info(instance)')]
    first = dict(zip(columns, db.execute('SELECT * FROM instance').fetchone()))
    slot0 = first['slot']
    group = db.execute("SELECT no FROM grp WHERE name = 'web'").fetchone()[0]
    items = b''.join(bytes([p]) + value('group', p) + value('new', p) for p in CHANGED)
    change = db.execute('INSERT INTO change(kind, grp, class, key, name, items, first_ms) VALUES(0, ?, 1, ?, ?, ?, ?)',
                        (group, hashlib.sha256(b'\0\1\0' + items).digest(), hashlib.sha256(items).hexdigest()[:16], items, now)).lastrowid

    def values(i):
        return b''.join(value('own', p, i) if p in (1, 5, 6) else value('group', p) for p in range(10))

    db.execute('DELETE FROM baseline')
    db.execute('DELETE FROM events_missing')
    db.execute('DELETE FROM pcr_values')
    db.executemany('INSERT INTO pcr_values(no, mask, hash, value) VALUES(?, 1023, 0, ?)', ((i, values(i)) for i in range(1, count + 1)))
    rows = (tuple({**first, 'slot': slot0 + i - 1, 'id': 'machine-%07d' % i, 'line': value('line', i)}[c] for c in columns)
            for i in range(2, count + 1))
    db.executemany('INSERT INTO instance VALUES(%s)' % ', '.join('?' * len(columns)), rows)
    db.executemany("INSERT INTO baseline(kind, slot, vals, origin, who, since_ms) VALUES(0, ?, ?, 'enrolled', 'bench', ?)",
                   ((slot0 + i - 1, i, now) for i in range(1, count + 1)))
    db.executemany('INSERT INTO alert(kind, slot, change, state, seen, first_ms, last_ms, count, restarts) VALUES(0, ?, ?, 0, 0, ?, ?, 1, 5)',
                   ((slot0 + i - 1, change, now, now) for i in range(1, count + 1)))
    for block in range((slot0 + count) // BLOCK + 1):
        entries = b''.join(entry(s - slot0 + 1, change, group, now) if slot0 <= s < slot0 + count else bytes(256)
                           for s in range(block * BLOCK, (block + 1) * BLOCK))
        db.execute('INSERT OR REPLACE INTO ledger VALUES(?, ?)', (block, entries))
    db.execute("INSERT INTO run VALUES(1, 'run-1', 'run', ?, ?, 1, ?, 1, '{}')", (now - 1000, now, count))
    db.execute('COMMIT')
    db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    db.close()


def timed(command, good=0):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    r = subprocess.run(command, capture_output=True)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if r.returncode != good:
        sys.exit('%s: exit %d: %s' % (command, r.returncode, r.stderr.decode()[-400:]))
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, r.stdout


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('quotemill')
    p.add_argument('--instances', type=int, default=100_000)
    p.add_argument('--dir')
    p.add_argument('--strict', action='store_true')
    args = p.parse_args()
    top, missed, count = tempfile.mkdtemp(prefix='qm-alerts-', dir=args.dir), 0, args.instances
    home, other = os.path.join(top, 'home'), os.path.join(top, 'other')

    def trusted(where):
        out = subprocess.run([args.quotemill, 'status', '--json', '--home', where], capture_output=True).stdout
        return json.loads(out.splitlines()[-1])['by_status']['trusted']

    try:
        fill(args.quotemill, home, top, count)
        shutil.copytree(home, other)
        why = ['--reason', 'kernel update']
        steps = [('listed by change', home, ['list'], None, 0), ('listed one by one as JSON', home, ['list', '--json'], None, 0),
                 ('accepted for the group', home, ['accept', '1', '--group', *why], 5, count),
                 ('withdrawn', home, ['reopen', '1', *why], None, 0),
                 ('accepted machine by machine', other, ['accept', '1', '--same', '--yes', *why], 5, count)]
        for what, where, command, need, passing in steps:
            wall, cpu, out = timed([args.quotemill, 'alerts', command[0], '--home', where, *command[1:]])
            name = 'alerts, a cohort of %d %s' % (count, what)
            print(json.dumps({'bench': 'alerts', 'what': name, 'value': round(wall, 3), 'unit': 's', 'cpu': round(cpu, 3)}), flush=True)
            if need and count >= 100_000:
                print(json.dumps({'accept': name + ', s (wall)', 'need': '<= %g' % need, 'got': round(wall, 3), 'ok': wall <= need}), flush=True)
                missed += wall > need
            if '--json' in command and out.count(b'\n') != count:
                sys.exit('%d alerts are listed of %d' % (out.count(b'\n'), count))
            if trusted(where) != passing:
                sys.exit('%s: %d machines are trusted, not %d' % (what, trusted(where), passing))
    finally:
        shutil.rmtree(top)
    return 1 if args.strict and missed else 0


sys.exit(main())
