#!/usr/bin/env python3
"""home-bench: what the fleet home costs, against what is asked of it.

Prints JSON lines like quotemill-bench, which it shares its tools with: a line for each figure, then {"accept","need","got","ok"} for each
that something is asked of. Sections (--only):

  run      `run` against `verify` on the same files, just written and synced, in the page cache: known-good records in 1,000-record
           files and in one-record files, and the same records where every instance shows one and the same change, and where each shows
           a change of its own. Each round has its own copy of home and spool; verify first, then run, which removes the spool.
  cohort   the cohort of that run accepted with one command, its table included.
  readers  how long a reader waits while a run works and commits, and, as the machine is as busy then, while a verify works.
  million  1,000,000 instances, enrolled: the table built again, a run that finds nothing, status.

Ratios are of pairs, a round each: wall by the clock, cpu of the whole processes, which other users of the machine disturb less. Wall is
what is asked for; it is held to the best round, and the median is beside it."""
import argparse, importlib.machinery, importlib.util, json, os, shutil, sqlite3, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))


def load_bench():
    path = next(p for p in (os.path.join(HERE, n) for n in ('quotemill-bench', 'bench.py')) if os.path.exists(p))
    loader = importlib.machinery.SourceFileLoader('bench', path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('bench', loader))
    loader.exec_module(module)
    return module


sys.dont_write_bytecode = True
bench = load_bench()
SECTIONS = ['run', 'cohort', 'readers', 'million']
KINDS = [('known-good records', 'good', 'many', 1.3), ('known-good records', 'good', 'one', 2), ('one change', 'cohort', 'many', 3),
         ('different changes', 'different', 'many', 6)]
LAYOUTS = {'many': '1,000-record files', 'one': 'one-record files'}
FOUND = (0, 1)  # exit codes: nothing wrong, something found


def say(what, value, unit, **more):
    bench.emit({'bench': 'home', 'what': what, 'value': round(value, 4), 'unit': unit, **more})


