#!/usr/bin/env python3
"""quotemill-bench: how fast, with the yardstick in the same run.

Prints JSON lines: {"bench","what","value","unit","runs","median","ratio_to":{...}}, then one line for each figure that the
project asks of itself: {"accept","need","got","ok"}. The ways are measured in turn (A B A B), so that a machine which slows down slows
all of them; a figure is the median of the rounds, and a ratio is the median of the rounds' ratios.

Times come twice. "cpu": CPU seconds of the whole process, start to end, which other users of the machine disturb little and
which is what `openssl speed` divides by. "wall": by the clock; on an idle machine both agree for one worker. Ratios between
one-worker figures are of CPU time, those that need two cores or the disk are of wall time, and each line says which. One-worker figures
and their rivals are pinned to one core.

Sections (--only): end-to-end, stages, signatures, sha256, memory, cold. Fleets are made by `quotemill gen` in --dir and kept there."""
import argparse, json, os, re, shutil, statistics, subprocess, sys, tempfile, time

SECTIONS = ['end-to-end', 'stages', 'signatures', 'sha256', 'memory', 'cold']
RIVALS = {'parse': 'straightforward: key parsed per record', 'cached': 'straightforward: key cached, new contexts',
          'kept': 'straightforward: everything kept'}
MIB = 1 << 20
WINDOW_KIB = 984  # what the reader aims at for records of this size: 40 of them and a half


class Failed(Exception):
    pass


# --- measuring ---

def median(values):
    return statistics.median(values)


def spread(values):
    return (max(values) - min(values)) / median(values) if len(values) > 1 and median(values) else 0.0


def emit(record):
    print(json.dumps(record, separators=(',', ':')), flush=True)


class Figures:
    """Runs by name, in the order of the rounds; ratios are taken round by round."""

    def __init__(self):
        self.runs = {}
        self.accepted = []

    def add(self, name, value):
        self.runs.setdefault(name, []).append(value)

    def ratio(self, name, to):
        pairs = [a / b for a, b in zip(self.runs.get(name, []), self.runs.get(to, [])) if b]
        return median(pairs) if pairs else None

    def value(self, name):
        return median(self.runs[name]) if name in self.runs else None

    def say(self, bench, name, unit, ratio_to=()):
        runs = self.runs[name]
        line = {'bench': bench, 'what': name, 'value': round(median(runs), 4), 'unit': unit,
                'runs': [round(r, 4) for r in runs], 'median': round(median(runs), 4), 'spread': round(spread(runs), 3)}
        ratios = {to: round(self.ratio(name, to), 3) for to in ratio_to if self.ratio(name, to)}
        if ratios:
            line['ratio_to'] = ratios
        emit(line)

    def accept(self, what, need, got, at_most=False):
        if got is not None:
            good = got <= need if at_most else got >= need
            self.accepted.append({'accept': what, 'need': ('<= ' if at_most else '>= ') + format(need, 'g'),
                                  'got': round(got, 3), 'ok': good})


def run(command, cores=None, good=(0,), **kwargs):
    """Runs a command to its end. Gives wall and CPU seconds, the largest resident size in bytes, its outputs."""
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores else None
    with tempfile.TemporaryFile() as err:
        out = kwargs.pop('out', subprocess.DEVNULL)
        start = time.monotonic()
        p = subprocess.Popen(command, stdout=out, stderr=err, preexec_fn=pin, **kwargs)
        text = p.stdout.read() if out == subprocess.PIPE else b''
        _, status, usage = os.wait4(p.pid, 0)
        wall = time.monotonic() - start
        p.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        said = err.read().decode(errors='replace')
    if p.returncode not in good:
        raise Failed('%s: exit %d: %s' % (' '.join(map(str, command[:4])), p.returncode, said[-400:]))
    return {'wall': wall, 'cpu': usage.ru_utime + usage.ru_stime, 'rss': usage.ru_maxrss * 1024, 'err': said,
            'out': text.decode(errors='replace')}


# --- fleets ---

