#!/usr/bin/env python3
"""Runs that are killed, or whose calls fail, at every step in turn: the run after must leave the home as an undisturbed run leaves it.

    crash_test.py QUOTEMILL QUOTE_MAKER FAULT_SHIM [SCENARIO...]

A home with some history and a spool with something of everything is copied for each try. The try is killed at its N-th write, sync,
rename, unlink, mkdir or truncate (fault_shim), or half-way through it, or at a random moment; or that call fails, once or for good, or does
half of what was asked. Then: the database is sound, the same command runs again, and what the home says is compared: status, alerts, sets,
results, files in quarantine and held, records counted once, the spool empty.

QM_CRASHES=500 takes every step, and random moments until so many were killed; without it a sample of about a hundred tries. Exit 77 where
libfaketime is not installed. Homes, their clock and quotes are those of fleet_kit.py."""
import concurrent.futures, json, os, random, shutil, signal, sqlite3, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fleet_kit as kit
from fleet_kit import DAY, HOUR, START, Quote

ENOSPC, EIO, EROFS, EINTR = 28, 5, 30, 4
SEED = int(os.environ.get('QM_SEED', '1'))
RUNS = ('run', 'results')  # results: they are written elsewhere, by each try to a file of its own


def pcrs(id, **changed):
    text = {p: f'{id}-{p}' if p in (1, 5, 6) else f'pcr-{p}' for p in range(10)}
    text.update({int(k[1:]): v for k, v in changed.items()})
    return tuple((p, (t,)) for p, t in sorted(text.items()))


def quote(home, id, key, reset=5, **more):
    changed = {k: more.pop(k) for k in list(more) if k[0] == 'p' and k[1:].isdigit()}
    return Quote(**{**dict(id=id, key=key, pcrs=pcrs(id, **changed), reset=reset, clock=DAY + home.now - START), **more})


def make_model(quotemill, maker, top, scenario):
    """The home that every try begins with."""
    home = kit.Home(quotemill, maker, top)
    home.init()
    ids = [f'm{n}' for n in range(10)]
    home.enroll(*[home.line(id, n, **({'group': 'web'} if n < 5 else {})) for n, id in enumerate(ids)])
    with open(os.path.join(top, 'more.ndjson'), 'w') as f:
        for n in range(3):
            f.write(json.dumps(home.line(f'more{n}', n)) + '\n')
    if scenario in ('backup', 'restore'):
        home.must('backup', 'copy')
        home.enroll(home.line('later', 9))
    if scenario not in RUNS:
        return home
    for reset in (3, 4):
        home.now += HOUR
        home.put(*[quote(home, id, n, reset) for n, id in enumerate(ids)], source='site')
        home.run()
    home.now += HOUR
    old = quote(home, 'm8', 8)
    home.put(quote(home, 'm0', 0, p9='implant'), quote(home, 'm1', 1, p9='odd'), quote(home, 'm2', 2, p9='odd'), old, source='site')
    home.run()
    row = next(a for a in home.alerts('--state', 'open') if a['id'] == 'm2')
    home.must('alerts', 'ignore', str(row['no']), '--reason', 'known')
    home.now += HOUR
    # a pass, a repeat, repeats of what is ignored, a cohort, rows of two classes, what a machine may learn, refusals of every kind
    home.put(quote(home, 'm0', 0, 6), quote(home, 'm1', 1, p9='odd'), quote(home, 'm2', 2, p9='odd'), source='site')
    home.put(quote(home, 'm3', 3, 6, p4='shim-2', p9='kernel-2'), source='site')
    home.put(quote(home, 'm4', 4, 6, p4='shim-2', p9='kernel-2', p5='disk-2'), source='other')
    home.put(quote(home, 'm5', 5, 4, clock=1), quote(home, 'm6', 6, broken=1), old, source='other')
    home.put(quote(home, 'stranger', 3), quote(home, 'm7', 7, log='no'), source='other')
    home.put(b'\xc1' * 50, source='other')
    home.enroll(home.line('fresh', 9))
    home.put(quote(home, 'fresh', 9), source='third')
    # in one file: a file that could not be taken comes a run later, and what is older than what was seen meanwhile is replayed then
    home.put(*[quote(home, 'm9', 9, clock=2 * DAY + n) for n in range(6)], source='third')
    home.deliver()
    return home


