#!/usr/bin/env python3
"""A real TPM end to end: swtpm and tpm2-tools make attestation keys, extend PCRs from a generated log, and quote; quotemill enrols
the TPM2B_PUBLIC and verifies; then one more extend, and the same machine must fail at that stage.

    swtpm_test.py QUOTEMILL

Talks to a TPM simulator on the loopback interface only. Exit 77 with one line where swtpm or tpm2-tools are missing."""
import base64, json, os, random, shutil, socket, subprocess, sys, tempfile, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gen_check

failures = 0
NO_ACTION = 3
PCRS = list(range(10))
# name: tpm2_createek -G, tpm2_createak -G, hash, scheme
KEYS = {'rsa2048': ('rsa', 'rsa', 'sha256', 'rsassa'), 'rsapss2048': ('rsa', 'rsa', 'sha256', 'rsapss'),
        'p256': ('ecc', 'ecc', 'sha256', 'ecdsa'), 'p384': ('ecc', 'ecc384', 'sha384', 'ecdsa')}


def check(good, what):
    global failures
    print('ok  ' if good else 'FAIL', what)
    failures += not good


def pack(v):
    "msgpack of what a record holds"
    if isinstance(v, int):
        return bytes([v]) if v < 128 else b'\xcf' + v.to_bytes(8, 'big')
    if isinstance(v, str):
        b = v.encode()
        return b'\xd9' + bytes([len(b)]) + b
    if isinstance(v, bytes):
        return b'\xc6' + len(v).to_bytes(4, 'big') + v
    return b'\xde' + len(v).to_bytes(2, 'big') + b''.join(pack(k) + pack(x) for k, x in v.items())


