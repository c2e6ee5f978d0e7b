#!/usr/bin/env python3
"""quotemill-collect on simulated TPMs: keys of every kind, records that the verifier takes, changes that it explains, reboots, TPMs
that fail in every way.

    collect_test.py QUOTEMILL QUOTEMILL_COLLECT COLLECT_DRIVER [CASE…]

Talks to simulators on the loopback interface only. Exit 77 with one line where swtpm or tpm2-tools are missing."""
import base64, concurrent.futures, fcntl, hashlib, hmac, json, os, pty, random, re, resource, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, threading, time, tty
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gen_check, swtpm_test

QUOTEMILL = COLLECT = DRIVER = SANITIZED = LOG = None
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
    procs = []

    def __init__(self, folder, name, tpm=None, log=True):
        self.name, self.dir = name, f'{folder}/{name}'
        os.makedirs(self.dir)
        self.tpm = tpm or swtpm_test.Tpm(self.dir)
        Machine.procs.append(self.tpm.proc)
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
            q = m('activate', stdin=json.dumps(c).encode(), env={'TSS2_LOG': 'all+trace'})
            check(q.stderr == b'' and q.stdout == p.stdout, f'{kind}, EK {ek}: nor do the libraries say more', q.stderr[:300])
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
    # beside them, challenges that a stranger had made under our id with another key, and rubbish
    stranger = {**c, 'ak_name': '000b' + '11' * 32, 'challenge': '22' * 16}
    altered = {**c, 'blob': base64.b64encode(blob).decode()}
    for before, after in (([stranger], []), ([], [stranger]), (['{', {**c, 'v': 2}, altered], [stranger, 'x' * 70000])):
        sent = [l if isinstance(l, str) else json.dumps(l) for l in (*before, c, *after)]
        p = m('activate', stdin='\n'.join(sent).encode())
        check(p.returncode == 0 and [json.loads(l)['proof'] for l in p.stdout.splitlines()] == [proof(secret, c)] and
              f'{len(sent) - 1} lines were left' in text(p), f'ours is answered among {len(sent) - 1} that are not right', p.returncode, text(p))
    slow = subprocess.Popen([COLLECT, 'activate', '--state', m.state, '--tcti', m.tcti], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    slow.stdin.write(json.dumps(c).encode() + b'\n')
    slow.stdin.flush()
    time.sleep(1)
    p = m('once', '--stdout', '--no-log')
    check(p.returncode == 0, 'while activate waits for who sends the challenges, the machine is measured', p.returncode, text(p))
    out, _ = slow.communicate()
    check(slow.returncode == 0 and proof(secret, c).encode() in out, 'and they are answered then')
    check(m('activate', '/nowhere').returncode == 3, 'a file that is not there is an error')
    p = m('activate', stdin=json.dumps({**c, 'expires': 1000}).encode())
    check(p.returncode == 0 and 'expired' in text(p), 'an expired challenge is answered, with a word', text(p))
    for kind in ('rsa', 'ecc'):
        lines[kind, None][0].close()


class Proxy:
    """Stands between collector and simulator, as a simulator (swtpm or mssim protocol) or as a device (a terminal in raw mode). answer(n,
    command, real) gives what the collector gets for the n-th command; real() asks the simulator; None: nothing ever."""
    def __init__(self, tpm, answer=None, kind='swtpm'):
        self.answer = answer or (lambda n, command, real: real())
        self.port = int(tpm.env['TPM2TOOLS_TCTI'].rsplit('=', 1)[1])
        self.count, self.tpm_seconds, self.open, self.closed = 0, 0.0, [], False
        if kind == 'device':
            master, slave = pty.openpty()
            tty.setraw(slave)
            self.tcti = 'device:' + os.ttyname(slave)
            self.open = [master, slave]
            self.start(self.serve_device, master)
            return
        port, self.servers = self.two_ports()
        self.tcti = f'{kind}:host=127.0.0.1,port={port}'
        for server, serve in zip(self.servers, (getattr(self, 'serve_' + kind), self.serve_control if kind == 'swtpm' else self.serve_platform)):
            self.start(self.accept, server, serve)

    @staticmethod
    def two_ports():
        "two neighbours, below the ports that the kernel gives to connections, which keep them for a minute"
        for _ in range(200):
            port = random.randrange(20000, 32000)
            servers = []
            try:
                for i in (0, 1):
                    servers.append(socket.create_server(('127.0.0.1', port + i)))
                return port, servers
            except OSError as e:
                why = e
                for server in servers:
                    server.close()
        raise SystemExit(f'FAIL no two ports for a proxy: {why}')

    def start(self, what, *args):
        threading.Thread(target=what, args=args, daemon=True).start()

    def accept(self, server, serve):
        while not self.closed:
            try:
                s, _ = server.accept()
            except OSError:
                return
            self.open.append(s)
            self.start(self.quietly, serve, s)

    def quietly(self, serve, s):
        try:
            serve(s)
        except (OSError, ValueError):
            pass
        finally:
            s.close()

    @staticmethod
    def exactly(s, n):
        b = b''
        while len(b) < n:
            more = s.recv(n - len(b))
            if not more:
                raise OSError('closed')
            b += more
        return b

    def message(self, read):
        "a command or a response: tag, size, code, the rest"
        head = read(10)
        return head + read(int.from_bytes(head[2:6], 'big') - 10)

    def respond(self, command, up):
        def real():
            since = time.monotonic()
            up.sendall(command)
            b = self.message(lambda n: self.exactly(up, n))
            self.tpm_seconds += time.monotonic() - since
            return b
        self.count += 1
        b = self.answer(self.count, command, real)
        while b is None:  # hangs
            time.sleep(0.1)
            if self.closed:
                raise OSError('closed')
        return b

    def serve_swtpm(self, s):
        with socket.create_connection(('127.0.0.1', self.port)) as up:
            while True:
                s.sendall(self.respond(self.message(lambda n: self.exactly(s, n)), up))

    def serve_control(self, s):
        with socket.create_connection(('127.0.0.1', self.port + 1)) as up:
            while True:
                b = s.recv(4096)
                if not b:
                    return
                up.sendall(b)
                s.sendall(up.recv(4096))

    def serve_mssim(self, s):
        with socket.create_connection(('127.0.0.1', self.port)) as up:
            while int.from_bytes(self.exactly(s, 4), 'big') == 8:  # TPM_SEND_COMMAND, locality, length
                n = int.from_bytes(self.exactly(s, 5)[1:], 'big')
                b = self.respond(self.exactly(s, n), up)
                s.sendall(len(b).to_bytes(4, 'big') + b + bytes(4))

    def serve_platform(self, s):
        while True:
            self.exactly(s, 4)
            s.sendall(bytes(4))

    def serve_device(self, fd):
        with socket.create_connection(('127.0.0.1', self.port)) as up:
            try:
                while True:
                    os.write(fd, self.respond(self.message(lambda n: os.read(fd, n) if n else b''), up))
            except OSError:
                pass

    def close(self):
        self.closed = True
        for s in getattr(self, 'servers', []):
            s.shutdown(socket.SHUT_RDWR)  # who waits in accept() holds the port beyond a close
        for s in self.open + getattr(self, 'servers', []):
            os.close(s) if isinstance(s, int) else s.close()


PCR_READ, QUOTE, READ_PUBLIC, GET_CAPABILITY = 0x17e, 0x158, 0x173, 0x17a


def code_of(command):
    return int.from_bytes(command[6:10], 'big')


def error(rc):
    return bytes.fromhex('80010000000a') + rc.to_bytes(4, 'big')


def failing(code, rc):
    return lambda n, command, real: error(rc) if code_of(command) == code else real()


def moving(times):
    "PCR values that are others than what is quoted, for so many quotes"
    quotes = [0]

    def answer(n, command, real):
        b = real()
        if code_of(command) == PCR_READ and quotes[0] < times:
            b = b[:-1] + bytes([b[-1] ^ 1])
        quotes[0] += code_of(command) == QUOTE
        return b
    return answer


def broken(folder):
    "a TPM that answers errors or rubbish, hangs, is locked out, has no SHA-256 bank, or whose PCRs move"
    m = Machine(folder, 'broken')
    spool = f'{folder}/spool'
    os.mkdir(spool)
    check(m.init('--key', 'p256').returncode == 0, 'init')

    def once(answer, *args, kind='swtpm', command='once'):
        proxy = Proxy(m.tpm, answer, kind)
        since = time.monotonic()
        p = m.once(spool, *args, tcti=proxy.tcti) if command == 'once' else m('doctor', '--spool', spool, '--log', m.log, *args, tcti=proxy.tcti)
        p.seconds = time.monotonic() - since
        proxy.close()
        return p

    for kind in ('swtpm', 'mssim', 'device'):
        p = once(None, '-v', kind=kind)
        check(p.returncode == 0 and '1 tries' in text(p), f'{kind}: measured', text(p))
        for where in (READ_PUBLIC, PCR_READ, QUOTE):
            p = once(lambda n, command, real: None if code_of(command) == where else real(), '--timeout', '1', kind=kind)
            check(p.returncode == 3 and 'has not answered for 1 s (TPM2_' in text(p) and text(p).count('\n') == 1 and 1 <= p.seconds < 15,
                  f'{kind} that hangs in 0x{where:x}: an error after the time-out', p.returncode, p.seconds, text(p))
    for code, rc, why in ((QUOTE, 0x101, 'replace the TPM'), (QUOTE, 0x921, 'locked out'), (QUOTE, 0x98e, 'password'), (READ_PUBLIC, 0x18b, 'quotemill-collect init makes it again'),
                          (READ_PUBLIC, 0x100, 'restart the machine'), (PCR_READ, 0x902, 'device:/dev/tpmrm0'), (QUOTE, 0x185, '(0x185)'), (QUOTE, 0xffffffff, '(0xffffffff)')):
        p = once(failing(code, rc))
        check(p.returncode in (1, 3) and why in text(p) and text(p).count('\n') == 1, f'0x{rc:x} for 0x{code:x}: {why}', p.returncode, text(p))
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    print(f'rubbish by seed {seed}')
    codes = {}
    main_state, m.state = m.state, f'{m.dir}/fuzzed'
    line = json.loads(m.init('--key', 'p256', '--key-file', f'{m.dir}/fuzzed.ak', '--ek', 'p256').stdout)
    asked = json.dumps(challenge(m, line, os.urandom(32))).encode()
    calls = {'once': ['--spool', spool, '--no-log'], 'activate': [], 'init': ['--force', '--key', 'p256', '--key-file', f'{m.dir}/fuzzed.new', '--ek', 'p256'],
             'doctor': ['--spool', spool, '--log', m.log]}
    cases = int(os.environ.get('QM_CASES', 80))
    for i in range(20 * cases):
        if i >= cases and codes.get(3, 0) > 5:  # how often it is seen depends on the seed
            break

        def answer(n, command, real, at=rng.randrange(1, 16), how=rng.randrange(4)):
            b = bytearray(real())
            if n != at:
                return bytes(b)
            if how == 0:
                b[rng.randrange(10, len(b)) if len(b) > 10 else 9] ^= 1 << rng.randrange(8)
            elif how == 1:
                b = b[:rng.randrange(10, len(b) + 1)]
                b[2:6] = len(b).to_bytes(4, 'big')
            elif how == 2:
                b[10:] = rng.randbytes(len(b) - 10)
            else:
                b += rng.randbytes(rng.randrange(1, 2000))
                b[2:6] = len(b).to_bytes(4, 'big')
            return bytes(b)
        command = list(calls)[i % 4]
        kept = open(f'{m.state}/identity.json').read()
        proxy = Proxy(m.tpm, answer)
        p = m(command, *calls[command], '--timeout', '5', tcti=proxy.tcti, stdin=asked)
        proxy.close()
        with open(f'{m.state}/identity.json', 'w') as f:
            f.write(kept)
        codes[p.returncode] = codes.get(p.returncode, 0) + 1
        if not (p.returncode in (0, 1, 3) and (command == 'init' or text(p).count('\n') == (p.returncode != 0 and command != 'doctor'))):
            check(False, f'{command}: rubbish in an answer is an error of one line', p.returncode, text(p))
        m.tpm('tpm2_flushcontext', '-t')
        m.tpm('tpm2_flushcontext', '-l')
    check(set(codes) <= {0, 1, 3} and codes.get(3, 0) > 5, f'rubbish in answers: ends by exit codes {codes}')
    m.state = main_state
    for moves, tries in ((0, 1), (2, 3), (4, 5)):
        p = once(moving(moves), '-v')
        check(p.returncode == 0 and f'{tries} tries' in text(p), f'PCRs that move {moves} times: {tries} tries', text(p))
    p = once(moving(1000))
    check(p.returncode == 3 and 'moved between reading and quoting, 5 times' in text(p), 'PCRs that always move: an error', text(p))
    p = m.once(spool, tcti='swtpm:host=127.0.0.1,port=1')
    check(p.returncode == 3 and 'no way to the TPM' in text(p), 'no simulator there', text(p))
    p = m.once(spool, tcti='device:/nowhere')
    check(p.returncode == 3 and '/nowhere' in text(p) and 'No such file' in text(p), 'no device there', text(p))
    p = m.once(spool, tcti='nothing:x')
    check(p.returncode == 3 and 'libtss2-tcti-nothing' in text(p), 'no such TCTI', text(p))
    # doctor finishes whatever the TPM does
    for answer, fails in ((None, set()), (lambda n, command, real: None, {'TPM'}), (failing(GET_CAPABILITY, 0x101), {'TPM'}), (failing(QUOTE, 0x101), {'quote'}),
                          (failing(READ_PUBLIC, 0x18b), {'key'}), (moving(1000), {'quote'})):
        p = once(answer, '--json', '--timeout', '1' if fails == {'TPM'} else '20', command='doctor')
        lines = [json.loads(l) for l in p.stdout.splitlines()]
        got = {l['check'] for l in lines if l['state'] == 'fail'}
        check(got == fails and p.returncode == (1 if fails else 0) and len(lines) == 14 and all(l['do'] for l in lines if l['state'] != 'pass'),
              f'doctor: {sorted(fails) or "nothing"} fails', p.returncode, lines)

    # a real lock-out: a key that is not exempt from it, and ours, which is
    m.tpm('tpm2_createprimary', '-Q', '-C', 'e', '-c', 'primary.ctx', '-G', 'ecc')
    m.tpm('tpm2_create', '-Q', '-C', 'primary.ctx', '-G', 'ecc256:ecdsa-sha256:null', '-u', 'da.pub', '-r', 'da.priv', '-a',
          'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign')
    m.tpm('tpm2_flushcontext', '-t')
    m.tpm('tpm2_load', '-Q', '-C', 'primary.ctx', '-u', 'da.pub', '-r', 'da.priv', '-c', 'da.ctx')
    m.tpm('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', 'da.ctx', '0x81000123')
    m.tpm('tpm2_flushcontext', '-t')
    ours, m.state = m.state, f'{m.dir}/taken'
    p = m.init('--handle', '0x81000123')
    check(p.returncode == 0 and 'taken over' in text(p), 'a key of the platform is taken over', text(p))
    check(m.once(spool).returncode == 0, 'and quotes')
    m.tpm('tpm2_dictionarylockout', '-Q', '--setup-parameters', '--max-tries', '1', '--recovery-time', '1000', '--lockout-recovery-time', '1000')
    subprocess.run(['tpm2_quote', '-Q', '-c', '0x81000123', '-p', 'wrong', '-l', 'sha256:0'], env=m.tpm.env, cwd=m.dir, capture_output=True)
    p = m.once(spool)
    check(p.returncode == 3 and 'locked out' in text(p), 'locked out: said so', text(p))
    p = m('doctor', '--json', '--spool', spool, '--log', m.log)
    states = {json.loads(l)['check']: json.loads(l)['state'] for l in p.stdout.splitlines()}
    check(p.returncode == 1 and states['lock-out'] == 'fail' and states['key'] == 'pass' and states['quote'] == 'fail', 'doctor sees the lock-out', states)
    m.state = ours
    check(m.once(spool).returncode == 0, 'our own key is exempt from the lock-out')

    # no SHA-256 bank
    m.tpm('tpm2_dictionarylockout', '-Q', '--clear-lockout')
    m.tpm('tpm2_pcrallocate', '-Q', 'sha1:all+sha256:none')
    m.close()
    m = Machine(folder, 'nobank', swtpm_test.Tpm(m.tpm.dir), log=False)
    m.state, m.log = ours, f'{folder}/broken/log'
    p = m.once(spool)
    check(p.returncode == 1 and 'SHA-256 bank lacks PCR 0' in text(p), 'no SHA-256 bank: said so', p.returncode, text(p))
    p = m('doctor', '--json', '--spool', spool, '--log', m.log)
    states = {json.loads(l)['check']: json.loads(l)['state'] for l in p.stdout.splitlines()}
    check(p.returncode == 1 and states['PCR banks'] == 'fail', 'doctor sees it', states)
    m.close()


def story(folder):
    "an event is appended and extended: its stage is red, and explained; a reset of the TPM is a boot more"
    home = Home(folder)
    m = Machine(folder, 'story')
    home.enroll(m.init('--tag', 'rack=r7', '--tag', 'role=a "b"').stdout)
    for _ in range(2):
        check(m.once(home.spool).returncode == 0, 'measured')
        home.run()
    check(home.standing('story') == ('trusted', 'ok'), 'green', home.status('story'))
    check(home.status('story').get('tags') == {'rack': 'r7', 'role': 'a "b"'}, 'with its tags', home.status('story').get('tags'))
    r = gen_check.unpack(m('once', '--stdout', '--log', m.log).stdout, 0)[0]
    check(sorted(r) == ['agent', 'ak', 'id', 'log', 'pcrs', 'quote', 'sig', 't', 'v'] and r['agent'].startswith('quotemill-collect ') and
          abs(r['t'] - time.time() * 1000) < 60000 and sorted(r['pcrs'][11]) == PCRS, 'the record has what the contract says', sorted(r))
    # the kernel appends; the TPM is extended
    data = b'quotemill test event'
    digest = hashlib.sha256(data).digest()
    algorithms = gen_check_algorithms(LOG[0])
    with open(m.log, 'ab') as f:
        f.write(struct.pack('<III', 8, 0x0d, len(algorithms)) + b''.join(struct.pack('<H', a) + (digest if a == 11 else bytes(n)) for a, n in algorithms) +
                struct.pack('<I', len(data)) + data)
    m.tpm.extend([(8, digest.hex())])
    check(m.once(home.spool).returncode == 0, 'measured with one event more')
    check(home.run() == 1, 'the run finds something')
    s = home.status('story')
    stage = {x['pcr']: x['state'] for x in s['stages']}
    check(s['status'] == 'untrusted' and stage[8] == 'fail' and stage[7] == 'pass' and stage[9] == 'not_reached', 'stage 8 is red', s)
    shown = home('alerts', 'list').stdout.decode()
    check('differs first in PCR 8' in shown, 'and the first event that differs is named', shown)
    p = m('doctor', '--json', '--spool', home.spool, '--log', m.log)
    states = {json.loads(l)['check']: json.loads(l) for l in p.stdout.splitlines()}
    check(states['event log']['state'] == 'pass' and states['delivery']['state'] == 'pass' and states['spool']['state'] == 'pass', 'doctor: the log replays', states)
    m.tpm.extend([(3, '22' * 32), (9, '33' * 32)])
    p = m('doctor', '--json', '--spool', home.spool, '--log', m.log)
    states = {json.loads(l)['check']: json.loads(l) for l in p.stdout.splitlines()}
    check(p.returncode == 1 and states['event log']['text'].endswith('quoted PCRs: 3, 9'), 'doctor names the PCRs that do not replay', states['event log'])
    with open(f'{m.dir}/cut', 'wb') as f:
        f.write(LOG[0][:-7])
    for bad, why in ((f'{m.dir}/cut', 'damaged at byte'), ('/nowhere', 'cannot open'), ('/dev/null', 'is empty')):
        p = m('doctor', '--json', '--spool', home.spool, '--log', bad)
        states = {json.loads(l)['check']: json.loads(l) for l in p.stdout.splitlines()}
        check(states['event log']['state'] == 'fail' and why in states['event log']['text'], f'doctor: log {why}', states['event log'])
    # power off and on: the simulator is reset
    boots = home.status('story').get('boots')
    m.close()
    m.tpm = swtpm_test.Tpm(m.tpm.dir)
    Machine.procs.append(m.tpm.proc)
    m.tcti = m.tpm.env['TPM2TOOLS_TCTI']
    m.boot()
    check(m.once(home.spool).returncode == 0, 'measured after a reset')
    check(home.run() == 0 and home.standing('story') == ('trusted', 'ok'), 'green again', home.status('story'))
    shown = home('status', 'story').stdout.decode()
    check('boots      1 seen' in shown, 'the reboot was seen', shown)
    m.close()


def gen_check_algorithms(log):
    "the (algorithm, size) pairs that a crypto-agile log announces"
    at = 32 + log[32:].index(b'Spec ID Event03\0') + 24 if b'Spec ID Event03\0' in log else None
    n = struct.unpack_from('<I', log, at)[0]
    return [struct.unpack_from('<HH', log, at + 4 + 4 * i) for i in range(n)]


def fleet(folder):
    "twenty simulators at once deliver into one spool while runs go on; nothing is lost"
    home = Home(folder)
    machines = [Machine(folder, f'm{i:02}') for i in range(20)]
    rounds = 6
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        proposals = [p.stdout for p in pool.map(lambda m: m.init('--key', 'p256'), machines)]
        home.enroll(*proposals)
        done = threading.Event()
        runs = []

        def run():
            while not done.is_set():
                runs.append(json.loads(home('run', '--json').stdout))
        runner = threading.Thread(target=run)
        runner.start()
        with concurrent.futures.ThreadPoolExecutor(20) as all_at_once:
            codes = list(all_at_once.map(lambda m: [m.once(home.spool).returncode for _ in range(rounds)], machines))
        done.set()
        runner.join()
        runs.append(json.loads(home('run', '--json').stdout))
    check(all(c == 0 for code in codes for c in code), 'every call delivered', codes)
    records = sum(r['records'] for r in runs)
    status = {}
    for r in runs:
        for k, n in r['by_status'].items():
            status[k] = status.get(k, 0) + n
    check(records == 20 * rounds and sum(1 for r in runs if r['records']) > 1, f'{records} records arrived in {sum(1 for r in runs if r["records"])} runs', status)
    check(set(k for k, n in status.items() if n) <= {'trusted', 'new', 'duplicate'} and status.get('trusted', 0) >= 20 * (rounds - 1), f'and all are good: {status}')
    check(all(home.standing(m.name)[0] == 'trusted' for m in machines), 'all machines are green')
    check(os.listdir(home.spool) == [], 'nothing is left in the spool', os.listdir(home.spool))
    for m in machines:
        m.close()


def queue(folder):
    "a spool that is away: records wait, within bounds, and are delivered first, in order"
    m = Machine(folder, 'queue')
    home = Home(folder)
    home.enroll(m.init('--key', 'p256').stdout)
    away = f'{folder}/mount'
    waiting = lambda: sorted(os.listdir(f'{m.state}/queue'))
    for i in range(3):
        p = m.once(away)
        check(p.returncode == 1 and 'No such file' in text(p) and f'waits in the queue ({i + 1} records' in text(p), 'away: it waits, and says so', text(p))
    p = m('doctor', '--json', '--spool', away, '--log', m.log)
    states = {json.loads(l)['check']: json.loads(l) for l in p.stdout.splitlines()}
    check(states['spool']['state'] == 'fail' and states['queue']['state'] == 'warn' and '3 records wait' in states['queue']['text'] and
          states['delivery']['state'] == 'fail', 'doctor sees it', states)
    first = waiting()
    p = m.once(away, '--queue-records', '3')
    check(p.returncode == 1 and '1 of the oldest records are lost' in text(p) and waiting()[:2] == first[1:] and len(waiting()) == 3,
          'at the bound the oldest goes, and that is said', text(p))
    kept = waiting()
    full = lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)))
    p = subprocess.run([COLLECT, 'once', '--state', m.state, '--tcti', m.tcti, '--spool', away, '--log', m.log, '--queue-records', '3'], capture_output=True, preexec_fn=full)
    check(p.returncode == 3 and waiting() == kept, 'a record that cannot be written takes no place of one that waits', p.returncode, text(p), waiting())
    size = os.path.getsize(f'{m.state}/queue/{waiting()[0]}')
    p = m.once(away, '--queue-mib', '1')
    check(p.returncode == 1 and len(waiting()) == 4, 'within the bytes', text(p))
    with open(m.log, 'ab') as f:
        f.write(b'\xff' * (400 << 10))
    for n in (1, 2, 2, 2):
        p = m.once(away, '--queue-mib', '1', '--queue-records', '288')
    check(p.returncode == 1 and len(waiting()) == 2 and sum(os.path.getsize(f'{m.state}/queue/{n}') for n in waiting()) <= 1 << 20, 'beyond the bytes the oldest go', waiting())
    p = m.once(away, '--queue-records', '0')
    check(p.returncode == 3 and 'the queue takes no record' in text(p) and len(waiting()) == 2, 'a queue of none takes none', text(p))
    os.truncate(m.log, os.path.getsize(m.log) - (400 << 10))
    # what a kill left half written
    with open(f'{m.state}/queue/.half.mpk.tmp', 'wb') as f:
        f.write(b'half')
    os.mkdir(away)
    os.chmod(away, 0o700)
    p = m.once(away, '-v')
    check(p.returncode == 0 and '2 older records from the queue were delivered' in text(p) and waiting() == [] and os.listdir(f'{m.state}/queue') == [] and
          len([n for n in os.listdir(away) if n.endswith('.mpk')]) == 3, 'back: what waits is delivered first', text(p), os.listdir(away))
    records = [gen_check.unpack(open(f'{away}/{n}', 'rb').read(), 0)[0] for n in sorted(os.listdir(away))]
    times = [r['t'] for r in records]
    check(times == sorted(times) and len(set(times)) == 3, 'in the order in which they were made', times)
    for n in os.listdir(away):
        check(os.stat(f'{away}/{n}').st_mode & 0o777 == 0o644, 'a verifier of another user can read them')
        os.rename(f'{away}/{n}', f'{home.spool}/{n}')
    check(home.run() == 0 and home.standing('queue')[0] in ('trusted', 'new'), 'the home takes them all', home.status('queue'))
    # what a delivery that was killed leaves in the spool: its own, when it is old, is removed by the next
    kill = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
    p = subprocess.run([COLLECT, 'once', '--state', m.state, '--tcti', m.tcti, '--spool', away, '--log', m.log], capture_output=True, preexec_fn=kill)
    left = os.listdir(away)
    check(p.returncode == -signal.SIGXFSZ and len(left) == 1 and re.fullmatch(r'\.queue-[0-9]+-[0-9a-f]{16}\.mpk\.tmp', left[0]), 'a delivery that is killed leaves a hidden file', p.returncode, left)
    p = m.once(away, '-v')
    check(p.returncode == 0 and left[0] in os.listdir(away) and 'killed' not in text(p), 'which may still be at work', text(p))
    old = lambda name: os.utime(f'{away}/{name}', (time.time() - 3700,) * 2, follow_symlinks=False)
    old(left[0])
    stay = [f'.queue2-1700000000000-{"a" * 16}.mpk.tmp', f'.queue-17-1700000000000-{"a" * 16}.mpk.tmp', f'.queue-1700000000000-{"a" * 15}.mpk.tmp', '.queue.tmp', 'queue.tmp',
            f'.queue-1700000000001-{"a" * 16}.mpk.tmp', f'.queue-1700000000002-{"a" * 16}.mpk.tmp']
    for name in stay[:-2]:
        open(f'{away}/{name}', 'w').close()
    os.symlink(m.log, f'{away}/{stay[-2]}')
    os.mkdir(f'{away}/{stay[-1]}')
    if os.geteuid() == 0:
        stay.append(f'.queue-1700000000003-{"a" * 16}.mpk.tmp')
        open(f'{away}/{stay[-1]}', 'w').close()
        os.chown(f'{away}/{stay[-1]}', 65534, 65534)
    for name in stay:
        old(name)
    p = m.once(away)
    check(p.returncode == 0 and '1 deliveries that were killed' in text(p) and sorted(n for n in os.listdir(away) if not n.endswith('.mpk')) == sorted(stay),
          'an hour later it is removed, and nothing of anybody else', text(p), os.listdir(away))
    shutil.rmtree(away)
    os.mkdir(away)
    # a spool that is full, or read-only
    if os.geteuid() == 0 and subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', away], capture_output=True).returncode == 0:
        try:
            with open(f'{away}/fill', 'wb') as f:
                try:
                    f.write(bytes(65536))
                    f.flush()
                except OSError:
                    pass
            p = m.once(away)
            check(p.returncode == 1 and 'No space' in text(p) and [n for n in os.listdir(away) if n != 'fill'] == [], 'full: it waits, nothing half lies there', text(p), os.listdir(away))
        finally:
            subprocess.run(['umount', away])
    else:
        print('left out: a full spool, for want of a mount')
    p = m('once', '--stdout', '--log', m.log, env={'QUOTEMILL_SPOOL': away})
    q = subprocess.run([QUOTEMILL, 'spool', '--to', home.spool], input=p.stdout, capture_output=True)
    check(p.returncode == 0 and q.returncode == 0, 'standard output is what quotemill spool takes', text(p), q.stderr)
    with open('/dev/full', 'wb') as full:
        p = subprocess.run([COLLECT, 'once', '--state', m.state, '--tcti', m.tcti, '--stdout', '--log', m.log], stdout=full, stderr=subprocess.PIPE)
    check(p.returncode == 3 and b'standard output' in p.stderr, 'a full standard output is an error', p.stderr)
    p = m('once', '--log', m.log, env={'QUOTEMILL_SPOOL': away})
    check(p.returncode == 0, '$QUOTEMILL_SPOOL', text(p))
    m.close()


