#!/usr/bin/env python3
"""The spool under faults: fault_test.py SPOOL_DRIVER FAULT_SHIM QUOTEMILL

A run over two spools is killed before and after each call that changes the disk, or that call fails, once or from then on; then it
runs again, undisturbed. Each record must be recorded exactly once, each file be where an undisturbed run leaves it. The same for a
delivery with 'quotemill spool', after which the spool holds the whole record or nothing of it."""
import errno, os, shutil, subprocess, sys, tempfile

DRIVER, SHIM = sys.argv[1], os.path.abspath(sys.argv[2])
QUOTEMILL = sys.argv[3]
FAST = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
HELD = {'early': 'ZWFybHk.mpk', 'late': 'bGF0ZQ.mpk'}  # base64url of the ids
# what happens at a call, and whether it goes on happening from there
WAYS = [('kill', False), ('torn', False), ('ENOSPC', False), ('ENOSPC', True), ('EIO', False), ('EROFS', False), ('EROFS', True),
        ('EINTR', False), ('short', False)]
failures = 0
runs = 0


def fail(text):
    global failures
    failures += 1
    print('FAIL', text)


def shim(at=0, do='kill', sticks=False, **more):
    env = dict(os.environ, LD_PRELOAD=SHIM, QM_FAULT_AT=str(at), QM_FAULT_DO=str(getattr(errno, do, do)), **more)
    if sticks:
        env['QM_FAULT_STICKS'] = '1'
    return env


class World:
    """Two spools (far: the second on another file system, where there is one); what is in them; what must become of it."""
    def __init__(self, archive, newer, far=False):
        self.top = tempfile.mkdtemp(prefix='qm-fault-', dir=FAST)
        self.far = tempfile.mkdtemp(prefix='qm-fault-', dir=None if far else FAST)
        self.home = os.path.join(self.top, 'home')
        self.archive = os.path.join(self.top, 'archive') if archive else None
        self.newer = newer
        for d in ('home/spool/a', 'home/spool/b/deep', 'home/tx', 'home/held', 'home/known'):
            os.makedirs(os.path.join(self.top, d))
        os.mkdir(os.path.join(self.far, 'x'))
        self.files = {}
        for name, text in {'a/1.mpk': 'r1\nr2\n', 'a/2.mpk': 'r3\n', 'b/deep/3.mpk': 'r4\n', '4.mpk': 'r5\nr6\n', 'bad.mpk': 'r7\n',
                           'u.mpk': 'unknown late\n'}.items():
            self.put('home/spool/' + name, text)
            self.files[os.path.join(self.home, 'spool', name)] = text
        for name, text in {'x/5.mpk': 'r8\n', 'bad2.mpk': 'r9\n'}.items():
            with open(os.path.join(self.far, name), 'w') as f:
                f.write(text)
        self.put('home/held/' + HELD['early'], 'rheld\n')
        self.put('home/known/early', '')
        self.want = sorted(['r%d' % i for i in range(1, 10)] + ['rheld', 'unknown late'] + (['n1', 'n2'] if newer else []))

    def put(self, name, text):
        with open(os.path.join(self.top, name), 'w') as f:
            f.write(text)

    def run(self, no, env=None, **more):
        global runs
        runs += 1
        args = [DRIVER, self.home, '20260101T000000Z-%08x' % no, self.archive or '-', os.path.join(self.home, 'spool'), self.far]
        return subprocess.run(args, env=env, capture_output=True, text=True, timeout=60, **more)

    def deliver(self):
        """What senders do in the meantime: an old name, anew, where it is free; and a directory that is gone."""
        if self.newer:
            for name, text in (('a/1', 'n1\n'), ('4', 'n2\n')):
                free = not os.path.exists(f'{self.home}/spool/{name}.mpk')
                self.put(f'home/spool/{name}{"" if free else "n"}.mpk', text)
            if os.path.isdir(self.home + '/spool/b/deep') and not os.listdir(self.home + '/spool/b/deep'):
                shutil.rmtree(self.home + '/spool/b')

    def check(self, what):
        got = []
        for n in os.listdir(self.home + '/tx'):
            got += open(os.path.join(self.home, 'tx', n)).read().splitlines()
        if sorted(got) != self.want:
            fail(f'{what}: recorded {sorted(got)}')
        left = [os.path.join(d, n) for top in (self.home + '/spool', self.far) for d, ds, ns in os.walk(top) for n in ns + ds
                if n.endswith('.mpk') or n.startswith('.taken')]
        if left:
            fail(f'{what}: left {left}')
        q = self.home + '/quarantine'
        there = sorted(os.listdir(q))
        texts = sorted(open(os.path.join(q, n)).read() for n in there if n.endswith('.mpk'))
        reasons = [n[:-7] for n in there if n.endswith('.reason')]
        if texts != ['r7\n', 'r9\n'] or len(there) != 4 or any(r not in there for r in reasons):
            fail(f'{what}: quarantine {there} {texts}')
        held = {n: open(os.path.join(self.home, 'held', n)).read() for n in os.listdir(self.home + '/held')}
        if held != {HELD['late']: 'evidence\n'}:
            fail(f'{what}: held {held}')
        if self.archive:
            kept = sorted(open(os.path.join(d, n)).read() for d, _, ns in os.walk(self.archive) for n in ns if n.endswith('.mpk'))
            want = sorted(['r1\nr2\n', 'r3\n', 'r4\n', 'r5\nr6\n', 'unknown late\n', 'r8\n', 'rheld\n'] + (['n1\n', 'n2\n'] if self.newer else []))
            if kept != want:
                fail(f'{what}: archive {kept}')

    def close(self):
        shutil.rmtree(self.top)
        shutil.rmtree(self.far)


