#!/usr/bin/env python3
"""The enrolment ceremony against TPM simulators with certificates of a local CA: what is taken, and everything that is refused.

    ceremony_test.py QUOTEMILL [NAME...]

The machine's side is tpm2-tools, so nothing of ours takes part in it. swtpm_setup makes the TPMs' state and certificates; certificates
that no honest CA would write are made with openssl. Exit 77 with one line where something is not installed."""
import base64, fcntl, glob, hashlib, hmac, json, os, shutil, sqlite3, stat, struct, subprocess, sys, tempfile, termios, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import swtpm_test
from swtpm_test import Tpm, check, pack

NEEDED = ('swtpm', 'swtpm_setup', 'swtpm_localca', 'tpm2_createek', 'tpm2_createak', 'tpm2_activatecredential', 'openssl')
EK = {'rsa': ('rsa', '0x1c00002'), 'p256': ('ecc', None), 'p384': ('ecc384', '0x1c00016')}
b64 = lambda b: base64.b64encode(b).decode()


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def write(path, data):
    with open(path, 'wb') as f:
        f.write(data if isinstance(data, bytes) else data.encode())
    return path


def tool(*args, **more):
    p = subprocess.run(args, capture_output=True, **more)
    if p.returncode != 0:
        raise SystemExit(f'FAIL {" ".join(args)}: {(p.stderr + p.stdout).decode(errors="replace")[-800:]}')
    return p.stdout


class Authority:
    """swtpm's local CA in a directory of its own."""
    def __init__(self, folder):
        self.dir = folder
        os.makedirs(folder)
        write(f'{folder}/localca.conf', f'statedir = {folder}\nsigningkey = {folder}/signkey.pem\nissuercert = {folder}/issuer.pem\n'
              f'certserial = {folder}/serial\n')
        write(f'{folder}/options', '--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n')
        write(f'{folder}/setup.conf', f'create_certs_tool = {shutil.which("swtpm_localca")}\ncreate_certs_tool_config = {folder}/localca.conf\n'
              f'create_certs_tool_options = {folder}/options\nactive_pcr_banks = sha256\n')

    @property
    def root(self):
        return f'{self.dir}/swtpm-localca-rootca-cert.pem'

    @property
    def given(self):
        return ['--ca', self.root, '--ca', f'{self.dir}/issuer.pem']

    def certify(self, ek, vmid, folder):
        """a certificate for an EK that swtpm_setup does not make one for"""
        os.makedirs(folder)
        tool('swtpm_localca', '--type', 'ek', '--ek', ek, '--dir', folder, '--vmid', vmid, '--tpm-spec-family', '2.0', '--tpm-spec-level',
             '0', '--tpm-spec-revision', '164', '--tpm-manufacturer', 'id:00001014', '--tpm-model', 'swtpm', '--tpm-version', 'id:20191023',
             '--tpm2', '--configfile', f'{self.dir}/localca.conf', '--optsfile', f'{self.dir}/options')
        return read(f'{folder}/ek.cert')


class Machine(Tpm):
    def __init__(self, folder, ca, vmid):
        os.makedirs(f'{folder}/state')
        tool('swtpm_setup', '--tpm2', '--tpmstate', f'{folder}/state', '--create-ek-cert', '--config', f'{ca.dir}/setup.conf', '--vmid', vmid)
        self.vmid, self.ca, self.made = vmid, ca, {}
        super().__init__(folder)
        for slot in self('tpm2_getcap', 'handles-persistent').decode().split():
            if slot.startswith('0x'):
                self('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', slot)

    def ek(self, kind):
        """makes the EK's context; gives TPM2B_PUBLIC and certificate"""
        if kind not in self.made:
            alg, index = EK[kind]
            self('tpm2_createek', '-Q', '-c', f'{kind}.ek', '-G', alg, '-u', f'{kind}.ekpub')
            public = read(f'{self.dir}/{kind}.ekpub')
            if index is not None:
                self('tpm2_nvread', '-Q', index, '-o', f'{kind}.nv')
                cert = read(f'{self.dir}/{kind}.nv')
            else:
                x, y = public[-66:-34].hex(), public[-32:].hex()
                cert = self.ca.certify(f'x={x},y={y},id=secp256r1', self.vmid, f'{self.dir}/{kind}.cert')
            self('tpm2_flushcontext', '-t')
            self.made[kind] = public, cert
        return self.made[kind]

    def fingerprint(self, kind):
        self.ek(kind)
        self('tpm2_readpublic', '-Q', '-c', f'{kind}.ek', '-f', 'der', '-o', 'ek.der')
        self('tpm2_flushcontext', '-t')
        return hashlib.sha256(read(f'{self.dir}/ek.der')).hexdigest()

    def ak(self, name, kind='rsa', alg='rsa', digest='sha256', scheme='rsassa'):
        self.ek(kind)
        self('tpm2_createak', '-Q', '-C', f'{kind}.ek', '-c', f'{name}.ctx', '-G', alg, '-g', digest, '-s', scheme, '-u', f'{name}.akpub', '-f',
             'tss', '-n', f'{name}.akname')
        self('tpm2_flushcontext', '-t')
        return read(f'{self.dir}/{name}.akpub')

    def proposal(self, id, ak, kind='rsa', **more):
        public, cert = self.ek(kind)
        line = {'v': 1, 'kind': 'proposal', 'id': id, 'ak': b64(ak), 'scheme': 'rsassa-sha256', 'ek': b64(public), 'ek_cert': [b64(cert)],
                # what a machine would like to be asked for, and is not
                'select': [{'bank': 'sha256', 'pcrs': [23]}], 'baselined': [0], 'group': 'its own', 'tags': {'a': 'b'}, **more}
        return {k: v for k, v in line.items() if v is not None}

    def credential(self, challenge, name, kind='rsa', policy=False):
        """TPM2_ActivateCredential; None where the TPM refuses. policy: the AK is used by a session of an empty policy"""
        write(f'{self.dir}/cred.in', bytes.fromhex('badcc0de00000001') + base64.b64decode(challenge['blob']) + base64.b64decode(challenge['secret']))
        auth = []
        if kind != 'p384':  # the high range lets the EK's empty auth do
            self('tpm2_startauthsession', '--policy-session', '-S', 'session')
            self('tpm2_policysecret', '-Q', '-S', 'session', '-c', 'e')
            auth = ['-P', 'session:session']
        if policy:
            self('tpm2_startauthsession', '--policy-session', '-S', 'empty')
            auth += ['-p', 'session:empty']
        p = subprocess.run(['tpm2_activatecredential', '-Q', '-c', f'{name}.ctx', '-C', f'{kind}.ek', '-i', 'cred.in', '-o', 'cred.out'] + auth,
                           cwd=self.dir, env=self.env, capture_output=True)
        if auth:
            self('tpm2_flushcontext', 'session')
        if policy:
            self('tpm2_flushcontext', 'empty')
        self.why = p.stderr.decode()
        self('tpm2_flushcontext', '-t')
        return read(f'{self.dir}/cred.out') if p.returncode == 0 else None

    def answer(self, challenge, name, kind='rsa'):
        return proof_line(challenge, self.credential(challenge, name, kind))


def proof_line(challenge, credential):
    text = b'quotemill-answer-v1' + bytes.fromhex(challenge['challenge']) + challenge['id'].encode()
    return {'v': 1, 'kind': 'answer', 'challenge': challenge['challenge'], 'id': challenge['id'],
            'proof': hmac.new(credential, text, hashlib.sha256).hexdigest()}


class Home:
    count = 0

    def __init__(self, lab):
        Home.count += 1
        self.lab, self.path, self.said = lab, f'{lab.folder}/home-{Home.count}', []
        self('init')

    def __call__(self, *args, lines=None, text=None, code=0):
        if lines is not None:
            text = ''.join(json.dumps(l) + '\n' for l in lines)
        p = subprocess.run([self.lab.quotemill, args[0], '--home', self.path, *args[1:]], input=text.encode() if isinstance(text, str) else text,
                           capture_output=True)
        said = p.stderr.decode()
        self.said.append(said)
        if args[0] == 'enroll':
            self.err = said
        if p.returncode != code:
            check(False, f'{" ".join(args)[:200]} ended with {p.returncode}, not {code}: {said[-300:]}')
        return p.stdout

    def challenges(self, *proposals, given=None, args=(), code=0):
        out = self('enroll', '--challenge', '-', *(self.lab.ca.given if given is None else given), *args, lines=proposals, code=code)
        return [json.loads(l) for l in out.splitlines()]

    def refused(self, why, proposal, what, given=None, args=()):
        got = self.challenges(proposal, given=given, args=args, code=1)
        check(not got and why in self.err, f'{what}: {self.err.splitlines()[0].split("refused: ")[-1] if self.err else "nothing said"}')

    def answer_refused(self, why, answer, what, args=()):
        self('enroll', '--answer', '-', *args, lines=[answer], code=1)
        check(why in self.err, f'{what}: {self.err.splitlines()[0].split("refused: ")[-1]}')

    def counts(self, *args, lines=None, code=0):
        return json.loads(self('enroll', '--json', *args, lines=lines, code=code).splitlines()[-1])

    def status(self, id):
        return json.loads(self('status', '--json', id).splitlines()[0])

    def conflicts(self):
        return [a for a in map(json.loads, self('alerts', 'list', '--json').splitlines()) if a['alert'] == 'key_conflict']

    def enrolled(self):
        return json.loads(self('status', '--json').splitlines()[-1])['instances']