def freshness(folder):
    "extraData: random, under a beacon, or as given"
    home = Home(folder)
    m = Machine(folder, 'freshness')
    home.enroll(m.init('--key', 'p256').stdout)
    home('config', 'set', 'freshness', 'beacon')
    beacon = home('beacon', 'rotate').stdout
    with open(f'{m.dir}/beacon', 'wb') as f:
        f.write(beacon)
    check(m.once(home.spool, '--beacon', f'{m.dir}/beacon').returncode == 0 and home.run() == 0 and home.standing('freshness')[0] == 'new', 'a beacon is taken', home.status('freshness'))
    check(m.once(home.spool).returncode == 0 and home.run() == 1 and home.status('freshness')['refused']['reason'] == 'stale_nonce', 'a random one is stale then', home.status('freshness'))
    extra = lambda *a: attest_extra(gen_check.unpack(m('once', '--stdout', '--no-log', *a).stdout, 0)[0]['quote'])
    a, b = extra(), extra()
    check(len(a) == 32 and a != b, 'random ones differ')
    check(extra('--nonce', '00ff10') == b'\0\xff\x10' and extra('--nonce', '') == b'' and extra('--nonce', 'ab' * 64) == b'\xab' * 64, '--nonce is taken as it is')
    check(extra('--beacon', f'{m.dir}/beacon') == hashlib.sha256(b'quotemill-beacon-v1' + bytes.fromhex(beacon.decode().strip()) + b'freshness').digest(), 'the beacon is hashed with the id')
    for bad in ('0', 'xx', 'ab' * 65):
        check(m('once', '--stdout', '--no-log', '--nonce', bad).returncode == 2, f'--nonce {bad[:4]}: usage')
    for content in (b'', b'ab' * 31, b'zz' * 32, b'ab' * 33, beacon[:-1] + b' x'):
        with open(f'{m.dir}/bad', 'wb') as f:
            f.write(content)
        p = m('once', '--stdout', '--no-log', '--beacon', f'{m.dir}/bad')
        check(p.returncode == 3 and 'holds no beacon' in text(p) and p.stdout == b'', f'no beacon: {content[-4:]}', text(p))
    p = m('once', '--stdout', '--no-log', '--beacon', '/nowhere')
    check(p.returncode == 3 and 'No such file' in text(p), 'a beacon that is away is an error', text(p))
    m.close()


