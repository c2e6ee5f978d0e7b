#!/usr/bin/env python3
"""quotemill-collect on simulated TPMs: keys of every kind, records that the verifier takes, changes that it explains, reboots, TPMs
that fail in every way.

    collect_test.py QUOTEMILL QUOTEMILL_COLLECT [CASE…]

Talks to simulators on the loopback interface only. Exit 77 with one line where swtpm or tpm2-tools are missing."""
import base64, json, os, shutil, subprocess, sys, tempfile, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gen_check, swtpm_test

QUOTEMILL = COLLECT = None
failures = 0
PCRS = swtpm_test.PCRS
KINDS = ('rsa2048', 'rsapss2048', 'p256', 'p384')
SCHEMES = {'rsa2048': 'rsassa-sha256', 'rsapss2048': 'rsapss-sha256', 'p256': 'ecdsa-sha256', 'p384': 'ecdsa-sha384'}


def check(good, what, *more):
    global failures
    print('ok  ' if good else 'FAIL', what, *(() if good else more), flush=True)
    failures += not good
    return good


class Machine:
    """A simulator with a collector's state, and the log of its boot."""
    def __init__(self, folder, name, tpm=None, log=True):
        self.name, self.dir = name, f'{folder}/{name}'
        os.makedirs(self.dir)
        self.tpm = tpm or swtpm_test.Tpm(self.dir)
        self.tcti = self.tpm.env['TPM2TOOLS_TCTI']
        self.state, self.log = f'{self.dir}/collector', f'{self.dir}/log'
        if log:
            self.boot()

    def boot(self):
        bytes_, decoded = LOG
        with open(self.log, 'wb') as f:
            f.write(bytes_)
        self.tpm.extend([(e['pcr'], e['digests']['sha256']) for e in decoded['events'] if e['type'] != swtpm_test.NO_ACTION and e['pcr'] < 24])

    def __call__(self, command, *args, tcti=None, env=None, stdin=None, timeout=120):
        talks = [] if command == 'propose' else ['--tcti', tcti or self.tcti]
        return subprocess.run([COLLECT, command, '--state', self.state, *talks, *args], input=stdin, capture_output=True, timeout=timeout,
                              cwd=self.dir, env={**os.environ, **(env or {})})

    def init(self, *args, **how):
        return self('init', '--id', self.name, *args, **how)

    def once(self, spool, *args, **how):
        return self('once', '--spool', spool, *([] if '--no-log' in args or '--log' in args else ['--log', self.log]), *args, **how)

    def close(self):
        self.tpm.proc.kill()
        self.tpm.proc.wait()


class Home:
    def __init__(self, folder):
        self.dir = f'{folder}/home'
        self.spool = f'{self.dir}/spool'
        self('init')

    def __call__(self, command, *args, **how):
        return subprocess.run([QUOTEMILL, command, '--home', self.dir, *args], capture_output=True, **how)

    def enroll(self, *lines):
        p = self('enroll', '-', input=b''.join(lines))
        check(p.returncode == 0, f'{len(lines)} proposals are enrolment lines', p.stderr.decode())

    def run(self):
        return self('run').returncode

    def status(self, name):
        return json.loads(self('status', '--json', name).stdout.splitlines()[0])

    def standing(self, name):
        s = self.status(name)
        return s['status'], s['reason']

    def records(self):
        "what waits in the spool"
        out = []
        for n in sorted(os.listdir(self.spool)):
            if n.endswith('.mpk'):
                b = open(f'{self.spool}/{n}', 'rb').read()
                out.append(gen_check.unpack(b, 0)[0])
        return out


def text(p):
    return p.stderr.decode(errors='replace')


def keys(folder):
    "a key of every kind, in the TPM and in a file, from its making to the first green line"
    home = Home(folder)
    m = Machine(folder, 'keys')
    states = {}
    for kind in KINDS:
        for place in ('handle', 'file'):
            name = f'{kind}-{place}'
            m.name, m.state = name, f'{m.dir}/{name}'
            states[name] = m.state
            p = m.init('--key', kind, *(['--key-file', 'ak.' + kind] if place == 'file' else []))
            if not check(p.returncode == 0, f'{name}: init', text(p)):
                return
            line = json.loads(p.stdout)
            check((line['id'], line['scheme'], line['kind'], line['select']) == (name, SCHEMES[kind], 'proposal', [{'bank': 'sha256', 'pcrs': PCRS}]),
                  f'{name}: proposes itself')
            check(('wrapped by the TPM' if place == 'file' else 'persistent handle 0x81') in text(p), f'{name}: says where the key is', text(p))
            check(m.init().stdout == p.stdout and m('propose').stdout == p.stdout, f'{name}: again, the same line')
            home.enroll(p.stdout)
    for boots in (1, 2):
        for name, state in states.items():
            m.name, m.state = name, state
            p = m.once(home.spool)
            check(p.returncode == 0 and p.stderr == b'', f'{name}: measured and delivered', text(p))
        check(home.run() == 0, f'run {boots} finds nothing wrong')
    for name in states:
        s = home.status(name)
        check((s['status'], s['reason']) == ('trusted', 'ok') and all(x['state'] == 'pass' for x in s['stages']), f'{name}: green', s)
    m.close()


CASES = [keys]


def main():
    global QUOTEMILL, COLLECT, LOG
    missing = [t for t in ('swtpm', 'swtpm_setup', 'tpm2_pcrextend') if shutil.which(t) is None]
    if missing:
        print('skipped: not installed: ' + ', '.join(missing))
        return 77
    QUOTEMILL, COLLECT = map(os.path.abspath, sys.argv[1:3])
    folder = tempfile.mkdtemp(prefix='collect_test.')
    try:
        LOG = swtpm_test.field_log(QUOTEMILL, folder)
        for case in CASES:
            if len(sys.argv) > 3 and case.__name__ not in sys.argv[3:]:
                continue
            print(f'{case.__name__}: {case.__doc__}')
            os.mkdir(f'{folder}/{case.__name__}')
            case(f'{folder}/{case.__name__}')
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return failures != 0


if __name__ == '__main__':
    sys.exit(main())
