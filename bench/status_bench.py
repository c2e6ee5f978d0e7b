#!/usr/bin/env python3
"""How long status takes over a large home: status_bench.py QUOTEMILL [--instances N] [--dir DIR] [--rounds N] [--strict]

The home is made by `quotemill init` and filled behind its back, as enrolling a million keys would take longer than all that is asked
here: instance rows, ledger blocks as they lie in the store, runs. What status says is compared with what was written. Prints JSON lines
like the bench; --strict ends with 1 where a figure is missed. Times are of the whole process, median of the rounds; beside the clock's the CPU's,
which other users of the machine disturb little, and the fastest round, which is what figures are held to."""
import argparse, hashlib, json, os, resource, shutil, sqlite3, statistics, struct, subprocess, sys, tempfile, time

GROUPS, SETS, BLOCK = 20, 40, 31
SEEN, STATUS, PROVEN = 1, 4, 32
UNTRUSTED, NEW, TRUSTED = 1, 2, 3
MISMATCH, NO_BASELINE, GOOD = 8, 11, 13
DAY = 86_400_000


def entry(slot, now, enrolled_s, group, kind, fresh):
    """struct qm_ledger (engine/ledger.h)."""
    authentic = {'silent': now - 3 * DAY, 'none': 0}.get(kind, now - 600_000)
    status, reason = {'bad': (UNTRUSTED, MISMATCH), 'new': (NEW, NO_BASELINE)}.get(kind, (TRUSTED, GOOD))
    flags = 0 if kind == 'none' else SEEN | STATUS | PROVEN
    digest = hashlib.sha256(b'%d' % slot).digest()
    e = struct.pack('<QIIQII', slot * 1000, 5, 1, 0, 0, 0) + digest * 4
    e += struct.pack('<QQIIQ', authentic, authentic if status == TRUSTED else 0, authentic // 1000, 0, 1)
    e += struct.pack('<IIIIII', 5, 1, 1 + slot % SETS, 0, 0, 0)
    e += struct.pack('<IIIIIIII', group, 0, 4, 1, 0, enrolled_s, 0, 0)
    return e + struct.pack('<8B', flags, status, reason, 1, 4 if kind == 'bad' else 255, fresh, 0, 1)


def kind_of(slot):
    return 'bad' if slot % 1000 == 0 else 'silent' if slot % 997 == 0 else 'new' if slot % 991 == 0 else 'none' if slot % 10 == 3 else 'good'


def fill(home, count, now):
    """Gives what status must say: (by status, by group)."""
    db = sqlite3.connect(os.path.join(home, 'fleet.db'), isolation_level=None)
    for pragma in ('journal_mode=WAL', 'synchronous=OFF', 'cache_size=-262144'):
        db.execute('PRAGMA ' + pragma)
    db.execute('BEGIN')
    db.execute('INSERT INTO ak VALUES(1, ?, ?)', (b'k' * 32, b'm' * 128))
    profile = struct.pack('<BBBBI', 1, 2, 1, 0, 0x3ff) + struct.pack('<B3xI', 2, 0x3ff) + bytes(24)
    db.execute('INSERT INTO profile VALUES(1, ?)', (profile,))
    db.executemany('INSERT INTO grp(no, name) VALUES(?, ?)', [(g, 'group-%d' % g) for g in range(1, GROUPS + 1)])
    db.executemany('INSERT INTO pcr_values(no, mask, hash, value) VALUES(?, ?, 0, ?)', [(v, 0x3ff, bytes([v]) * 320) for v in range(1, SETS + 1)])
    enrolled = now - 9 * DAY
    fresh_enrolled = now - DAY // 2
    by_status, by_group = {}, {}

    def machine(slot):
        kind, group = kind_of(slot), slot % GROUPS + 1
        # every other machine that never sent anything was enrolled lately
        at = fresh_enrolled if kind == 'none' and slot % 20 == 3 else enrolled
        status = {'bad': 'untrusted', 'silent': 'unmeasured', 'new': 'new', 'good': 'trusted',
                  'none': 'new' if at == fresh_enrolled else 'unmeasured'}[kind]
        by_status[status] = by_status.get(status, 0) + 1
        by_group[group] = by_group.get(group, 0) + 1
        return kind, group, at

    rows = ((s, 'machine-%016x' % s, 1, 1, 0, 'group-%d' % (s % GROUPS + 1), '{"rack":"%d","zone":"a"}' % (s % 100),
             hashlib.sha256(b'%d' % s).digest(), enrolled, enrolled, 1) for s in range(1, count + 1))
    db.executemany('INSERT INTO instance(slot, id, ak, profile, require_log, grp, tags, line, enrolled_ms, changed_ms, generation)'
                   ' VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)', rows)
    db.execute("INSERT INTO ak_history(slot, ak, since_ms, who, how) SELECT slot, 1, enrolled_ms, 'bench', 'file' FROM instance")
    for block in range(count // BLOCK + 1):
        entries = []
        for slot in range(block * BLOCK, (block + 1) * BLOCK):
            if not 1 <= slot <= count:
                entries.append(bytes(256))
                continue
            kind, group, at = machine(slot)
            entries.append(entry(slot, now, at // 1000, group, kind, slot % 3 + 1))
        db.execute('INSERT INTO ledger VALUES(?, ?)', (block, b''.join(entries)))
    for no in range(1, 289):  # a day of runs, one every five minutes
        end = now - (288 - no) * 300_000 - 60_000
        db.execute('INSERT INTO run VALUES(?, ?, ?, ?, ?, 1, ?, 1, ?)', (no, 'run-%d' % no, 'run', end - 20_000, end, count,
                                                                        json.dumps({'by_status': {'trusted': count}})))
    db.execute('COMMIT')
    db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    db.close()
    return by_status, by_group


def timed(command, rounds, good=(0, 1)):
    """Wall seconds of the fastest round, the median of them, of CPU seconds, and the last output."""
    wall, cpu = [], []
    for _ in range(rounds):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        r = subprocess.run(command, capture_output=True)
        wall.append(time.monotonic() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if r.returncode not in good:
            sys.exit('%s: exit %d: %s' % (command, r.returncode, r.stderr.decode()[-400:]))
    return min(wall), statistics.median(wall), statistics.median(cpu), r.stdout.decode()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('quotemill')
    p.add_argument('--instances', type=int, default=1_000_000)
    p.add_argument('--dir')
    p.add_argument('--rounds', type=int, default=7)
    p.add_argument('--strict', action='store_true')
    args = p.parse_args()
    top = tempfile.mkdtemp(prefix='qm-status-', dir=args.dir)
    home, missed = os.path.join(top, 'home'), 0
    try:
        subprocess.run([args.quotemill, 'init', '--home', home], check=True, capture_output=True)
        by_status, by_group = fill(home, args.instances, int(time.time() * 1000))
        ask = [args.quotemill, 'status', '--home', home]
        some = 'machine-%016x' % (args.instances // 1000 * 1000)
        figures = [('summary', ask, 0.3), ('one machine', ask + [some], 0.05), ('one group', ask + ['--group', 'group-1'], None),
                   ('by a tag', ask + ['--tag', 'rack'], None), ('every machine as JSON', ask + ['--json'], None)]
        for what, command, need in figures:
            best, wall, cpu, out = timed(command, args.rounds if need else max(1, args.rounds // 3))
            name = 'status, %s, of %d' % (what, args.instances)
            print(json.dumps({'bench': 'status', 'what': name, 'value': round(wall, 4), 'unit': 's', 'fastest': round(best, 4), 'cpu': round(cpu, 4)}), flush=True)
            if need and args.instances >= 1_000_000:
                print(json.dumps({'accept': name + ', s (wall, fastest)', 'need': '<= %g' % need, 'got': round(best, 4), 'ok': best <= need}), flush=True)
                missed += best > need
        lines = [json.loads(line) for line in out.splitlines()]
        summary = lines.pop()
        said = {k: v for k, v in summary['by_status'].items() if v}
        listed, groups = {}, {}
        for line in lines:
            listed[line['status']] = listed.get(line['status'], 0) + 1
            group = int(line['group'].split('-')[1])
            groups[group] = groups.get(group, 0) + 1
        if said != by_status or listed != by_status or groups != by_group or summary['instances'] != args.instances:
            sys.exit('status says %s, lists %s; written was %s' % (said, listed, by_status))
        one = json.loads(subprocess.run(ask + ['--json', some], capture_output=True).stdout.splitlines()[0])
        if one['status'] != 'untrusted' or len(one['stages']) != 10:
            sys.exit('one machine: %s' % one)
    finally:
        shutil.rmtree(top)
    return 1 if args.strict and missed else 0


sys.exit(main())