def no_files(folder):
    "what is no regular file, wherever a file is asked for, is an error of one line, and keeps nobody waiting"
    m = Machine(folder, 'no_files')
    check(m.init('--key', 'p256', '--key-file', f'{m.dir}/ak').returncode == 0, 'init')
    os.mkfifo(f'{m.dir}/fifo')
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f'{m.dir}/socket')
    for path, kind in ((f'{m.dir}/fifo', 'FIFO'), (f'{m.dir}/socket', 'socket'), ('/dev/zero', 'device'), (m.dir, 'directory')):
        calls = {'the log': ('once', '--stdout', '--log', path), 'the beacon': ('once', '--stdout', '--no-log', '--beacon', path), 'the challenges': ('activate', path)}
        for what, args in calls.items():
            try:
                p = m(*args, timeout=60)
                check(p.returncode == 3 and f'is a {kind}, no regular file' in text(p) and p.stdout == b'' and text(p).count('\n') == 1, f'{what}: a {kind}', p.returncode, text(p))
            except subprocess.TimeoutExpired:
                check(False, f'{what}: a {kind} keeps nobody waiting')
    os.rename(f'{m.dir}/ak', f'{m.dir}/kept')
    os.rename(f'{m.dir}/fifo', f'{m.dir}/ak')
    try:
        p = m('once', '--stdout', '--no-log', timeout=60)
        check(p.returncode == 3 and 'the key file' in text(p) and 'is a FIFO' in text(p), 'the key: a FIFO', p.returncode, text(p))
        p = m('doctor', '--json', '--log', f'{m.dir}/ak', timeout=60)
        states = {json.loads(l)['check']: json.loads(l) for l in p.stdout.splitlines()}
        check(all(states[c]['state'] == 'fail' and 'is a FIFO' in states[c]['text'] for c in ('key', 'event log')), 'doctor says so of key and log', states)
    except subprocess.TimeoutExpired:
        check(False, 'the key: a FIFO keeps nobody waiting')
    os.rename(f'{m.dir}/kept', f'{m.dir}/ak')
    p = subprocess.run(['bash', '-c', f'"$0" once --state {m.state} --tcti {m.tcti} --stdout --log <(cat {m.log})', COLLECT], capture_output=True)
    check(p.returncode == 0 and gen_check.unpack(p.stdout, 0)[0]['log'] == LOG[0], "a shell's pipe is read", text(p))
    m.close()


