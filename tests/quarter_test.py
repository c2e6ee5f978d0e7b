#!/usr/bin/env python3
"""A quarter in the life of a fleet, simulated: 1,000 machines, 90 rounds a day apart, and what happens to machines; after every round
the home must say of each machine and each alert exactly what quarter_model.py works out.

    quarter_test.py QUOTEMILL QUOTE_MAKER [--rounds N] [--keep]

What happens: kernel waves over several rounds (PCRs 4, 8, 9) in each group, firmware updates (PCR 0), a rootkit that stays until the
machine is made anew and one that leaves again between two good boots, machines that come and go, reboots, machines that fall silent,
are parked or are cut off by the site, a verifier that stood still, old quotes sent again, a snapshot put back, a clone, a stripped
copy that arrives first, a quote that arrives before its machine is enrolled, garbage under real and invented ids, a forged member
of a group. And an operator, who accepts (one, a cohort, for a group), ignores, reopens, acknowledges, parks, takes out, and ends
accepted sets. Everything follows from one seed. Exit 77 where libfaketime is not installed."""
import argparse, hashlib, os, random, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fleet_kit as kit
import quarter_model
from fleet_kit import DAY, HOUR, MINUTE, Quote

UNMEASURED_AFTER = 3 * DAY
SITES = ('site-a', 'site-b', 'relay')
GAP_ROUND = 72                    # the verifier stood still before it
CLOSE_ROUNDS = (11, 26, 41, 56)   # an hour or two after the one before
NOBODY_ROUNDS = (64, 65, 66, 67)  # nothing comes from anyone
SITE_DOWN = range(80, 85)         # nothing comes from machines of db


class Machine:
    def __init__(self, number, id, group, key):
        self.number, self.id, self.group, self.key = number, id, group, key
        self.image = {0: 'fw-1', 2: 'rom-1', 3: 'rom-config', 4: 'shim-1', 7: 'secure-boot', 8: 'cmdline-1', 9: 'kernel-1'}
        if group is None:
            self.image = {p: f'{t}-{id}' if p in (2, 3) else t for p, t in self.image.items()}
        self.own = {1: f'setup-{id}', 5: f'gpt-{id}', 6: f'oem-{id}'}
        self.extra = {}          # PCR -> what a rootkit adds, as of the present boot
        self.next = None         # image at the next boot
        self.reset, self.restart, self.clock = 3 + number % 5, number % 2, 10 * MINUTE + number * 1001
        self.on, self.sends, self.enrolled = True, True, False
        self.log, self.values = 'yes', 'no'

    def pcrs(self):
        out = []
        for p in range(10):
            text = self.image.get(p) or self.own[p]
            out.append((p, (f'{text}/a', f'{text}/b') + ((self.extra[p],) if p in self.extra else ())))
        return tuple(out)

    def boot(self):
        self.reset += 1
        self.extra = {}
        if self.next is not None:
            self.image, self.next = self.next, None

    def update(self, **parts):
        """For the next boot: what PCRs measure then, by number."""
        self.next = {**(self.next or self.image), **{int(k[1:]): v for k, v in parts.items()}}

    def quote(self, **more):
        return Quote(**{**dict(id=self.id, key=self.key[0], kind=self.key[1], pcrs=self.pcrs(), reset=self.reset, restart=self.restart,
                               clock=self.clock, log=self.log, values=self.values), **more})