class Lab:
    def __init__(self, quotemill, folder):
        self.quotemill, self.folder, self.machines = quotemill, folder, {}
        self.ca = Authority(f'{folder}/ca')

    def machine(self, vmid, ca=None):
        if vmid not in self.machines:
            self.machines[vmid] = Machine(f'{self.folder}/{vmid}', ca or self.ca, vmid)
        return self.machines[vmid]

    def close(self):
        for m in self.machines.values():
            m.proc.kill()
            m.proc.wait()


# ---- what is taken ----

def every_ek(lab):
    home, m = Home(lab), lab.machine('web-1')
    for kind, alg, digest, scheme in (('rsa', 'rsa', 'sha256', 'rsassa'), ('p256', 'ecc', 'sha256', 'ecdsa'), ('p384', 'ecc384', 'sha384', 'ecdsa')):
        home = Home(lab)
        ak = m.ak('every', kind, alg, digest, scheme)
        c, = home.challenges(m.proposal('web-1', ak, kind, scheme=f'{scheme}-{digest}'), args=('--group', 'web', '--tag', 'rack=7', '--tag', 'a=c'))
        check(c['ak_name'] == read(f'{m.dir}/every.akname').hex(), f'{kind}: the Name of the AK is the TPM\'s')
        check(c['expires'] > time.time() * 1000 + 23 * 3600e3, f'{kind}: a challenge lives for a day')
        got = home.counts('--answer', '-', lines=[m.answer(c, 'every', kind)])
        check((got['new'], got['pending'], got['refused']) == (1, 0, 0), f'{kind}: enrolled at once, as the certificate names the instance')
        s = home.status('web-1')
        e = s['enrolment']
        check((e['how'], e['ek'], e['bound']) == ('credential', m.fingerprint(kind), 'subject'), f'{kind}: {e}')
        check(s['group'] == 'web' and s['tags'] == {'rack': '7', 'a': 'c'}, f'{kind}: group and tags are the operator\'s')
        check([x['pcr'] for x in s['stages']] == list(range(10)), f'{kind}: what is compared is not the machine\'s to say')
        check(f'EK {e["ek"]}' in home('status', 'web-1').decode(), f'{kind}: status shows the EK')


def evidence(lab):
    """the enrolled key is the one that signs"""
    home, m = Home(lab), lab.machine('web-1')
    ak = m.ak('rsa2048')
    c, = home.challenges(m.proposal('web-1', ak))
    home('enroll', '--answer', '-', lines=[m.answer(c, 'rsa2048')])
    msg, sig = m.quote('rsa2048', b'any')
    values = m.values()
    write(f'{home.path}/spool/a.mpk', pack({'v': 1, 'id': 'web-1', 'quote': msg, 'sig': sig, 'pcrs': {11: values}}))
    home('run')
    check(home.status('web-1')['last_valid'] is not None, 'evidence of the proven key is authentic')


def pending(lab):
    home, m = Home(lab), lab.machine('web-1')
    c, = home.challenges(m.proposal('db-1', m.ak('db')))
    a = m.answer(c, 'db')
    got = home.counts('--answer', '-', lines=[a])
    check((got['new'], got['pending']) == (0, 1), 'whose the EK is nobody said: pending')
    check(home.enrolled() == 0, 'nothing is enrolled')
    waits = [json.loads(l) for l in home('enroll', '--pending', '--json').splitlines()]
    check([(w['id'], w['ek']) for w in waits] == [('db-1', m.fingerprint('rsa'))], 'it is listed with its EK')
    check('db-1' in home('enroll', '--pending').decode(), 'for people too')
    check(json.loads(home('status', '--json').splitlines()[-1])['enrolments_pending'] == 1 and b'--confirm: 1' in home('status'), 'status counts it')
    home.answer_refused('answered before', a, 'the same answer again')
    home('enroll', '--confirm', 'db-2', code=1)
    check('nothing waits' in home.err, 'confirming an id that nobody answered for')
    got = home.counts('--confirm', 'db-1', '--reason', 'seen in the rack')
    check(got['new'] == 1, 'a person confirms')
    e = home.status('db-1')['enrolment']
    check(e['bound'] == 'confirmed' and [n['why'] for n in e['history']] == ['seen in the rack'], 'and it is kept that a person did, and why')
    check(json.loads(home('status', '--json').splitlines()[-1])['enrolments_pending'] == 0, 'nothing waits any more')
    home('enroll', '--confirm', 'db-1', code=1)
    check('nothing waits' in home.err, 'once')
    home.answer_refused('answered before', a, 'the answer of a challenge that was used')


def two_claim_one_id(lab):
    home, m, n = Home(lab), lab.machine('web-1'), lab.machine('web-2')
    answers = []
    for x in (m, n):
        c, = home.challenges(x.proposal('new-1', x.ak('two')))
        answers.append(x.answer(c, 'two'))
    home('enroll', '--answer', '-', lines=answers)
    home('enroll', '--confirm', 'new-1', code=1)
    check('2 answers wait' in home.err and home.enrolled() == 0, 'two TPMs under one id: which is meant has to be said')
    home('enroll', '--confirm', 'new-1', '--ek', 'ff' * 32, code=1)
    check(home.counts('--confirm', 'new-1', '--ek', n.fingerprint('rsa')[:16])['new'] == 1, '--ek says which')
    check(home.status('new-1')['enrolment']['ek'] == n.fingerprint('rsa'), 'and that one it is')
    home('enroll', '--confirm', 'new-1', code=1)
    check('another AK' in home.err and len(home.conflicts()) == 1, 'the other one is refused now, and an alert says so')


def rejected(lab):
    home, m, n = Home(lab), lab.machine('web-1'), lab.machine('web-2')
    waiting = lambda: [(w['id'], w['ek']) for w in map(json.loads, home('enroll', '--pending', '--json').splitlines())]
    answers = []
    for x, id in ((m, 'db-1'), (n, 'db-1'), (m, 'db-2')):
        c, = home.challenges(x.proposal(id, x.ak('rejected')))
        answers.append(x.answer(c, 'rejected'))
    home('enroll', '--answer', '-', lines=answers)
    home('enroll', '--reject', 'db-1', code=1)
    check('2 answers wait' in home.err and len(waiting()) == 3, 'two TPMs under one id: which is meant has to be said')
    got = home.counts('--reject', 'db-1', '--ek', m.fingerprint('rsa')[:8], '--reason', 'not\u202e in the rack')
    check((got['rejected'], got['refused'], got.get('new')) == (1, 0, None), f'a person rejects: {got}')
    check(waiting() == [('db-1', n.fingerprint('rsa')), ('db-2', m.fingerprint('rsa'))], 'that one waits no longer, the others do')
    home.answer_refused('that was rejected', answers[0], 'its answer again')
    home('enroll', '--confirm', 'db-1', '--ek', m.fingerprint('rsa'), code=1)
    check('any more: it was rejected by' in home.err, f'it cannot be confirmed: {home.err.splitlines()[0]}')
    home('enroll', '--reject', 'db-1', '--ek', m.fingerprint('rsa'), code=1)
    check('any more: it was rejected by' in home.err, 'nor rejected again')
    home('enroll', '--reject', 'nobody', code=1)
    check('nothing waits under this id\n' in home.err, 'an id that nobody answered for')
    check(home.counts('--confirm', 'db-1')['new'] == 1, 'the other TPM\'s can be confirmed')
    note, = home.status('db-1')['enrolment']['history']
    check((note['what'], note['why']) == ('answer rejected', f'EK {m.fingerprint("rsa")}: not\u202e in the rack') and note['who'], f'the history has which, who and why: {note}')
    check(b'answer rejected' in (shown := home('status', 'db-1')) and '\u202e'.encode() not in shown, 'for people too')
    got = home.counts('--reject', 'db-2', '--reason', 'whose?')
    check(got['rejected'] == 1 and waiting() == [], 'nothing waits any more')
    home('status', 'db-2', code=2)
    check('under this id was rejected' in home.said[-1] and 'whose?' in home.said[-1], f'an id that nobody has says so, too: {home.said[-1].strip()}')
    home('enroll', '--reject', 'db-2', '--allow-weaker', code=2)
    # it was an answer that was rejected, and no machine
    c, = home.challenges(m.proposal('db-2', m.ak('rejected')))
    check(home.counts('--answer', '-', lines=[m.answer(c, 'rejected')])['pending'] == 1 and waiting() == [('db-2', m.fingerprint('rsa'))], 'by a new challenge it can ask again')
    check(home.counts('--confirm', 'db-2')['new'] == 1, 'and be confirmed')