def doctor(folder):
    "what fails says what to do, and doing it mends it"
    m = Machine(folder, 'doctor')

    def ask(*args):
        return {l['check']: l for l in map(json.loads, m('doctor', '--json', *([] if '--log' in args else ['--log', m.log]), *args, env={'QUOTEMILL_SPOOL': ''}).stdout.splitlines())}
    got = ask()
    check(got['state']['state'] == 'fail' and 'init makes it' in got['state']['text'] and '--state' in got['state']['do'] and got['key']['state'] == 'fail' and
          'quotemill-collect init' in got['key']['do'] and got['delivery']['state'] == 'fail', 'before init', got)
    check(m.init('--key', 'p256').returncode == 0 and m('once', '--stdout', '--no-log').returncode == 0, 'init, and a record for a transport')
    got = ask()
    check(got['spool']['state'] == got['delivery']['state'] == 'pass' and 'standard output' in got['spool']['text'] and 'only the verifier knows' in got['delivery']['text'],
          'records on standard output need no spool', got)
    long_ago = json.dumps({'v': 1, 'at': int(time.time() * 1000) - 90000000, 'to': '-'})
    with open(f'{m.state}/delivery.json', 'w') as f:
        f.write(long_ago)
    got = ask()
    check(got['delivery']['state'] == 'fail' and 'once --stdout' in got['delivery']['do'], 'but have to come', got['delivery'])
    os.mkdir(f'{m.dir}/near')
    check(m.once('near').returncode == 0, 'a spool beside')
    got = ask()
    check(got['spool']['text'].startswith(f'{m.dir}/near ') and got['delivery']['text'].endswith(f'to {m.dir}/near'), 'is remembered by its whole name', got['spool'], got['delivery'])
    os.rename(f'{m.dir}/near', f'{m.dir}/far')
    m.once('near')
    got = ask()
    check(got['queue']['text'].startswith('1 records wait, ') and not got['queue']['text'].endswith(' 0 KiB'), 'what waits has a length', got['queue'])
    for path, words in ((m.dir, "the firmware's log"), ('/nowhere', "the firmware's log")):
        got = ask('--log', path)
        check(got['event log']['state'] == 'fail' and words in got['event log']['do'], f'--log {path}: of that file', got['event log'])
    beacon = f'{m.dir}/beacon'
    for content, age, state, words in ((b'ab' * 32 + b'\n', 60, 'pass', 'it was fetched'), (b'ab' * 32 + b'\n', 4 * 3600, 'warn', 'accept one for 3 hours'),
                                       (b'<html>', 60, 'fail', 'holds no beacon'), (None, 0, 'fail', 'No such file')):
        if content is not None:
            with open(beacon, 'wb') as f:
                f.write(content)
            os.utime(beacon, (time.time() - age,) * 2)
        else:
            os.unlink(beacon)
        got = ask('--beacon', beacon)
        check(got['beacon']['state'] == state and words in got['beacon']['text'] and (state == 'pass' or 'beacon show' in got['beacon']['do']), f'a beacon: {state}, {words}', got['beacon'])
    check('beacon' not in ask(), 'and no word of one where none is given')
    with open(f'{m.state}/identity.json', 'w') as f:
        f.write('{')
    got = ask()
    check(got['key']['state'] == 'fail' and 'init --force' in got['key']['do'], 'a damaged identity', got['key'])
    check(m.init().returncode == 3 and m.init('--force', '--key', 'p256').returncode == 0 and ask()['key']['state'] == 'pass', 'is replaced by --force, as it says')
    m.close()