class Tpm:
    """A simulator. That of another test may have, or take at any moment, a port that was chosen: the control channel is a socket that is
    bound here and handed over, so what answers on it is ours, and it answers only once the simulator has the port of commands beside it."""
    def __init__(self, folder):
        self.dir = folder
        os.makedirs(f'{folder}/state', exist_ok=True)
        for _ in range(50):
            port = random.randrange(20000, 32000)  # below those that the kernel gives to connections
            with socket.socket() as control:
                try:
                    control.bind(('127.0.0.1', port + 1))
                except OSError:
                    continue
                control.listen()
                self.proc = subprocess.Popen(
                    ['swtpm', 'socket', '--tpm2', '--tpmstate', f'dir={folder}/state', '--server', f'type=tcp,port={port},bindaddr=127.0.0.1',
                     '--ctrl', f'type=tcp,fd={control.fileno()}', '--flags', 'not-need-init,startup-clear'],
                    pass_fds=[control.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                asks = socket.create_connection(('127.0.0.1', port + 1), 60)
            with asks:  # its socket is closed here: if it ends without an answer, the connection does
                try:
                    asks.sendall((1).to_bytes(4, 'big'))  # CMD_GET_CAPABILITY
                    answers = asks.recv(4) != b''
                except OSError:
                    answers = False
            if answers:
                self.env = {**os.environ, 'TPM2TOOLS_TCTI': f'swtpm:host=127.0.0.1,port={port}'}
                return
            self.proc.kill()
            self.proc.wait()
        raise SystemExit('FAIL swtpm did not start')

    def __call__(self, *args):
        p = subprocess.run(args, cwd=self.dir, env=self.env, capture_output=True)
        if p.returncode != 0:
            raise SystemExit(f'FAIL {" ".join(args)}: {p.stderr.decode(errors="replace")[-500:]}')
        return p.stdout

    def make_key(self, name):
        ek, kind, digest, scheme = KEYS[name]
        self('tpm2_createek', '-Q', '-c', 'ek.ctx', '-G', ek, '-u', 'ek.pub')
        self('tpm2_createak', '-Q', '-C', 'ek.ctx', '-c', f'{name}.ctx', '-G', kind, '-g', digest, '-s', scheme, '-u', f'{name}.pub',
             '-f', 'tss', '-n', 'ak.name')
        self('tpm2_flushcontext', '-t')
        return open(f'{self.dir}/{name}.pub', 'rb').read()

    def extend(self, pairs):
        for i in range(0, len(pairs), 16):
            self('tpm2_pcrextend', *(f'{pcr}:sha256={digest}' for pcr, digest in pairs[i:i + 16]))

    def values(self):
        self('tpm2_pcrread', '-Q', '-o', 'pcrs.raw', 'sha256:' + ','.join(map(str, PCRS)))
        raw = open(f'{self.dir}/pcrs.raw', 'rb').read()
        return {p: raw[32 * i:32 * i + 32] for i, p in enumerate(PCRS)}

    def quote(self, name, nonce):
        digest, scheme = KEYS[name][2:]
        self('tpm2_quote', '-Q', '-c', f'{name}.ctx', '-l', 'sha256:' + ','.join(map(str, PCRS)), '-q', nonce.hex(), '-m', 'q.msg', '-s',
             'q.sig', '-g', digest, '--scheme=' + scheme)
        self('tpm2_flushcontext', '-t')
        return open(f'{self.dir}/q.msg', 'rb').read(), open(f'{self.dir}/q.sig', 'rb').read()


def field_log(quotemill, folder):
    "a generated log whose PCR 0 starts at zero, and what quotemill says of it"
    subprocess.run([quotemill, 'gen', '--instances', '16', '--key', 'p256', '--out', f'{folder}/fleet'], check=True, capture_output=True)
    for root, _, files in os.walk(f'{folder}/fleet/spool-1'):
        for f in files:
            b = open(os.path.join(root, f), 'rb').read()
            o = 0
            while o < len(b):
                record, o = gen_check.unpack(b, o)
                log = record['log']
                if b'StartupLocality' in log:
                    continue
                p = subprocess.run([quotemill, 'log', '--json', '-'], input=log, capture_output=True, check=True)
                return log, json.loads(p.stdout)
    raise SystemExit('FAIL gen made no log without StartupLocality')


def verify(quotemill, home, records):
    spool = tempfile.mkdtemp(dir=home)
    for name, r in records.items():
        with open(f'{spool}/{name}.mpk', 'wb') as f:
            f.write(pack(r))
    p = subprocess.run([quotemill, 'verify', '--home', home, '--json', '--stages', spool], capture_output=True)
    lines = [json.loads(l) for l in p.stdout.splitlines()]
    return p.returncode, {l['id']: l for l in lines if l['kind'] == 'status'}


def run(quotemill, folder):
    log, decoded = field_log(quotemill, folder)
    expected = decoded['pcrs']['sha256']
    tpm = Tpm(folder)
    try:
        tpm.extend([(e['pcr'], e['digests']['sha256']) for e in decoded['events'] if e['type'] != NO_ACTION and e['pcr'] < 24])
        values = tpm.values()
        check(all(values[p].hex() == expected.get(str(p), '00' * 32) for p in PCRS), "the TPM's PCRs are what the log replays to")
        home, nonce = f'{folder}/home', os.urandom(32)
        subprocess.run([quotemill, 'init', '--home', home], check=True, capture_output=True)
        lines = []
        for name in KEYS:
            ak = tpm.make_key(name)
            line = {'id': name, 'ak': base64.b64encode(ak).decode(), 'nonce': nonce.hex(), 'require_log': True}
            lines.append({**line, 'baseline': {str(p): values[p].hex() for p in PCRS}})
            lines.append({**line, 'id': name + '-new', 'ak': base64.b64encode(ak[2:]).decode()})
        with open(f'{folder}/enroll.ndjson', 'w') as f:
            f.writelines(json.dumps(l) + '\n' for l in lines)
        p = subprocess.run([quotemill, 'enroll', '--home', home, f'{folder}/enroll.ndjson'], capture_output=True)
        check(p.returncode == 0, f'enrolled {len(lines)} instances ' + p.stderr.decode().splitlines()[-1] if p.returncode else f'enrolled {len(lines)} instances')

        def evidence(pcrs):
            out = {}
            for name in KEYS:
                msg, sig = tpm.quote(name, nonce)
                for i in (name, name + '-new'):
                    out[i] = {'v': 1, 'id': i, 'quote': msg, 'sig': sig, 'log': log, 't': int(time.time() * 1000), 'agent': 'swtpm_test'}
                    if pcrs is not None:
                        out[i]['pcrs'] = {11: pcrs}
            return out

        code, got = verify(quotemill, home, evidence(None))
        check(code == 0, f'a good round ends with 0 (got {code})')
        for name in KEYS:
            r = got.get(name, {})
            check((r.get('status'), r.get('reason'), r.get('log')) == ('trusted', 'ok', 'replayed'), f'{name}: trusted, log replayed ({r.get("status")}/{r.get("reason")}/{r.get("log")})')
            check([s['state'] for s in r.get('stages', [])] == ['pass'] * 10, f'{name}: ten stages pass')
            r = got.get(name + '-new', {})
            check((r.get('status'), r.get('reason')) == ('new', 'no_baseline'), f'{name} without a baseline: new ({r.get("status")}/{r.get("reason")})')
            check([s.get('measured') for s in r.get('stages', [])] == [values[p].hex() for p in PCRS], f'{name}: proven values shown')

        tpm.extend([(8, '11' * 32)])
        values = tpm.values()
        code, got = verify(quotemill, home, evidence(values))
        check(code == 1, f'after one more extend the run ends with 1 (got {code})')
        for name in KEYS:
            r = got.get(name, {})
            check((r.get('status'), r.get('reason'), r.get('log'), r.get('first_fail')) == ('untrusted', 'pcr_mismatch', 'inconsistent', 8),
                  f'{name}: pcr_mismatch at PCR 8 ({r.get("status")}/{r.get("reason")}/{r.get("log")}/{r.get("first_fail")})')
            stage = {s['pcr']: s for s in r.get('stages', [])}
            check(stage.get(8, {}).get('state') == 'fail' and stage.get(8, {}).get('measured') == values[8].hex() and
                  stage.get(9, {}).get('state') == 'not_reached', f'{name}: stage 8 fails with its value, 9 is not reached')
        # the same quotes under another machine's key, and for another nonce
        swapped = evidence(values)
        swapped['rsa2048']['quote'], swapped['rsa2048']['sig'] = swapped['rsapss2048']['quote'], swapped['rsapss2048']['sig']
        msg, sig = tpm.quote('p256', b'another nonce')
        swapped['p256'].update(quote=msg, sig=sig)
        code, got = verify(quotemill, home, swapped)
        check(got['rsa2048']['reason'] == 'bad_signature', "another machine's quote: bad_signature")
        check(got['p256']['reason'] == 'stale_nonce', 'another nonce: stale_nonce')
    finally:
        tpm.proc.kill()


def main():
    missing = [t for t in ('swtpm', 'tpm2_createak', 'tpm2_quote', 'tpm2_pcrextend') if shutil.which(t) is None]
    if missing:
        print('skipped: not installed: ' + ', '.join(missing))
        return 77
    folder = tempfile.mkdtemp(prefix='swtpm_test.')
    try:
        run(os.path.abspath(sys.argv[1]), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return failures != 0


if __name__ == '__main__':
    sys.exit(main())
