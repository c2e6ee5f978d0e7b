#!/usr/bin/env python3
"""Golden files for the command line, and what cannot stand in a file: signals, full disks, closed pipes.

  cli_tests.py QUOTEMILL [--update] [NAME...]

A case (tests/cli/NAME.case) is a row of steps:

  $ command          run by bash, in a directory of the case's own
  > line             of standard output
  2> line            of standard error
  ? code             exit code, where it is not 0

The directory holds fleet/ (12 machines of gen, spool-1 good, spool-2 with a quarter tampered) and home/ (all of them
enrolled with baselines; QUOTEMILL_HOME is home). In expected lines <run>, <ms>, <n>, <hex> and <any> stand for what differs
from run to run, and a line <lines> for any number of lines. --update writes what was seen into the cases, such things as
placeholders; read the difference before you believe it.
"""
import ctypes, json, os, pty, re, resource, select, shutil, signal, struct, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
PLACEHOLDERS = {
    '<run>': r'\d{8}T\d{6}Z-[0-9a-f]{8}',
    '<ms>': r'\d{13}',
    '<n>': r'\d+',
    '<hex>': r'[0-9a-f]+',
    '<any>': r'.*',
}


def line_matches(expected, line):
    parts = re.split('(<[a-z]+>)', expected)
    return re.fullmatch(''.join(PLACEHOLDERS.get(p, re.escape(p)) for p in parts), line, re.S) is not None


def lines_match(expected, lines):
    """<lines> stands for any number of lines."""
    if not expected:
        return not lines
    if expected[0] == '<lines>':
        return any(lines_match(expected[1:], lines[i:]) for i in range(len(lines) + 1))
    return bool(lines) and line_matches(expected[0], lines[0]) and lines_match(expected[1:], lines[1:])