def passwords(folder):
    "hierarchies with a password: from a file that is its owner's alone, proved without being said, and gone afterwards"
    os.makedirs(f'{folder}/tpm')
    make_tpm(f'{folder}/tpm')
    m = Machine(folder, 'passwords', swtpm_test.Tpm(f'{folder}/tpm'), log=False)
    spool = f'{folder}/spool'
    os.mkdir(spool)
    secrets = {'e': b'endorsement secret 17', 'o': b"the owner's secret 4711", 'wrong': b'another secret', 'long': b'x' * 64}
    for name, secret in secrets.items():
        with open(f'{m.dir}/{name}', 'wb') as f:
            f.write(secret + b'\n' * (name != 'o'))
        os.chmod(f'{m.dir}/{name}', 0o600)
    crossed = []

    def spy(n, command, real):
        crossed.append(command)
        b = real()
        crossed.append(b)
        return b

    def call(command, *args, **how):
        proxy = Proxy(m.tpm, spy)
        p = m(command, *args, tcti=proxy.tcti, **how)
        proxy.close()
        crossed.extend((p.stdout, p.stderr))
        return p

    def says(p, *why):
        return p.returncode == 3 and p.stdout == b'' and text(p).count('\n') == 1 and all(w in text(p) for w in why)
    known = ['--hierarchy-auth', 'e', '--owner-auth', 'o']
    cert = f'{m.dir}/nv'
    with open(cert, 'wb') as f:
        f.write(subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', '/dev/null', '-subj', '/CN=x',
                                '-outform', 'DER'], capture_output=True).stdout)
    m.tpm('tpm2_nvdefine', '-Q', '0x1c10000', '-C', 'o', '-s', str(os.path.getsize(cert)), '-a', 'ownerread|ownerwrite')
    m.tpm('tpm2_nvwrite', '-Q', '0x1c10000', '-C', 'o', '-i', cert)
    check(call('init', '--id', 'passwords', '--key', 'p256', *known).returncode == 0, 'passwords are not asked for where there are none')
    m.tpm('tpm2_changeauth', '-Q', '-c', 'endorsement', secrets['e'].decode())
    m.tpm('tpm2_changeauth', '-Q', '-c', 'owner', secrets['o'].decode())
    init = ['init', '--id', 'passwords', '--key', 'p256', '--force']
    for args, why in (([], 'the endorsement hierarchy has a password: --hierarchy-auth FILE gives it'),
                      (['--owner-auth', 'o'], 'the endorsement hierarchy has a password: --hierarchy-auth FILE gives it'),
                      (['--hierarchy-auth', 'wrong'], 'the endorsement hierarchy has another password than --hierarchy-auth gives'),
                      (['--hierarchy-auth', 'e'], 'the owner hierarchy has another password than --owner-auth, or else --hierarchy-auth, gives'),
                      (['--hierarchy-auth', 'e', '--owner-auth', 'wrong'], 'the owner hierarchy has another password')):
        p = call(*init, *args)
        check(says(p, why), f'init {args}: {why}', p.returncode, text(p))
    p = call(*init, *known)
    check(p.returncode == 0 and 'with an EK certificate' in text(p) and 'former' not in text(p), 'with both passwords a new key is made, and the former given up', text(p))
    check(m.tpm('tpm2_getcap', 'handles-persistent').decode().count('0x810101') == 1, 'one handle is used', m.tpm('tpm2_getcap', 'handles-persistent'))
    line = json.loads(p.stdout)
    check(call('once', '--spool', spool, '--no-log').returncode == 0, 'a key in the TPM is used without')
    secret = os.urandom(32)
    c = challenge(m, line, secret)
    p = call('activate', stdin=json.dumps(c).encode())
    check(says(p, 'the endorsement hierarchy has a password: --hierarchy-auth FILE'), 'a challenge wants the endorsement hierarchy', p.returncode, text(p))
    p = call('activate', '--hierarchy-auth', 'e', stdin=json.dumps(c).encode())
    check(p.returncode == 0 and json.loads(p.stdout)['proof'] == proof(secret, c), 'which is given, and it is answered', text(p))
    p = call('certificate', '0x01c10000')
    check(says(p, 'TPM2_NV_Read', 'the owner hierarchy has a password: --hierarchy-auth FILE gives it'), "an NV index for the owner wants the owner's", text(p))
    p = call('certificate', '0x01c10000', '--owner-auth', 'o')
    check(p.returncode == 0 and p.stdout.count(b'BEGIN') == 1, 'which is given, and it is read', text(p))
    # a key in a file hangs from a hierarchy each time it is used
    main_state, m.state = m.state, f'{m.dir}/filed'
    check(call('init', '--id', 'passwords', '--key-file', 'ak', '--hierarchy-auth', 'e').returncode == 0, "a key in a file needs no owner's")
    p = call('once', '--spool', spool, '--no-log')
    check(says(p, 'the endorsement hierarchy has a password: --hierarchy-auth FILE gives it'), 'but its own at each use', text(p))
    check(call('once', '--spool', spool, '--no-log', '--hierarchy-auth', 'e').returncode == 0, 'and is used then')
    doctor = lambda *a: {l['check']: l for l in map(json.loads, call('doctor', '--json', '--log', '/dev/null', *a).stdout.splitlines())}
    got = doctor()
    check(got['passwords']['state'] == 'pass' and 'endorsement and the owner' in got['passwords']['text'] and got['key']['state'] == 'fail' and '--hierarchy-auth' in got['key']['do'],
          'doctor: the key wants a password', got['key'], got['passwords'])
    check(got['lock-out']['text'].startswith('none: 0 wrong'), 'wrong ones have counted against nothing', got['lock-out'])
    got = doctor('--hierarchy-auth', 'e')
    check(got['key']['state'] == 'pass' and got['quote']['state'] == 'pass', 'doctor: and has it', got)
    # files that are not for their owner alone, or hold no password
    os.mkfifo(f'{m.dir}/fifo')
    for name, content, mode, owner, why in (('open', b'secret of 0640\n', 0o640, None, 'is not for its owner alone'), ('read', b'secret of 0604\n', 0o604, None, 'is not for its owner alone'),
                                            ('his', b'secret of his\n', 0o600, 65534, 'is not for its owner alone'), ('empty', b'', 0o600, None, 'holds no password'),
                                            ('line', b'\n', 0o600, None, 'holds no password'), ('two', b'secret of two\nlines\n', 0o600, None, 'holds no password'),
                                            ('nul', b'secret of\0nul\n', 0o600, None, 'holds no password'), ('more', b'secret' * 11, 0o600, None, 'holds no password')):
        with open(f'{m.dir}/{name}', 'wb') as f:
            f.write(content)
        os.chmod(f'{m.dir}/{name}', mode)
        if owner is not None:
            if os.geteuid() != 0:
                continue
            os.chown(f'{m.dir}/{name}', owner, owner)
        before = len(crossed)
        p = call('once', '--spool', spool, '--no-log', '--hierarchy-auth', name)
        check(p.returncode == 1 and why in text(p) and text(p).count('\n') == 1 and len(crossed) == before + 2, f'{name}: {why}, and the TPM is not asked', p.returncode, text(p))
        got = doctor('--hierarchy-auth', name)
        check(got['passwords']['state'] == 'fail' and why in got['passwords']['text'] and got['TPM']['state'] == 'pass', f'doctor: {name}', got['passwords'], got['TPM'])
        check(not any(b'secret of' in x for x in crossed), f'{name}: what is in it is nowhere')
    for name, why in (('fifo', 'no regular file'), ('nowhere', 'No such file')):
        p = call('once', '--spool', spool, '--no-log', '--hierarchy-auth', name)
        check(says(p, why), f'{name}: {why}', text(p))
    p = call('once', '--spool', spool, '--no-log', '--hierarchy-auth', 'long')
    check(says(p, 'another password'), '64 bytes are read', text(p))
    # where it has been
    for name, secret in secrets.items():
        check(not any(secret in x for x in crossed), f'{name}: it crosses no bus, and is in no message')
        for root, _, files in os.walk(main_state):
            check(not any(secret in open(f'{root}/{f}', 'rb').read() for f in files), f'{name}: nor in the state')
    check(m.tpm('tpm2_getcap', 'handles-loaded-session') == b'' and m.tpm('tpm2_getcap', 'handles-transient') == b'', 'sessions are given back')
    search = lambda name, command, *a, stdin=None: subprocess.run([DRIVER, 'search', name, command, '--state', m.state, '--tcti', m.tcti, *a], capture_output=True, cwd=m.dir, input=stdin)
    if SANITIZED:
        print('left out: memory, of which sanitizers keep what is freed')
    else:
        for name, command, args in (('e', 'once', ['--spool', spool, '--no-log']), ('o', 'certificate', ['0x01c10000']), ('e', 'init', ['--id', 'passwords', '--force', '--key-file', 'new']),
                                    ('o', 'init', ['--id', 'passwords', '--force']), ('wrong', 'init', ['--id', 'passwords', '--force'])):
            p = search(name, command, *args, *(['--hierarchy-auth', name] if name == 'wrong' else known))
            check(p.returncode == 0 and p.stdout.endswith(b'0 places\n') and (b'exit 0\n' in p.stderr) == (name != 'wrong'), f'{command}: nothing of it is left in memory', p.returncode,
                  p.stdout[-30:], text(p))
        m.state = main_state
        p = search('e', 'activate', *known, stdin=json.dumps(challenge(m, json.loads(m('propose').stdout), os.urandom(32))).encode())
        check(p.returncode == 0 and p.stdout.endswith(b'0 places\n') and b'exit 0\n' in p.stderr, 'activate: nothing of it is left in memory', p.returncode, p.stdout[-30:], text(p))
        with open(f'{m.dir}/said', 'w') as f:
            f.write('what an argument says')
        p = search('said', 'certificate', '--owner-auth', 'what an argument says')
        check(p.returncode == 1 and not p.stdout.endswith(b' 0 places\n'), 'a search finds what is there', p.stdout[-30:])
    m.close()


def attest_extra(b):
    at = 6 + 2 + struct.unpack_from('>H', b, 6)[0]
    n = struct.unpack_from('>H', b, at)[0]
    return b[at + 2:at + 2 + n]


def attest_boots(b):
    "resetCount, restartCount"
    at = 8 + struct.unpack_from('>H', b, 6)[0]
    at += 2 + struct.unpack_from('>H', b, at)[0] + 8
    return struct.unpack_from('>II', b, at)