def count(archive, newer, ops, far=False):
    w = World(archive, newer, far)
    name = os.path.join(w.top, 'count')
    r = w.run(1, shim(QM_FAULT_COUNT=name, **ops))
    if r.returncode != 0:
        fail(f'undisturbed: exit {r.returncode}: {r.stderr}')
    w.deliver()
    w.run(2)
    w.check('undisturbed')
    total = int(open(name).read())
    w.close()
    return total


def one(archive, newer, at, do, sticks, ops, again=None, far=False):
    """again: the second run is killed too, at that call."""
    what = f'{do}{" for good" if sticks else ""} at {at}{" and " + str(again) if again else ""}, archive {archive}, newer {newer}, {ops}'
    w = World(archive, newer, far)
    try:
        r = w.run(1, shim(at, do, sticks, **ops))
        if (do in ('kill', 'torn')) != (r.returncode == -9) or r.returncode not in (-9, 0, 3) or (r.returncode == 3) != (r.stderr != ''):
            fail(f'{what}: exit {r.returncode}, {r.stderr}')
        w.deliver()
        if again:
            w.run(2, shim(again, 'kill'))
        r = w.run(3)
        if r.returncode != 0:
            fail(f'{what}: the run after: exit {r.returncode}: {r.stderr}')
        r = w.run(4)  # nothing is left for it, but what came back beside a newer file
        w.check(what)
    finally:
        w.close()


def spool_runs():
    for archive, newer, far in ((False, True, False), (True, False, False), (True, True, True)):
        ops = {}
        total = count(archive, newer, ops, far)
        if total < 60:
            fail(f'only {total} calls were counted')
        for do, sticks in WAYS:
            if far and do not in ('kill', 'ENOSPC'):
                continue
            for at in range(1, total + 1):
                one(archive, newer, at, do, sticks, ops, far=far)
    total = count(False, True, {})
    for at in range(3, total, 9):
        for again in range(2, total, 17):
            one(False, True, at, 'kill', False, {}, again)
    # files and directories that cannot be opened or read
    ops = {'QM_FAULT_OPS': 'open,read'}
    total = count(False, True, ops)
    for do in ('EIO', 'EACCES', 'EINTR', 'EMFILE', 'ENOMEM', 'short'):
        for at in range(1, total + 1):
            one(False, True, at, do, False, ops)