def generalize(line):
    line = re.sub(PLACEHOLDERS['<run>'], '<run>', line)
    line = re.sub(r'("(?:checked|start|end|since|until|ended|at)":)\d{13}', r'\1<ms>', line)
    line = re.sub(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ', '<any>', line)
    line = re.sub(r'\bby root\b', 'by <any>', line)
    line = re.sub(r'"who":"[^"]*"', '"who":"<any>"', line)
    line = re.sub(r'"kernels":\{[^}]*\}', '"kernels":{<any>}', line)
    line = re.sub(r'(?<="attest":")[0-9a-f]{64}', '<hex>', line)
    return re.sub(r'in \d+\.\d+ s', 'in <any> s', line)


class Tests:
    def __init__(self, program, update):
        self.program = os.path.abspath(program)
        self.update = update
        self.top = tempfile.mkdtemp(prefix='qm-cli-')
        self.passed = self.failed = 0
        self.env = dict(os.environ, PATH=os.path.dirname(self.program) + ':' + os.environ['PATH'], LC_ALL='C.UTF-8',
                        QUOTEMILL_HOME='home', TZ='UTC', TESTS=HERE)
        for name in ('QM_KERNEL', 'NO_COLOR'):
            self.env.pop(name, None)
        os.umask(0o022)  # files are delivered with what it leaves of 644
        self.model = os.path.join(self.top, 'model')
        os.mkdir(self.model)
        for args in (['gen', '--instances', '12', '--key', 'p256', '--out', 'fleet', '--baseline', '--seed', '1'],
                     ['gen', '--out', 'fleet', '--round', '2', '--tamper', '0.25'], ['init'],
                     ['enroll', 'fleet/enroll.ndjson']):
            subprocess.run([self.program] + args, cwd=self.model, env=self.env, check=True, capture_output=True)

    def close(self):
        shutil.rmtree(self.top)

    def place(self, name):
        """A fresh directory with fleet and home in it."""
        path = os.path.join(self.top, name)
        shutil.copytree(self.model, path)
        return path

    def report(self, name, problem):
        if problem:
            self.failed += 1
            print(f'FAIL {name}: {problem}')
        else:
            self.passed += 1
            print(f'ok   {name}')

    # ---- golden files ----

    def case(self, path):
        name = os.path.basename(path)[:-len('.case')]
        steps, out = [], []
        with open(path, encoding='utf-8') as f:
            for line in f.read().split('\n'):
                if line.startswith('$ '):
                    steps.append({'command': line[2:], 'out': [], 'err': [], 'code': 0, 'before': out})
                    out = []
                elif steps and line.startswith('2> ') or line == '2>':
                    steps[-1]['err'].append(line[3:])
                elif steps and (line.startswith('> ') or line == '>'):
                    steps[-1]['out'].append(line[2:])
                elif steps and line.startswith('? '):
                    steps[-1]['code'] = int(line[2:])
                else:
                    out.append(line)
        place, problems, text = self.place(name), [], []
        for s in steps:
            r = subprocess.run(['bash', '-c', s['command']], cwd=place, env=self.env, stdin=subprocess.DEVNULL,
                               capture_output=True, timeout=120)
            got_out = r.stdout.decode('utf-8', 'backslashreplace').split('\n')
            got_err = r.stderr.decode('utf-8', 'backslashreplace').split('\n')
            ends = got_out.pop() + got_err.pop()
            if ends:
                problems.append(f"$ {s['command']}\n    a last line without its end: {ends!r}")
            if not (lines_match(s['out'], got_out) and lines_match(s['err'], got_err) and r.returncode == s['code']):
                problems.append(f"$ {s['command']}\n    exit {r.returncode}, not {s['code']}\n" + '\n'.join(
                    [f'    > {l}' for l in got_out] + [f'    2> {l}' for l in got_err]))
                s['out'], s['err'], s['code'] = [generalize(l) for l in got_out], [generalize(l) for l in got_err], r.returncode
            text += s['before'] + ['$ ' + s['command']] + [('> ' + l).rstrip(' ') if not l else '> ' + l for l in s['out']]
            text += ['2> ' + l for l in s['err']] + ([f"? {s['code']}"] if s['code'] else [])
        if self.update and problems:
            with open(path, 'w', encoding='utf-8') as f:
                f.write('\n'.join(text + out))
        self.report(name, '\n  '.join(problems))

    # ---- helpers ----

    def run(self, args, cwd, **more):
        more.setdefault('timeout', 120)
        more.setdefault('stdin', subprocess.DEVNULL)
        return subprocess.run([self.program] + args, cwd=cwd, env=self.env, capture_output='stdout' not in more, **more)

    @staticmethod
    def records(data):
        return [json.loads(l) for l in data.decode().splitlines()]

    def many(self, place, count):
        """A fleet of many small machines that share a key."""
        subprocess.run([self.program, 'gen', '--instances', str(count), '--key', 'p256', '--keys', '1', '--out', 'many',
                        '--baseline', '--seed', '2'], cwd=place, env=self.env, check=True, capture_output=True)
        self.run(['enroll', 'many/enroll.ndjson'], place, check=True)

    # ---- what no golden file can say ----

    def fault_init_on_a_full_disk(self):
        """Whatever a limit on file sizes stops, init ends with 3, one line, and no home; then it works."""
        place, stopped = self.place('full'), 0
        for limit in [0, 1, 511, 4096, 8191, 8192, 20000, 40960, 65536, 100000, 131072]:
            def small():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            r = self.run(['init', '--home', 'new'], place, preexec_fn=small)
            if r.returncode == 0:
                shutil.rmtree(os.path.join(place, 'new'))
                continue
            stopped += 1
            if r.returncode != 3 or r.stderr.count(b'\n') != 1:
                return f'limit {limit}: exit {r.returncode}, {r.stderr!r}'
            if os.path.exists(os.path.join(place, 'new')):
                return f'limit {limit}: leaves {os.listdir(os.path.join(place, "new"))}'
        if stopped < 5:
            return f'only {stopped} limits stopped it'
        r = self.run(['init', '--home', 'new'], place)
        return None if r.returncode == 0 else r.stderr

    def fault_enroll_on_a_full_disk(self):
        """The old table stays, and works; the next enroll catches up."""
        place, table = self.place('full-enroll'), None
        with open(os.path.join(place, 'home/fleet.tbl'), 'rb') as f:
            table = f.read()
        with open(os.path.join(place, 'fleet/enroll.ndjson')) as f, open(os.path.join(place, 'more'), 'w') as to:
            for i, line in enumerate(f):
                to.write(line.replace('"id":"', f'"id":"more-'))
        def small():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(table) - 1, len(table) - 1))
        r = self.run(['enroll', 'more'], place, preexec_fn=small)
        if r.returncode != 3 or r.stderr.count(b'\n') != 1:
            return f'exit {r.returncode}, {r.stderr!r}'
        with open(os.path.join(place, 'home/fleet.tbl'), 'rb') as f:
            if f.read() != table:
                return 'the old table did not stay'
        r = self.run(['verify', '--json', 'fleet/spool-1'], place)
        if r.returncode != 0:
            return f'verify with the old table: exit {r.returncode}, {r.stderr!r}'
        r = self.run(['enroll', 'more'], place)
        if r.returncode != 0:
            return f'enroll again: {r.stderr!r}'
        r = self.run(['verify', '--json', 'fleet/spool-1'], place)
        return None if r.returncode == 0 and not r.stderr else f'afterwards: exit {r.returncode}, {r.stderr!r}'

    def fault_stdout_closed(self):
        """The reader goes away: exit 3 and one line, whatever the workers."""
        place = self.place('epipe')
        self.many(place, 300)
        for workers in ('1', '2', '8'):
            for io in ('read', 'auto'):
                p = subprocess.Popen([self.program, 'verify', '--json', '--stages', '--workers', workers, '--io', io, 'many/spool-1'],
                                     cwd=place, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                p.stdout.close()
                err = p.stderr.read()
                p.stderr.close()
                p.wait(60)
                lines = [l for l in err.split(b'\n') if b'plain way' not in l]
                if p.returncode != 3 or len(lines) != 2:
                    return f'{workers} workers, {io}: exit {p.returncode}, {err!r}'
        return None

    def fault_disk_full(self):
        """/dev/full: exit 3 and one line, on every command that writes."""
        place = self.place('devfull')
        for args in (['verify', 'fleet/spool-1'], ['verify', '--json', 'fleet/spool-1'], ['verify', '--help'], ['--help'],
                     ['--version'], ['enroll', '--json', 'fleet/enroll.ndjson'], ['init', '--json']):
            with open('/dev/full', 'wb') as full:
                r = self.run(args, place, stdout=full, stderr=subprocess.PIPE)
            if r.returncode != 3 or r.stderr.count(b'\n') != 1:
                return f'{args}: exit {r.returncode}, {r.stderr!r}'
        # Where the write that failed was not the last one, no other failure's reason stands for it.
        for machines in range(1, 13):
            home = f'home-{machines}'
            with open(os.path.join(place, 'fleet/enroll.ndjson'), 'rb') as f:
                lines = b''.join(f.readlines()[:machines])
            for args in (['init', '--home', home], ['enroll', '--home', home, '-']):
                subprocess.run([self.program] + args, cwd=place, env=self.env, input=lines, check=True, capture_output=True)
            with open('/dev/full', 'wb') as full:
                r = self.run(['baseline', 'export', '--home', home], place, stdout=full, stderr=subprocess.PIPE)
            said = r.stderr.decode()
            if r.returncode != 3 or said not in ('quotemill baseline: cannot write all of it to standard output\n',
                                                 'quotemill baseline: cannot write to standard output: No space left on device\n'):
                return f'baseline export: exit {r.returncode}, {said!r}'
        return None

    def fault_descriptors_closed(self):
        """Standard descriptors that come closed: using them is an error, and no file takes their place."""
        place = self.place('closed')
        with open(os.path.join(place, 'home/fleet.db'), 'rb') as f:
            before = f.read(4096)
        cases = [(0, ['verify', '--json', '-'], 3), (0, ['verify', '--json', 'fleet/spool-1'], 0), (0, ['enroll', '-'], 3),
                 (1, ['verify', '--json', 'fleet/spool-1'], 3), (1, ['enroll', '--json', 'fleet/enroll.ndjson'], 3), (1, ['cpu'], 3),
                 (2, ['verify', '--json', 'nothing-here'], 3), (2, ['enroll', 'fleet/enroll.ndjson'], 0)]
        for fd, args, code in cases:
            r = self.run(args, place, preexec_fn=lambda: os.close(fd))
            if r.returncode != code or (code == 3 and fd != 2 and not r.stderr):
                return f'{args} without {fd}: exit {r.returncode}, {r.stderr!r}'
        with open(os.path.join(place, 'home/fleet.db'), 'rb') as f:
            if f.read(4096) != before:
                return 'the database has changed'
        return None

    def fault_signals(self):
        """SIGINT and SIGTERM on a stream: what came is judged, the run record says that it is not complete."""
        place = self.place('signals')
        with open(os.path.join(place, 'one'), 'wb') as f:
            spool = os.path.join(place, 'fleet/spool-1')
            one = b''.join(open(os.path.join(spool, n), 'rb').read() for n in sorted(os.listdir(spool)))
            f.write(one)
        for number in (signal.SIGINT, signal.SIGTERM):
            for workers in ('1', '4'):
                p = subprocess.Popen([self.program, 'verify', '--json', '--workers', workers, '-'], cwd=place, env=self.env,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for _ in range(20):
                    p.stdin.write(one)
                p.stdin.flush()
                time.sleep(0.3)
                p.send_signal(number)
                out, err = p.stdout.read(), p.stderr.read()
                code = p.wait(60)
                try:
                    p.stdin.close()
                except BrokenPipeError:
                    pass
                p.stdout.close(), p.stderr.close()
                lines = self.records(out)
                results = [l for l in lines if l['kind'] == 'status']
                run = lines[-1]
                if code != 3 or run['kind'] != 'run' or run['complete'] or run['records'] != len(results) or not results:
                    return f'{number.name}, {workers} workers: exit {code}, {len(results)} results, {run}, {err!r}'
                if err.count(b'\n') != 1 or b'signal' not in err:
                    return f'{number.name}, {workers} workers: {err!r}'
                if any(r['status'] != 'trusted' for r in results):
                    return f'{number.name}: a verdict on what was cut: {[r for r in results if r["status"] != "trusted"][:1]}'
        return None

    def fault_ring_refused(self):
        """A kernel, or a sandbox, that refuses io_uring: said once, and read the plain way; an error where it was asked for."""
        place = self.place('ring')

        def refuse():
            libc = ctypes.CDLL(None, use_errno=True)
            # load the number; io_uring_setup (425 on every machine): EPERM; all others: allowed
            rules = struct.pack('<HBBI' * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 425, 0x06, 0, 0, 0x00050001, 0x06, 0, 0, 0x7fff0000)
            buffer = ctypes.create_string_buffer(rules)
            program = struct.pack('@HP', 4, ctypes.addressof(buffer))
            if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) != 0:
                raise OSError(ctypes.get_errno(), 'no seccomp')

        try:
            r = self.run(['verify', '--json', '--workers', '4', 'fleet/spool-1'], place, preexec_fn=refuse)
        except subprocess.SubprocessError:
            return None  # there is nothing here to refuse with
        lines = self.records(r.stdout)
        if r.returncode != 0 or r.stderr.count(b'\n') != 1 or b'plain way' not in r.stderr or lines[-1]['records'] != 12:
            return f'auto: exit {r.returncode}, {r.stderr!r}'
        r = self.run(['verify', '--json', '--io', 'uring', 'fleet/spool-1'], place, preexec_fn=refuse)
        if r.returncode == 0 or r.stdout or r.stderr.count(b'\n') != 1:
            return f'uring: exit {r.returncode}, {r.stderr!r}'
        r = self.run(['verify', '--json', '--io', 'read', 'fleet/spool-1'], place, preexec_fn=refuse)
        return None if r.returncode == 0 and not r.stderr else f'read: exit {r.returncode}, {r.stderr!r}'

    def fault_progress(self):
        """On a terminal a line with records, speed, and the share done and to go of a long file; of a stream no share; else nothing."""
        place = self.place('progress')
        spool = os.path.join(place, 'fleet/spool-1')
        one = b''.join(open(os.path.join(spool, n), 'rb').read() for n in sorted(os.listdir(spool)))
        with open(os.path.join(place, 'long.mpk'), 'wb') as f:
            f.write(one * 100)

        def watch(args, feed, wanted):
            """What a terminal shows: nobody takes the results until it is what is wanted."""
            main, side = pty.openpty()
            p = subprocess.Popen([self.program, 'verify', '--workers', '1', '--json', '--stages', *args], cwd=place, env=self.env,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=side)
            os.close(side)
            if feed:
                p.stdin.write(one)
                p.stdin.flush()
            shown, taker = b'', threading.Thread(target=p.communicate)
            try:
                while select.select([main], [], [], 60)[0] and (more := os.read(main, 65536)):
                    shown += more
                    if re.search(wanted, shown) and taker.ident is None:
                        taker.start()
            except OSError:
                pass  # the other side is closed
            if taker.ident is None or p.poll() is None:
                p.kill()
            os.close(main)
            taker.join() if taker.ident else p.communicate()
            return p.returncode, shown

        code, shown = watch(['long.mpk'], False, rb'\r\d+ records, \d+/s, [\d.]+ MB/s, \d+ %, \d+ s to go\x1b\[K')
        if code != 0 or not shown.endswith(b'\r\x1b[K'):
            return f'a file: exit {code}, {shown!r}'
        code, shown = watch(['-'], True, rb'\r12 records, \d+/s, [\d.]+ MB/s\x1b\[K')
        if code != 0 or b'%' in shown:
            return f'a stream: exit {code}, {shown!r}'
        r = self.run(['verify', '--json', 'long.mpk'], place)
        return None if r.returncode == 0 and not r.stderr else f'no terminal: {r.stderr!r}'

    def fault_alerts_ask(self):
        """--same asks at a terminal, says how many, and does nothing without a yes; colours are for terminals, and not with NO_COLOR."""
        place = self.place('ask')
        subprocess.run([sys.executable, os.path.join(HERE, 'alerts_seed.py'), os.path.join(place, 'home')], check=True)

        def at_terminal(args, answer, env=self.env, out=False):
            main, side = pty.openpty()
            p = subprocess.Popen([self.program, 'alerts', *args], cwd=place, env=env, stdin=side, stderr=side,
                                 stdout=side if out else subprocess.PIPE)
            os.close(side)
            shown = b''
            try:
                while more := os.read(main, 65536):
                    shown += more
                    if answer and shown.endswith(b'[y/N] '):  # not before: its echo would stand in the middle of the question
                        os.write(main, answer)
                        answer = b''
            except OSError:
                pass  # the other side is closed
            os.close(main)
            if not out:
                p.stdout.close()
            return p.wait(60), shown

        ignore = ['ignore', '1', '--same', '--reason', 'x']
        for answer, code, ignored in ((b'n\n', 2, 0), (b'\n', 2, 0), (b'y\n', 0, 5)):
            said, shown = at_terminal(ignore, answer)
            r = self.run(['alerts', 'list', '--json', '--state', 'ignored'], place)
            if said != code or b'5 alerts of 5 machines in 1 group. Go on? [y/N]' not in shown or r.stdout.count(b'\n') != ignored:
                return f'{answer}: exit {said}, {shown!r}, {r.stdout.count(bytes([10]))} ignored'
        env = dict(self.env, TERM='xterm')
        env.pop('NO_COLOR', None)
        code, shown = at_terminal(['list'], b'', env, out=True)
        if code != 0 or b'\x1b[' not in shown:
            return f'no colours at a terminal: {shown!r}'
        code, shown = at_terminal(['list'], b'', dict(env, NO_COLOR='1'), out=True)
        return None if code == 0 and b'\x1b' not in shown and b'\\u{1b}' in shown else f'NO_COLOR: {shown!r}'

    def fault_files_that_vanish(self):
        """Files that go away while others are read: a line each, exit 3, and all others count."""
        place = self.place('vanish')
        self.many(place, 400)
        for io in ('read', 'auto'):
            shutil.copytree(os.path.join(place, 'many/spool-1'), os.path.join(place, 'going'))
            p = subprocess.Popen([self.program, 'verify', '--json', '--stages', '--workers', '1', '--io', io, 'going'], cwd=place,
                                 env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            # nobody reads: with its first results the worker waits at the full pipe, most of the files not yet opened
            select.select([p.stdout], [], [], 60)
            shutil.rmtree(os.path.join(place, 'going'))
            out, err = p.communicate(timeout=60)
            lines = self.records(out)
            results = [l for l in lines if l['kind'] == 'status']
            gone = [l for l in err.decode().splitlines() if 'No such file' in l and 'going/' in l]
            if p.returncode != 3 or lines[-1]['complete'] or not results or not gone or len(results) + len(gone) != 400:
                return f'{io}: exit {p.returncode}, {len(results)} results, {len(gone)} gone, {lines[-1]}, {err[:300]!r}'
            if any(r['status'] != 'trusted' for r in results) or lines[-1]['records'] != len(results):
                return f'{io}: {lines[-1]}'
        return None

    def fault_long_file(self):
        """A sparse file over 4 GiB is one malformed result and is not read."""
        place = self.place('sparse')
        with open(os.path.join(place, 'long.mpk'), 'wb') as f:
            f.truncate((4 << 30) + 1)
        start = time.monotonic()
        for io in ('read', 'auto'):
            r = self.run(['verify', '--json', '--io', io, 'long.mpk', 'fleet/spool-1'], place)
            lines = self.records(r.stdout)
            bad = [l for l in lines[:-1] if l['status'] != 'trusted']
            if r.returncode != 1 or len(lines) != 14 or len(bad) != 1 or bad[0]['reason'] != 'malformed' or \
                    bad[0]['len'] != (4 << 30) + 1 or bad[0]['off'] != 0 or lines[-1]['bytes'] > 1 << 24:
                return f'{io}: exit {r.returncode}, {len(lines)} lines, {bad}'
        return None if time.monotonic() - start < 20 else 'it was read after all'

    def fault_store_ahead(self):
        """The store knows more than the table: verify says so and goes on."""
        place = self.place('ahead')
        shutil.copy(os.path.join(place, 'home/fleet.tbl'), os.path.join(place, 'old'))
        with open(os.path.join(place, 'fleet/enroll.ndjson')) as f:
            line = f.readline().replace('"id":"', '"id":"more-')
        r = self.run(['enroll', '-'], place, stdin=None, input=line.encode())
        if r.returncode != 0:
            return r.stderr
        shutil.copy(os.path.join(place, 'old'), os.path.join(place, 'home/fleet.tbl'))
        r = self.run(['verify', '--json', 'fleet/spool-1'], place)
        if r.returncode != 0 or b'the store is ahead of the table (generation 3, the table has 2)' not in r.stderr:
            return f'exit {r.returncode}, {r.stderr!r}'
        # enroll with nothing new publishes what is behind
        r = self.run(['enroll', 'fleet/enroll.ndjson'], place)
        r = self.run(['verify', '--json', 'fleet/spool-1'], place)
        return None if not r.stderr and r.returncode == 0 else f'afterwards: {r.stderr!r}'

    def fault_damaged_tables(self):
        """Every kind of damage is exit 3 and one line; no verdict comes of it."""
        place = self.place('damaged')
        path = os.path.join(place, 'home/fleet.tbl')
        good = open(path, 'rb').read()
        cases = {'empty': b'', 'one byte': b'Q', 'cut': good[:-1], 'half': good[:len(good) // 2], 'longer': good + b'\0',
                 'foreign': b'\x7fELF' + good[4:], 'older': good[:8] + bytes([0]) + good[9:], 'newer': good[:8] + bytes([9]) + good[9:],
                 'text': b'hello\n' * 2000}
        for at in range(5000, len(good), max(1, len(good) // 40)):
            cases[f'bit at {at}'] = good[:at] + bytes([good[at] ^ 4]) + good[at + 1:]
        for name, data in cases.items():
            with open(path, 'wb') as f:
                f.write(data)
            r = self.run(['verify', '--json', 'fleet/spool-1'], place)
            lines = self.records(r.stdout)
            if name.startswith('bit') and r.returncode == 0:
                continue # padding between items
            if r.returncode != 3 or r.stderr.count(b'\n') != 1 or any(l['kind'] == 'status' for l in lines):
                return f'{name}: exit {r.returncode}, {r.stderr!r}, {r.stdout[:200]!r}'
        r = self.run(['enroll', 'fleet/enroll.ndjson'], place)
        r = self.run(['verify', '--json', 'fleet/spool-1'], place)
        return None if r.returncode == 0 else f'enroll did not mend it: {r.stderr!r}'

    def fault_same_on_every_way(self):
        """Directory, files, list, stream; each --io, some workers, both formats: the same results."""
        place, first = self.place('ways'), None
        spool = os.path.join(place, 'fleet/spool-2')
        names = sorted(os.listdir(spool))
        with open(os.path.join(place, 'all'), 'wb') as f:
            for n in names:
                f.write(open(os.path.join(spool, n), 'rb').read())
        with open(os.path.join(place, 'list'), 'wb') as f:
            f.write(b''.join(b'fleet/spool-2/' + n.encode() + b'\0' for n in names))
        ways = [['fleet/spool-2'], ['fleet/spool-2/' + n for n in names], ['--files0-from', 'list'], ['all'], ['-']]
        for way in ways:
            for io in ('read', 'auto'):
                for workers in ('1', '4'):
                    with open(os.path.join(place, 'all'), 'rb') as stdin:
                        r = self.run(['verify', '--json', '--io', io, '--workers', workers] + way, place, stdin=stdin)
                    lines = self.records(r.stdout)
                    said = sorted((l['id'], l['status'], l['reason'], l['attest'], l.get('first_fail')) for l in lines[:-1])
                    first = first or said
                    if r.returncode != 1 or said != first or not lines[-1]['complete'] or lines[-1]['records'] != 12:
                        return f'{way} {io} {workers}: exit {r.returncode}, {r.stderr!r}, {said}'
        if [s[1] for s in first].count('untrusted') != 3:
            return f'3 of 12 were tampered with: {first}'
        return None

    def all(self, names):
        cases = sorted(n for n in os.listdir(os.path.join(HERE, 'cli')) if n.endswith('.case'))
        for n in cases:
            if not names or n[:-len('.case')] in names:
                self.case(os.path.join(HERE, 'cli', n))
        for n in sorted(dir(self)):
            if n.startswith('fault_') and (not names or n[len('fault_'):] in names):
                self.report(n[len('fault_'):], getattr(self, n)())
        print(f'{self.passed} passed, {self.failed} failed')
        return self.failed == 0 and self.passed > 0


def main():
    args = [a for a in sys.argv[1:] if a != '--update']
    tests = Tests(args[0], '--update' in sys.argv)
    try:
        return 0 if tests.all(args[1:]) else 1
    finally:
        tests.close()


sys.exit(main())