def states(folder):
    "the state directory: who may look, what survives, ids, keys that are taken over, lost or replaced"
    m = Machine(folder, 'states')
    spool = f'{folder}/spool'
    os.mkdir(spool)
    line = m.init('--key', 'p256').stdout
    check(os.stat(m.state).st_mode & 0o777 == 0o700, 'the state is closed to others')
    check(m.once(spool).returncode == 0, 'measured')
    m.once(f'{folder}/away')
    for root, folders, files in os.walk(m.state):
        for f in files:
            mode = os.stat(f'{root}/{f}').st_mode & 0o777
            check(mode == 0o600 or '/queue' in root, f'{f} is closed to others', oct(mode))
    os.chmod(m.state, 0o750)
    doctor = lambda: {l['check']: l for l in map(json.loads, m('doctor', '--json', '--log', m.log).stdout.splitlines())}
    got = doctor()
    check(got['state']['state'] == 'fail' and 'open to others' in got['state']['text'], 'doctor: the state is open to others', got['state'])
    for command in ('once', 'init', 'activate'):
        p = m(command, *(['--spool', spool] if command == 'once' else []), stdin=b'{}')
        check(p.returncode == 1 and 'open to others' in text(p), f'{command} in a state that others can read: refused', text(p))
    os.chmod(m.state, 0o700)
    with open(f'{m.state}/lock') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        check(m.once(spool).returncode == 75, 'held by another: busy')
        got = doctor()
        check(got['state']['state'] == 'warn' and 'another quotemill-collect' in got['state']['text'], 'doctor: held by another', got['state'])
    got = doctor()
    check(got['state']['state'] == 'pass' and got['spool']['state'] == 'pass' and spool in got['spool']['text'], 'doctor looks at the spool of the last delivery', got['spool'])
    # a key that is gone is made again, the same one
    handle = json.load(open(f'{m.state}/identity.json'))['handle']
    m.tpm('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', hex(handle))
    p = m.once(spool)
    check(p.returncode == 1 and 'init makes it again' in text(p), 'a key that is gone: said so', text(p))
    p = m('init')
    check(p.returncode == 0 and p.stdout == line and 'there again, the same one' in text(p) and m.once(spool).returncode == 0, 'init makes the same key again', text(p))
    m.tpm('tpm2_clear', '-Q', '-c', 'p')
    p = m('init')
    check(p.returncode == 0 and p.stdout == line and m.once(spool).returncode == 0, 'even after TPM2_Clear', text(p))
    # killed at any moment, init makes one key and uses one handle
    kept_state, kills = m.state, 0
    m.state = f'{m.dir}/killed'
    before = m.tpm('tpm2_getcap', 'handles-persistent').decode().count('0x')
    for i in range(30):
        p = subprocess.Popen([COLLECT, 'init', '--state', m.state, '--tcti', m.tcti, '--id', 'killed'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.random() * 0.3)
        kills += p.poll() is None
        p.kill()
        p.wait()
        m.tpm('tpm2_flushcontext', '-t')
        m.tpm('tpm2_flushcontext', '-l')
    for i in range(20):  # and so with --force, once there is a key
        p = subprocess.Popen([COLLECT, 'init', '--state', m.state, '--tcti', m.tcti, '--id', 'killed', '--force', '--key', 'p256', '--ek', 'none'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.random() * 0.1)
        kills += p.poll() is None
        p.kill()
        p.wait()
        m.tpm('tpm2_flushcontext', '-t')
        if i % 2:
            p = m('init', '--id', 'killed')
            check(p.returncode == 0, 'init goes on with what a kill left', text(p))
    p = m('init', '--id', 'killed')
    again = m('init', '--id', 'killed')
    check(p.returncode == 0 and p.stdout == again.stdout and m.once(spool).returncode == 0, f'init works after {kills} were killed', text(p))
    after = m.tpm('tpm2_getcap', 'handles-persistent').decode().count('0x')
    check(after == before + 1, 'and one handle is used', before, after)
    m.state = kept_state
    # another key in its place
    m.tpm('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', hex(handle))
    m.tpm('tpm2_createprimary', '-Q', '-C', 'o', '-c', 'other.ctx')
    m.tpm('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', 'other.ctx', hex(handle))
    m.tpm('tpm2_flushcontext', '-t')
    for command in ('once', 'init'):
        p = m(command, *(['--spool', spool] if command == 'once' else []))
        check(p.returncode == 1 and 'another key' in text(p), f'{command}: another key has the handle: refused', text(p))
    m.tpm('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', hex(handle))
    check(m('init').returncode == 0, 'and it is mended')
    # --force: a new key, the old handle is free again
    p = m('init', '--force', '--key', 'rsa2048')
    if p.returncode != 0:
        raise SystemExit(f'FAIL init --force: exit {p.returncode}: {text(p)}')
    new = json.loads(p.stdout)
    kept = json.load(open(f'{m.state}/identity.json'))['handle']
    check(p.returncode == 0 and new['ak'] != json.loads(line)['ak'] and new['id'] == 'states', '--force makes a new key for the same id', text(p))
    handles = m.tpm('tpm2_getcap', 'handles-persistent').decode()
    check(f'0x{kept:X}' in handles and f'0x{handle:X}' not in handles, 'the old handle was given back', handles)
    m.tpm('tpm2_changeauth', '-Q', '-c', 'o', 'pass')
    p = m('init', '--force')
    check(p.returncode == 3 and 'password' in text(p) and json.loads(m('propose').stdout) == new and m.once(spool).returncode == 0,
          '--force where the TPM keeps no new key: the old one stays in use', p.returncode, text(p))
    m.tpm('tpm2_changeauth', '-Q', '-c', 'o', '-p', 'pass')
    p = m('init', '--id', 'other')
    check(p.returncode == 1 and 'this machine is states already' in text(p), 'another id without --force: refused', text(p))
    p = m('init', '--pcrs', '0-3,7,14', '--tag', 'a=1')
    got = json.loads(p.stdout)
    check(got['select'][0]['pcrs'] == [0, 1, 2, 3, 7, 14] and got['tags'] == {'a': '1'} and got['ak'] == new['ak'], 'PCRs and tags can be said anew', got)
    r = gen_check.unpack(m('once', '--stdout', '--no-log').stdout, 0)[0]
    check(sorted(r['pcrs'][11]) == [0, 1, 2, 3, 7, 14], 'and are what is quoted', sorted(r['pcrs'][11]))
    r = gen_check.unpack(m('once', '--stdout', '--no-log', '--pcrs', '23,0-9,16').stdout, 0)[0]
    check(sorted(r['pcrs'][11]) == PCRS + [16, 23], '--pcrs of once', sorted(r['pcrs'][11]))
    for other, why in ((['--key', 'p384'], 'for rsassa-sha256'), (['--key-file', 'x'], 'in the TPM'), (['--persist', '0x81000001'], f'at 0x{kept:x}'),
                       (['--handle', '0x81000001'], f'at 0x{kept:x}')):
        p = m('init', *other)
        check(p.returncode == 1 and 'there is a key already' in text(p) and why in text(p), f'another key than there is, without --force: refused: {other}', text(p))
    check(m('init', '--key', 'rsa2048', '--persist', hex(kept)).returncode == 0, 'the same options again')
    # a TPM that does not keep keys for us
    good_state, m.state = m.state, f'{m.dir}/owned'
    m.tpm('tpm2_changeauth', '-Q', '-c', 'owner', 'secret')
    p = m.init('--key', 'p256')
    check(p.returncode == 3 and 'password' in text(p) and p.stdout == b'' and m('propose').returncode == 1, 'the owner has a password: an error, and nothing is kept', text(p))
    p = m.init('--key', 'p256', '--key-file', f'{m.dir}/owned.ak')
    check(p.returncode == 0 and m.once(spool).returncode == 0, 'a key file needs no owner', text(p))
    p = m('init', '--force', '--key', 'p256')
    check(p.returncode == 3 and m.once(spool).returncode == 0, 'a new key that fails leaves the old one', text(p))
    m.tpm('tpm2_changeauth', '-Q', '-c', 'owner', '-p', 'secret')
    m.tpm('tpm2_changeauth', '-Q', '-c', 'endorsement', 'secret')
    m.state = f'{m.dir}/endorsed'
    p = m.init('--key', 'p256')
    check(p.returncode == 3 and 'password' in text(p), 'the endorsement hierarchy has one: an error', text(p))
    p = m.init('--key', 'p256', '--hierarchy', 'owner')
    check(p.returncode == 0 and 'ek' not in json.loads(p.stdout) and 'no endorsement key' in text(p) and m.once(spool).returncode == 0,
          "a key of the owner's, without an EK", text(p))
    m.tpm('tpm2_changeauth', '-Q', '-c', 'endorsement', '-p', 'secret')
    m.state = good_state
    # damaged, and newer, identities
    good = open(f'{m.state}/identity.json').read()
    for bad in ('', '{', '[]', good[:len(good) // 2], good.replace('"v":1', '"v":2'), good.replace('"id":"', '"di":"'), good.replace('"ak":"AR', '"ak":"!!'),
                good.replace('"handle":', '"handle":-'), good.replace('"pcrs":', '"pcrs":"x",'), good.replace('"a":"1"', '"a":1')):
        open(f'{m.state}/identity.json', 'w').write(bad)
        for command in ('once', 'propose', 'init'):
            p = m(command, *(['--spool', spool] if command == 'once' else []))
            check(p.returncode == 3 and 'identity.json' in text(p) and p.stdout == b'', f'{command}: a damaged identity is an error', bad[:40], p.returncode, text(p))
    open(f'{m.state}/identity.json', 'w').write(good)
    # places and kinds
    owner, m.state = m.state, f'{m.dir}/owner'
    check(m.init('--hierarchy', 'owner', '--persist', '0x81000777', '--key', 'p384').returncode == 0 and m.once(spool).returncode == 0, 'owner hierarchy, a handle that was asked for')
    clock = m.tpm('tpm2_readclock').decode()
    boots = tuple(int(re.search(name + r': (\d+)', clock).group(1)) for name in ('reset_count', 'restart_count'))
    seen = []
    for m.state in (owner, f'{m.dir}/owner'):
        seen.append(attest_boots(gen_check.unpack(m('once', '--stdout', '--no-log').stdout, 0)[0]['quote']))
    check(seen[0] == boots and seen[1] != boots, "the endorsement hierarchy tells the true count of boots, the owner's does not", boots, seen)
    m.state = f'{m.dir}/taken'
    p = m.init('--persist', '0x81000777')
    check(p.returncode == 1 and 'is taken' in text(p), 'a handle that is taken: refused', text(p))
    p = m.init('--handle', '0x81000777')
    check(p.returncode == 0 and m.once(spool).returncode == 0, 'which --handle takes over', text(p))
    p = m('init', '--force', '--key', 'p256')
    handles = m.tpm('tpm2_getcap', 'handles-persistent').decode()
    check(p.returncode == 0 and '0x81000777' in handles, 'what was taken over is not given up', handles)
    m.state = f'{m.dir}/none'
    p = m.init('--handle', '0x81000fff')
    check(p.returncode == 1 and 'no key at 0x81000fff' in text(p), 'nothing to take over: refused', text(p))
    m.tpm('tpm2_createprimary', '-Q', '-C', 'o', '-c', 'srk.ctx')
    m.tpm('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', 'srk.ctx', '0x81000001')
    m.tpm('tpm2_flushcontext', '-t')
    m.tpm('tpm2_create', '-Q', '-C', '0x81000001', '-G', 'rsa', '-u', 'free.pub', '-r', 'free.priv')
    m.tpm('tpm2_flushcontext', '-t')
    m.tpm('tpm2_load', '-Q', '-C', '0x81000001', '-u', 'free.pub', '-r', 'free.priv', '-c', 'free.ctx')
    m.tpm('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', 'free.ctx', '0x81000002')
    m.tpm('tpm2_flushcontext', '-t')
    for bad in ('0x81000001', '0x81000002'):
        p = m.init('--handle', bad)
        check(p.returncode == 1 and 'cannot attest' in text(p), f'{bad} is no attestation key: refused', text(p))
    # a platform's template in NV, as TPMT_PUBLIC and as TPM2B_PUBLIC
    for index, cut in (('0x1c10001', 2), ('0x1c10003', 0)):
        template = base64.b64decode(json.load(open(f'{owner}/identity.json'))['template'])[cut:]
        with open(f'{m.dir}/template', 'wb') as f:
            f.write(template)
        m.tpm('tpm2_nvdefine', '-Q', index, '-C', 'o', '-s', str(len(template)), '-a', 'ownerread|ownerwrite|authread')
        m.tpm('tpm2_nvwrite', '-Q', index, '-C', 'o', '-i', f'{m.dir}/template')
        m.state = f'{m.dir}/nv{cut}'
        p = m.init('--nv-template', index)
        check(p.returncode == 0 and json.loads(p.stdout)['ak'] == new['ak'] and m.once(spool).returncode == 0, f'the key of the template in NV {index}', text(p))
    m.state = f'{m.dir}/nv'
    for index, why in (('0x1c10005', 'has no NV index'), ('0x1c10007', 'holds no template')):
        if why == 'holds no template':
            m.tpm('tpm2_nvdefine', '-Q', index, '-C', 'o', '-s', '40', '-a', 'ownerread|ownerwrite')
            with open(f'{m.dir}/template', 'wb') as f:
                f.write(b'x' * 40)
            m.tpm('tpm2_nvwrite', '-Q', index, '-C', 'o', '-i', f'{m.dir}/template')
        p = m.init('--nv-template', index)
        check(p.returncode == 1 and why in text(p), f'a template that {why}: refused', text(p))
    # ids
    m.state = f'{m.dir}/id'
    p = m('init', '--key', 'p256')
    try:  # an image that was never started has an empty one
        known = open('/etc/machine-id').read().strip().lower()
        there = re.fullmatch('[0-9a-f]{32}', known) is not None and len(set(known)) > 1
        check(p.returncode == (not there) and (json.loads(p.stdout)['id'] == known if there else 'holds no id' in text(p)), 'the id is from /etc/machine-id', text(p))
    except OSError as e:
        check(p.returncode == 3 and os.strerror(e.errno) in text(p) and '--id gives one' in text(p), 'no /etc/machine-id here: said so', text(p))
    m.state = f'{m.dir}/id2'
    p = m('init', '--key', 'p256', '--id-from', 'smbios')
    try:
        uuid = open('/sys/class/dmi/id/product_uuid').read().strip().lower()
        check(p.returncode == (len(set(uuid) - {'-'}) == 1) and (p.returncode or json.loads(p.stdout)['id'] == uuid), 'the id is from the SMBIOS', text(p))
    except OSError as e:
        check(p.returncode == 3 and os.strerror(e.errno) in text(p) and '--id gives one' in text(p), 'no SMBIOS here: said so', text(p))
    for bad in (['--id', ''], ['--id', 'a\nb'], ['--id', 'x' * 129], ['--pcrs', ''], ['--pcrs', '24'], ['--pcrs', '3-1'], ['--pcrs', '1,'], ['--pcrs', '1-'], ['--key', 'rsa1024'],
                ['--persist', '0x80000000'], ['--persist', 'x'], ['--handle', '1'], ['--persist', '0x81000100', '--key-file', 'k'], ['--key', 'p256', '--handle', '0x81000100'],
                ['--nv-template', '0x1c10001', '--key-file', 'k'], ['--tag', 'x'], ['--tag', '=x'], ['--tag', 'a=1', '--tag', 'a=2'], ['--tag', 'a=' + 'x' * 300]):
        m.state = f'{m.dir}/usage'
        p = m('init', *(['--id', 'x'] if bad[0] != '--id' else []), *bad)
        check(p.returncode == 2 and p.stdout == b'' and text(p).count('\n') == 1, f'usage: {bad}', p.returncode, text(p))
    for bad in ([], ['--spool', 'x', '--stdout'], ['--stdout', '--nonce', '00', '--beacon', 'x'], ['--stdout', '--timeout', '0']):
        p = m('once', *bad)
        check(p.returncode == 2, f'usage: once {bad}', text(p))
    m.state = f'{m.dir}/nothing'
    for command, code in (('once', 3), ('activate', 3), ('propose', 1)):
        p = m(command, *(['--stdout'] if command == 'once' else []), stdin=b'')
        check(p.returncode == code and 'quotemill-collect init' in text(p), f'{command} before init: said so', p.returncode, text(p))
    m.close()


def fingerprint(line):
    "of an EK: its certificate's SubjectPublicKeyInfo in DER, hashed"
    q = subprocess.run(['openssl', 'x509', '-inform', 'DER', '-noout', '-pubkey'], input=base64.b64decode(line['ek_cert'][0]), capture_output=True)
    return hashlib.sha256(subprocess.run(['openssl', 'pkey', '-pubin', '-outform', 'DER'], input=q.stdout, capture_output=True).stdout).hexdigest()


def ceremony(folder):
    "the whole ceremony, with RSA and ECC endorsement keys: init, challenge, activate, answer, confirm, once, run, green"
    for kind, how in (('rsa', []), ('ecc', ['--ecc'])):
        place = f'{folder}/{kind}'
        os.makedirs(f'{place}/tpm')
        ca = make_tpm(f'{place}/tpm', *how)
        cas = [x for n in ('issuercert.pem', 'swtpm-localca-rootca-cert.pem') for x in ('--ca', f'{ca}/{n}')]
        home = Home(place)
        m = Machine(place, 'machine', swtpm_test.Tpm(f'{place}/tpm'))
        for name, args, expect in (('confirmed', ['--key', 'rsa2048'], False), ('expected', ['--key', 'p384', '--key-file', 'ak'], True)):
            m.name, m.state = name, f'{m.dir}/{name}'
            p = m.init(*args)
            line = json.loads(p.stdout)
            files = {}

            def put(what, content):
                files[what] = f'{place}/{name}.{what}'
                with open(files[what], 'wb') as f:
                    f.write(content)
                return files[what]
            more = []
            if expect:
                more = ['--expect-ek', put('list', f'{name} {fingerprint(line)}\n'.encode())]
                home('retire', 'confirmed')  # whose EK it was so far
            p = home('enroll', '--challenge', *cas, *more, put('proposal', p.stdout))
            if not check(p.returncode == 0 and p.stdout.count(b'\n') == 1, f'{kind}, {name}: challenged', text(p)):
                continue
            p = m('activate', put('challenge', p.stdout))
            check(p.returncode == 0, f'{kind}, {name}: answered', text(p))
            q = m.once(home.spool)
            check(q.returncode == 0, f'{kind}, {name}: measured before it is enrolled', text(q))
            q = home('enroll', '--answer', *more, put('answer', p.stdout))
            check(q.returncode == 0, f'{kind}, {name}: the answer is taken', text(q))
            if not expect:
                check(json.loads(home('status', '--json').stdout.splitlines()[-1])['instances'] == 0, f'{kind}, {name}: it waits for a person')
                q = home('enroll', '--confirm', name)
                check(q.returncode == 0, f'{kind}, {name}: confirmed', text(q))
            for _ in range(2):
                m.once(home.spool)
                home.run()
            s = home.status(name)
            check((s['status'], s['reason']) == ('trusted', 'ok'), f'{kind}, {name}: green', s)
            check(s['enrolment']['how'] == 'credential' and s['enrolment']['ek'] == fingerprint(line), f'{kind}, {name}: proven, by its EK', s['enrolment'])
            q = home('enroll', '--answer', *more, files['answer'])
            check(q.returncode == 1, f'{kind}, {name}: the same answer again is refused', text(q))
            secret_free(m.state, f'{kind}, {name}')
        m.close()


def platform(folder):
    "a key that the platform made and certified: its template and its certificate are in the TPM; enrolled by the chain, green"
    home = Home(folder)
    m = Machine(folder, 'vm-17')
    m.state = f'{m.dir}/first'
    template = base64.b64decode((m.init(), json.load(open(f'{m.state}/identity.json')))[1]['template'])[2:]
    m.tpm('tpm2_readpublic', '-Q', '-c', '0x81010100', '-f', 'pem', '-o', 'ak.pem')
    ca = ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=cloud',
          '-addext', 'keyUsage=critical,keyCertSign']
    with open(f'{m.dir}/ext', 'w') as f:
        f.write('keyUsage=critical,digitalSignature\nextendedKeyUsage=2.23.133.8.3\nbasicConstraints=CA:false\n')
    leaf = ['openssl', 'x509', '-new', '-force_pubkey', 'ak.pem', '-subj', '/CN=vm-17', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-days', '30', '-extfile', 'ext', '-outform',
            'DER', '-out', 'leaf.der']
    for command in (ca, leaf):
        p = subprocess.run(command, cwd=m.dir, capture_output=True)
        if not check(p.returncode == 0, 'the cloud certifies its key', p.stderr):
            return
    for index, content in (('0x1c10001', template), ('0x1c10000', open(f'{m.dir}/leaf.der', 'rb').read() + bytes(100)), ('0x1c10002', b'nothing')):
        with open(f'{m.dir}/nv', 'wb') as f:
            f.write(content)
        m.tpm('tpm2_nvdefine', '-Q', index, '-C', 'o', '-s', str(len(content)), '-a', 'ownerread|ownerwrite|authread')
        m.tpm('tpm2_nvwrite', '-Q', index, '-C', 'o', '-i', f'{m.dir}/nv')
    m.tpm('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', '0x81010100')
    m.state = f'{m.dir}/collector'
    p = m.init('--nv-template', '0x01c10001')
    check(p.returncode == 0, 'the key is taken over', text(p))
    p = m('certificate', '0x01c10000')
    check(p.returncode == 0 and p.stdout.count(b'BEGIN CERTIFICATE') == 1, 'its certificate is in the TPM', text(p))
    with open(f'{m.dir}/chain.pem', 'wb') as f:
        f.write(p.stdout)
    p = home('enroll', '--ak-cert', '--ca', f'{m.dir}/ca.pem', f'{m.dir}/chain.pem')
    check(p.returncode == 0, 'the chain enrols it', text(p))
    for _ in range(2):
        m.once(home.spool)
        home.run()
    s = home.status('vm-17')
    check((s['status'], s['reason']) == ('trusted', 'ok') and s['enrolment']['how'] == 'certificate', 'green, by its certificate', s)
    for index, code, why in (('0x01c10002', 1, 'holds no certificate'), ('0x01c10004', 1, 'has no NV index'), ('0x81010100', 2, 'INDEX wants'), ('x', 2, 'INDEX wants')):
        p = m('certificate', index)
        check(p.returncode == code and why in text(p) and p.stdout == b'', f'certificate {index}: {why}', text(p))
    p = m('certificate')
    check(p.returncode == 1 and 'no certificate of its endorsement key' in text(p), 'no EK certificate: said so', text(p))
    m.close()


def secret_free(state, what):
    "nothing but what is named in state_dir.h lies there"
    names = sorted(n for _, _, files in os.walk(state) for n in files)
    check(set(names) <= {'delivery.json', 'identity.json', 'lock'}, f'{what}: nothing else is kept', names)


def makers(folder):
    "what makers of TPMs leave in NV: a nonce or a template for the EK, certificates with padding, a chain, a certificate of another key"
    os.makedirs(f'{folder}/maker')
    make_tpm(f'{folder}/maker')
    m = Machine(folder, 'makers', swtpm_test.Tpm(f'{folder}/maker'), log=False)

    def init(ek, *more):
        m.state = f'{m.dir}/{len(os.listdir(m.dir))}'
        p = m.init('--key', 'p256', '--key-file', f'{m.state}.key', '--ek', ek, *more)
        check(p.returncode == 0, f'init with EK {ek}', text(p))
        line = json.loads(p.stdout)
        secret = os.urandom(32)
        c = challenge(m, line, secret)
        q = m('activate', stdin=json.dumps(c).encode())
        check(q.returncode == 0 and json.loads(q.stdout)['proof'] == proof(secret, c), f'EK {ek}: the challenge is answered', text(q))
        return line, text(p)

    def put(index, content):
        with open(f'{m.dir}/nv', 'wb') as f:
            f.write(content)
        m.tpm('tpm2_nvdefine', '-Q', index, '-C', 'o', '-s', str(len(content)), '-a', 'ownerread|ownerwrite|authread')
        m.tpm('tpm2_nvwrite', '-Q', index, '-C', 'o', '-i', f'{m.dir}/nv')

    rsa, _ = init('rsa2048')
    plain, said = init('p256')
    check('no EK certificate' in said and 'ek_cert' not in plain, 'no certificate: said so', said)
    template = base64.b64decode(json.load(open(f'{m.state}/identity.json'))['ek_template'])
    put('0x1c0000b', b'a nonce of the maker')
    nonce, _ = init('p256')
    check(nonce['ek'] != plain['ek'], "the maker's nonce makes another EK")
    check(template[-68:] == b'\0\x20' + bytes(32) + b'\0\x20' + bytes(32), "the profile's template ends with zeros")
    put('0x1c0000c', template[2:-68] + b'\0\x20' + b'\7' * 32 + b'\0\x20' + b'\7' * 32)
    own, _ = init('p256')
    check(own['ek'] not in (plain['ek'], nonce['ek']), "the maker's template goes before its nonce")
    put('0x1c00014', base64.b64decode(rsa['ek_cert'][0]) + b'\xff' * 100)
    other, said = init('p256-high')
    check('ek_cert' not in other and 'is of another key' in said, 'a certificate of another key is left out, and that is said', said)
    certs = [subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', '/dev/null', '-subj', f'/CN=maker {n}',
                             '-outform', 'DER'], capture_output=True).stdout for n in range(3)]
    put('0x1c00100', certs[0] + bytes(50))
    put('0x1c00101', certs[1] + certs[2])
    chain, _ = init('rsa2048')
    got = [base64.b64decode(c) for c in chain['ek_cert']]
    pem = m('certificate').stdout
    check(b''.join(base64.b64decode(b''.join(x.split(b'\n')[1:])) for x in pem.split(b'-----END CERTIFICATE-----')[:-1] for x in [x.strip()]) == b''.join(got),
          'certificate writes them as PEM')
    check(all(certs) and got == [base64.b64decode(rsa['ek_cert'][0])] + certs, 'the chain comes behind the certificate, without padding', list(map(len, got)))
    line = json.loads(m.init('--key', 'p256', '--ek', 'none', '--force').stdout)
    check('ek' not in line and 'ek_cert' not in line, '--ek none shows none')
    p = m('activate', stdin=json.dumps(challenge(m, {**line, 'ek': rsa['ek']}, os.urandom(32))).encode())
    check(p.returncode == 1 and 'no endorsement key' in text(p), 'and answers no challenge', text(p))
    m.close()