def deliveries():
    """quotemill spool: the record arrives whole or not at all, and what is said is true."""
    global runs
    top = tempfile.mkdtemp(prefix='qm-fault-', dir=FAST)
    subprocess.run([QUOTEMILL, 'gen', '--instances', '1', '--key', 'p256', '--out', top + '/fleet'], check=True, capture_output=True)
    spool = os.path.join(top, 'fleet/spool-1')
    record = open(os.path.join(spool, os.listdir(spool)[0]), 'rb').read()
    to = os.path.join(top, 'to')

    def deliver(env):
        shutil.rmtree(to, ignore_errors=True)
        os.mkdir(to)
        r = subprocess.run([QUOTEMILL, 'spool', '--to', to], env=env, input=record, capture_output=True, timeout=60)
        whole = [n for n in os.listdir(to) if n.endswith('.mpk')]
        return r, whole, all(open(os.path.join(to, n), 'rb').read() == record for n in whole), len(os.listdir(to)) - len(whole)

    name = os.path.join(top, 'count')
    deliver(shim(QM_FAULT_COUNT=name, QM_FAULT_BELOW=to))
    total = int(open(name).read())
    if total < 4:
        fail(f'a delivery has only {total} calls')
    for do, sticks in WAYS:
        for at in range(1, total + 1):
            runs += 1
            r, whole, same, rest = deliver(shim(at, do, sticks, QM_FAULT_BELOW=to))
            what = f'delivery, {do}{" for good" if sticks else ""} at {at}: exit {r.returncode}, {len(whole)} whole, {rest} others, {r.stderr}'
            killed = do in ('kill', 'torn')
            if not same or len(whole) > 1 or killed != (r.returncode == -9) or r.returncode not in (-9, 0, 3):
                fail(what)
            elif r.returncode == 0 and (len(whole) != 1 or rest):
                fail(what)
            elif r.returncode == 3 and (r.stderr.count(b'\n') != 1 or (rest and not sticks) or (b'may lose it' in r.stderr) != (len(whole) == 1)):
                fail(what)
    shutil.rmtree(top)


def many_directories():
    """Syncs do not grow with the directories that a sender makes; recorded once all the same."""
    syncs = []
    for more in (0, 200):
        w = World(False, False)
        for i in range(more):
            os.mkdir(f'{w.home}/spool/d{i}')
            w.put(f'home/spool/d{i}/1.mpk', f'd{i}\n')
            w.want = sorted(w.want + [f'd{i}'])
        name = os.path.join(w.top, 'count')
        r = w.run(1, shim(QM_FAULT_COUNT=name, QM_FAULT_OPS='sync'))
        if r.returncode != 0:
            fail(f'{more} directories: exit {r.returncode}: {r.stderr}')
        w.run(2)
        w.check(f'{more} directories')
        syncs.append(int(open(name).read()))
        w.close()
    if syncs[1] > syncs[0] + 10:
        fail(f'{syncs[0]} syncs without, {syncs[1]} with 200 directories')


def blind():
    """The test sees a spool that loses or doubles: a driver whose work is undone by hand."""
    seen = 0
    for spoil in ('lose', 'double'):
        global failures
        w, before = World(False, False), failures
        w.run(1)
        with open(w.home + '/tx/20260101T000000Z-00000001', 'r+') as f:
            text = f.read()
            f.seek(0)
            f.truncate()
            f.write(text.replace('r1\n', '') if spoil == 'lose' else text + 'r1\n')
        sys.stdout, out = open(os.devnull, 'w'), sys.stdout
        w.check(spoil)
        sys.stdout.close()
        sys.stdout = out
        seen += failures > before
        failures = before
        w.close()
    if seen != 2:
        fail('the check is blind')


blind()
many_directories()
deliveries()
spool_runs()
print(f'{runs} runs, {failures} failures')
sys.exit(failures != 0)
