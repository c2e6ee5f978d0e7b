"""What the tests of the home share: quotes made to order, a home whose clock the test tells, and its files put in place.

Not a test. The program runs under libfaketime with a clock that stands still, so that every time it notes is known to the
millisecond; files that it makes get that time too, since the file system's clock is not told."""
import datetime, glob, json, os, re, shutil, subprocess, sys, tempfile, time
from collections import namedtuple

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
# Where homes' clocks begin. Today, since files get their ctime from a clock that is not told, and by it are kept or not.
START = int(time.time()) // 86400 * DAY

# A quote as it is asked of the maker. pcrs: ((pcr, (event text, ...)), ...). kept: PCRs that keep their reset value.
_fields = dict(id='', key=0, kind='p256', pcrs=(), reset=0, restart=0, clock=0, safe=1, extra='', log='yes', values='no', broken=0,
               select=0x3ff, magic=0, kept=(), locality=0, t=0)
Quote = namedtuple('Quote', _fields, defaults=_fields.values())


def libfaketime():
    found = sorted(glob.glob('/usr/lib/*/faketime/libfaketimeMT.so.1') + glob.glob('/usr/lib*/faketime/libfaketimeMT.so.1'))
    return found[0] if found else None


def sanitizer(program):
    """The library of a sanitizer that the program was built with, which wants to be loaded before any other; '' for none."""
    linked = subprocess.run(['ldd', program], capture_output=True, text=True).stdout
    found = re.search(r'lib[at]san\.so\S* => (\S+)', linked)
    return found.group(1) if found else ''


class Maker:
    """tests/quote_maker: evidence by order."""
    def __init__(self, program):
        self.proc = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.keys = {}

    def key(self, number, kind='p256'):
        if (number, kind) not in self.keys:
            self.keys[number, kind] = self.ask(f'key\t{number}\t{kind}')
        return self.keys[number, kind]

    def ask(self, line):
        self.proc.stdin.write(line + '\n')
        self.proc.stdin.flush()
        answer = self.proc.stdout.readline().rstrip('\n')
        if not answer:
            raise SystemExit('FAIL the maker of quotes ended')
        return answer

    def order(self, path, q):
        """Appends the record to the file, in its own time: sync before it is read."""
        words = ['record', f'file={path}', f'id={q.id}', f'key={q.key}', f'kind={q.kind}', f'reset={q.reset % 2**32}', f'restart={q.restart % 2**32}',
                 f'clock={q.clock}', f'safe={q.safe}', f'extra={q.extra}', f'log={q.log}', f'values={q.values}', f'broken={q.broken}',
                 f'select={q.select}', f'magic={q.magic}', f'locality={q.locality}'] + [f't={q.t}'] * (q.t != 0)
        words += [f'pcr={pcr}:{text}' for pcr, texts in q.pcrs for text in texts]
        words += [f'reset_pcr={pcr}' for pcr in q.kept]
        self.proc.stdin.write('\t'.join(words) + '\n')

    def sync(self):
        if self.ask('sync') != 'ok':
            raise SystemExit('FAIL the maker of quotes')

    def close(self):
        self.proc.stdin.close()
        self.proc.stdout.close()
        self.proc.wait()


def unpack(b, at):
    """One msgpack value: what results are made of."""
    t, at = b[at], at + 1
    if t < 0x80 or t >= 0xe0:
        return (t if t < 0x80 else t - 256), at
    if t in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[t], at
    if 0xcc <= t <= 0xd3:
        width = 1 << (t & 3)
        return int.from_bytes(b[at:at + width], 'big', signed=t >= 0xd0), at + width
    for base, kind, widths in ((0xc4, bytes, (1, 2, 4)), (0xd9, str, (1, 2, 4)), (0xdc, list, (2, 4)), (0xde, dict, (2, 4))):
        if base <= t < base + len(widths):
            width = widths[t - base]
            n, at = int.from_bytes(b[at:at + width], 'big'), at + width
            break
    else:
        kind, n = (dict, t & 15) if t < 0x90 else (list, t & 15) if t < 0xa0 else (str, t & 31)
    if kind in (bytes, str):
        return (b[at:at + n] if kind is bytes else b[at:at + n].decode()), at + n
    items = []
    for _ in range(n * (2 if kind is dict else 1)):
        item, at = unpack(b, at)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if kind is dict else items), at


class Answer:
    def __init__(self, p, args):
        self.args, self.code = args, p.returncode
        self.out, self.err = p.stdout.decode('utf-8', 'backslashreplace'), p.stderr.decode('utf-8', 'backslashreplace')

    def json(self):
        return [json.loads(line) for line in self.out.splitlines()]

    def __str__(self):
        return f'{" ".join(self.args)}: exit {self.code}, {self.err.strip()!r}'