def operator_list(lab):
    m, n = lab.machine('web-1'), lab.machine('web-2')
    for name, lines, why in (('good', [f'db-1 {m.fingerprint("rsa")}'], None), ('otherek', [f'db-1 {n.fingerprint("rsa")}'], 'not the one that --expect-ek'),
                             ('otherid', [f'db-2 {m.fingerprint("rsa")}'], 'for another id'), ('silent', ['# nobody', '', f'x y  {"0" * 64}  '], '')):
        path = write(f'{lab.folder}/{name}.list', '\n'.join(lines) + '\n')
        home, p = Home(lab), m.proposal('db-1', m.ak('list'))
        if why:
            home.refused(why, p, f'--expect-ek {name}, when it proposes', args=('--expect-ek', path))
            c, = home.challenges(p)
            home.answer_refused(why, m.answer(c, 'list'), f'--expect-ek {name}, when it answers', args=('--expect-ek', path))
            check(home.enrolled() == 0, 'nothing is enrolled')
            continue
        c, = home.challenges(p, args=('--expect-ek', path))
        got = home.counts('--answer', '-', lines=[m.answer(c, 'list')])
        check((got['new'], got['pending']) == ((1, 0) if why is None else (0, 1)), f'--expect-ek {name}: {got}')
    # the list alone, for TPMs that have no certificate
    good, silent = f'{lab.folder}/good.list', f'{lab.folder}/silent.list'
    home, p = Home(lab), m.proposal('db-1', m.ak('list'), ek_cert=None)
    home.refused('does not have the EK', p, 'a TPM without a certificate that is not listed', given=('--expect-ek', silent))
    home.refused('no certificate of the EK', p, 'likewise where a CA is given', args=('--expect-ek', silent))
    c, = home.challenges(p, given=('--expect-ek', good))
    check(home.counts('--answer', '-', lines=[m.answer(c, 'list')])['new'] == 1, 'a TPM without a certificate that is listed')
    home('retire', 'db-1', '--reason', 'stolen')
    for given in (['--expect-ek', good], [*lab.ca.given, '--expect-ek', good]):
        c, = home.challenges(m.proposal('db-1', m.ak('list')), given=given)
        home.answer_refused('does not have it any more', m.answer(c, 'list'), 'a machine that was taken off the list since', args=('--expect-ek', silent))
    check(home.enrolled() == 0, 'is not enrolled, nor waits: ' + home('enroll', '--pending').decode().strip())
    for name, text in (('short', 'db-1 abcd\n'), ('noid', '0' * 64 + '\n'), ('twice', f'a {"1" * 64}\na {"2" * 64}\n'), ('shared', f'a {"1" * 64}\nb {"1" * 64}\n')):
        home('enroll', '--challenge', '-', '--expect-ek', write(f'{lab.folder}/{name}.list', text), lines=[p], code=2)


def defaults(lab):
    m = lab.machine('web-1')
    lines = [{'select': [{'bank': 'sha256', 'pcrs': [0, 7]}]},
             {'group': 'web', 'select': [{'bank': 'sha1', 'pcrs': [0]}, {'bank': 'sha256', 'pcrs': [0, 4, 7]}], 'baselined': [4, 7], 'require_log': True,
              'tags': {'rack': '7', 'tier': 'front'}, 'note': 'a key that nobody knows'}]
    path = write(f'{lab.folder}/defaults', ''.join(json.dumps(l) + '\n\n' for l in lines))
    for group, pcrs, tags in ((None, [0, 7], {'tier': 'x'}), ('web', [4, 7], {'rack': '7', 'tier': 'x'})):
        home = Home(lab)
        p = m.proposal('web-1', m.ak('defaults'))
        c, = home.challenges(p, args=('--defaults', path, '--tag', 'tier=x') + (('--group', group) if group else ()))
        home('enroll', '--answer', '-', lines=[m.answer(c, 'defaults')])
        s = home.status('web-1')
        check((s['group'], [x['pcr'] for x in s['stages']], s['tags']) == (group, pcrs, tags), f'defaults of group {group}: {s["tags"]}')
    home = Home(lab)
    for what, args in (('a group that the file does not have', ('--defaults', path, '--group', 'db')),
                       ('a file that gives an id', ('--defaults', write(f'{lab.folder}/withid', '{"id":"x"}\n'))),
                       ('a scheme', ('--defaults', write(f'{lab.folder}/withscheme', '{"scheme":"rsassa-sha256"}\n'))),
                       ('an unknown bank', ('--defaults', write(f'{lab.folder}/unknown', '{"select":[{"bank":"md5","pcrs":[0]}]}\n'))),
                       ('two lines of one group', ('--defaults', write(f'{lab.folder}/double', '{}\n{}\n'))),
                       ('no JSON', ('--defaults', write(f'{lab.folder}/nojson', 'x\n')))):
        home('enroll', '--challenge', '-', *lab.ca.given, *args, lines=[p], code=2)
        check(home.enrolled() == 0, f'defaults: {what}')


# ---- what is refused ----

