#!/usr/bin/env python3
"""quotemill-collect on simulated TPMs: keys of every kind, records that the verifier takes, changes that it explains, reboots, TPMs
that fail in every way.

    collect_test.py QUOTEMILL QUOTEMILL_COLLECT [CASE…]

Talks to simulators on the loopback interface only. Exit 77 with one line where swtpm or tpm2-tools are missing."""
import base64, hashlib, hmac, json, os, shutil, subprocess, sys, tempfile, time
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


def make_tpm(folder, *how, platform=True):
    """A TPM as its maker leaves it: with an endorsement key and its certificate, by swtpm_setup and a CA of our own. Gives the simulator's
    folder and the CA's."""
    os.makedirs(f'{folder}/state')
    ca = f'{folder}/ca'
    os.mkdir(ca)
    with open(f'{folder}/localca.conf', 'w') as f:
        f.write(f'statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/certserial\n')
    with open(f'{folder}/localca.options', 'w') as f:
        f.write('--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n')
    with open(f'{folder}/setup.conf', 'w') as f:
        f.write(f'create_certs_tool = {shutil.which("swtpm_localca")}\ncreate_certs_tool_config = {folder}/localca.conf\n'
                f'create_certs_tool_options = {folder}/localca.options\nactive_pcr_banks = sha256\n')
    p = subprocess.run(['swtpm_setup', '--tpm2', '--tpm-state', f'{folder}/state', '--config', f'{folder}/setup.conf', '--pcr-banks', 'sha256',
                        '--create-ek-cert', *how], capture_output=True)
    if p.returncode != 0:
        raise SystemExit('FAIL swtpm_setup: ' + (p.stdout + p.stderr).decode()[-500:])
    return ca


def name_of(public):
    "the TPM Name of a TPM2B_PUBLIC"
    return public[4:6] + hashlib.new({11: 'sha256', 12: 'sha384'}[int.from_bytes(public[4:6], 'big')], public[2:]).digest()


def challenge(m, line, secret, **other):
    "what the home sends, made by the TPM itself"
    public, nonce = base64.b64decode(line['ek']), os.urandom(16)
    name = name_of(base64.b64decode(line['ak']))
    with open(f'{m.dir}/ek.pub', 'wb') as f:
        f.write(public)
    with open(f'{m.dir}/secret', 'wb') as f:
        f.write(secret)
    m.tpm('tpm2_makecredential', '-Q', '-u', f'{m.dir}/ek.pub', '-s', f'{m.dir}/secret', '-n', name.hex(), '-o', f'{m.dir}/credential')
    m.tpm('tpm2_flushcontext', '-t')
    b = open(f'{m.dir}/credential', 'rb').read()[8:]
    n = 2 + int.from_bytes(b[:2], 'big')
    return {'v': 1, 'kind': 'challenge', 'challenge': nonce.hex(), 'id': m.name, 'ak_name': name.hex(), 'ek_name': name_of(public).hex(),
            'blob': base64.b64encode(b[:n]).decode(), 'secret': base64.b64encode(b[n:]).decode(), 'expires': int(time.time() * 1000) + 3600000, **other}


def proof(secret, c):
    return hmac.new(secret, b'quotemill-answer-v1' + bytes.fromhex(c['challenge']) + c['id'].encode(), hashlib.sha256).hexdigest()