class Quarter:
    def __init__(self, args, home):
        self.args, self.home = args, home
        self.rng = random.Random(args.seed)
        self.model = quarter_model.Model(UNMEASURED_AFTER, retire_after={'batch': 8 * DAY})
        self.machines, self.problems, self.kept = {}, [], {}
        self.keys = [(n, 'p256') for n in range(12)] + [(100, 'rsa2048')]
        self.born = self.decided = 0

    # ---- the fleet ----

    def birth(self, id, group, baseline=False, enroll=True):
        key = self.keys[12 if self.born % 100 == 99 else self.born % 12]
        m = Machine(self.born, id, group, key)
        self.born += 1
        self.machines[id] = m
        if enroll:
            self.enroll([m], baseline)
        return m

    def enroll(self, machines, baseline=False):
        lines = []
        for m in machines:
            line = self.home.line(m.id, *m.key, tags={'site': SITES[m.number % 3]})
            if m.group:
                line['group'] = m.group
            if baseline:
                values = quarter_model.values_of(m.pcrs())
                line['baseline'] = {str(p): v.hex() for p, v in enumerate(values)}
            lines.append(line)
            m.enrolled = True
            self.model.enroll(m.id, m.key, self.home.now, m.group, m.pcrs() if baseline else None)
        self.home.enroll(*lines)

    def all_of(self, group):
        return [m for m in self.machines.values() if m.group == group]

    # ---- operators ----

    def product_no(self, alerts):
        """The home's numbers for alerts of the model."""
        by_key = {}
        for a in self.home.alerts('--state', 'all'):
            by_key[a['alert'], a['id'], a['change'], a['first_seen']] = a['no']
        return [str(by_key[a.kind, a.id, a.change(), a.first]) for a in alerts]

    def find(self, kind, id=None, state=('open',), group=None, pcrs=None):
        found = [a for a in self.model.alerts if a.kind == kind and (id is None or a.id == id) and a.state in state and
                 (group is None or a.group == group) and (pcrs is None or tuple(i[0] for i in a.items) == pcrs)]
        if not found:
            raise AssertionError(f'the story wants a {kind} of {id or group}, and there is none')
        return found

    def decide(self, what, alerts, *args, then=None):
        self.home.must('alerts', what, *args, *self.product_no(alerts))
        self.decided += 1
        then()

    def accept(self, alerts, same=False, group=False):
        args = ['--reason', 'as planned'] + ['--same', '--yes'] * same + ['--group'] * group
        meant = self.model.cohort(alerts[0]) if same else alerts
        self.decide('accept', alerts, *args, then=lambda: self.model.accept(meant, self.home.now, group))

    def ignore(self, alerts, until=None):
        args = ['--reason', 'known'] + (['--until', self.home.when(until)] if until else [])
        self.decide('ignore', alerts, *args, then=lambda: self.model.ignore(alerts, until))

    def ack(self, alerts):
        self.decide('ack', alerts, then=lambda: self.model.ack(alerts))

    def reopen(self, alerts):
        self.decide('reopen', alerts, '--reason', 'was a mistake', then=lambda: self.model.reopen(alerts, self.home.now))

    def hold(self, m, until):
        self.home.must('hold', m.id, '--until', self.home.when(until), '--reason', 'in repair')
        self.model.hold(m.id, until)

    def retire(self, machines):
        self.home.must('retire', *[m.id for m in machines])
        self.decided += 1
        for m in machines:
            self.model.retire(m.id, self.home.now)
            del self.machines[m.id]

    # ---- what happens ----

    def wave(self, group, number, share, of=None):
        """A share of the machines gets kernel `number` and reboots into it."""
        for m in self.all_of(group) if of is None else of:
            if m.on and m.image[9] != f'kernel-{number}' and self.rng.random() < share:
                m.update(p4=f'shim-{number}', p8=f'cmdline-{number}', p9=f'kernel-{number}')
                m.boot()

    def before(self, r):
        """What befell the fleet since the last round; gives what is delivered beside each machine's quote: (source, quote, how)."""
        M, extra = self.machines, []
        for m in M.values():
            if m.on and self.rng.random() < 0.03:
                m.boot()
            elif m.on and self.rng.random() < 0.01:
                m.restart += 1
        if 12 <= r <= 17:
            self.wave('web', 2, 0.3 if r < 17 else 1.0)
        if 30 <= r <= 34:
            self.wave('db', 2, 0.4 if r < 34 else 1.0)
        if 38 <= r <= 45:
            self.wave('batch', 2, 0.25 if r < 45 else 1.0)
        if 48 <= r <= 50:
            self.wave(None, 2, 0.5 if r < 50 else 1.0)
        if 52 <= r <= 55:
            for m in self.all_of('web'):
                if m.image[0] == 'fw-1' and self.rng.random() < 0.5:
                    m.update(p0='fw-2')
                    m.boot()
        if 75 <= r <= 78:
            self.wave('web', 3, 0.4 if r < 78 else 1.0)
        # a rootkit that stays, until the machine is made anew; one that leaves
        if r == 20:
            M['web-0007'].boot()
        if 20 <= r < 60:
            M['web-0007'].extra = {9: 'rootkit'}
        if r == 60:
            M['web-0007'].boot()
        if r == 22:
            M['web-0009'].boot()
            M['web-0009'].extra = {8: 'implant'}
        if r == 23:
            M['web-0009'].boot()
        if r in (24, 27):  # one that changes what it measures at every boot
            M['own-0008'].boot()
            M['own-0008'].extra = {9: f'implant-{r}'}
        if r == 28:
            M['own-0008'].boot()
        # changes that are a machine's own, alone and with the group's
        if r == 33:
            M['db-0021'].own[5] = 'gpt-db-0021-again'
            M['db-0021'].boot()
        if r == 14:
            m = next(m for m in self.all_of('web')[20:] if m.image[9] == 'kernel-1')
            self.both = m.id
            m.own[5] = 'gpt-new-root'
            m.update(p4='shim-2', p8='cmdline-2', p9='kernel-2')
            m.boot()
        for id, at in (('db-0003', 15), ('db-0004', 15), ('own-0011', 18), ('own-0012', 18)):
            if r == at:
                M[id].image = {**M[id].image, 3: f'other-config-{id}'}
                M[id].boot()
        if r == 24:
            M['db-0004'].image = {**M['db-0004'].image, 3: 'rom-config'}
            M['db-0004'].boot()
        # autoscaling
        if r % 5 == 4:
            old = [m for m in self.all_of('batch') if m.on][:10]
            self.scale_down = old
            for n in range(10):
                self.birth(f'batch-{r:02d}{n:02d}', 'batch').image.update(self.newest('batch'))
        # silence
        if r == 40:
            M['batch-0140'].sends = False     # for good: taken out by itself
            M['web-0031'].sends = False       # for good
            M['db-0010'].sends = False        # parked
        if r == 62:
            M['own-0020'].on = M['own-0020'].sends = False
        if r == 75:
            M['own-0020'].on = M['own-0020'].sends = True
            M['own-0020'].boot()
        if r == 30:
            M['web-0007'].sends = False       # a red one that falls silent stays red
        if r == 58:
            M['web-0007'].sends = True
        # old quotes again
        if r == 5:
            self.kept['old'] = [M[i].quote() for i in ('web-0040', 'db-0040', 'own-0040')]
        if r == 8:
            extra += [('site-b', q, None) for q in self.kept['old']]      # among the last 16: delivered twice
        if r == 30:
            extra += [('site-b', q, None) for q in self.kept['old']]      # long gone: replayed
        # a snapshot put back
        if r == 35:
            m = M['own-0005']
            self.kept['own-0005'] = (m.reset, m.restart, m.clock)
            for _ in range(3):
                m.boot()
        if r == 37:
            m = M['own-0005']
            m.reset, m.restart, m.clock = self.kept['own-0005']
            m.boot()
        # a clone, started from the state of round 42
        if r == 42:
            m = M['own-0006']
            self.clone = Machine(m.number, m.id, m.group, m.key)
            self.clone.image, self.clone.reset, self.clone.restart, self.clone.clock = m.image, m.reset, m.restart, m.clock
            self.clone.boot()
        if 42 <= r <= 46:
            self.clone.clock = max(self.clone.clock + HOUR, M['own-0006'].clock - DAY)
            extra.append(('site-b', self.clone.quote(), None))
        # a TPM that was cleared: its clock starts anew
        if r == 29:
            M['own-0030'].boot()
            M['own-0030'].clock = 5 * MINUTE
        # the stripped copy first
        if r in (25, 26):
            m = M['web-0012']
            if r == 25:
                m.boot()
                m.extra = {9: 'module'}
                self.kept['whole'] = m.quote()
                m.sends = False
                extra.append(('relay', m.quote(log='no'), None))
            else:
                extra.append(('site-a', self.kept['whole'], None))
                m.sends = True
        if r == 27:
            M['web-0012'].boot()
        # before its machine is enrolled
        if r == 40:
            m = self.birth('late-0001', None, enroll=False)
            m.sends = False
            extra.append(('site-c', m.quote(), None))
        if r == 41:
            self.enroll([M['late-0001']])
        if r == 42:
            M['late-0001'].sends = True
        # a member that proves nothing, and one that reports another's values
        if r == 2:
            m = self.birth('own-dumb', None)
            m.log = 'no'
        if r == 18:
            m, good = M['web-0050'], M['web-0051']
            forged = Machine(0, m.id, 'web', self.keys[(m.number + 5) % 12])
            extra.append(('site-c', forged.quote(reset=m.reset, restart=m.restart, clock=m.clock + 1), 'bad_signature'))
            m.boot()
            m.extra = {7: 'shim-lock'}
        if r == 19:
            M['web-0050'].boot()
        # garbage
        if r in (6, 7, 21, 50):
            extra += self.garbage(r)
        return extra

    def newest(self, group):
        """What a new machine of a group boots."""
        seen = {}
        for m in self.all_of(group):
            seen[m.image[9]] = {p: m.image[p] for p in (0, 4, 8, 9)}
        return seen[max(seen)] if seen else {}

    def garbage(self, r):
        out = []
        targets = self.rng.sample(sorted(self.machines), 40)
        for n, id in enumerate(targets):
            m = self.machines[id]
            how = ('bad_signature', 'wrong_selection', 'not_a_quote')[n % 3]
            crooked = {'bad_signature': dict(broken=1), 'wrong_selection': dict(select=0x1ff), 'not_a_quote': dict(magic=0x12345678)}[how]
            out.append(('open-relay', m.quote(clock=m.clock + n, **crooked), how))
        for n in range(30):
            stranger = Machine(n, f'stranger-{r}-{n}', None, self.keys[n % 12])
            out.append(('open-relay', stranger.quote(), None))
        return out

    def decisions(self, r):
        """After round r."""
        if r == 12:
            self.accept(self.find('pcr_mismatch', group='web', pcrs=(4, 8, 9))[:1], same=True, group=True)
        if r == 14:
            self.accept(self.find('pcr_mismatch', self.both, pcrs=(5,)))
        if r == 15:
            self.ignore(self.find('pcr_mismatch', 'db-0003'), until=self.home.now + 10 * DAY)
            self.ignore(self.find('pcr_mismatch', 'db-0004'))
        if r == 18:
            self.accept(self.find('pcr_mismatch', 'own-0011'))
            self.accept(self.find('pcr_mismatch', 'own-0012'))
        if r == 20:
            self.ack(self.find('pcr_mismatch', 'web-0007'))
        if r == 21:
            self.reopen(self.find('pcr_mismatch', 'own-0012', state=('accepted',)))
        if r == 29:
            self.ack(self.find('pcr_mismatch', 'own-0008', state=('resolved',))[:1])
        if r == 30:
            self.accept(self.find('pcr_mismatch', group='db', pcrs=(4, 8, 9))[:1], same=True)
        if r == 31:
            self.accept(self.find('pcr_mismatch', group='db', pcrs=(4, 8, 9))[:1], same=True, group=True)
        if r == 33:
            self.accept(self.find('pcr_mismatch', 'db-0021'))
        if r == 39:
            self.accept(self.find('cloned_or_rolled_back', 'own-0005'))
        if r == 40:
            self.hold(self.machines['db-0010'], self.home.now + 20 * DAY)
        if r == 44:
            self.accept(self.find('pcr_mismatch', group='batch', pcrs=(4, 8, 9))[:1], same=True, group=True)
        if r == 48:
            self.accept(self.find('pcr_mismatch', next(m.id for m in self.all_of(None) if m.image[9] == 'kernel-2')))
        if r in (49, 50):
            for change in sorted({a.change() for a in self.find('pcr_mismatch') if a.group is None and a.items and a.items[0][0] == 4}):
                self.accept([a for a in self.find('pcr_mismatch') if a.change() == change and a.group is None][:1], same=True)
        if r == 53:
            self.accept(self.find('pcr_mismatch', group='web', pcrs=(0,))[:1], same=True, group=True)
        if r == 54:
            more = [a for a in self.model.alerts if a.kind == 'pcr_mismatch' and a.group == 'web' and a.state == 'open' and a.items and a.items[0][0] == 0]
            if more:
                self.accept(more[:1], same=True, group=True)
        if r == 75:
            self.accept(self.find('pcr_mismatch', group='web', pcrs=(4, 8, 9))[:1], same=True, group=True)
        if r == 79:
            self.end_oldest_group_set('web')
        if r % 5 == 4:
            self.retire([m for m in self.scale_down if m.id in self.machines])

    def end_oldest_group_set(self, group):
        mine = next(s for s in self.model.sets if s.kind == 'group' and s.owner == group and s.ended is None)
        theirs = [s for s in self.sets_shown() if s['kind'] == 'group' and s['owner'] == group and s['ended'] is None]
        self.home.must('baseline', 'retire', str(min(s['no'] for s in theirs)), '--reason', 'old kernel')
        self.model.retire_set(mine, self.home.now)

    # ---- a round ----

    def round(self, r):
        step = DAY + (r * 7 % 13 - 6) * MINUTE
        if r in CLOSE_ROUNDS:
            step = 90 * MINUTE
        if r == GAP_ROUND:
            step = 4 * DAY
        self.home.now += step // 1000 * 1000
        for m in self.machines.values():
            if m.on:
                m.clock += step
        extra = self.before(r)
        if r == 47:
            self.machines['own-0031'].clock -= 9 * HOUR  # its quotes are made in advance: since boot the TPM counts less than we do
        own = []
        for m in self.machines.values():
            quiet = not m.on or not m.sends or r in NOBODY_ROUNDS or (r in SITE_DOWN and m.group == 'db')
            if not quiet:
                own.append((SITES[m.number % 3], m.quote(), None))
        if r in NOBODY_ROUNDS:
            extra = []
        deliveries = own + extra
        self.rng.shuffle(deliveries)
        self.spool(deliveries)
        if r in (7, 50):
            self.home.put(b'\xc1 not msgpack' * 20, source='open-relay')
            deliveries.append(('open-relay', None, 'malformed'))
        expected = self.model.run(self.home.now, deliveries)
        run, _ = self.home.run()
        for id in [id for id, m in self.machines.items() if m.enrolled and id not in self.model.machines]:
            del self.machines[id]  # taken out for its silence
        self.compare(r, run, expected)
        decided = self.decided
        self.decisions(r)
        if self.decided != decided:
            self.compare(r, None, None)

    def spool(self, deliveries):
        by_source = {}
        for source, q, _ in deliveries:
            by_source.setdefault(source, []).append(q)
        for source, quotes in by_source.items():
            at = 0
            while at < len(quotes):
                size = self.rng.choice((1, 20, 60, 60))
                self.home.put(*quotes[at:at + size], source=source)
                at += size

    # ---- comparing ----

    def say(self, r, what):
        if what in self.problems:
            return  # as in the round before
        self.problems.append(what)
        if len(self.problems) <= 40:
            print(f'FAIL round {r}: {what}', flush=True)

    def differences(self, r, what, expected, got):
        for key in sorted(set(expected) | set(got), key=str):
            if expected.get(key) != got.get(key):
                e, g = expected.get(key), got.get(key)
                if isinstance(e, dict) and isinstance(g, dict):
                    e, g = {k: v for k, v in e.items() if g.get(k) != v}, {k: v for k, v in g.items() if e.get(k) != v}
                self.say(r, f'{what} {key}: expected {e}, got {g}')

    def compare(self, r, run, expected):
        if run is not None:
            by = {}
            for _, status, reason in expected:
                by[reason] = by.get(reason, 0) + 1
            if run['records'] != len(expected) or sum(run['by_reason'].values()) != run['records'] or not run['complete']:
                self.say(r, f'{len(expected)} records came, the run says {run}')
            self.differences(r, 'reason', by, run['by_reason'])
            if self.home.left():
                self.say(r, f'left in the spool: {self.home.left()[:5]}')
        want = self.model.told(self.home.now)
        shown, summary = self.home.status()
        got = {}
        for id, s in shown.items():
            got[id] = {k: s.get(k) for k in ('status', 'reason', 'last_valid', 'last_good', 'group')}
            if id in want and want[id]['reason'] is None:
                got[id]['reason'] = None
        self.differences(r, 'status of', want, got)
        by = {}
        for s in want.values():
            by[s['status']] = by.get(s['status'], 0) + 1
        if summary['instances'] != len(want) or {k: v for k, v in summary['by_status'].items() if v} != by:
            self.say(r, f'the summary says {summary}, expected {by}')
        self.compare_alerts(r)

    def compare_alerts(self, r):
        def key_of(told):
            return told['alert'], told['id'], told['change'], told['first_seen']
        want, got = {}, {}
        for a in self.model.alerts:
            if a.source in ('fleet', 'group'):
                continue
            t = a.told()
            want.setdefault(key_of(t), []).append(t)
        shared = [a for a in self.model.alerts if a.source in ('fleet', 'group')]
        others = []
        for a in self.home.alerts('--state', 'all'):
            t = {k: a.get(k) for k in ('alert', 'id', 'state', 'first_seen', 'last_seen', 'count', 'change')}
            if a['alert'] == 'unmeasured' and not a['id']:
                others.append(a)
                continue
            if a['alert'] == 'pcr_mismatch':
                t['changes'] = [(c['pcr'], c['expected'], c['measured']) for c in a.get('changes', [])]
                t['seen'] = a.get('seen', False)
            got.setdefault(key_of(t), []).append(t)
        for d in (want, got):
            for k in d:
                d[k] = sorted(d[k], key=str)[0] if len(d[k]) == 1 else {'rows': sorted(d[k], key=str)}
        self.differences(r, 'alert', want, got)
        told = sorted((a.first, a.state) for a in shared)
        if told != sorted((a['first_seen'], a['state']) for a in others):
            self.say(r, f'rows for many silent machines: expected {told}, got {others}')

    def sets_shown(self):
        out = []
        for s in self.home.must('baseline', 'history', '--json').json():
            out.append({'no': s['no'], 'kind': s['set'], 'owner': s['group'] if s['set'] == 'group' else s['id'], 'origin': s['origin'],
                        'since': s['since'], 'ended': s.get('ended'), 'values': {int(p): v for p, v in s['values'].items()}})
        return out

    def compare_history(self, r):
        def rows(sets):
            return sorted((str(s['owner']), s['kind'], s['origin'], s['since'], str(s['ended']), str(sorted(s['values'].items()))) for s in sets)
        want, got = rows([s.told() for s in self.model.sets]), rows(self.sets_shown())
        for row in sorted(set(want) ^ set(got))[:10]:
            self.say(r, f'set {"missing" if row in want else "not expected"}: {row}')

    def play(self):
        started = time.monotonic()
        home, n = self.home, 1000
        home.init()
        home.must('config', 'set', 'unmeasured_after', '3d')
        home.must('config', 'set', '--group', 'batch', 'retire_after', '8d')
        share = [('web', n // 2), ('db', n // 5), ('batch', n * 3 // 20), (None, n - n // 2 - n // 5 - n * 3 // 20)]
        for group, count in share:
            machines = [self.birth(f'{group or "own"}-{i:04d}', group, enroll=False) for i in range(count)]
            self.enroll(machines[::2], baseline=group == 'db')
            self.enroll(machines[1::2])
        for r in range(1, self.args.rounds + 1):
            self.round(r)
            if len(self.problems) > 40:
                break
            if r % 10 == 0:
                print(f'round {r}: {len(self.model.machines)} machines, {len(self.model.alerts)} alerts, {time.monotonic() - started:.1f} s', flush=True)
        self.compare_history(self.args.rounds)
        if not home.integrity():
            self.say(self.args.rounds, 'the database is not sound')
        print(f'{self.args.rounds} rounds in {time.monotonic() - started:.1f} s: {len(self.problems)} differences')
        return not self.problems


def main():
    p = argparse.ArgumentParser()
    p.add_argument('quotemill')
    p.add_argument('maker')
    p.add_argument('--rounds', type=int, default=90)
    p.add_argument('--seed', type=int, default=1)
    p.add_argument('--keep', action='store_true', help='leave the home behind')
    args = p.parse_args()
    kit.skip_without(args.quotemill, args.maker)
    maker = kit.Maker(args.maker)
    home = kit.Home(args.quotemill, maker)
    try:
        return 0 if Quarter(args, home).play() else 1
    finally:
        maker.close()
        print(f'kept in {home.top}') if args.keep else home.close()


if __name__ == '__main__':
    sys.exit(main())