def service(folder):
    "as the units have it: root without a capability; and what doctor makes of systemd's words"
    m = Machine(folder, 'service')
    spool = f'{folder}/spool'
    os.mkdir(spool)
    check(m.init('--key', 'p256').returncode == 0, 'init')
    if os.geteuid() == 0 and shutil.which('setpriv'):
        os.chmod(m.log, 0o440)
        p = subprocess.run(['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs', COLLECT, 'once', '--state', m.state, '--tcti', m.tcti, '--log', m.log,
                            '--spool', spool], capture_output=True)
        check(p.returncode == 0 and len(os.listdir(spool)) == 1, 'root without a capability measures and delivers', text(p))
        os.chown(m.state, 65534, 65534)
        p = m.once(spool)
        check(p.returncode == 1 and "another user's" in text(p), "a state that is another's: refused", text(p))
        os.chown(m.state, 0, 0)
        shutil.copytree(m.state, f'{m.dir}/nobody')
        for root, folders, files in os.walk(f'{m.dir}/nobody'):
            for n in [root] + [f'{root}/{f}' for f in files]:
                os.chown(n, 65534, 65534)
        os.chmod(spool, 0o1777)
        os.chmod(m.log, 0o444)
        for d in (folder, os.path.dirname(folder), m.dir):
            os.chmod(d, 0o755)
        nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', COLLECT]
        # in a tree that is closed to others, as a fresh root's is, nobody reaches the program or its libraries
        if subprocess.run([*nobody, '--version'], capture_output=True).returncode != 0:
            print('left out: a user who is not root, who may not pass to the program here')
        else:
            p = subprocess.run([*nobody, 'once', '--state', f'{m.dir}/nobody', '--tcti', m.tcti, '--log', m.log, '--spool', spool],
                               capture_output=True)
            check(p.returncode == 0, 'so does a user who is not root', text(p))
    else:
        print('left out: other users, who need root and setpriv')
    os.mkdir(f'{m.dir}/bin')
    tool = f'{m.dir}/bin/systemctl'

    def doctor(script):
        with open(tool, 'w') as f:
            f.write('#!/bin/sh\n' + script)
        os.chmod(tool, 0o755)
        p = m('doctor', '--json', '--spool', spool, '--log', m.log, env={'PATH': f'{m.dir}/bin:' + os.environ['PATH']})
        return {l['check']: l for l in map(json.loads, p.stdout.splitlines())}['service']
    timer = 'Id=quotemill-collect.timer\nLoadState={}\nActiveState={}\nUnitFileState={}\nResult=success\n\nId=quotemill-collect.service\nLoadState=loaded\nActiveState={}\nUnitFileState=indirect\nResult={}\n'
    for said, state, words in ((timer.format('loaded', 'active', 'enabled', 'inactive', 'success'), 'pass', 'the timer runs'),
                               (timer.format('not-found', 'inactive', '', 'inactive', 'success'), 'warn', 'no quotemill-collect.timer'),
                               (timer.format('loaded', 'inactive', 'disabled', 'inactive', 'success'), 'fail', 'does not run'),
                               (timer.format('loaded', 'active', 'enabled', 'failed', 'exit-code'), 'fail', 'last call failed'),
                               (timer.format('loaded', 'active', 'disabled', 'inactive', 'success'), 'warn', 'after the next boot'),
                               ('x' * 100000, 'warn', 'does not answer'), ('', 'fail', 'does not run')):
        got = doctor(f"cat <<'EOF'\n{said}EOF\n")
        check((got['state'], words in got['text']) == (state, True), f'doctor: {words}', got)
    got = doctor('echo "System has not been booted with systemd" >&2; exit 1')
    check(got['state'] == 'warn', 'doctor: no systemd', got)
    m.close()