def credentials(folder):
    "challenges for EKs of every template are answered; those for another key, damaged or for somebody else are not"
    lines = {}
    for kind in ('rsa', 'ecc'):
        os.makedirs(f'{folder}/tpm-{kind}')
        make_tpm(f'{folder}/tpm-{kind}', *(['--ecc'] if kind == 'ecc' else []))
        m = Machine(folder, kind, swtpm_test.Tpm(f'{folder}/tpm-{kind}'), log=False)
        eks = ['rsa2048', 'p256', 'rsa2048-high', 'p256-high'] if kind == 'rsa' else ['p384-high']
        for ek in eks + [None]:
            m.state = f'{m.dir}/{ek}'
            p = m.init(*(['--ek', ek] if ek else ['--key', 'p256', '--key-file', 'ak']))
            if not check(p.returncode == 0, f'{kind}, EK {ek}: init', text(p)):
                continue
            line = json.loads(p.stdout)
            certs = [base64.b64decode(c) for c in line.get('ek_cert', [])]
            check(len(certs) == (ek in (None, 'rsa2048', 'p384-high')), f'{kind}, EK {ek}: a certificate where the maker left one', len(certs))
            for c in certs:
                q = subprocess.run(['openssl', 'x509', '-inform', 'DER', '-noout', '-pubkey'], input=c, capture_output=True)
                der = subprocess.run(['openssl', 'pkey', '-pubin', '-outform', 'DER'], input=q.stdout, capture_output=True).stdout
                public = base64.b64decode(line['ek'])
                point = public[-256:] if public[2:4] == b'\0\x01' else b'\4' + public[-98:-50] + public[-48:]
                check(point in der, f'{kind}, EK {ek}: the certificate is of the key')
            secret = os.urandom(32)
            c = challenge(m, line, secret)
            others = json.dumps({**c, 'id': 'another', 'blob': '!'}) + '\n\n'
            p = m('activate', stdin=(others + json.dumps(c) + '\n').encode())
            got = json.loads(p.stdout or b'{}')
            check(p.returncode == 0 and got == {'v': 1, 'kind': 'answer', 'challenge': c['challenge'], 'id': m.name, 'proof': proof(secret, c)},
                  f'{kind}, EK {ek}: the challenge is answered', text(p), got)
            for b in (p.stdout, p.stderr):
                check(secret not in b and secret.hex().encode() not in b.lower() and base64.b64encode(secret) not in b, f'{kind}, EK {ek}: no secret is shown')
            lines[kind, ek] = m, m.state, line
    m, m.state, line = lines['rsa', 'rsa2048']
    secret = os.urandom(32)
    c = challenge(m, line, secret)
    blob = bytearray(base64.b64decode(c['blob']))
    blob[20] ^= 1
    enc = bytearray(base64.b64decode(c['secret']))
    enc[20] ^= 1
    foreign = challenge(lines['ecc', None][0], lines['ecc', None][2], secret)
    short = challenge(m, line, os.urandom(20))
    for change, why in (({'blob': base64.b64encode(blob).decode()}, 'another EK or another AK'), ({'secret': base64.b64encode(enc).decode()}, 'another EK or another AK'),
                        ({'blob': c['blob'][:-4]}, 'damaged'), ({'blob': base64.b64encode(bytes(blob) + b'x').decode()}, 'damaged'), ({'blob': 7}, 'damaged'),
                        ({'secret': '='}, 'damaged'), ({'challenge': c['challenge'][2:]}, 'damaged'), ({'challenge': 'x' + c['challenge'][1:]}, 'damaged'),
                        ({'v': 2}, 'another version'), ({'id': 'another'}, 'no challenge for rsa (1 for others)'), ({'kind': 'answer'}, 'no challenge for rsa'),
                        ({'ak_name': '000b' + '11' * 32}, 'another attestation key'), ({'ek_name': '000b' + '11' * 32}, 'another endorsement key'),
                        ({'blob': foreign['blob'], 'secret': foreign['secret']}, 'another EK or another AK'),
                        ({'blob': short['blob'], 'secret': short['secret']}, '20 bytes, not 32')):
        p = m('activate', stdin=json.dumps({**c, **change}).encode())
        check(p.returncode == 1 and p.stdout == b'' and why in text(p), f'refused: {why}', p.returncode, text(p))
    for bad in (b'', b'nonsense', b'{', b'[1]', b'\0{}', b'x' * 70000, json.dumps(c).encode()[:-1]):
        p = m('activate', stdin=bad)
        check(p.returncode == 1 and p.stdout == b'' and p.stderr.count(b'\n') == 1, f'refused: {bad[:10]}', p.returncode, text(p))
    check(m('activate', '/nowhere').returncode == 3, 'a file that is not there is an error')
    p = m('activate', stdin=json.dumps({**c, 'expires': 1000}).encode())
    check(p.returncode == 0 and 'expired' in text(p), 'an expired challenge is answered, with a word', text(p))
    for kind in ('rsa', 'ecc'):
        lines[kind, None][0].close()


CASES = [keys, credentials]


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