class Home:
    """DIR/fleet: what gen made. many, one: records of its second round, all of which carry PCR values. home-KIND: enrolled and ready."""

    def __init__(self, args):
        build = args.build or os.path.dirname(HERE)
        self.quotemill = os.path.join(build, 'tools', 'quotemill')
        if not os.path.exists(self.quotemill):
            raise bench.Failed('no %s: give --build' % self.quotemill)
        self.quick = args.quick
        self.count = args.instances or (5000 if args.quick else 100000)
        self.million_count = 50000 if args.quick else 1000000
        self.rounds = args.rounds or (1 if args.quick else 3)
        self.shared = os.path.abspath(args.dir)
        os.makedirs(self.shared, exist_ok=True)
        if args.quick:  # made anew and not kept: in a place of its own, as another may be at work beside it
            self.top = tempfile.mkdtemp(prefix='home-quick-', dir=self.shared)
        else:
            self.top = os.path.join(self.shared, 'home-%d' % self.count)
        self.work = os.path.join(self.top, 'work')
        self.spool = os.path.join(args.spools or self.work, 'home-bench-spool')
        self.accepted = []
        os.makedirs(self.top, exist_ok=True)

    def at(self, name):
        return os.path.join(self.top, name)

    def accept(self, what, need, got):
        self.accepted.append({'accept': what, 'need': '<= %g' % need, 'got': round(got, 4), 'ok': got <= need})

    def command(self, *words, good=FOUND, out=subprocess.DEVNULL):
        r = bench.run([self.quotemill, *map(str, words)], good=good, out=out)
        return r

    # --- what is measured ---

    def make(self):
        if os.path.exists(self.at('made')):
            return
        for name in ('fleet', 'many', 'one'):
            shutil.rmtree(self.at(name), ignore_errors=True)
        # one machine in sixteen has a collector that sends no values
        gen = ['gen', '--out', self.at('fleet'), '--per-file', 1000]
        self.command(*gen, '--instances', self.count * 11 // 10 + 50, '--events', 80, '--log-bytes', 24000, '--baseline')
        self.command(*gen, '--round', 2)
        ids = self.split()
        self.enroll('good', lambda line, i: line, None)
        self.command('run', '--home', self.at('home-good'), self.at('fleet/spool-1'))
        # the events behind all values are kept, as after some runs: none are gathered, and no table is made for them
        db = sqlite3.connect(os.path.join(self.at('home-good'), 'fleet.db'))
        db.execute('DELETE FROM events_missing')
        db.execute("UPDATE meta SET value = 0 WHERE key IN ('events_new', 'events_found')")
        db.commit()
        db.close()
        self.enroll('cohort', self.expect_other(lambda i: 0), ids)
        self.enroll('different', self.expect_other(lambda i: i + 1), ids)
        shutil.rmtree(self.at('fleet/spool-2'))
        open(self.at('made'), 'w').close()

    def split(self):
        """The first records that have PCR values, in both layouts; gives their ids."""
        ids, many = set(), None
        for directory in ('many', 'one'):
            os.makedirs(self.at(directory))
        spool = self.at('fleet/spool-2')
        for name in sorted(os.listdir(spool)):
            with open(os.path.join(spool, name), 'rb') as f:
                data = f.read()
            for record in bench.records(data):
                if len(ids) == self.count or b'\xa4pcrs' not in record:
                    continue
                i = len(ids)
                if i % 1000 == 0:
                    if many:
                        many.close()
                    many = open(self.at('many/%06d.mpk' % (i // 1000)), 'wb')
                    os.makedirs(self.at('one/%03d' % (i // 1000)))
                many.write(record)
                with open(self.at('one/%03d/%06d.mpk' % (i // 1000, i)), 'wb') as f:
                    f.write(record)
                at = record.index(b'\xa2id') + 3
                _, length, at = bench.token(record, at)
                ids.add(record[at:at + length].decode())
        many.close()
        if len(ids) != self.count:
            raise bench.Failed('%d records with PCR values, not %d' % (len(ids), self.count))
        return ids

    @staticmethod
    def expect_other(number):
        """One group, and a baseline in which PCR 3, the same on every machine, is another value."""
        def change(line, i):
            line = {**line, 'group': 'fleet'}
            line['baseline']['3'] = '%064x' % (1 << 255 | number(i))
            return line
        return change

    def enroll(self, kind, change, ids):
        home = self.at('home-' + kind)
        shutil.rmtree(home, ignore_errors=True)
        self.command('init', '--home', home)
        lines = self.at('lines.ndjson')
        with open(self.at('fleet/enroll.ndjson')) as f, open(lines, 'w') as out:
            for i, text in enumerate(f):
                line = json.loads(text)
                if ids is None or line['id'] in ids:
                    out.write(json.dumps(change(line, i)) + '\n')
        self.command('enroll', '--home', home, lines, good=(0,))
        os.unlink(lines)

    def copy(self, kind, layout):
        """A home and a spool of their own, in the page cache, nothing left to write."""
        home = os.path.join(self.work, 'home')
        for directory in (self.work, self.spool):
            shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(self.work)
        for source, copy in ((self.at('home-' + kind), home), (self.at(layout), self.spool)):
            subprocess.run(['cp', '-r', '--reflink=never', source, copy], check=True)
        os.sync()
        return home, self.spool

    def clean(self):
        for directory in [self.work, self.spool] + [self.top] * self.quick:
            shutil.rmtree(directory, ignore_errors=True)

    def run(self):
        self.make()
        self.command('verify', '--home', self.at('home-good'), self.at('many'))  # the program into the page cache
        for what, kind, layout, need in KINDS:
            wall, cpu, pairs = [], [], []
            for _ in range(self.rounds):
                home, spool = self.copy(kind, layout)
                verify = self.command('verify', '--home', home, spool)
                r = self.command('run', '--home', home, '--json', spool, out=subprocess.PIPE)
                self.check(kind, home, json.loads(r['out'].splitlines()[-1]))
                pairs.append([round(x[t], 2) for t in ('wall', 'cpu') for x in (verify, r)])
                wall.append(r['wall'] / verify['wall'])
                cpu.append(r['cpu'] / verify['cpu'])
            name = 'run against verify, %d %s, %s' % (self.count, what, LAYOUTS[layout])
            say(name + ', wall', bench.median(wall), 'ratio', runs=[round(x, 3) for x in wall], least=round(min(wall), 3))
            say(name + ', cpu', bench.median(cpu), 'ratio', runs=[round(x, 3) for x in cpu], least=round(min(cpu), 3),
                seconds_verify_run_wall_cpu=pairs, load=round(os.getloadavg()[0], 1))
            self.accept(name + ' (wall, best round)', need, min(wall))

    def check(self, kind, home, record):
        """A run that did something else has no figure."""
        want = ('trusted', 0) if kind == 'good' else ('untrusted', self.count)
        db = sqlite3.connect('file:%s/fleet.db?mode=ro' % home, uri=True)
        got = db.execute('SELECT count(*), count(DISTINCT change) FROM alert WHERE state = 0 AND kind = 0').fetchone()
        db.close()
        changes = {'good': 0, 'cohort': 1, 'different': self.count}[kind]
        if record['by_status'].get(want[0]) != self.count or got != (want[1], changes):
            raise bench.Failed('%s: %s, alerts and changes %s' % (kind, record['by_status'], got))

    def cohort(self):
        self.make()
        home, spool = self.copy('cohort', 'many')
        self.command('run', '--home', home, spool)
        r = self.command('alerts', 'accept', '1', '--same', '--yes', '--home', home, '--reason', 'bench', good=(0,))
        again = self.command('status', '--home', home, '--json', out=subprocess.PIPE)
        trusted = json.loads(again['out'].splitlines()[-1])['by_status'].get('trusted')
        if trusted != self.count:
            raise bench.Failed('%s machines are trusted, not %d' % (trusted, self.count))
        name = 'a cohort of %d accepted, its table included' % self.count
        say(name, r['wall'], 's', cpu=round(r['cpu'], 3))
        self.accept(name + ', s (wall)', 5, r['wall'])

    # --- readers ---

    def read_beside(self, home, some, command):
        """What a reader of the store and one of the command line wait, each asking again and again while the command works."""
        done = threading.Event()
        waits = {'select': [], 'status': []}

        def select():
            # a connection each time, as every command has its own
            while not done.is_set():
                start = time.monotonic()
                db = sqlite3.connect('file:%s/fleet.db?mode=ro' % home, uri=True, timeout=30)
                db.execute('SELECT count(*) FROM alert WHERE state = 0 AND slot = 1').fetchone()
                db.execute('SELECT entries FROM ledger WHERE block = 1').fetchone()
                db.close()
                waits['select'].append(time.monotonic() - start)
                time.sleep(0.002)

        def status():
            while not done.is_set():
                start = time.monotonic()
                subprocess.run([self.quotemill, 'status', '--json', '--home', home, some], capture_output=True)
                waits['status'].append(time.monotonic() - start)
                time.sleep(0.02)

        threads = [threading.Thread(target=t) for t in (select, status)]
        for t in threads:
            t.start()
        self.command(*command)
        done.set()
        for t in threads:
            t.join()
        return {k: sorted(v) for k, v in waits.items()}

    def readers(self):
        self.make()
        best = {}
        for _ in range(self.rounds):
            home, spool = self.copy('different', 'many')
            with open(self.at('fleet/enroll.ndjson')) as f:
                some = json.loads(f.readline())['id']
            for what, command in (('verify', ['verify', '--home', home, spool]), ('run', ['run', '--home', home, spool])):
                for reader, waits in self.read_beside(home, some, command).items():
                    say('a reader (%s) beside %s, longest wait' % (reader, what), waits[-1], 's', asked=len(waits),
                        p50=round(waits[len(waits) // 2], 4), p99=round(waits[len(waits) * 99 // 100], 4))
                    best.setdefault((reader, what), []).append(waits[-1])
        self.accept('a reader of the store beside a run, longest wait, s (wall, best round)', 0.1, min(best['select', 'run']))

    # --- a million ---

    def million(self):
        home = os.path.join(self.shared, 'home-of-%d' % self.million_count)
        if not os.path.exists(home + '.made'):
            self.enroll_million(home)
            open(home + '.made', 'w').close()
        n = self.million_count
        table = os.path.join(home, 'fleet.tbl')
        size = os.path.getsize(table)
        best = []
        for _ in range(self.rounds):
            os.unlink(table)
            r = self.command('run', '--home', home, '--metrics', 'none')
            if os.path.getsize(table) != size:
                raise bench.Failed('the table is another one')
            again = self.command('run', '--home', home, '--metrics', 'none')
            best.append((r['wall'] - again['wall'], r['cpu'] - again['cpu'], again['wall'], again['cpu']))
        wall, cpu, idle, idle_cpu = map(min, zip(*best))
        say('the table of %d instances built again' % n, wall, 's', cpu=round(cpu, 3), runs=[round(b[0], 2) for b in best])
        say('a run that finds nothing, %d instances' % n, idle, 's', cpu=round(idle_cpu, 3))
        self.accept('the table of %d instances built again, s (wall, best round)' % n, 10, wall)
        for what, words, need in (('summary', [], 0.3), ('one instance', ['m-%07d' % (n // 2)], 0.05)):
            rounds = [self.command('status', '--home', home, *words) for _ in range(5)]
            wall = min(r['wall'] for r in rounds)
            say('status, %s, of %d' % (what, n), bench.median([r['wall'] for r in rounds]), 's', least=round(wall, 4),
                cpu=round(min(r['cpu'] for r in rounds), 4))
            self.accept('status, %s, of %d, s (wall, best round)' % (what, n), need, wall)

    def enroll_million(self, home, sets=1000):
        """Keys of their own, baselines of a thousand kinds."""
        import base64, random
        rand = random.Random(1)
        shutil.rmtree(home, ignore_errors=True)
        self.command('init', '--home', home)
        baselines = [','.join('"%d":"%s"' % (pcr, rand.randbytes(32).hex()) for pcr in range(10)) for _ in range(sets)]
        head = bytes.fromhex('01180001000b00050072000000100014000b0800000000000100')
        p = subprocess.Popen([self.quotemill, 'enroll', '--home', home, '-'], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for i in range(self.million_count):
            n = bytearray(rand.randbytes(256))
            n[0] |= 0x80
            n[-1] |= 1
            p.stdin.write(('{"id":"m-%07d","ak":"%s","group":"g%d","baseline":{%s}}\n' %
                           (i, base64.b64encode(head + n).decode(), i % 20, baselines[i % sets])).encode())
        p.stdin.close()
        if p.wait() != 0:
            raise bench.Failed('enroll of %d: exit %d' % (self.million_count, p.returncode))


def main():
    p = argparse.ArgumentParser(prog='home-bench', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--dir', default='bench-data', help='where fleets and homes are made and kept, 12 GB (default: bench-data)')
    p.add_argument('--build', help='build directory (default: the one this lies in)')
    p.add_argument('--spools', help='where the spools of the rounds are, 2.5 GB (default: in --dir); on a file system where removing '
                   'a file is dear, a tmpfs shows what is left without that')
    p.add_argument('--quick', action='store_true', help='5,000 machines, one round, 50,000 for a million: does it run at all')
    p.add_argument('--only', action='append', choices=SECTIONS, help='this section; may be given again')
    p.add_argument('--instances', type=int, help='machines in the fleet (default 100000)')
    p.add_argument('--rounds', type=int, help='rounds (default 3)')
    p.add_argument('--strict', action='store_true', help='exit 1 if a figure is missed')
    args = p.parse_args()
    home = None
    try:
        home = Home(args)
        bench.emit(bench.machine())
        for section in args.only or SECTIONS:
            getattr(home, section)()
    except bench.Failed as failure:
        sys.exit('home-bench: %s' % failure)
    finally:
        if home:
            home.clean()
    for line in home.accepted:
        bench.emit(line)
    return 1 if args.strict and not all(a['ok'] for a in home.accepted) else 0


if __name__ == '__main__':
    sys.exit(main())