def keys_of_other_kinds(lab):
    home, m = Home(lab), lab.machine('web-1')
    m.ek('rsa')
    m('tpm2_createprimary', '-Q', '-C', 'o', '-c', 'owner.ctx')
    for name, attributes, why in (('unrestricted', 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign', 'not restricted'),
                                  ('decrypting', 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt', 'no signing key')):
        alg = 'rsa2048:aes128cfb' if name == 'decrypting' else 'rsa2048:rsassa-sha256:null'
        m('tpm2_create', '-Q', '-C', 'owner.ctx', '-G', alg, '-a', attributes, '-u', f'{name}.akpub', '-r', f'{name}.priv')
        m('tpm2_flushcontext', '-t')
        home.refused(why, m.proposal('web-1', read(f'{m.dir}/{name}.akpub')), f'an AK that is {name}')
    # made outside, and imported; then the same with attributes that lie
    tool('openssl', 'genrsa', '-out', f'{m.dir}/outside.pem', '2048')
    m('tpm2_import', '-Q', '-C', 'owner.ctx', '-G', 'rsa', '-i', 'outside.pem', '-u', 'outside.akpub', '-r', 'outside.priv', '-a',
      'sign|userwithauth')
    m('tpm2_load', '-Q', '-C', 'owner.ctx', '-u', 'outside.akpub', '-r', 'outside.priv', '-c', 'outside.ctx')
    m('tpm2_flushcontext', '-t')
    outside = read(f'{m.dir}/outside.akpub')
    home.refused('not fixedTPM', m.proposal('web-1', outside), 'an AK that was made outside the TPM')
    lying = outside[:6] + struct.pack('>I', 0x00050072) + outside[10:]
    c, = home.challenges(m.proposal('web-1', lying))
    check(m.credential(c, 'outside') is None, 'one that lies about it: no object of that Name is in the TPM, so nothing opens the credential')
    home.refused('scheme', m.proposal('web-1', m.ak('kinds'), scheme='ecdsa-sha256'), 'a scheme that is not the key\'s')
    home.refused('no whole TPM2B_PUBLIC', m.proposal('web-1', m.ak('kinds')[2:]), 'a TPMT_PUBLIC')
    check(home.enrolled() == 0, 'nothing is enrolled')


def other_ek(lab):
    """a credential opens with the EK that it was made for, and no other"""
    home, m, n = Home(lab), lab.machine('web-1'), lab.machine('web-2')
    n.ak('foreign')
    ak = m.ak('own')
    ek, cert = n.ek('rsa')
    c, = home.challenges({**m.proposal('web-2', ak), 'ek': b64(ek), 'ek_cert': [b64(cert)]})  # names web-2, whose EK is public
    check(m.credential(c, 'own') is None, 'another\'s EK: this TPM does not open it')
    n.ak('own')
    check(n.credential(c, 'foreign') is None, 'and the TPM that could has no such AK')
    home.refused('not the key of its certificate', {**m.proposal('web-2', ak), 'ek_cert': [b64(cert)]}, 'an EK with another\'s certificate')
    p = {**m.proposal('web-2', ak), 'ek': b64(ek)}
    home.refused('not the key of its certificate', p, 'a certificate with another\'s EK')


def challenges_misused(lab):
    home, m = Home(lab), lab.machine('web-1')
    p = m.proposal('web-1', m.ak('misused'))
    first, = home.challenges(p)
    c, = home.challenges(p)
    home.challenges({**p, 'ak': b64(lab.machine('web-2').ak('burglar'))})  # another's key, under an id and an EK that everybody knows
    a = m.answer(c, 'misused')
    home.answer_refused('no such challenge', m.answer(first, 'misused'), 'the answer to a challenge that was replaced')
    for what, changed in (('challenge', {'challenge': '00' * 16}), ('proof', {'proof': a['proof'][:-1] + '0123456789abcdef'[int(a['proof'][-1], 16) ^ 1]}),
                          ('id', {'id': 'web-2'}), ('proof cut', {'proof': a['proof'][:-2]}), ('kind', {'kind': 'challenge'}), ('version', {'v': 2})):
        home('enroll', '--answer', '-', lines=[{**a, **changed}], code=1)
        check('refused' in home.err and home.enrolled() == 0, f'an altered answer ({what}): {home.err.splitlines()[0].split("refused: ")[-1]}')
    altered = {**c, 'id': 'web-9'}
    home.answer_refused('does not answer', m.answer(altered, 'misused'), 'a challenge whose id was altered on the way')
    blob = bytearray(base64.b64decode(c['blob']))
    blob[-1] ^= 1
    check(m.credential({**c, 'blob': b64(bytes(blob))}, 'misused') is None, 'one whose blob was altered: the TPM says no')
    check(home.counts('--answer', '-', lines=[a])['new'] == 1, 'the right answer is taken all the same, whatever else was proposed')
    home.answer_refused('answered before', a, 'a second time')
    home = Home(lab)
    c, = home.challenges(p, args=('--expires', '1s'))
    a = m.answer(c, 'misused')
    time.sleep(1.1)
    home.answer_refused('has expired', a, 'an expired challenge')
    home('run')
    home.answer_refused('no such challenge', a, 'after the next run it is gone')
    c, = home.challenges({**p, 'id': 'db-1'})
    home('enroll', '--answer', '-', '--expires', '1s', lines=[m.answer(c, 'misused')])
    time.sleep(1.1)
    home('enroll', '--confirm', 'db-1', code=1)
    check('nothing waits' in home.err, 'an answer that nobody confirmed in time')
    another = Home(lab)
    c, = home.challenges(p)
    another.answer_refused('no such challenge', m.answer(c, 'misused'), 'an answer that another home asked for')


def one_tpm_many_claims(lab):
    home, m, n = Home(lab), lab.machine('web-1'), lab.machine('web-2')
    ak = m.ak('many')
    other, = home.challenges(n.proposal('other-1', n.ak('many')))
    cs = home.challenges(*(m.proposal(f'claim-{i}', ak) for i in range(300)))
    check(len(cs) == 300, 'one TPM proposes itself under three hundred ids')
    home.answer_refused('no such challenge', m.answer(cs[300 - 65], 'many'), 'older challenges gave way to newer ones')
    check(home.counts('--answer', '-', lines=[n.answer(other, 'many')])['pending'] == 1, 'of that TPM, and of no other')
    got = home.counts('--answer', '-', lines=[m.answer(c, 'many') for c in (cs[300 - 64], *cs[-7:])])
    check(got['pending'] == 8, 'eight can be answered')
    last, = home.challenges(m.proposal('claim-x', ak))
    home.answer_refused('under 8 other ids', m.answer(last, 'many'), 'the ninth id of one TPM does not wait beside them')
    again, = home.challenges(p := m.proposal('claim-299', m.ak('again')))
    check(home.counts('--answer', '-', lines=[m.answer(again, 'again')])['pending'] == 1, 'the same TPM answers for the same id anew, with another key')
    got = home.counts('--confirm', 'claim-299')
    check(got['new'] == 1, 'it took the place of the older answer, and can be confirmed')
    check(len(home('enroll', '--pending').splitlines()) == 8, 'seven of that TPM wait, and the other')
    db = sqlite3.connect(f'{home.path}/fleet.db')
    with db:  # proved the same again and again
        for i in range(100):
            db.execute("INSERT INTO challenge(name, id, state, proof, ek, line, who, made_ms, until_ms) SELECT randomblob(16), id, 2, proof, ek, '', who, made_ms,"
                       " until_ms FROM challenge WHERE id = 'claim-x' LIMIT 1")
    home.challenges(p)
    rows = db.execute('SELECT state, count(*) FROM challenge GROUP BY ek, state').fetchall()
    db.close()
    check(all(count <= (64, 8, 64)[state] for state, count in rows) and len(rows) == 4, f'so many rows of each TPM are all that is kept: {sorted(rows)}')


def retired(lab):
    home, m, n = Home(lab), lab.machine('web-1'), lab.machine('web-2')
    p = m.proposal('web-1', m.ak('retired'))
    c, = home.challenges(p)
    used = m.answer(c, 'retired')
    home('enroll', '--answer', '-', lines=[used])
    early, = home.challenges(p)
    late, = home.challenges(n.proposal('db-1', n.ak('late')))
    waits, = home.challenges(n.proposal('web-1', n.ak('waits')), args=('--replace-key',))
    home('enroll', '--answer', '-', '--replace-key', lines=[n.answer(waits, 'waits')])
    home('retire', 'web-1', '--reason', 'stolen')
    home.answer_refused('answered before', used, 'the answer that enrolled a machine, after it was retired')
    home.answer_refused('no such challenge', m.answer(early, 'retired'), 'a challenge from before it was retired')
    check(b'web-1' not in home('enroll', '--pending'), 'and what waited for a person under its id waits no longer')
    check(home.counts('--answer', '-', lines=[n.answer(late, 'late')])['pending'] == 1, 'a challenge for another id is left')
    c, = home.challenges(p)
    check(home.counts('--answer', '-', lines=[m.answer(c, 'retired')])['new'] == 1, 'the id may be enrolled again, by a new challenge')


def waits_to_be_read(pipe):
    return fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) != bytes(4)


def waiting_for_lines(lab):
    """whoever sends slowly keeps nobody waiting"""
    home, m = Home(lab), lab.machine('web-1')
    p = m.proposal('db-1', m.ak('slow'))
    c, = home.challenges(p)
    for args, line in ((['enroll', '--challenge', *lab.ca.given], {**p, 'id': 'db-2'}), (['enroll', '--answer'], m.answer(c, 'slow')),
                       (['enroll', '--ak-cert', '--ca', lab.ca.root], None), (['enroll'], {'id': 'plain', 'ak': p['ak']}),
                       (['hold', '--until', '1d', '--reason', 'x'], 'plain'), (['retire', '--reason', 'x'], 'plain')):
        slow = subprocess.Popen([lab.quotemill, args[0], '--home', home.path, *args[1:], '-'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)
        if line is not None:
            slow.stdin.write((line if isinstance(line, str) else json.dumps(line)).encode() + b'\n')
            slow.stdin.flush()
            while waits_to_be_read(slow.stdin) and slow.poll() is None:
                time.sleep(0.01)
        time.sleep(0.5)  # what it does with a line that it should not do before the last
        home('config', 'set', 'learn', 'first')  # else busy, after half a minute
        check(slow.poll() is None, f'{" ".join(args[:2])} that waits for its sender lets others write')
        out, err = slow.communicate()
        check(slow.returncode == (line is None), f'and does its work once all is there: {err.decode().splitlines()[-1]}')


def waiting_after_many(lab):
    """... however much was sent before, and whatever stands before it; and nothing is taken until all is there"""
    home, m = Home(lab), lab.machine('web-1')
    ak = b64(m.ak('many'))
    lines = lambda name, n: ''.join(json.dumps({'id': f'{name}-{i}', 'ak': ak}) + '\n' for i in range(n)).encode()
    file = write(f'{lab.folder}/before.ndjson', lines('file', 600))
    for what, operands in (('a stream', ['-']), ('a shell\'s pipe behind a file', [file, None])):
        for ends in (False, True):
            before = home.enrolled()
            out, into = os.pipe()
            slow = subprocess.Popen([lab.quotemill, 'enroll', '--home', home.path, *(o or f'/dev/fd/{out}' for o in operands)], stdin=out, pass_fds=[out], stderr=subprocess.PIPE)
            os.close(out)
            data = lines(f'{len(operands)}', 3000)
            while data:  # 600 KB, of which a pipe holds 64: it has read more than it takes at a time
                data = data[os.write(into, data):]
            while waits_to_be_read(into) and slow.poll() is None:
                time.sleep(0.01)
            home('config', 'set', 'learn', 'first')  # else busy, after half a minute
            home('run')
            check(slow.poll() is None and home.enrolled() == before, f'{what} that stalls after 3000 lines lets others write, and has changed nothing')
            if not ends:
                slow.kill()
            os.close(into)
            slow.communicate()
            taken = 3000 + 600 * (len(operands) - 1) if ends else 0
            check(home.enrolled() - before == taken and (slow.returncode == 0) == ends, f'... {"ended" if ends else "killed"}: {taken} machines more')
            check(not glob.glob(f'{home.path}/.*'), 'and nothing is left in the home')


def key_outside(lab):
    """a key made outside the TPM, whose public part says that it was made inside: a TPM loads that, and lets nobody use it"""
    home, m = Home(lab), lab.machine('web-1')
    m.ek('rsa')
    tool('openssl', 'genrsa', '-out', f'{m.dir}/soft.key', '2048')
    modulus = bytes.fromhex(tool('openssl', 'rsa', '-in', f'{m.dir}/soft.key', '-noout', '-modulus').decode().strip().split('=')[1])
    for what, attributes, policy in (('an empty password', 0x50072, b''), ('a policy that a new session meets', 0x500b2, bytes(32))):
        tpmt = struct.pack('>HHIH', 1, 0xb, attributes, len(policy)) + policy + struct.pack('>HHHHIH', 0x10, 0x14, 0xb, 2048, 0, 256) + modulus
        public = struct.pack('>H', len(tpmt)) + tpmt
        write(f'{m.dir}/soft.pub', public)
        c, = home.challenges(m.proposal('soft', public))
        m('tpm2_loadexternal', '-Q', '-C', 'e', '-u', 'soft.pub', '-c', 'soft.ctx')
        m('tpm2_flushcontext', '-t')
        check(m.credential(c, 'soft', policy=bool(policy)) is None and '0x12F' in m.why,
              f'a key outside, with {what}: its credential stays closed, since nothing authorizes')


class Forger:
    """Certificates for an EK, good but for one thing."""
    GOOD = {'basicConstraints': 'critical,CA:FALSE', 'keyUsage': 'critical,keyEncipherment', 'extendedKeyUsage': '2.23.133.8.1',
            'subjectAltName': 'critical,dirName:tpm'}
    SECTIONS = '\n[tpm]\nx.2.23.133.2.1=id:00001014\nx.2.23.133.2.2=model\nx.2.23.133.2.3=id:1\n[sda]\na=SEQUENCE:spec\n[spec]\no=OID:2.23.133.2.16\n' \
               's=SET:set\n[set]\ni=INTEGER:1\n[plain]\nCN=somebody\n'

    def __init__(self, folder):
        self.dir, self.count = folder, 0
        os.makedirs(folder)
        tool('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', f'{folder}/ca.key', '-out', f'{folder}/ca.pem', '-subj', '/CN=forger', '-days',
             '30', '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign')

    def crl(self, *revoked, until=('-crldays', '30'), issuer='ca'):
        self.count += 1
        at = f'{self.dir}/crl{self.count}'
        write(f'{at}.index', '')
        write(f'{at}.conf', f'[ca]\ndefault_ca=d\n[d]\ndatabase={at}.index\ndefault_md=sha256\n')
        ca = ['openssl', 'ca', '-config', f'{at}.conf', '-cert', f'{self.dir}/{issuer}.pem', '-keyfile', f'{self.dir}/{issuer}.key']
        for name in revoked:
            tool(*ca, '-revoke', f'{self.dir}/{name}.pem')
        tool(*ca, '-gencrl', *until, '-out', f'{at}.pem')
        return f'{at}.pem'

    def root(self, name, *extensions, subject=None):
        adds = ('keyUsage=critical,keyCertSign', *extensions)
        tool('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', f'{self.dir}/{name}.key', '-out', f'{self.dir}/{name}.pem', '-subj', subject or f'/CN={name}',
             '-days', '30', *(x for e in adds for x in ('-addext', e)))
        return ['--ca', f'{self.dir}/{name}.pem']

    def make(self, public_pem, subject='/CN=web-1', days='30', issuer='ca', digest='-sha256', der=True, name=None, **extensions):
        self.count += 1
        at = name or f'c{self.count}'
        merged = {**self.GOOD, **extensions}
        write(f'{self.dir}/ext', ''.join(f'{k}={v}\n' for k, v in merged.items() if v is not None) + self.SECTIONS)
        if not os.path.exists(f'{self.dir}/any.key') or not public_pem:
            tool('openssl', 'genrsa', '-out', f'{self.dir}/{"any" if public_pem else at}.key', '2048')
        tool('openssl', 'req', '-new', '-key', f'{self.dir}/{"any" if public_pem else at}.key', '-subj', subject, '-out', f'{self.dir}/{at}.csr')
        force = ['-force_pubkey', public_pem] if public_pem else []
        tool('openssl', 'x509', '-req', '-in', f'{self.dir}/{at}.csr', '-CA', f'{self.dir}/{issuer}.pem', '-CAkey', f'{self.dir}/{issuer}.key', '-CAcreateserial',
             '-days', days, digest, '-extfile', f'{self.dir}/ext', *force, '-out', f'{self.dir}/{at}.pem')
        return tool('openssl', 'x509', '-in', f'{self.dir}/{at}.pem', '-outform', 'DER') if der else f'{self.dir}/{at}.pem'


def tool_der_crl(path):
    return write(path + '.der', tool('openssl', 'crl', '-in', path, '-outform', 'DER'))


def chains(lab):
    m, forger = lab.machine('web-1'), Forger(f'{lab.folder}/forger')
    home, ak = Home(lab), m.ak('chains')
    given = ['--ca', f'{forger.dir}/ca.pem']
    m('tpm2_readpublic', '-Q', '-c', 'rsa.ek', '-f', 'pem', '-o', 'ek.pem')
    m('tpm2_flushcontext', '-t')
    pem = f'{m.dir}/ek.pem'
    with_certs = lambda *certs: m.proposal('web-1', ak, ek_cert=[b64(c) for c in certs])

    stranger = Authority(f'{lab.folder}/stranger')
    stranger.certify('00' * 255 + '01', 'nobody', f'{lab.folder}/nobody')
    home.refused('does not verify', m.proposal('web-1', ak), 'a chain to an unknown root', given=stranger.given)
    home.refused('does not verify', m.proposal('web-1', ak), 'the root without what is between', given=['--ca', lab.ca.root])
    issuer = tool('openssl', 'x509', '-in', f'{lab.ca.dir}/issuer.pem', '-outform', 'DER')
    c, = home.challenges(m.proposal('web-1', ak, ek_cert=[b64(m.ek('rsa')[1]), b64(issuer)]), given=['--ca', lab.ca.root])
    check(bool(c), 'the machine may send what is between')
    check(bool(home.challenges(m.proposal('web-1', ak), given=['--ca', f'{lab.ca.dir}/issuer.pem'])), 'an issuing CA may be trusted without its root')
    der = tool('openssl', 'x509', '-in', f'{forger.dir}/ca.pem', '-outform', 'DER')
    check(bool(home.challenges(with_certs(forger.make(pem)), given=['--ca', write(f'{forger.dir}/ca.der', der)])), 'a CA certificate in DER')

    for what, changes in (('nothing wrong', {}), ('no extended key usage, but the TPM\'s maker', {'extendedKeyUsage': None}),
                          ('critical subjectDirectoryAttributes', {'subjectDirectoryAttributes': 'critical,ASN1:SEQUENCE:sda'})):
        check(len(home.challenges(with_certs(forger.make(pem, **changes)), given=given)) == 1, f'taken: {what}')
    for what, why, changes in (
            ('expired', 'expired', {'days': '-1'}),
            ('no key usage', 'keyEncipherment', {'keyUsage': None}),
            ('for signatures only', 'keyEncipherment', {'keyUsage': 'critical,digitalSignature'}),
            ('another extended key usage', 'no EK', {'extendedKeyUsage': 'serverAuth'}),
            ('an AK\'s extended key usage', 'no EK', {'extendedKeyUsage': '2.23.133.8.3'}),
            ('nothing of a TPM in it', 'nothing in the certificate', {'extendedKeyUsage': None, 'subjectAltName': 'dirName:plain'}),
            ('a CA\'s', 'a CA\'s', {'basicConstraints': 'critical,CA:TRUE', 'keyUsage': 'critical,keyEncipherment,keyCertSign'}),
            ('SHA-1', 'too weak', {'digest': '-sha1'}),
            ('a critical extension that nobody knows', 'unhandled critical extension', {'1.2.3.4': 'critical,DER:0500'}),
            ('that beside subjectDirectoryAttributes', 'unhandled critical extension',
             {'subjectDirectoryAttributes': 'critical,ASN1:SEQUENCE:sda', '1.2.3.4': 'critical,DER:0500'}),
            ('subjectDirectoryAttributes that are none', 'unhandled critical extension', {'subjectDirectoryAttributes': 'critical,DER:0500'})):
        home.refused(why, with_certs(forger.make(pem, **changes)), f'a certificate: {what}', given=given)
    # revocation lists: asked only where one is given, and then for every leaf
    good, revoked = forger.make(pem, name='kept'), forger.make(pem, name='revoked')
    crl, empty = forger.crl('revoked'), forger.crl()
    check(len(home.challenges(with_certs(revoked), given=given)) == 1, 'without a revocation list nobody knows')
    home.refused('certificate revoked', with_certs(revoked), 'a certificate that was revoked', given=given + ['--crl', crl])
    check(len(home.challenges(with_certs(good), given=given + ['--crl', crl])) == 1, 'one that was not')
    check(len(home.challenges(with_certs(good), given=given + ['--crl', tool_der_crl(crl)])) == 1, 'a list in DER')
    home.refused('CRL has expired', with_certs(good), 'a list that is out of date',
                 given=given + ['--crl', forger.crl(until=('-crl_lastupdate', '20200101000000Z', '-crl_nextupdate', '20200102000000Z'))])
    home.refused('unable to get certificate CRL', m.proposal('web-1', ak), 'a CA whose list is not there', given=lab.ca.given + ['--crl', empty])
    for path in (f'{forger.dir}/ca.pem', write(f'{forger.dir}/half.crl', read(crl)[:300]), write(f'{forger.dir}/none.crl', '')):
        home('enroll', '--challenge', '-', *given, '--crl', path, lines=[with_certs(good)], code=2)
        check('revocation list' in home.err, f'--crl {os.path.basename(path)}: {home.err.strip()}')
    home('enroll', '--challenge', '-', '--expect-ek', f'{lab.folder}/none', '--crl', crl, lines=[with_certs(good)], code=2)
    # what is between is no CA, or does not say so
    for name, use in (('middle', None), ('signer', 'critical,keyCertSign')):
        forger.make(None, name=name, subject=f'/CN={name}', basicConstraints=None if use else 'critical,CA:FALSE', extendedKeyUsage=None, subjectAltName=None,
                    keyUsage=use)
        between = tool('openssl', 'x509', '-in', f'{forger.dir}/{name}.pem', '-outform', 'DER')
        home.refused('invalid CA', with_certs(forger.make(pem, issuer=name), between), f'a leaf that plays CA ({name})', given=given)
    ca = dict(subject='/CN=middle', extendedKeyUsage=None, subjectAltName=None, keyUsage='critical,keyCertSign', basicConstraints='critical,CA:TRUE')
    short = forger.root('short', 'basicConstraints=critical,CA:TRUE,pathlen:0')
    between = forger.make(None, name='below', issuer='short', **ca)
    home.refused('path length', with_certs(forger.make(pem, issuer='below'), between), 'a CA below one that may have none', given=short)
    narrow = forger.root('narrow', 'basicConstraints=critical,CA:TRUE', 'nameConstraints=critical,permitted;DNS:ours.example')
    leaf = forger.make(pem, issuer='narrow', subject='/O=x', subjectAltName='critical,dirName:tpm,DNS:web-1.theirs.example')
    home.refused('permitted subtree', with_certs(leaf), 'a name that its CA may not give', given=narrow)
    forger.make(None, name='old', **{**ca, 'days': '-1'})
    home.refused('expired', with_certs(forger.make(pem, issuer='old')), 'a CA that has expired', given=['--ca', f'{forger.dir}/old.pem'])
    # a CA that the machine sends, and that was revoked
    between = forger.make(None, name='stolen', **{**ca, 'subject': '/CN=stolen', 'keyUsage': 'critical,keyCertSign,cRLSign'})
    of_stolen = with_certs(forger.make(pem, issuer='stolen'), between)
    lists = ['--crl', forger.crl(issuer='stolen'), '--crl', forger.crl()]
    check(len(home.challenges(of_stolen, given=given + lists)) == 1, 'a CA between that is in no list')
    home.refused('between was revoked', of_stolen, 'one that is', given=given + lists + ['--crl', forger.crl('stolen')])
    home.refused('exactly one in DER', with_certs(forger.make(pem) + b'\0'), 'something behind a certificate', given=given)
    home.refused('exactly one in DER', with_certs(b'\x30\x03\x02\x01'), 'half a certificate', given=given)
    home.refused('more than 8', with_certs(*[b'0'] * 9), 'nine certificates', given=given)
    home.refused('base64 of at most', with_certs(b'\0' * 8193), 'a certificate over the cap', given=given)
    home.refused('no certificate of the EK', m.proposal('web-1', ak, ek_cert=[]), 'no certificate')
    home.refused('no certificate of the EK', m.proposal('web-1', ak, ek_cert=None), 'none at all')
    home.refused('ek is missing', m.proposal('web-1', ak, ek=None), 'no EK')
    for what, path in (('a leaf', forger.make(pem, der=False)), ('no certificate', write(f'{forger.dir}/empty.pem', 'nothing')),
                       ('half of one', write(f'{forger.dir}/half.pem', read(f'{forger.dir}/ca.pem')[:500]))):
        home('enroll', '--challenge', '-', '--ca', path, lines=[m.proposal('web-1', ak)], code=2)
        check('certificate' in home.err, f'--ca with {what}: {home.err.strip()}')
    home('enroll', '--challenge', '-', '--ca', f'{forger.dir}/nowhere', lines=[m.proposal('web-1', ak)], code=3)
    home('enroll', '--challenge', '-', lines=[m.proposal('web-1', ak)], code=2)
    check(home.enrolled() == 0, 'nothing is enrolled')


def templates(lab):
    """EKs that a CA certified, of a kind that does not bind anything"""
    m, forger, home = lab.machine('web-1'), Forger(f'{lab.folder}/forger2'), Home(lab)
    policy = write(f'{m.dir}/policy', bytes.fromhex('837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa'))
    usual = 'fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|decrypt'
    for what, why, args in (('unrestricted', 'not restricted', ['-G', 'rsa2048:null:null', '-a', usual, '-L', policy]),
                            ('without a policy', 'none of the templates', ['-G', 'rsa2048:null:aes128cfb', '-a', usual + '|restricted']),
                            ('as the storage root key', 'none of the templates', ['-G', 'rsa2048:null:aes128cfb', '-a', usual + '|restricted|userwithauth|noda', '-L', policy]),
                            ('with another cipher', 'none of the templates', ['-G', 'rsa2048:null:aes256cfb', '-a', usual + '|restricted', '-L', policy])):
        m('tpm2_createprimary', '-Q', '-C', 'e', '-g', 'sha256', '-c', 'wrong.ctx', *args)
        m('tpm2_readpublic', '-Q', '-c', 'wrong.ctx', '-f', 'pem', '-o', 'wrong.pem')
        m('tpm2_readpublic', '-Q', '-c', 'wrong.ctx', '-f', 'tss', '-o', 'wrong.pub')
        m('tpm2_flushcontext', '-t')
        p = m.proposal('web-1', m.ak('templates'), ek=b64(read(f'{m.dir}/wrong.pub')), ek_cert=[b64(forger.make(f'{m.dir}/wrong.pem'))])
        home.refused(why, p, f'an EK {what}', given=['--ca', f'{forger.dir}/ca.pem'])


def claims(lab):
    """ids, AKs and EKs that are another's"""
    home, m, n = Home(lab), lab.machine('web-1'), lab.machine('web-2')
    ak = m.ak('claims')
    c, = home.challenges(m.proposal('web-1', ak))
    home('enroll', '--answer', '-', lines=[m.answer(c, 'claims')])
    thief = n.ak('thief')
    home.refused('enrolled with another AK', n.proposal('web-1', thief), 'an id that is another\'s')
    check([a['id'] for a in home.conflicts()] == ['web-1'], 'raises key_conflict')
    home.refused('another id has this AK', m.proposal('web-7', ak), 'an AK that another id has')
    home.refused('another id has this EK', m.proposal('web-7', m.ak('second')), 'an EK that another id has')
    home.refused('another id has this EK', m.proposal('web-7', m.ak('second')), 'and again')
    got = home.conflicts()
    check([a['id'] for a in got] == ['web-1'] * 3 and sorted(a['count'] for a in got) == [1, 1, 2], 'an alert for each claim, not for each try')
    check([a['detail'].get('claimed_as') for a in got] == [None, 'web-7', 'web-7'], f'that say who claims: {[a["detail"] for a in got]}')
    # what happened between proposal and answer counts
    c, = home.challenges(n.proposal('web-3', thief))
    line = {'id': 'web-3', 'ak': b64(ak)}
    home('enroll', '-', lines=[line])
    a = n.answer(c, 'thief')
    home('enroll', '--answer', '-', lines=[a])
    home('enroll', '--confirm', 'web-3', code=1)
    check('another AK' in home.err, 'an id that was enrolled meanwhile')
    check(home.counts('--confirm', 'web-3', '--replace-key')['keys_replaced'] == 1, '--replace-key takes it')
    check(home.status('web-3')['enrolment']['how'] == 'credential' and home.status('web-3')['key']['earlier'] == 1, 'with its history')
    # the new key of a machine that was set up again
    new = m.ak('again')
    home.refused('another AK', m.proposal('web-1', new), 'a new key of the same TPM')
    c, = home.challenges(m.proposal('web-1', new), args=('--replace-key',))
    check(home.counts('--answer', '-', '--replace-key', lines=[m.answer(c, 'again')])['keys_replaced'] == 1, 'its operator may')
    check(not [a for a in home.conflicts() if a['state'] == 'open'], 'which ends the conflicts about it')
    # of a machine that was taken out, everything is free
    home('retire', 'web-1', '--reason', 'gone')
    check(len(home.challenges(m.proposal('web-8', new))) == 1, 'a retired machine\'s TPM may be another id\'s')


def conflicts_hide_nothing(lab):
    """whoever has copies of EK certificates can propose anything: what is proven stands beside it all the same"""
    home, m, n = Home(lab), lab.machine('web-1'), lab.machine('web-2')
    forger = Forger(f'{lab.folder}/forger6')
    given = [*lab.ca.given, '--ca', f'{forger.dir}/ca.pem']
    cs = home.challenges(n.proposal('web-1', first := n.ak('first')), n.proposal('web-1', second := n.ak('second', 'p256'), 'p256'))
    home('enroll', '--answer', '-', lines=[n.answer(cs[0], 'first'), n.answer(cs[1], 'second', 'p256')])
    c, = home.challenges(m.proposal('web-1', m.ak('real')))
    home('enroll', '--answer', '-', lines=[m.answer(c, 'real')])
    rows = lambda: sorted((a['change'], a['detail']['by'], a['count'], a['state']) for a in home.conflicts())
    any_key = lambda: first[:-256] + bytes([0xff]) + os.urandom(254) + b'\x01'
    home('enroll', '--challenge', '-', *given, lines=[n.proposal('web-1', any_key()) for i in range(20)], code=1)
    check(rows() == [('', 'proposal', 20, 'open')], f'twenty keys for an id, proposed with one EK: {rows()}')
    home('enroll', '--challenge', '-', *given, lines=[m.proposal(f'other-{i}', any_key()) for i in range(20)], code=1)
    check(rows() == [('', 'proposal', 20, 'open')] * 2, f'an EK proposed for twenty ids: {rows()}')
    strangers = []
    for i in range(4):
        tool('openssl', 'genrsa', '-out', f'{forger.dir}/ek{i}.key', '2048')
        tool('openssl', 'rsa', '-in', f'{forger.dir}/ek{i}.key', '-pubout', '-out', f'{forger.dir}/ek{i}.pub')
        modulus = bytes.fromhex(tool('openssl', 'rsa', '-in', f'{forger.dir}/ek{i}.key', '-noout', '-modulus').decode().strip().split('=')[1])
        ek = m.ek('rsa')[0][:-256] + modulus
        strangers.append(n.proposal('web-1', any_key(), ek=b64(ek), ek_cert=[b64(forger.make(f'{forger.dir}/ek{i}.pub'))]))
    home('enroll', '--challenge', '-', *given, lines=strangers, code=1)
    check(rows() == [('', 'proposal', 1, 'open')] * 2 + [('', 'proposal', 20, 'open')] * 2 + [('many', 'proposal', 2, 'open')], f'so many EKs, a few rows: {rows()}')
    check(home.conflicts()[0]['detail']['by_ek'] == n.fingerprint('rsa'), 'whose EK it was is said')
    for a in home.conflicts():
        home('alerts', 'ignore', '--reason', 'noise', str(a['no']))
    home('enroll', '--challenge', '-', *given, lines=strangers[-1:], code=1)
    check(('many', 'proposal', 3, 'ignored') in rows() and len(rows()) == 5, 'what is proposed goes on being counted where it was ignored')
    for kind in ('rsa', 'p256'):
        home('enroll', '--confirm', 'web-1', '--ek', n.fingerprint(kind), code=1)
        got, = (a for a in home.conflicts() if a['state'] == 'open')
        check(got['detail']['by'] == 'tpm' and got['detail']['by_ek'] == n.fingerprint(kind) and got['change'] == '', f'what a TPM proved has its own: {got["detail"]}')
        check('tpm' in home('alerts', 'show', str(got['no'])).decode(), 'for people too')
        home('alerts', 'ignore', '--reason', 'seen', str(got['no']))


def weaker(lab):
    home, m = Home(lab), lab.machine('web-1')
    ak = m.ak('weaker')
    line = {'id': 'web-1', 'ak': b64(ak), 'select': [{'bank': 'sha256', 'pcrs': list(range(12))}], 'require_log': True, 'nonce': '00'}
    home('enroll', '-', lines=[line])
    home.refused('weakens', m.proposal('web-1', ak), 'less than a file asked for')
    said = home.err
    check(all(w in said for w in ('PCRs 10,11 of sha256', 'no log required', 'no nonce')), 'says in what')
    c, = home.challenges(m.proposal('web-1', ak), args=('--allow-weaker',))
    a = m.answer(c, 'weaker')
    home.answer_refused('weakens', a, 'when it answers, too')
    check(home.status('web-1')['enrolment']['how'] == 'file', 'nothing has changed')
    got = home.counts('--answer', '-', '--allow-weaker', '--reason', 'change 4711', lines=[a])
    check(got['changed'] == 1, '--allow-weaker takes it')
    e = home.status('web-1')['enrolment']
    check(e['how'] == 'credential' and [n['what'] for n in e['history']] == ['weaker enrolment', 'weaker enrolment refused'] and
          'change 4711' in e['history'][0]['why'], f'and the history has both: {[n["what"] for n in e["history"]]}')
    check('weaker enrolment refused' in home('status', 'web-1').decode(), 'for people too')
    # a plain file replaces, as ever, and it is noted
    home('enroll', '-', lines=[{'id': 'web-1', 'ak': b64(ak), 'select': [{'bank': 'sha256', 'pcrs': [0]}]}])
    check('1 lines weaken' in home.err, f'a plain file is taken, and says so: {home.err.splitlines()[-1]}')
    s = home.status('web-1')
    check(len(s['stages']) == 1 and s['enrolment']['how'] == 'credential' and len(s['enrolment']['history']) == 3,
          'noted in the history; the same key stays proven')
    home('enroll', '--replace-key', '-', lines=[{'id': 'web-1', 'ak': b64(m.ak('weaker2')), 'select': [{'bank': 'sha256', 'pcrs': [0]}]}])
    check('1 lines weaken' in home.err and home.status('web-1')['enrolment']['how'] == 'file', 'a key that nothing proves is weaker, too')
    # more is never weaker
    check(len(home.challenges(m.proposal('web-1', ak), args=('--replace-key',))) == 1, 'more is not weaker')


def hostile_lines(lab):
    home, m = Home(lab), lab.machine('web-1')
    good = json.dumps(m.proposal('web-1', m.ak('hostile')))
    for what, text, why in (('no JSON', 'hello\n', 'no JSON object'), ('an array', '[]\n', 'no JSON object'), ('half a line', good[:-9] + '\n', 'no JSON object'),
                            ('over the cap', good[:-1] + ',"x":"' + 'x' * 65536 + '"}\n', 'longer than 65536'),
                            ('a key twice', good[:-1] + ',"id":"web-2"}\n', 'id stands twice'), ('an id with a control character', good.replace('web-1', 'a\\u0007'), 'control'),
                            ('no kind', good.replace('"kind": "proposal", ', ''), 'kind is missing'), ('another kind', good.replace('proposal', 'answer'), 'no proposal'),
                            ('another version', good.replace('"v": 1', '"v": 2'), 'v is not 1'), ('no UTF-8', good.encode().replace(b'web-1', b'\xff'), 'no UTF-8'),
                            ('an EK that is a number', good.replace('"ek": "', '"ek": 7, "e": "'), 'ek is not a string'),
                            ('an AK that is no base64', good.replace('"ak": "', '"ak": "!'), 'ak is not base64'),
                            ('certificates that are an object', good.replace('"ek_cert": [', '"ek_cert": {"a":[').replace('"], "select"', '"]}, "select"'), 'not an array')):
        home('enroll', '--challenge', '-', *lab.ca.given, text=text, code=1)
        check(why in home.err and 'line 1' in home.err, f'a proposal: {what}: {home.err.splitlines()[0].split("refused: ")[-1][:80]}')
    out = home('enroll', '--challenge', '-', *lab.ca.given, text='hello\n\n' + good + '\n', code=1)
    check(len(out.splitlines()) == 1 and 'line 1' in home.err and '1 challenges made, 1 refused' in home.err, 'a bad line does not keep the others')
    for args in (('--challenge', '--answer'), ('--pending', 'x'), ('--confirm',), ('--answer', '-', '--ca', 'x'), ('--expires', '1h', '-'), ('--unique-keys', '--answer', '-'),
                 ('--confirm', 'x', '--ek', 'xyz'), ('--confirm', 'x', '--ek', 'abc'), ('--ak-cert', 'x'), ('--challenge', '-', '--ca', 'x', '--expires', 'soon'),
                 ('--challenge', '-', '--ca', 'x', '--tag', 'novalue')):
        home('enroll', *args, text='', code=2 if args[-1] != 'novalue' else 3)
    home('enroll', '--answer', f'{lab.folder}/nowhere', code=3)


# ---- keys by certificates ----

def names(lab):
    """which subjects name an id: one common name or a DNS name, byte for byte"""
    m, forger = lab.machine('web-1'), Forger(f'{lab.folder}/forger4')
    ak = m.ak('names')
    m('tpm2_readpublic', '-Q', '-c', 'rsa.ek', '-f', 'pem', '-o', 'ek.pem')
    m('tpm2_flushcontext', '-t')
    for subject, dns, id, bound in (('/O=x/CN=a', '', 'a', True), ('/O=x', ',DNS:a.example', 'a.example', True), ('/CN=a/CN=b', '', 'a', False), ('/CN=A', '', 'a', False),
                                    ('/CN=a ', '', 'a', False), ('/O=x', ',DNS:*.example', 'a.example', False), ('/O=a', '', 'a', False)):
        home, cert = Home(lab), forger.make(f'{m.dir}/ek.pem', subject=subject, subjectAltName='critical,dirName:tpm' + dns)
        c, = home.challenges(m.proposal(id, ak, ek_cert=[b64(cert)]), given=['--ca', f'{forger.dir}/ca.pem'])
        got = home.counts('--answer', '-', lines=[m.answer(c, 'names')])
        check((got['new'], got['pending']) == ((1, 0) if bound else (0, 1)), f'{subject}{dns} {"names" if bound else "does not name"} {id}')


def ak_certificates(lab):
    m, forger = lab.machine('web-1'), Forger(f'{lab.folder}/forger3')
    home, given = Home(lab), ['--ca', f'{lab.folder}/forger3/ca.pem']
    pems = {}
    for name in ('cloud', 'cloud2'):
        m.ak(name)
        m('tpm2_readpublic', '-Q', '-c', f'{name}.ctx', '-f', 'pem', '-o', f'{name}.pem')
        m('tpm2_flushcontext', '-t')
        pems[name] = f'{m.dir}/{name}.pem'
    usual = {'keyUsage': 'critical,digitalSignature', 'extendedKeyUsage': '2.23.133.8.3', 'subjectAltName': None, 'der': False}
    chain = forger.make(pems['cloud'], subject='/O=cloud/CN=vm-1', **usual)
    home('enroll', '--ak-cert', chain, *given, '--group', 'cloud')
    check('common name' in home.err, f'{home.err.splitlines()[0]}')
    s = home.status('vm-1')
    check((s['group'], s['enrolment']['how'], s['enrolment']['bound'], 'ek' in s['enrolment']) == ('cloud', 'certificate', 'subject', False), f'{s["enrolment"]}')
    key = read(pems['cloud']).decode()
    check(home.counts('-', lines=[{'id': 'vm-1', 'ak': key, 'group': 'cloud'}])['changed'] == 1, 'the key is the certificate\'s')
    dns = forger.make(pems['cloud2'], subject='/O=cloud', **{**usual, 'subjectAltName': 'DNS:vm-2.example'})
    home('enroll', '--ak-cert', dns, *given)
    check('DNS name' in home.err and home.status('vm-2.example')['enrolment']['how'] == 'certificate', 'a DNS name where there is no common name')
    home('enroll', '--ak-cert', forger.make(pems['cloud'], subject='/O=cloud/CN=vm-1', **{**usual, 'extendedKeyUsage': None}), *given, '--group', 'cloud')
    for what, why, pem, more in (('another\'s root', 'does not verify', 'cloud', {}),
                                 ('no key usage', 'digitalSignature', 'cloud', {'keyUsage': None}),
                                 ('an EK\'s', 'no AK', 'cloud', {'extendedKeyUsage': '2.23.133.8.1'}),
                                 ('a server\'s', 'no AK', 'cloud', {'extendedKeyUsage': 'serverAuth'}),
                                 ('expired', 'expired', 'cloud', {'days': '-1'}),
                                 ('two DNS names', 'no common name', 'cloud', {'subject': '/O=x', 'subjectAltName': 'DNS:a,DNS:b'}),
                                 ('no name', 'no common name', 'cloud', {'subject': '/O=x'}),
                                 ('another\'s id', 'another AK', 'cloud2', {'subject': '/CN=vm-1'}),
                                 ('another\'s AK', 'another id has this AK', 'cloud', {'subject': '/CN=vm-9'})):
        path = forger.make(pems[pem], **{**usual, 'subject': '/CN=vm-1', **more})
        home('enroll', '--ak-cert', path, *(lab.ca.given if what == 'another\'s root' else given), '--group', 'cloud', code=1)
        check(why in home.err, f'an AK certificate: {what}: {home.err.splitlines()[0].split("refused: ")[-1]}')
    check(len(home.conflicts()) == 2, 'claims raise key_conflict')
    home('enroll', '-', lines=[{'id': 'vm-1', 'ak': key, 'select': [{'bank': 'sha256', 'pcrs': list(range(12))}]}])
    home('enroll', '--ak-cert', chain, *given, code=1)
    check('weakens' in home.err, 'less than is asked')
    home('enroll', '--ak-cert', chain, *given, '--allow-weaker')
    home('enroll', '--ak-cert', write(f'{lab.folder}/nothing.pem', 'x'), *given, code=1)
    # of a key that its TPM proved a certificate takes nothing away; the other way round it gains
    for first in ('credential', 'certificate'):
        home, pub = Home(lab), read(f'{m.dir}/cloud.akpub')
        c, = home.challenges(m.proposal('vm-1', pub), args=('--group', 'cloud'))
        steps = [lambda: (home('enroll', '--answer', '-', lines=[m.answer(c, 'cloud')]), home('enroll', '--confirm', 'vm-1')),
                 lambda: home('enroll', '--ak-cert', chain, *given, '--group', 'cloud')]
        for step in steps if first == 'credential' else reversed(steps):
            step()
        e = home.status('vm-1')['enrolment']
        check((e['how'], e.get('ek'), e['bound']) == ('credential', m.fingerprint('rsa'), 'confirmed'), f'both, the {first} first: {e["how"]}')
    home('enroll', '--ak-cert', f'{lab.folder}/nowhere.pem', *given, code=3)


# ---- what is kept ----

def who_vouched(lab):
    """the certificate of --ca at which the chain ended, of each way that has a chain"""
    m, forger, home = lab.machine('web-1'), Forger(f'{lab.folder}/forger5'), Home(lab)
    of = lambda pem: hashlib.sha256(tool('openssl', 'x509', '-in', pem, '-outform', 'DER')).hexdigest()
    ca = lambda id: home.status(id)['enrolment'].get('ca')
    p = m.proposal('web-1', ak := m.ak('vouched'))
    c, = home.challenges(p)
    home('enroll', '--answer', '-', lines=[m.answer(c, 'vouched')])
    check(ca('web-1') == {'subject': 'CN=swtpm-localca', 'sha256': of(f'{lab.ca.dir}/issuer.pem')}, f'the issuing CA, where it is given beside its root: {ca("web-1")}')
    check(f'CN=swtpm-localca, SHA-256 {of(f"{lab.ca.dir}/issuer.pem")}' in home('status', 'web-1').decode(), 'for people too')
    issuer = tool('openssl', 'x509', '-in', f'{lab.ca.dir}/issuer.pem', '-outform', 'DER')
    c, = home.challenges({**p, 'ek_cert': p['ek_cert'] + [b64(issuer)]}, given=['--ca', lab.ca.root])
    home('enroll', '--answer', '-', lines=[m.answer(c, 'vouched')])
    check(ca('web-1')['sha256'] == of(lab.ca.root), 'proven again, by a chain to the root: the root')
    listed = write(f'{lab.folder}/vouched.list', f'web-1 {m.fingerprint("rsa")}\n')
    c, = home.challenges(m.proposal('web-1', ak, ek_cert=None), given=['--expect-ek', listed])
    home('enroll', '--answer', '-', lines=[m.answer(c, 'vouched')])
    check(ca('web-1') is None and b'SHA-256' not in home('status', 'web-1'), 'proven again, with the list alone: no CA')
    # what waits says so, to whoever has to decide
    given = ['--ca', f'{forger.dir}/ca.pem']
    m('tpm2_readpublic', '-Q', '-c', 'rsa.ek', '-f', 'pem', '-o', 'ek.pem')
    m('tpm2_flushcontext', '-t')
    home = Home(lab)
    c, = home.challenges(m.proposal('db-1', m.ak('vouched2'), ek_cert=[b64(forger.make(f'{m.dir}/ek.pem'))]), given=given)
    home('enroll', '--answer', '-', lines=[m.answer(c, 'vouched2')])
    w, = map(json.loads, home('enroll', '--pending', '--json').splitlines())
    check(w['ca'] == {'subject': 'CN=forger', 'sha256': of(f'{forger.dir}/ca.pem')} and b', CA CN=forger' in home('enroll', '--pending'), 'what waits has its CA')
    home('enroll', '--confirm', 'db-1')
    check(ca('db-1') == w['ca'], 'and so has what was confirmed')
    # of an attestation key's certificate
    m('tpm2_readpublic', '-Q', '-c', 'vouched.ctx', '-f', 'pem', '-o', 'vouched.pem')
    m('tpm2_flushcontext', '-t')
    usual = {'keyUsage': 'critical,digitalSignature', 'extendedKeyUsage': '2.23.133.8.3', 'subjectAltName': None, 'der': False}
    home('enroll', '--ak-cert', forger.make(f'{m.dir}/vouched.pem', subject='/CN=vm-1', **usual), *given)
    check(ca('vm-1') == w['ca'], 'an AK\'s')
    home('enroll', '--replace-key', '-', lines=[{'id': 'vm-1', 'ak': b64(m.ak('vouched3'))}])
    check(ca('vm-1') is None, 'a key from a file has none')
    home('enroll', '--ak-cert', forger.make(f'{m.dir}/vouched.pem', subject='/CN=vm-2', **usual), *given)
    db = sqlite3.connect(f'{home.path}/fleet.db')
    check(db.execute('SELECT count(*) FROM anchor').fetchone() == (1,), 'a CA stands once')
    db.close()
    # names that no terminal should see, and long ones
    forger.root('odd', 'basicConstraints=critical,CA:TRUE', subject='/CN=\x1b[31mred\n' + '/OU=' + 'x' * 60)
    forger.root('long', 'basicConstraints=critical,CA:TRUE', subject=''.join(f'/OU={c * 60}' for c in 'abcdefghij'))
    for name, says in (('odd', 'OU=' + 'x' * 60 + ',CN=\\1B[31mred\\0A'), ('long', ','.join('OU=' + c * 60 for c in 'jihgfedcba')[:509] + '...')):
        home, path = Home(lab), forger.make(f'{m.dir}/vouched.pem', subject='/CN=vm-1', issuer=name, **usual)
        home('enroll', '--ak-cert', path, '--ca', f'{forger.dir}/{name}.pem')
        check(ca('vm-1') == {'subject': says, 'sha256': of(f'{forger.dir}/{name}.pem')}, f'a CA with an odd name: {ca("vm-1")["subject"][:90]}')
        check(b'\x1b' not in home('status', 'vm-1'), 'is shown as it should be')


def secrets(lab):
    home, m = Home(lab), lab.machine('web-1')
    c, = home.challenges(m.proposal('db-1', m.ak('secrets')))
    credential = m.credential(c, 'secrets')
    a = proof_line(c, credential)
    home('enroll', '--answer', '-', lines=[{**a, 'proof': '0' * 64}], code=1)
    home('enroll', '--answer', '-', lines=[a])
    hidden = {'the credential': credential, 'the proof': bytes.fromhex(a['proof'])}
    for path in glob.glob(f'{home.path}/**', recursive=True):
        check(stat.S_IMODE(os.stat(path).st_mode) & 0o007 == 0, f'{path} is closed to others')
        if os.path.isfile(path):
            data = read(path)
            for what, secret in hidden.items():
                if any(form in data for form in (secret, secret.hex().encode(), b64(secret).encode())):
                    check(False, f'{path} has {what}')
    check(not any(s.hex() in t or b64(s) in t for s in hidden.values() for t in home.said), 'nothing that was said has a secret')
    check(hashlib.sha256(bytes.fromhex(a['proof'])).digest() in b''.join(read(p) for p in glob.glob(f'{home.path}/fleet.db*')),
          'the home keeps the hash of the proof')


def backup(lab):
    home, m = Home(lab), lab.machine('web-1')
    waits, = home.challenges(m.proposal('db-1', m.ak('waits')))
    home('enroll', '--answer', '-', lines=[m.answer(waits, 'waits')])
    c, = home.challenges(m.proposal('web-1', m.ak('backup')))
    a = m.answer(c, 'backup')
    home('backup', f'{lab.folder}/copy')
    check(home.counts('--answer', '-', lines=[a])['new'] == 1, 'the answer to a challenge that is in a backup')
    home('restore', '--force', f'{lab.folder}/copy')
    home.answer_refused('no such challenge', a, 'is not taken a second time from the home that was restored')
    check(b'db-1' in home('enroll', '--pending'), 'what waited for a person still does')
    c, = home.challenges(m.proposal('web-1', m.ak('backup')))
    check(home.counts('--answer', '-', lines=[m.answer(c, 'backup')])['new'] == 1, 'a new challenge is')
    home('backup', f'{lab.folder}/copy')
    home('restore', '--force', f'{lab.folder}/copy')
    check(home.status('web-1')['enrolment']['how'] == 'credential', 'and how a key was enrolled')


TESTS = (every_ek, evidence, pending, two_claim_one_id, rejected, operator_list, defaults, keys_of_other_kinds, other_ek, challenges_misused,
         one_tpm_many_claims, retired, waiting_for_lines, waiting_after_many, key_outside, chains, names, templates, claims, conflicts_hide_nothing, weaker, hostile_lines, ak_certificates, who_vouched, secrets, backup)


def main():
    missing = [t for t in NEEDED if shutil.which(t) is None]
    if missing:
        print('skipped: not installed: ' + ', '.join(missing))
        return 77
    folder = tempfile.mkdtemp(prefix='ceremony_test.')
    lab = Lab(os.path.abspath(sys.argv[1]), folder)
    try:
        for test in TESTS:
            if len(sys.argv) == 2 or test.__name__ in sys.argv[2:]:
                print(f'-- {test.__name__}')
                test(lab)
    finally:
        lab.close()
        shutil.rmtree(folder, ignore_errors=True)
    return swtpm_test.failures != 0


if __name__ == '__main__':
    sys.exit(main())