class Fleet:
    """A directory of `quotemill gen`, its home, and the same records in files of one each."""

    def __init__(self, bench, kind, events_and_bytes=True):
        self.bench = bench
        self.dir = os.path.join(bench.dir, '%s-%d' % (kind, bench.instances))
        self.kind = kind
        self.spool = os.path.join(self.dir, 'spool-1')
        self.one = os.path.join(self.dir, 'one')
        self.home = os.path.join(self.dir, 'home')
        self.enrolments = os.path.join(self.dir, 'enroll.ndjson')
        self.table = os.path.join(self.home, 'fleet.tbl')

    def make(self):
        b = self.bench
        if not os.path.exists(os.path.join(self.dir, 'fleet.json')):
            shutil.rmtree(self.dir, ignore_errors=True)
            command = [b.quotemill, 'gen', '--instances', b.instances, '--out', self.dir, '--key', self.kind, '--events', 80,
                       '--log-bytes', 24000, '--per-file', 1000, '--baseline']
            run([str(c) for c in command + (['--keys', 16] if b.quick and self.kind == 'rsa2048' else [])])
        if not os.path.exists(os.path.join(self.home, 'fleet.tbl.made')):
            self.enroll(self.home)
            open(os.path.join(self.home, 'fleet.tbl.made'), 'w').close()
        return self

    def enroll(self, home):
        shutil.rmtree(home, ignore_errors=True)
        run([self.bench.quotemill, 'init', '--home', home])
        return run([self.bench.quotemill, 'enroll', '--home', home, self.enrolments])

    def files(self):
        return sorted(os.path.join(self.spool, f) for f in os.listdir(self.spool) if f.endswith('.mpk'))

    def make_differing(self, files):
        """The records of some files, no two with a PCR chain in common."""
        to = os.path.join(self.dir, 'differ')
        if not os.path.exists(to + '.made'):
            shutil.rmtree(to, ignore_errors=True)
            os.makedirs(to)
            count = 0
            for path in files:
                with open(path, 'rb') as f:
                    data = f.read()
                with open(os.path.join(to, os.path.basename(path)), 'wb') as f:
                    for record in records(data):
                        f.write(differ(record, count))
                        count += 1
            open(to + '.made', 'w').close()
        return to

    def make_one(self, to=None, change=None):
        """Every record in a file of its own, 10,000 to a directory."""
        to = to or self.one
        if os.path.exists(to + '.made'):
            return to
        shutil.rmtree(to, ignore_errors=True)
        count = 0
        for path in self.files():
            with open(path, 'rb') as f:
                data = f.read()
            for record in records(data):
                if count % 10000 == 0:
                    directory = os.path.join(to, '%03d' % (count // 10000))
                    os.makedirs(directory)
                with open(os.path.join(directory, '%06d.mpk' % count), 'wb') as f:
                    f.write(change(record, count) if change else record)
                count += 1
        os.sync()
        open(to + '.made', 'w').close()
        return to


def token(b, o):
    """One msgpack token as gen writes them: (kind, elements or bytes that follow, where they begin)."""
    t = b[o]
    if t & 0xf0 == 0x80:
        return 'map', t & 15, o + 1
    if t < 0x80:
        return 'int', 0, o + 1
    if t & 0xe0 == 0xa0:
        return 'raw', t & 31, o + 1
    for first, kind in ((0xc4, 'raw'), (0xd9, 'raw')):
        if first <= t <= first + 2:
            w = 1 << (t - first)
            return kind, int.from_bytes(b[o + 1:o + 1 + w], 'big'), o + 1 + w
    if 0xcc <= t <= 0xcf:
        return 'int', 0, o + 1 + (1 << (t - 0xcc))
    if t == 0xde:
        return 'map', int.from_bytes(b[o + 1:o + 3], 'big'), o + 3
    raise Failed('a record that gen does not make: %02x' % t)


def end_of(b, o):
    pending = 1
    while pending:
        kind, n, o = token(b, o)
        pending += 2 * n - 1 if kind == 'map' else -1
        o += n if kind == 'raw' else 0
    return o


def records(data):
    at = 0
    while at < len(data):
        end = end_of(data, at)
        yield data[at:end]
        at = end


def differ(record, index):
    """The record with a log of its own: in every event's SHA-256 digest four bytes are the record's number. Its signature
    still verifies and its baseline still proves its values; the log is inconsistent with them, and replayed in full to find out."""
    record = bytearray(record)
    at = record.index(b'\xa3log') + 4
    _, length, at = token(record, at)
    end = at + length
    at += 32 + int.from_bytes(record[at + 28:at + 32], 'little')  # the header event
    while at + 12 <= end:
        count = int.from_bytes(record[at + 8:at + 12], 'little')
        at += 12
        for _ in range(count):
            algorithm = int.from_bytes(record[at:at + 2], 'little')
            if algorithm == 0x000b:
                record[at + 30:at + 34] = index.to_bytes(4, 'big')
            at += 2 + {0x0004: 20, 0x000b: 32, 0x000c: 48, 0x000d: 64}[algorithm]
        at += 4 + int.from_bytes(record[at:at + 4], 'little')
    return bytes(record)


def resize(record, index):
    """A record of 4 to 40 KB, sizes evenly spread: without its log where that is too long, made up by a longer `ak`, which
    nobody reads."""
    want = 4000 + index * 7919 % 36000
    kind, pairs, at = token(record, 0)
    kept = []
    for _ in range(pairs):
        value = end_of(record, at)
        end = end_of(record, value)
        name = record[at + 1:value]
        if name != b'ak':
            kept.append((name, record[at:end]))
        at = end
    if sum(len(p) for _, p in kept) + 16 > want:
        kept = [(n, p) for n, p in kept if n != b'log']
    size = sum(len(p) for _, p in kept) + 16
    fill = max(0, want - size)
    kept.append((b'ak', b'\xa2ak\xc6' + fill.to_bytes(4, 'big') + os.urandom(16) * (fill // 16) + b'x' * (fill % 16)))
    return bytes([0x80 | len(kept)]) + b''.join(p for _, p in kept)


# --- the sections ---

def two_of(cores):
    """The last CPU and, where there is one, the last that is not a thread of the same core."""
    def core(cpu):
        try:
            with open('/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list' % cpu) as f:
                return f.read()
        except OSError:
            return str(cpu)
    others = [c for c in cores[:-1] if core(c) != core(cores[-1])]
    return [cores[-1]] + (others or cores[:-1])[-1:]


class Bench:
    def __init__(self, args):
        here = os.path.dirname(os.path.abspath(__file__))
        build = args.build or os.path.dirname(here)
        self.quotemill = os.path.join(build, 'tools', 'quotemill')
        self.programs = os.path.join(build, 'bench')
        if not os.path.exists(self.quotemill):
            raise Failed('no %s: give --build' % self.quotemill)
        self.quick = args.quick
        self.instances = args.instances or (3000 if args.quick else 100000)
        self.rounds = args.rounds or (3 if args.quick else 7)
        self.speed_seconds = 1
        self.dir = os.path.abspath(args.dir)
        self.million = args.million
        self.figures = Figures()
        cores = sorted(os.sched_getaffinity(0))
        self.one_core = {cores[-1]}
        self.two_cores = set(two_of(cores))
        os.makedirs(self.dir, exist_ok=True)

    def program(self, name):
        return os.path.join(self.programs, name)

    def verify(self, home, paths, workers, *more):
        cores = self.one_core if workers == 1 else self.two_cores
        command = [self.quotemill, 'verify', '--home', home, '--workers', str(workers), '-v', *more, *paths]
        r = run(command, cores)
        m = re.search(r'(\d+) records in ([0-9.]+) s', r['err'])
        r['records'], r['inside'] = int(m.group(1)), float(m.group(2))
        return r

    def openssl_speed(self, algorithm):
        r = run(['openssl', 'speed', '-mr', '-seconds', str(self.speed_seconds), algorithm], self.one_core, out=subprocess.PIPE)
        m = re.search(r'^\+F[24]:\d+:\d+:([0-9.e+-]+):([0-9.e+-]+)', r['out'], re.M)
        if not m:
            raise Failed('cannot read what openssl speed said: ' + r['out'][-300:])
        verify = float(m.group(2))
        return verify if verify > 1 else 1 / verify  # by version: a second's worth, or seconds for one

    def rival(self, fleet, mode, files):
        r = run([self.program('bench_rival'), fleet.enrolments, mode, *files], self.one_core)
        said = json.loads(r['err'].splitlines()[-1])
        if mode != 'read' and said['trusted'] != said['records']:
            raise Failed('the rival does not trust every record: %s' % said)
        return said

    def end_to_end(self):
        for kind, algorithm in (('rsa2048', 'rsa2048'), ('p256', 'ecdsap256')):
            self.one_fleet(Fleet(self, kind).make(), algorithm)

    def one_fleet(self, fleet, algorithm):
        f, kind = self.figures, fleet.kind
        many, one = fleet.spool, fleet.make_one()
        files = fleet.files()
        few = files[:max(1, len(files) // 5)]
        differing = fleet.make_differing(few)
        speed = 'openssl speed %s, verify' % algorithm
        units = {}

        def put(name, value, unit='records/s'):
            f.add(name, value)
            units[name] = unit

        for path in (many, one, differing):
            self.verify(fleet.home, [path], 2)  # into the page cache
        for _ in range(self.rounds):
            put(speed, self.openssl_speed(algorithm), '1/s')
            for layout, path in (('many-record files', many), ('one-record files', one)):
                for workers in (1, 2):
                    r = self.verify(fleet.home, [path], workers)
                    name = 'verify %s, %s, %d worker%s' % (kind, layout, workers, 's'[:workers - 1])
                    put(name + ', process, wall', r['records'] / r['wall'])
                    put(name + ', inside, wall', r['records'] / r['inside'])
                    if workers == 1:
                        put(name + ', process, cpu', r['records'] / r['cpu'])
            for what, path, more in (('memo off', [many], ['--no-memo']), ('no two logs alike', [differing], []),
                                     ('no two logs alike, memo off', [differing], ['--no-memo'])):
                r = self.verify(fleet.home, path, 1, *more)
                put('verify %s, many-record files, 1 worker, %s, process, cpu' % (kind, what), r['records'] / r['cpu'])
            r = self.verify(fleet.home, [many], 1, '--format', 'ndjson')
            put('verify %s, many-record files, 1 worker, NDJSON, process, cpu' % kind, r['records'] / r['cpu'])
            for mode, what in RIVALS.items():
                r = self.rival(fleet, mode, few)
                put('%s, %s, cpu' % (kind, what), r['records'] / r['cpu_s'])
                put('%s, %s, wall' % (kind, what), r['records'] / r['wall_s'])
        base = 'verify %s, many-record files, ' % kind
        single = base + '1 worker, process, cpu'
        rivals = ['%s, %s, cpu' % (kind, what) for what in RIVALS.values()]
        for name, unit in units.items():
            to = [speed] + rivals if name.startswith('verify') and name.endswith('cpu') else []
            if '2 workers' in name:
                to = [name.replace('2 workers', '1 worker')]
            f.say('end-to-end', name, unit, to)
        if kind == 'rsa2048':
            f.accept('least: RSA-2048, 1 worker, against the straightforward pipeline, key parsed per record (cpu)', 2.5,
                     f.ratio(single, rivals[0]))
            f.accept('least: RSA-2048, 1 worker, records/s of openssl speed verify/s (cpu)', 0.5, f.ratio(single, speed))
            two = f.ratio(base + '2 workers, process, wall', base + '1 worker, process, wall')
            f.accept('least: 2 workers against 1 (wall, needs two idle cores)', 1.8, two)
            f.accept('aim: 2 workers against 1 (wall, needs two idle cores)', 1.85, two)
            f.accept('aim: RSA-2048, 1 worker, records/s of openssl speed verify/s (cpu)', 1.6, f.ratio(single, speed))
            f.accept('aim: RSA-2048, 1 worker, against the straightforward pipeline, key cached, new contexts (cpu)', 7,
                     f.ratio(single, rivals[1]))
        else:
            f.accept('aim: P-256, 1 worker, records/s of openssl speed verify/s (cpu)', 5.2, f.ratio(single, speed))

    def child_lines(self, command, cores=None):
        """Runs a program of ours, passes its JSON lines on, and gives them back."""
        r = run(command, cores or self.one_core, out=subprocess.PIPE)
        lines = [json.loads(line) for line in r['out'].splitlines()]
        for line in lines:
            emit(line)
        return lines

    def stages(self):
        for kind in ('rsa2048', 'p256'):
            fleet = Fleet(self, kind).make()
            files = fleet.files()[:3 if self.quick else 10]
            for memo in ('no-memo', 'memo'):
                emit({'bench': 'stages', 'what': 'fleet', 'value': kind, 'memo': memo})
                lines = self.child_lines([self.program('bench_stages'), fleet.table, str(3 if self.quick else 15),
                                          str(WINDOW_KIB), memo, *files])
            small = {'decode', 'table look-up', 'attest and', 'attest digests', 'log walk', 'composites', 'result, msgpack'}
            for line in lines:
                if any(line['what'].startswith(s) for s in small):
                    self.figures.accept('aim: share of a worker\'s time, %s: %s' % (kind, line['what']), 0.10,
                                        line['ratio_to']['sum of stages'], at_most=True)

    def signatures(self):
        lines = self.child_lines([self.program('bench_signatures'), *(['1', '2000', '2'] if self.quick else ['7', '100000'])])
        need = {'rsa2048 pkcs1': 7, 'rsa2048 pss': 6.5, 'rsa3072 pkcs1': 6, 'rsa4096 pkcs1': 6, 'p256': 14, 'p384': 7}
        for line in lines:
            if line['what'] in need:
                ratio = next(iter(line['ratio_to'].values()))
                self.figures.accept('aim: %s, against OpenSSL with cached keys and contexts' % line['what'],
                                    need[line['what']], ratio)
            if line['what'].startswith('p256, a prepared key'):
                self.figures.accept('aim: bytes of a prepared P-256 key', 2048, line['value'], at_most=True)

    def sha256(self):
        lines = self.child_lines([self.program('bench_sha256'), '11' if self.quick else '101'])
        best = [x['vs_openssl'] for x in lines if x['work'] == 'logs of 64 records' and not x['kernel'].startswith('openssl')]
        if best:
            self.figures.accept('aim: PCR extends, against SHA256_Transform twice (best kernel)', 3.1, max(best))

    def memory(self):
        f = self.figures
        fleet = Fleet(self, 'rsa2048').make()
        table = os.path.getsize(fleet.table)
        for workers in (1, 2):
            r = self.verify(fleet.home, [fleet.spool], workers)
            name = 'verify, %d records, %d worker%s, largest resident size' % (r['records'], workers, 's'[:workers - 1])
            f.add(name, r['rss'] / MIB)
            f.say('memory', name, 'MiB')
        f.accept('least: resident memory of verify less the table, MiB', 256, (r['rss'] - table) / MIB, at_most=True)
        r = fleet.enroll(os.path.join(fleet.dir, 'home-again'))
        shutil.rmtree(os.path.join(fleet.dir, 'home-again'))
        for name, value, unit in (('table, %d instances' % self.instances, table / MIB, 'MiB'),
                                  ('enroll, %d instances with baselines, wall' % self.instances, r['wall'], 's'),
                                  ('enroll, %d instances with baselines, cpu' % self.instances, r['cpu'], 's')):
            f.add(name, value)
            f.say('memory', name, unit)
        if self.instances == 100000:
            f.accept('least: 100,000 instances enrolled, s (wall)', 20, r['wall'], at_most=True)
        if self.million:
            self.a_million()

    def a_million(self, count=1000000, sets=1000):
        """Enrols a million RSA-2048 instances, each with a modulus of its own, that share a thousand reference sets."""
        import base64, random
        rand = random.Random(1)
        home = os.path.join(self.dir, 'home-million')
        shutil.rmtree(home, ignore_errors=True)
        run([self.quotemill, 'init', '--home', home])
        baselines = [','.join('"%d":"%s"' % (pcr, rand.randbytes(32).hex()) for pcr in range(10)) for _ in range(sets)]
        head = bytes.fromhex('011800010' '00b000500720000' '00100014000b0800000000000100')
        start = time.monotonic()
        p = subprocess.Popen([self.quotemill, 'enroll', '--home', home, '-'], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in range(count):
            n = bytearray(rand.randbytes(256))
            n[0] |= 0x80
            n[-1] |= 1
            ak = base64.b64encode(head + n).decode()
            p.stdin.write(('{"id":"m-%07d","ak":"%s","baseline":{%s}}\n' % (i, ak, baselines[i % sets])).encode())
        p.stdin.close()
        _, status, usage = os.wait4(p.pid, 0)
        said = p.stderr.read().decode()
        if status != 0:
            raise Failed('enroll of a million failed: ' + said[-300:])
        f = self.figures
        size = os.path.getsize(os.path.join(home, 'fleet.tbl')) / MIB
        for name, value, unit in (('table, %d instances, %d sets' % (count, sets), size, 'MiB'),
                                  ('enroll, %d instances, cpu' % count, usage.ru_utime + usage.ru_stime, 's'),
                                  ('enroll, %d instances, wall, lines made beside it' % count, time.monotonic() - start, 's'),
                                  ('enroll, %d instances, largest resident size' % count, usage.ru_maxrss / 1024, 'MiB')):
            f.add(name, value)
            f.say('memory', name, unit)
        f.accept('least: table of 1,000,000 instances, MiB', 1024, size, at_most=True)
        shutil.rmtree(home)

    def drop_caches(self):
        os.sync()
        try:
            with open('/proc/sys/vm/drop_caches', 'w') as f:
                f.write('3')
            return True
        except OSError:
            return False

    def cold(self):
        f = self.figures
        fleet = Fleet(self, 'rsa2048').make()
        spool = fleet.make_one(os.path.join(fleet.dir, 'cold'), resize)
        files = sorted(os.path.join(d, n) for d, _, names in os.walk(spool) for n in names)
        listed = os.path.join(fleet.dir, 'cold.list')
        with open(listed, 'w') as out:
            out.write('\n'.join(files) + '\n')
        reader, ring = 'open, read, close, 1 thread, cold, wall', 'verify, 2 workers, cold, wall'
        plain = 'verify, 2 workers, --io read, cold, wall'
        if not self.drop_caches():
            emit({'bench': 'cold', 'what': 'not measured: the page cache cannot be dropped here'})
            return
        self.verify(fleet.home, [spool], 2)  # once, for the rest of the program
        for _ in range(1 if self.quick else max(2, self.rounds // 2)):
            self.drop_caches()
            r = self.rival(fleet, 'read', ['@' + listed])
            f.add(reader, r['records'] / r['wall_s'])
            for name, more in ((ring, []), (plain, ['--io', 'read'])):
                self.drop_caches()
                r = self.verify(fleet.home, [spool], 2, *more)
                f.add(name, r['records'] / r['wall'])
        for name in (reader, ring, plain):
            f.say('cold', name, 'files/s', [reader] if name != reader else [])
        f.accept('aim: cold spool, 2 workers, against one thread of open/read/close (wall)', 4, f.ratio(ring, reader))


def machine():
    text = open('/proc/cpuinfo').read()
    model = re.search(r'model name\s*: (.*)', text)
    version = subprocess.run(['openssl', 'version'], capture_output=True, text=True).stdout.split()[:2]
    return {'bench': 'machine', 'what': model.group(1) if model else 'unknown', 'cores': os.cpu_count(),
            'load': round(os.getloadavg()[0], 1), 'openssl': ' '.join(version)}


def main():
    p = argparse.ArgumentParser(prog='quotemill-bench', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--dir', default='bench-data', help='where fleets are made and kept (default: bench-data)')
    p.add_argument('--build', help='build directory (default: the one this lies in)')
    p.add_argument('--quick', action='store_true', help='a small fleet and few rounds: does it run at all')
    p.add_argument('--only', action='append', choices=SECTIONS, help='this section; may be given again')
    p.add_argument('--instances', type=int, help='machines in a fleet (default 100000)')
    p.add_argument('--rounds', type=int, help='rounds of the end-to-end figures (default 7)')
    p.add_argument('--million', action='store_true', help='memory: also enrol a million instances')
    p.add_argument('--strict', action='store_true', help='exit 1 if a figure is missed')
    args = p.parse_args()
    try:
        bench = Bench(args)
        emit(machine())
        for section in args.only or SECTIONS:
            getattr(bench, section.replace('-', '_'))()
    except Failed as failure:
        sys.exit('quotemill-bench: %s' % failure)
    for line in bench.figures.accepted:
        emit(line)
    return 1 if args.strict and not all(a['ok'] for a in bench.figures.accepted) else 0


if __name__ == '__main__':
    sys.exit(main())