class Try:
    """A copy of the model, and what is done to it."""
    def __init__(self, test, name):
        self.test = test
        self.top = os.path.join(test.top, name)
        shutil.copytree(test.model.top, self.top, symlinks=True)
        self.home = kit.Home(test.quotemill, None, self.top)
        self.home.now = test.model.now
        self.calls = 0

    def call(self, env=None, kill_after=None):
        home = self.home
        self.calls += 1
        args = {'run': ['run', '--json', home.spool], 'results': ['run', '--json', '--results', f'out/{self.calls}.mpk', home.spool],
                'enroll': ['enroll', os.path.join(self.top, 'more.ndjson')], 'backup': ['backup', 'copy'], 'restore': ['restore', '--force', 'copy']}[self.test.scenario]
        e = {**home.env, 'FAKETIME': home.faketime(), 'QM_FAULT_BELOW': self.top, 'QM_FAULT_COUNT': self.top + '.count', **(env or {})}
        e['LD_PRELOAD'] = f'{self.test.shim} {e["LD_PRELOAD"]}'
        p = subprocess.Popen([home.program, *args], cwd=self.top, env=e, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if kill_after is not None:
            time.sleep(kill_after)
            p.send_signal(signal.SIGKILL)
        out, err = p.communicate(timeout=120)
        # What libfaketime shares between processes goes by the number of one, and a killed one leaves it: the next of that number
        # could not begin.
        for left in (f'/dev/shm/faketime_shm_{p.pid}', f'/dev/shm/sem.faketime_sem_{p.pid}'):
            if os.path.exists(left):
                os.unlink(left)
        home.settle()
        return p.returncode, err.decode(errors='replace')

    def count(self):
        with open(self.top + '.count') as f:
            return int(f.read())

    def state(self):
        """What the home says, without what differs from run to run."""
        db = sqlite3.connect(os.path.join(self.home.path, 'fleet.db'))
        try:
            if db.execute('PRAGMA integrity_check').fetchall() != [('ok',)]:
                return {'sound': False}
            state = {'instances': db.execute('SELECT id, grp, enrolled_ms FROM instance ORDER BY id').fetchall(),
                     'keys': db.execute('SELECT count(*) FROM ak_history').fetchall()}
            if self.test.scenario in RUNS:
                state['sets'] = db.execute('SELECT kind, slot, grp, origin, since_ms, ended_ms, mask, hex(value) FROM baseline b'
                                           ' JOIN pcr_values v ON v.no = b.vals ORDER BY 1, 2, 3, 4, 5, 8').fetchall()
                state['runs'] = db.execute('SELECT sum(records) FROM run').fetchall()
        finally:
            db.close()
        code, _ = self.verify()
        state['table'] = code
        if self.test.scenario in ('backup', 'restore'):
            state['copy'] = self.copied()
            state['beside'] = sorted(os.listdir(self.top))
            state['files'] = sorted(n for n in os.listdir(self.home.path) if not n.endswith(('-wal', '-shm')))
        if self.test.scenario not in RUNS:
            return state
        machines, summary = self.home.status()
        for m in machines.values():
            for a in m['alerts']:
                del a['no']
        state['status'] = machines
        state['by_status'] = summary['by_status']
        state['alerts'] = sorted(([(k, v) for k, v in a.items() if k != 'no'] for a in self.home.alerts('--state', 'all')), key=str)
        results = []
        for path in sorted(os.path.join(folder, n) for folder in (os.path.join(self.home.path, 'results'), os.path.join(self.top, 'out'))
                           for n in os.listdir(folder)):
            for r in self.home.results_in(path) if path.endswith('.mpk') else [{'name': path}]:
                results.append(sorted((k, v) for k, v in r.items() if k not in ('run', 'baseline')))
        state['results'] = sorted(r for r in map(str, results))
        for folder in ('quarantine', 'held'):
            found = []
            for at, _, files in os.walk(os.path.join(self.home.path, folder)):
                found += [os.path.getsize(os.path.join(at, f)) for f in files]
            state[folder] = len(found)
        state['spool'] = self.home.left()
        state['temporary'] = [f for _, _, files in os.walk(self.home.path) for f in files if f.endswith(('.new', '.tmp'))]
        return json.loads(json.dumps(state, default=lambda b: b.hex()).replace(self.top, '<top>'))

    def copied(self):
        """Instances in the backup, which is whole whatever happened."""
        db = sqlite3.connect(f'file:{self.top}/copy?mode=ro', uri=True)
        try:
            return db.execute('SELECT count(*) FROM instance').fetchall() + db.execute('PRAGMA integrity_check').fetchall()
        finally:
            db.close()

    def verify(self):
        a = self.home.call('verify', '--json', os.path.join(self.top, 'nothing'))
        return a.code, a

    def close(self):
        shutil.rmtree(self.top, ignore_errors=True)
        if os.path.exists(self.top + '.count'):
            os.unlink(self.top + '.count')


class Test:
    def __init__(self, quotemill, maker, shim, scenario):
        self.quotemill, self.shim, self.scenario = quotemill, os.path.abspath(shim), scenario
        self.top = tempfile.mkdtemp(prefix='qm-crash-')
        self.model = make_model(quotemill, maker, os.path.join(self.top, 'model'), scenario)
        for name in ('nothing', 'out'):
            os.makedirs(os.path.join(self.model.top, name))
        self.failed = self.tries = self.killed = self.refused = 0
        self.lock = threading.Lock()

    def reference(self):
        t = Try(self, 'reference')
        started = time.monotonic()
        code, err = t.call({'QM_FAULT_AT': '0'})
        self.seconds = time.monotonic() - started
        if code not in (0, 1):
            raise SystemExit(f'FAIL the undisturbed {self.scenario}: exit {code}, {err}')
        self.steps = t.count()
        self.expected = t.state()
        t.close()
        t = Try(self, 'reads')
        t.call({'QM_FAULT_AT': '0', 'QM_FAULT_OPS': 'read,open'})
        self.reads = t.count()
        t.close()

    def one(self, name, env=None, kill_after=None, locked=False):
        t = Try(self, name)
        try:
            problem = self.hurt(t, env, kill_after, locked)
        except Exception as e:
            problem = repr(e)
        with self.lock:
            self.tries += 1
            if problem:
                self.failed += 1
                if self.failed <= 20:
                    print(f'FAIL {self.scenario}, {name}: {problem}'[:2500], flush=True)
        t.close()

    def hurt(self, t, env, kill_after, locked):
        if locked:
            db = sqlite3.connect(os.path.join(t.home.path, 'fleet.db'), isolation_level=None)
            db.execute('BEGIN IMMEDIATE')
        code, err = t.call(env, kill_after)
        if locked:
            db.execute('ROLLBACK')
            db.close()
        with self.lock:
            self.killed += code == -signal.SIGKILL
            self.refused += code == 3
        if code not in (0, 1, 3, -signal.SIGKILL):
            return f'exit {code}, {err}'
        if code == 3 and not err.strip():
            return 'exit 3 without a word'
        if self.scenario == 'backup' and t.copied() not in ([(10,), ('ok',)], [(11,), ('ok',)]):
            return f'exit {code}, {err}: the backup is neither the old one nor the new one: {t.copied()}'
        again, err2 = t.call()
        if again not in (0, 1):
            return f'exit {code}, and the next one {again}: {err2}'
        state = t.state()
        if state != self.expected:
            return f'exit {code}, then {again}: ' + '; '.join(
                f'{k}: expected {self.differing(self.expected.get(k), state.get(k))}' for k in sorted(set(self.expected) | set(state))
                if self.expected.get(k) != state.get(k)) + f' {err} {err2}'
        return None

    @staticmethod
    def differing(e, g):
        if isinstance(e, list) and isinstance(g, list):
            return f'{[x for x in e if x not in g]}, got {[x for x in g if x not in e]} ({len(e)} and {len(g)})'
        if isinstance(e, dict) and isinstance(g, dict):
            return f'{ {k: v for k, v in e.items() if g.get(k) != v} }, got { {k: v for k, v in g.items() if e.get(k) != v} }'
        return f'{e}, got {g}'

    # ---- a commit of which the disk does not answer ----

    def unanswered(self, at, sticks, reader):
        """The at-th sync of the database's log fails; sticks: its at-th sync or write, and all that follow. The home behind it."""
        t = Try(self, f'unanswered-{at}-{sticks}-{reader}')
        # one that may not write, as status: the last one that may would empty the log as it closes
        db = sqlite3.connect(f'file:{t.home.path}/fleet.db?mode=ro', uri=True) if reader else None
        if db:
            db.execute('SELECT count(*) FROM run').fetchall()
        before = t.home.left()
        code, err = t.call({'QM_FAULT_AT': str(at), 'QM_FAULT_DO': str(EIO), 'QM_FAULT_OPS': 'write,sync' if sticks else 'sync',
                            'QM_FAULT_BELOW': 'fleet.db-wal', **({'QM_FAULT_STICKS': '1'} if sticks else {})})
        return t, db, code, err, before

    @staticmethod
    def runs(t):
        db = sqlite3.connect(os.path.join(t.home.path, 'fleet.db'))
        try:
            return db.execute('SELECT count(*) FROM run').fetchall()[0][0]
        finally:
            db.close()

    def answers(self):
        """What a run says it did not record is not recorded, for good, and the files are back; where it cannot know, it says so."""
        failed = unknown = 0
        t = Try(self, 'before')
        known = self.runs(t)
        t.close()
        syncs = 0
        for reader in (False, True):
            at = 1
            while True:
                t, db, code, err, before = self.unanswered(at, False, reader)
                syncs, done = t.count(), t.count() < at
                if not done and code == 3:
                    failed += 1
                    parts = [n for n in os.listdir(os.path.join(t.home.path, 'results')) if not n.endswith('.mpk')]
                    if db:
                        db.close()
                    got = (t.home.left(), self.runs(t), parts, 'does not say' in err)
                    if got != (before, known, [], False):
                        return f'sync {at} of {syncs}: {got}, {err}'
                elif db:
                    db.close()
                t.close()
                at += 1
                if done:
                    break
            # The disk stays broken: the run cannot know. The next one can, and what it says holds, whatever comes of itself.
            t = Try(self, 'counted')
            t.call({'QM_FAULT_AT': '0', 'QM_FAULT_OPS': 'write,sync', 'QM_FAULT_BELOW': 'fleet.db-wal'})
            steps = t.count()
            t.close()
            for at in range(max(1, steps - 8), steps + 1):
                t, db, code, err, before = self.unanswered(at, True, reader)
                if code == 3 and 'does not say' in err:
                    unknown += 1
                    if not any('.taken-' in n for n in t.home.left()):
                        return f'it does not know, but files are not as they were: {t.home.left()}'
                    code, err = t.call({'QM_FAULT_AT': '0', 'QM_KERNEL': 'none-such'})  # finds out, and ends before it records anything
                    if code not in (2, 3):
                        return f'exit {code}, {err}'
                    if db:
                        db.close()
                    if (t.home.left() == before) != (self.runs(t) == known):
                        return f'files {t.home.left()}, runs {self.runs(t)} of {known}'
                elif db:
                    db.close()
                t.close()
        print(f'{self.scenario}: of a commit that is not answered {failed} runs knew, {unknown} could not and the next one did', flush=True)
        return None if failed > 1 and unknown > 1 else 'no commit was hit'

    def plan(self, wanted):
        """(name, what is done) of every try."""
        rng = random.Random(SEED)
        every = list(range(1, self.steps + 1))
        some = every if wanted else sorted(rng.sample(every, min(len(every), 40 if self.scenario == 'run' else 15)))
        few = (lambda steps, n: sorted(rng.sample(steps, min(len(steps), n))))
        tries = [(f'kill-{n}', {'env': {'QM_FAULT_AT': str(n), 'QM_FAULT_DO': 'kill'}}) for n in some]
        tries += [(f'torn-{n}', {'env': {'QM_FAULT_AT': str(n), 'QM_FAULT_DO': 'torn'}}) for n in (some if wanted else few(every, 10))]
        for name, error, sticks in (('ENOSPC', ENOSPC, True), ('EIO', EIO, False), ('EROFS', EROFS, True), ('EINTR', EINTR, False), ('short', 'short', False)):
            for n in few(every, 60 if wanted else 6):
                env = {'QM_FAULT_AT': str(n), 'QM_FAULT_DO': str(error), **({'QM_FAULT_STICKS': '1'} if sticks else {})}
                tries.append((f'{name}-{n}', {'env': env}))
        for name, error in (('read-EIO', EIO), ('read-EINTR', EINTR), ('read-short', 'short')):
            for n in few(list(range(1, self.reads + 1)), 40 if wanted else 5):
                tries.append((f'{name}-{n}', {'env': {'QM_FAULT_AT': str(n), 'QM_FAULT_DO': str(error), 'QM_FAULT_OPS': 'read' if error == 'short' else 'read,open'}}))
        for n in range(10):
            tries.append((f'moment-{n}', {'kill_after': rng.random() * self.seconds}))
        tries.append(('locked', {'locked': True}))
        return tries

    def play(self, wanted):
        self.reference()
        started = time.monotonic()
        problem = self.answers() if self.scenario == 'run' else None
        if problem:
            print(f'FAIL {self.scenario}, answers: {problem}', flush=True)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for f in [pool.submit(self.one, name, **what) for name, what in self.plan(wanted)]:
                f.result()
            # at random moments, until as many were killed as are wanted: some end before their moment comes
            rng, n = random.Random(SEED + 1), 0
            while self.killed < wanted and n < 10 * wanted:
                batch = range(n, n + 20)
                for f in [pool.submit(self.one, f'later-{i}', kill_after=rng.random() * self.seconds * 0.7) for i in batch]:
                    f.result()
                n += len(batch)
        print(f'{self.scenario}: {self.steps} steps that change files, {self.reads} that read; {self.tries} tries, {self.killed} killed, {self.refused} ended '
              f'with 3, {self.failed} left the home otherwise than an undisturbed one; {time.monotonic() - started:.1f} s', flush=True)
        return not problem and self.failed == 0 and self.killed > 0 and self.refused > 0

    def close(self):
        shutil.rmtree(self.top, ignore_errors=True)


def main():
    quotemill, maker_program, shim = sys.argv[1:4]
    kit.skip_without(quotemill, maker_program, shim)
    wanted = int(os.environ.get('QM_CRASHES') or 0)
    maker = kit.Maker(maker_program)
    good = True
    print(f'QM_SEED={SEED}', flush=True)
    for scenario in sys.argv[4:] or ['enroll', 'run', 'results', 'backup', 'restore']:
        test = Test(quotemill, maker, shim, scenario)
        try:
            good = test.play(wanted) and good
        finally:
            test.close()
    maker.close()
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
