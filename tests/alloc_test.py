#!/usr/bin/env python3
"""Nothing is allocated for a record: verify over spools of two sizes, with every allocation counted once the first worker runs.

    alloc_test.py QUOTEMILL COUNTING_LIBRARY CANARY

The program's own code allocates nothing from then on, whatever the number of records, of files, of bad signatures. libcrypto does where
OpenSSL gives a second opinion (each negative, and one in --audit positives), and where its own arithmetic is the kernel: a bounded number
of blocks a signature, all of them freed. The canary is quotemill with one malloc a result, and must be caught."""
import json, os, shutil, subprocess, sys, tempfile

SMALL, LARGE = 200, 2000
PER_LOOK = 400   # blocks that OpenSSL takes for one second opinion: 224 on average over these keys (3.0.22)
PER_OWN = 150    # and for a signature that its arithmetic is the kernel for: 63, nearly all of them inside EC_POINT_mul
SLACK = 100      # what a thread or a library makes once, a little later in one run than in another
ATTEST = b'\xffTCG\x80\x18'


class Failed(Exception):
    pass


class Bench:
    def __init__(self, program, library, place):
        self.program, self.library, self.place = program, library, place
        self.env = {k: v for k, v in os.environ.items() if k != 'QM_KERNEL'}

    def quotemill(self, *args):
        r = subprocess.run([self.program, *args], env=self.env, cwd=self.place, capture_output=True, timeout=300)
        if r.returncode != 0:
            raise Failed(f'{args}: exit {r.returncode}, {r.stderr.decode()}')

    def spools(self, count):
        """Of count records: one a file, many a file, and one file for stdin; some tampered with, some with a signature that is bad."""
        name, home = f'fleet-{count}', ['--home', f'home-{count}']
        self.quotemill('gen', '--instances', str(count), '--key', 'mix', '--keys', '8', '--events', '24', '--log-bytes', '3000',
                       '--baseline', '--out', name)
        self.quotemill('gen', '--out', name, '--round', '2', '--tamper', '0.1')
        self.quotemill('init', *home)
        self.quotemill('enroll', *home, f'{name}/enroll.ndjson')
        for first, _, names in sorted(os.walk(os.path.join(self.place, name, 'spool-2'))):
            for i, n in enumerate(sorted(names)):
                path = os.path.join(first, n)
                data = bytearray(open(path, 'rb').read())
                if i % 10 == 3:
                    data[data.index(ATTEST) + len(ATTEST) + 4] ^= 1  # in the signer's name: only the signature sees it
                open(path, 'wb').write(data)
                for to, mode in ((f'many-{count}/{i // 60:03}.mpk', 'ab'), (f'all-{count}', 'ab')):
                    os.makedirs(os.path.dirname(os.path.join(self.place, to)), exist_ok=True)
                    with open(os.path.join(self.place, to), mode) as f:
                        f.write(data)
        return {'one record a file': [f'{name}/spool-2'], 'many a file': [f'many-{count}'], 'a stream': ['-'],
                'all trusted': [f'{name}/spool-1']}

    def count(self, program, args, count):
        """The counts of one run, and how many signatures it checked and looked at twice."""
        to = os.path.join(self.place, 'counts')
        if os.path.exists(to):
            os.unlink(to)
        with open(os.path.join(self.place, f'all-{count}'), 'rb') as stdin:
            r = subprocess.run([program, 'verify', '-v', '--home', f'home-{count}', *args], env=dict(self.env, LD_PRELOAD=self.library, QM_ALLOC_COUNTS=to),
                               cwd=self.place, stdin=stdin, capture_output=True, timeout=300)
        if r.returncode not in (0, 1) or not os.path.exists(to):
            raise Failed(f'{args}: exit {r.returncode}, {r.stderr.decode()}')
        line = next(l for l in r.stderr.decode().splitlines() if ' signatures (' in l)
        words = line.replace('(', '').split()
        counts = {k: int(v) for k, v in (l.split() for l in open(to))}
        counts['signatures'], counts['looks'] = int(words[2]), int(words[4]) + int(words[8])
        if counts['signatures'] < count * 9 // 10:
            raise Failed(f'{args}: only {line}')
        return counts


def check(bench, program, say):
    """Every way in, at both sizes. The first thing that grows is raised."""
    chosen = json.loads(subprocess.run([bench.program, 'cpu', '--json'], env=bench.env, capture_output=True, check=True).stdout)['classes']
    own = PER_OWN if any(chosen[c]['kernel'] == 'openssl' for c in ('rsa2048', 'p256', 'p384')) else 0
    for way, (small, large) in bench.ways.items():
        for io in ('read', 'auto'):
            for more in (['--workers', '1', '--audit', '0'], ['--workers', '2', '--audit', '16', '--json', '--stages']):
                options = ['--io', io, *more]
                a, b = bench.count(program, options + small, SMALL), bench.count(program, options + large, LARGE)
                compare(f'{way}, {" ".join(options)}', a, b, own, say)
    options = ['--crypto', 'openssl', '--workers', '2', '--audit', '0']
    small, large = bench.ways['many a file']
    a, b = bench.count(program, options + small, SMALL), bench.count(program, options + large, LARGE)
    compare('many a file, ' + ' '.join(options), a, b, PER_OWN, say)


def compare(what, a, b, per_signature, say):
    """a: of the small spool, b: of the large one."""
    if say:
        print(f'{what}: {SMALL} records {a}, {LARGE} records {b}')
    if a['program'] + b['program'] > 0:
        raise Failed(f'{what}: the program allocates while it works: {a["program"]} times for {SMALL} records, {b["program"]} for {LARGE}')
    if b['other'] > a['other'] + SLACK:
        raise Failed(f'{what}: a library allocates for each record: {a} for {SMALL}, {b} for {LARGE}')
    more = {k: b[k] - a[k] for k in b}
    if more['crypto'] > PER_LOOK * more['looks'] + per_signature * more['signatures'] + SLACK:
        raise Failed(f'{what}: libcrypto allocates more than it should: {a} for {SMALL} records, {b} for {LARGE}')
    if more['live'] > SLACK:
        raise Failed(f'{what}: blocks stay allocated: {a["live"]} for {SMALL} records, {b["live"]} for {LARGE}')


def main():
    program, library, canary = map(os.path.abspath, sys.argv[1:4])
    place = tempfile.mkdtemp(prefix='alloc-')
    try:
        bench = Bench(program, library, place)
        small, large = bench.spools(SMALL), bench.spools(LARGE)
        bench.ways = {n: (small[n], large[n]) for n in small}
        check(bench, program, '-v' in sys.argv)
        try:
            check(bench, canary, False)
        except Failed as e:
            if 'the program allocates while it works' not in str(e):
                raise
            print(f'canary: {e}')
        else:
            raise Failed('the canary allocates for each record, and was not caught')
    except Failed as e:
        print(e)
        return 1
    finally:
        shutil.rmtree(place)
    print('nothing is allocated for a record')
    return 0


sys.exit(main())