class Home:
    """A home in a directory of its own, and the time there."""
    def __init__(self, quotemill, maker, top=None):
        self.program, self.maker = os.path.abspath(quotemill), maker
        self.top = top or tempfile.mkdtemp(prefix='qm-home-')
        self.path, self.spool = os.path.join(self.top, 'home'), os.path.join(self.top, 'spool')
        os.makedirs(self.spool, exist_ok=True)
        self.now, self.files = START, 0
        self.env = {k: v for k, v in os.environ.items() if not k.startswith('QM_')}
        self.env.update(QUOTEMILL_HOME=self.path, TZ='UTC', LC_ALL='C.UTF-8', LD_PRELOAD=f'{sanitizer(self.program)} {libfaketime()}'.strip(), DONT_FAKE_MONOTONIC='1',
                        FAKETIME_DONT_FAKE_MONOTONIC='1', NO_FAKE_STAT='1', FAKETIME_NO_CACHE='0')

    def init(self):
        return self.must('init')

    def close(self):
        shutil.rmtree(self.top, ignore_errors=True)

    def faketime(self):
        return self.when(self.now).replace('T', ' ').rstrip('Z')

    def when(self, ms):
        """A time as commands take it."""
        return datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')

    def call(self, *args, stdin=None, env=None, preload=None):
        e = dict(self.env, FAKETIME=self.faketime(), **(env or {}))
        if preload:
            e['LD_PRELOAD'] = f'{preload} {e["LD_PRELOAD"]}'
        p = subprocess.run([self.program, *args], cwd=self.top, env=e, input=stdin, capture_output=True, timeout=300)
        self.settle()
        return Answer(p, args)

    def must(self, *args, stdin=None, codes=(0,)):
        a = self.call(*args, stdin=stdin)
        if a.code not in codes:
            raise AssertionError(str(a))
        return a

    def settle(self):
        """New files of the home get the home's time."""
        for name in ('held', 'quarantine', 'results', 'archive'):
            for folder, _, files in os.walk(os.path.join(self.path, name)):
                for f in files:
                    path = os.path.join(folder, f)
                    known = os.lstat(path)
                    if known.st_mtime_ns % 1_000_000_000 != 987_654_321:  # the mark of a time that we set
                        os.utime(path, ns=(self.now // 1000 * 1_000_000_000 + 987_654_321,) * 2, follow_symlinks=False)

    # ---- enrolment ----

    def enroll(self, *lines, args=(), codes=(0,)):
        text = ''.join(json.dumps(line) + '\n' for line in lines)
        return self.must('enroll', *args, '-', stdin=text.encode(), codes=codes)

    def line(self, id, key, kind='p256', **more):
        return {'id': id, 'ak': self.maker.key(key, kind), **more}

    # ---- the spool ----

    def put(self, *quotes, source=''):
        """One file of these records (or raw bytes) below a directory of the spool."""
        self.files += 1
        folder = os.path.join(self.spool, source)
        os.makedirs(folder, exist_ok=True)
        hidden = os.path.join(self.top, f'new-{self.files:06d}')
        raw = [q for q in quotes if isinstance(q, bytes)]
        if raw:
            assert len(raw) == len(quotes)
            with open(hidden, 'wb') as f:
                f.write(b''.join(raw))
        else:
            for q in quotes:
                self.maker.order(hidden, q)
        self.pending = getattr(self, 'pending', []) + [(hidden, os.path.join(folder, f'{self.files:06d}.mpk'))]

    def deliver(self):
        """What was put is whole: into the spool with it."""
        if getattr(self, 'pending', []):
            self.maker.sync()
        for hidden, path in getattr(self, 'pending', []):
            os.utime(hidden, ns=(self.now * 1_000_000,) * 2)
            os.rename(hidden, path)
        self.pending = []

    def run(self, *args, codes=(0, 1), env=None, preload=None):
        """quotemill run over the spool; its run record, and the answer."""
        self.deliver()
        a = self.call('run', '--json', *args, self.spool, env=env, preload=preload)
        if codes is not None and a.code not in codes:
            raise AssertionError(str(a))
        lines = [json.loads(line) for line in a.out.splitlines() if line.startswith('{')]
        return (lines[-1] if lines else None), a

    def left(self):
        """Names in the spool, below taken directories too."""
        return sorted(os.path.relpath(os.path.join(d, f), self.spool) for d, _, files in os.walk(self.spool) for f in files)

    # ---- what it shows ----

    def results(self, run):
        """The status records of a run's results."""
        return self.results_in(os.path.join(self.path, 'results', run + '.mpk'))

    def results_in(self, path):
        with open(path, 'rb') as f:
            b = f.read()
        out, at = [], 0
        while at < len(b):
            record, at = unpack(b, at)
            out.append(record)
        return [r for r in out if r['kind'] == 'status']

    def status(self, *args):
        """id -> status object, and the summary."""
        lines = self.must('status', '--json', *args, codes=(0, 1)).json()
        return {l['id']: l for l in lines if 'id' in l}, next((l for l in lines if l.get('kind') == 'summary'), None)

    def stands(self, id):
        return self.status(id)[0][id]

    def alerts(self, *args):
        return [a for a in self.must('alerts', 'list', '--json', *args).json() if a.get('kind') == 'alert']

    def integrity(self):
        import sqlite3
        db = sqlite3.connect(os.path.join(self.path, 'fleet.db'))
        try:
            return db.execute('PRAGMA integrity_check').fetchall() == [('ok',)] and not db.execute('PRAGMA foreign_key_check').fetchall()
        finally:
            db.close()


def skip_without(*paths):
    """Exit 77 with a line where the test cannot be made."""
    if libfaketime() is None:
        print('skipped: libfaketime is not installed')
        sys.exit(77)
    for p in paths:
        if not os.path.exists(p):
            print(f'skipped: {p} is not there')
            sys.exit(77)