def pages(folder):
    "what the pages tell people to type is there: commands and options of both programs"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    helps = {}

    def help_of(program, command):
        if (program, command) not in helps:
            helps[program, command] = subprocess.run([COLLECT if program == 'quotemill-collect' else QUOTEMILL, command, '--help'], capture_output=True).stdout.decode()
        return helps[program, command]
    typed = 0
    for page in ('docs/first-machine.md', 'README.md', 'docs/quotemill-collect.1'):
        for line in open(f'{root}/{page}').read().splitlines():
            line = re.sub(r'\s+#.*', '', re.sub(r'\\-', '-', line))
            for call in re.finditer(r'(?<![\w/.-])(quotemill(?:-collect)?) ([a-z]+)((?: [^|>;`(]*)?)', line):
                program, command, rest = call.groups()
                if page == 'README.md' and program == 'quotemill':
                    continue  # the verifier's own tests
                if not (page.endswith('.1') or line.startswith('    ') or '`' + call.group()[:14] in line):
                    continue
                shown = help_of(program, command)
                typed += 1
                options = re.findall(r'--([a-z][a-z0-9-]*)', rest)
                check(shown.startswith('Usage:') and all(f'--{o} ' in shown or f'--{o}\n' in shown for o in options), f'{page}: {call.group().strip()}', line)
    check(typed > 30, f'{typed} calls on the pages')
    # the man page and the help name the same options
    page = open(f'{root}/docs/quotemill-collect.1').read()
    for command in ('init', 'propose', 'activate', 'certificate', 'once', 'doctor'):
        for o in re.findall(r'^ +(?:-\w, )?--([a-z-]+)', help_of('quotemill-collect', command), re.M):
            check(o in ('help', 'verbose') or f'-{o}' in page, f'the man page has --{o} of {command}')


def cost(folder):
    "a call costs little beside the TPM's own time, little memory, and gives back all of it"
    m = Machine(folder, 'cost')
    spool = f'{folder}/spool'
    os.mkdir(spool)
    m.init()
    walls, cpus = [], []
    proxy = Proxy(m.tpm)
    # A machine that does other things lets a call wait for its turn, and adds nothing where that is over: the quickest says what a call is.
    while len(walls) < 15 or min(walls) >= 0.1 and len(walls) < 300 and not SANITIZED:
        proxy.tpm_seconds = 0
        since = time.monotonic()
        p = subprocess.Popen([COLLECT, 'once', '--state', m.state, '--tcti', proxy.tcti, '--log', m.log, '--spool', spool])
        _, code, use = os.wait4(p.pid, 0)
        walls.append(time.monotonic() - since - proxy.tpm_seconds)
        cpus.append(use.ru_utime + use.ru_stime)
        check(code == 0, 'measured') if code else None
    proxy.close()
    wall, cpu = min(walls), statistics.median(cpus)
    print(f'     once, {len(walls)} calls: {1000 * wall:.1f} ms beside the TPM (median {1000 * statistics.median(walls):.1f}), {1000 * cpu:.1f} ms of CPU; '
          f'load {os.getloadavg()[0]:.1f}')
    if SANITIZED:
        print('     left out: bounds on time and memory, which sanitizers break')
    else:
        check(wall < 0.1, 'under 100 ms beside the TPM', wall)
        check(cpu < 0.1, 'and of CPU', cpu)
    # Memory of a thousand calls in one process.
    for n in os.listdir(spool):
        os.unlink(f'{spool}/{n}')
    p = subprocess.run([DRIVER, '1000', '--state', m.state, '--tcti', m.tcti, '--log', m.log, '--spool', spool], capture_output=True)
    lines = [tuple(map(int, l.split())) for l in p.stdout.splitlines()]
    print('     1,000 rounds in one process: ' + '; '.join(f'after {r}: {k} KiB resident, {top} at most, {h} of heap in use, {d} descriptors' for r, k, top, h, d in lines))
    check(p.returncode == 0 and len(lines) == 3 and len(os.listdir(spool)) == 1000, 'a thousand rounds deliver a thousand records', text(p)[-300:])
    if len(lines) == 3 and not SANITIZED:
        check(lines[0][2] < 16 << 10 and lines[2][2] < 16 << 10, 'under 16 MiB resident', lines)
        check(lines[2][1] - lines[1][1] < 256 and lines[2][3] - lines[1][3] < 32 and lines[2][4] == lines[0][4], 'nothing is kept from round to round', lines)
    with open(f'{m.dir}/longest', 'wb') as f:
        f.write(LOG[0] + b'\xff' * ((4 << 20) - len(LOG[0])))
    p = subprocess.run([DRIVER, '1', '--state', m.state, '--tcti', m.tcti, '--log', f'{m.dir}/longest', '--spool', spool], capture_output=True)
    lines = [tuple(map(int, l.split())) for l in p.stdout.splitlines()]
    print(f'     one round with a log of 4 MiB: {lines[0][2] if lines else "?"} KiB resident at most')
    check(p.returncode == 0 and (SANITIZED or lines[0][2] < 16 << 10), 'under 16 MiB resident with the longest log', text(p), lines)
    with open(f'{m.dir}/longest', 'ab') as f:
        f.write(b'\xff')
    p = m.once(spool, '--log', f'{m.dir}/longest')
    check(p.returncode == 3 and 'longer than 4 MiB' in text(p), 'a log that is longer is an error', text(p))
    if shutil.which('valgrind') and not SANITIZED:
        q = subprocess.run(['valgrind', '-q', '--leak-check=full', '--errors-for-leak-kinds=definite,indirect,possible', '--error-exitcode=99', COLLECT, 'once', '--state',
                            m.state, '--tcti', m.tcti, '--log', m.log, '--spool', spool], capture_output=True)
        check(q.returncode == 0 and q.stderr == b'', 'valgrind finds nothing lost in a call', q.returncode, q.stderr.decode()[-2000:])
    else:
        print('left out: valgrind')
    m.close()


CASES = [keys, credentials, ceremony, platform, makers, story, broken, fleet, queue, freshness, no_files, doctor, passwords, states, service, pages, cost]


def main():
    global QUOTEMILL, COLLECT, DRIVER, SANITIZED, LOG
    missing = [t for t in ('swtpm', 'swtpm_setup', 'tpm2_pcrextend') if shutil.which(t) is None]
    if missing:
        print('skipped: not installed: ' + ', '.join(missing))
        return 77
    QUOTEMILL, COLLECT, DRIVER = map(os.path.abspath, sys.argv[1:4])
    SANITIZED = b'__asan_init' in open(COLLECT, 'rb').read()
    for name in [n for n in os.environ if n.startswith('QUOTEMILL_')]:
        del os.environ[name]  # what is asked of the programs stands here
    os.umask(0o022)
    folder = tempfile.mkdtemp(prefix='collect_test.')
    try:
        LOG = swtpm_test.field_log(QUOTEMILL, folder)
        for case in CASES:
            if len(sys.argv) > 4 and case.__name__ not in sys.argv[4:]:
                continue
            print(f'{case.__name__}: {case.__doc__}')
            os.mkdir(f'{folder}/case-{case.__name__}')
            case(f'{folder}/case-{case.__name__}')
    finally:
        for proc in Machine.procs:
            proc.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return failures != 0


if __name__ == '__main__':
    sys.exit(main())
