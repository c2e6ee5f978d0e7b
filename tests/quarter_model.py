"""What a home must remember and say, worked out a second time: the rules of the life cycle in plain Python, for the simulated quarter.

Not a test. Shares no code with quotemill and knows nothing of how it is made: quotes come in as they were asked of the maker, and what
comes out is what `status`, `alerts` and `baseline` must show. Only what the quarter needs is here: one SHA-256 bank, PCRs 0-9, all
of them baselined, no nonces."""
import hashlib
from functools import lru_cache

HOUR, DAY = 3_600_000, 86_400_000
PCRS = range(10)
INSTANCE_PCRS = frozenset((1, 5, 6))  # of a group's machines; the others are the group's
SLACK = 1 << 22
OPEN, IGNORED, ACCEPTED, RESOLVED = 'open', 'ignored', 'accepted', 'resolved'


def sha256(b):
    return hashlib.sha256(b).digest()


@lru_cache(None)
def extended(texts):
    v = bytes(32)
    for t in texts:
        v = sha256(v + sha256(t.encode()))
    return v


@lru_cache(None)
def values_of(pcrs, kept=()):
    v = [bytes(32)] * 10
    for pcr, texts in pcrs:
        if pcr not in kept:
            v[pcr] = extended(texts)
    return tuple(v)


@lru_cache(None)
def composite(values):
    return sha256(b''.join(values))


def signed(n):
    n %= 1 << 32
    return n - (1 << 32) if n >> 31 else n


def newer(a, b):
    """Sequence (reset, restart, clock) a after b."""
    d = signed(a[0] - b[0])
    return d > 0 or (d == 0 and signed(a[1] - b[1]) >= 0 and a[2] > b[2])


class Set:
    def __init__(self, no, kind, owner, values, origin, since, alert=None):
        self.no, self.kind, self.owner, self.values, self.origin, self.since, self.alert = no, kind, owner, values, origin, since, alert
        self.ended = None

    def told(self):
        return {'kind': self.kind, 'owner': self.owner, 'origin': self.origin, 'since': self.since, 'ended': self.ended,
                'values': {p: self.values[p].hex() for p in sorted(self.values)}}


class Alert:
    def __init__(self, kind, id, items, digest, expected, now, count, boot):
        self.kind, self.id, self.items, self.digest = kind, id, items, digest
        self.first = self.last = now
        self.count, self.state, self.seen, self.closed, self.until = count, OPEN, False, None, None
        self.boot, self.set, self.nearest, self.sequence, self.group, self.source = boot, None, expected, None, None, None

    def change(self):
        if self.items:
            return hashlib.sha256(b''.join(bytes([p]) + e + m for p, e, m in self.items)).hexdigest()[:16]
        return hashlib.sha256(self.digest).hexdigest()[:16] if self.digest else ''

    def live(self):
        return self.state in (OPEN, IGNORED)

    def told(self):
        t = {'alert': self.kind, 'id': self.id, 'state': self.state, 'first_seen': self.first, 'last_seen': self.last,
             'count': self.count, 'change': self.change()}
        if self.kind == 'pcr_mismatch':
            t['changes'] = [(p, e.hex(), m.hex()) for p, e, m in self.items]
            t['seen'] = self.seen
        return t


class Verdict:
    def __init__(self, status, reason, log='absent', values=None, proven=False, near=None, differ=(), partial=False, digest=None):
        self.status, self.reason, self.log, self.values, self.proven = status, reason, log, values, proven
        self.near, self.differ, self.partial, self.digest = near, differ, partial, digest


class Machine:
    def __init__(self, id, key, group, now, order):
        self.id, self.key, self.group, self.enrolled, self.order = id, key, group, now, order
        self.last = self.refused = None
        self.recent, self.learned = [], False
        self.authentic = self.good = None
        self.verdict, self.boot = None, None
        self.refusals = {}
        self.refused_any = False
        self.hold_until = None
        self.boots = self.boots_silent = 0
        self.silent = self.silent_many = False  # its present silence was told; with others

    def counted(self, reason):
        self.refusals[reason] = self.refusals.get(reason, 0) + 1


class Model:
    def __init__(self, unmeasured_after, learn_within=7 * DAY, lag_after=6 * HOUR, retire_after=None):
        self.unmeasured_after, self.learn_within, self.lag_after = unmeasured_after, learn_within, lag_after
        self.retire_after = retire_after or {}
        self.machines, self.sets, self.alerts, self.held = {}, [], [], {}
        self.by_owner, self.alerts_of, self.refusal_rows = {}, {}, {}
        self.count, self.gap_end, self.last_end, self.heard = 0, 0, None, 0
        self.results = {}
        self.now = 0

    # ---- enrolment and parking ----

    def enroll(self, id, key, now, group=None, baseline=None):
        m = Machine(id, key, group, now, self.count)
        self.count += 1
        self.machines[id] = m
        if baseline:
            self.add_set('whole', id, dict(zip(PCRS, values_of(baseline))), 'enrolled', now)

    def retire(self, id, now):
        self.machines.pop(id)
        for a in self.alerts_of.pop(id, []):
            self.alerts.remove(a)
        for s in self.by_owner.pop(('own', id), []):
            s.ended = s.ended or now

    def hold(self, id, until):
        self.machines[id].hold_until = until

    # ---- sets ----

    def add_set(self, kind, owner, values, origin, now, alert=None):
        where = ('group' if kind == 'group' else 'own', owner)
        for s in self.by_owner.get(where, []):
            if s.ended is None and s.kind == kind and s.values == values:
                return s
        s = Set(len(self.sets) + 1, kind, owner, values, origin, now, alert)
        self.sets.append(s)
        self.by_owner.setdefault(where, []).append(s)
        return s

    def live(self, where, kind):
        return [s for s in reversed(self.by_owner.get(where, [])) if s.ended is None and s.kind == kind]

    def accepted(self, m):
        """What the machine may pass on, newest first: (values, newest number)."""
        whole = self.live(('own', m.id), 'whole')
        found = [(s.no, 0, s.values) for s in whole]
        groups = self.live(('group', m.group), 'group') if m.group else []
        beside = []  # a whole set says what is the machine's own, too
        for s in self.live(('own', m.id), 'instance') + whole:
            own = {p: s.values[p] for p in INSTANCE_PCRS}
            if own not in [values for _, values in beside]:
                beside.append((s.no, own))
        for g in groups:
            for no, own in beside:
                found.append((max(g.no, no), min(g.no, no), {**g.values, **own}))
            if not beside:
                found.append((g.no, 0, g.values))
        found.sort(key=lambda f: f[:2], reverse=True)
        return [f[2] for f in found]

    # ---- judging ----

    def judge(self, m, values, proven_otherwise, log_says):
        sets = self.accepted(m)
        digest = composite(values)
        proven = proven_otherwise or any(len(s) == 10 and composite(tuple(s[p] for p in PCRS)) == digest for s in sets)
        log = log_says if log_says != 'other' else 'inconsistent'
        if not proven:
            if not sets:
                return Verdict('new', 'pcr_values_missing', log, digest=digest)
            if any(len(s) == 10 for s in sets):
                return Verdict('untrusted', 'pcr_mismatch', log, digest=digest, near=sets[0])
            return Verdict('untrusted', 'pcr_values_missing', log, digest=digest, near=sets[0])
        best = None
        for s in sets:
            differ = tuple(p for p in sorted(s) if s[p] != values[p])
            rank = (len(s) < 10, len(differ))
            if best is None or rank < best[0]:
                best = (rank, s, differ)
        if best is None:
            return Verdict('new', 'no_baseline', log, values, True, digest=digest)
        rank, near, differ = best
        if differ:
            return Verdict('untrusted', 'pcr_mismatch', log, values, True, near, differ, rank[0], digest)
        if rank[0]:
            return Verdict('new', 'no_baseline', log, values, True, near, (), True, digest)
        return Verdict('trusted', 'ok', log, values, True, near, (), False, digest)

    def learn(self, m, v, now):
        if v.status != 'new' or v.reason != 'no_baseline' or m.learned or now > m.enrolled + self.learn_within:
            return v
        if any(v.values[p] == bytes(32) for p in range(8)):
            return v
        if v.partial:
            self.add_set('instance', m.id, {p: v.values[p] for p in INSTANCE_PCRS}, 'learned', now)
        else:
            self.add_set('whole', m.id, dict(zip(PCRS, v.values)), 'learned', now)
        m.learned = True
        v.reason = 'learned'
        return v

    # ---- alerts ----

    def raise_alert(self, kind, m, now, items=(), digest=None, near=None, count=1, repeat=True):
        rows = self.alerts_of.setdefault(m.id, [])
        for a in rows:
            if a.live() and a.kind == kind and a.items == items and a.digest == digest:
                if repeat:
                    a.last = now
                    a.count += count
                    a.boot = m.last and m.last[0]
                return a
        a = Alert(kind, m.id, items, digest, near, now, count, m.last and m.last[0])
        a.group = m.group
        rows.append(a)
        self.alerts.append(a)
        return a

    def verdict_alerts(self, m, v, now, repeat=True):
        raised = []
        if (v.status, v.reason) == ('untrusted', 'pcr_mismatch'):
            if not v.proven:
                raised.append(self.raise_alert('pcr_mismatch', m, now, digest=v.digest, near=v.near, repeat=repeat))
            parts = [v.differ]
            if m.group:
                parts = [tuple(p for p in v.differ if p not in INSTANCE_PCRS), tuple(p for p in v.differ if p in INSTANCE_PCRS)]
            for part in parts:
                items = tuple((p, v.near[p], v.values[p]) for p in part)
                if items:
                    raised.append(self.raise_alert('pcr_mismatch', m, now, items, near=v.near, repeat=repeat))
        elif v.status == 'untrusted':
            raised.append(self.raise_alert(v.reason, m, now, repeat=repeat))
        if v.log == 'inconsistent':
            raised.append(self.raise_alert('log_inconsistent', m, now, repeat=repeat))
        return raised

    def close(self, a, now):
        a.state, a.closed = RESOLVED, now

    def passes(self, m, now, but=()):
        """A pass closes what is open, and what is ignored once the machine restarted; not what somebody must decide."""
        for a in self.alerts_of.get(m.id, []):
            if a in but or a.kind == 'cloned_or_rolled_back':
                continue
            if a.state == OPEN or (a.state == IGNORED and m.last[0] != a.boot):
                self.close(a, now)

    # ---- a run ----

    def run(self, now, deliveries):
        """deliveries: (source, quote, how): how is None for authentic ones, else the reason of checks 1 to 7; quote may be None."""
        self.now = now
        results = []
        if self.last_end is not None and now - self.last_end > self.unmeasured_after / 2:
            self.gap_end = now
        for id in sorted(self.held):
            since, source, quote, how = self.held[id]
            if id in self.machines:
                deliveries = deliveries + [('held', quote, how)]
                del self.held[id]
            elif now - since > DAY:
                del self.held[id]
        per, refused = {}, {}
        for source, q, how in deliveries:
            id = q.id if q else ''
            m = self.machines.get(id)
            reason = how
            if q is not None and m is None and reason != 'malformed':
                reason = 'unknown_instance'
                self.held[id] = (now, source, q, how)
            elif q is not None and reason is None and (q.key, q.kind) != m.key:
                reason = 'bad_signature'
            if reason is None:
                per.setdefault(id, []).append(q)
                continue
            results.append((id, 'invalid', reason))
            row = refused.setdefault((reason, source), [0, set()])
            row[0] += 1
            row[1].add(id)
            if m is not None:
                m.counted(reason)
                m.refused_any = True
        for (reason, source), (count, ids) in refused.items():
            self.refusal(reason, source, count, now)
        heard = False
        for id in sorted(per, key=lambda i: self.machines[i].order):
            m = self.machines[id]
            if self.take(m, per[id], now, results):
                heard = True
        if heard:
            self.heard = now
        self.silence(now)
        self.age(now)
        self.last_end = now
        return results

    def refusal(self, reason, source, count, now):
        a = self.refusal_rows.get((reason, source))
        if a is None or not a.live():
            a = Alert(reason, '', (), None, None, now, count, None)
            a.source = source
            self.refusal_rows[reason, source] = a
            self.alerts.append(a)
        else:
            a.count += count
            a.last = now

    def take(self, m, quotes, now, results):
        def order(q):
            base = m.last[0] if m.last else quotes[0].reset
            return (signed(q.reset - base), signed(q.restart), q.clock)
        heard = False
        for q in sorted(quotes, key=order):
            status, reason = self.one(m, q, now)
            results.append((m.id, status, reason))
            heard = heard or reason not in ('duplicate', 'replayed')
        return heard

    def one(self, m, q, now):
        seq = (q.reset, q.restart, q.clock)
        values = values_of(q.pcrs, q.kept)
        attest = (q.extra, seq, q.safe, values)
        log = {'no': 'absent', 'yes': 'replayed', 'other': 'other', 'torn': 'malformed'}[q.log]
        verdict = self.judge(m, values, q.values == 'yes' or q.log == 'yes', log)
        proof = {p for p, has in (('values', verdict.proven), ('log', verdict.log == 'replayed')) if has}
        for entry in m.recent:
            if entry[0] != attest:
                continue
            if proof <= entry[1]:
                return 'duplicate', 'duplicate'
            verdict = self.learn(m, verdict, now)
            entry[1] |= proof
            if m.last == seq:
                m.verdict = verdict
                if verdict.status == 'trusted':
                    m.good = now
                self.after(m, verdict, now, repeat=False)
            return verdict.status, verdict.reason
        if m.last is not None and not newer(seq, m.last):
            m.counted('replayed')
            m.refused_any = True
            cloned = m.refused is not None and newer(seq, m.refused)
            if m.refused is None or newer(seq, m.refused):
                m.refused = seq
            self.raise_alert('replayed', m, now).sequence = seq
            if cloned:
                self.raise_alert('cloned_or_rolled_back', m, now).sequence = seq
            return 'invalid', 'replayed'
        raised = []
        if m.last is not None:
            d = signed(q.reset - m.last[0])
            m.boots += d
            m.boots_silent += max(0, d - 1)
            lost = d > 0 and q.clock < m.last[2] and (q.safe or m.last[2] - q.clock > SLACK)
            behind = m.boot[:2] == seq[:2] and now - m.boot[2] - (q.clock - m.boot[3]) > self.lag_after
        else:
            lost = behind = False
        if m.boot is None or m.boot[:2] != seq[:2]:
            m.boot = (q.reset, q.restart, now, q.clock)
        verdict = self.learn(m, verdict, now)
        m.recent = (m.recent + [[attest, proof]])[-16:]
        m.last, m.authentic, m.verdict = seq, now, verdict
        m.silent = m.silent_many = False
        if verdict.status == 'trusted':
            m.good = now
        if lost:
            raised.append(self.raise_alert('tpm_state', m, now))
        if behind:
            raised.append(self.raise_alert('held_back', m, now))
        self.after(m, verdict, now, raised)
        return verdict.status, verdict.reason

    def after(self, m, v, now, raised=(), repeat=True):
        raised = list(raised) + self.verdict_alerts(m, v, now, repeat)
        over = {'unmeasured'}
        over |= {'pcr_values_missing'} if v.proven else set()
        over |= {'log_required', 'log_inconsistent'} if v.log == 'replayed' else set()
        over |= {'no_baseline'} if v.status != 'new' or v.reason == 'learned' else set()
        for a in self.alerts_of.get(m.id, []):
            if a.kind in over and a not in raised and a.state == OPEN:
                self.close(a, now)
        if v.status == 'trusted':
            self.passes(m, now, raised)

    # ---- silence and age ----

    def since(self, m, now):
        times = [m.enrolled, self.gap_end]
        if m.authentic is not None:
            times.append(m.authentic)
        if m.hold_until is not None and m.hold_until <= now:
            times.append(m.hold_until)
        return max(times)

    def is_silent(self, m, now):
        if m.hold_until is not None and m.hold_until > now:
            return False
        return now - self.since(m, now) > self.unmeasured_after

    def silence(self, now):
        for id in list(self.machines):
            m = self.machines[id]
            after = self.retire_after.get(m.group)
            if after and now - max(m.enrolled, m.authentic or 0) > after:
                self.retire(id, now)
        silent = {}
        for m in self.machines.values():
            if self.status(m, now)[0] == 'unmeasured':
                silent.setdefault(m.group, []).append(m)
            else:
                m.silent = m.silent_many = False
                v = m.verdict
                if v and v.status == 'new' and v.reason != 'learned' and now - m.enrolled > self.unmeasured_after:
                    self.raise_alert(v.reason, m, now)
        quiet = now - max(self.heard, self.gap_end) > self.unmeasured_after and bool(silent)
        self.shared(None, 'fleet', quiet, now)
        for group in sorted({m.group or '' for m in self.machines.values()}):
            fallen = silent.get(group or None, [])
            fresh = [m for m in fallen if not m.silent]
            size = sum((m.group or '') == group for m in self.machines.values())
            bulk = len(fresh) > 1 and 20 * len(fresh) > size
            if not quiet and bulk:
                self.shared(group, 'group', True, now)
            elif not fallen:
                self.shared(group, 'group', False, now)
            for m in fallen:
                if m in fresh and (quiet or bulk):
                    m.silent_many = True
                elif not m.silent_many:
                    self.raise_alert('unmeasured', m, now)
                m.silent = True

    def shared(self, group, what, on, now):
        """One row for many machines that fell silent."""
        a = next((a for a in self.alerts if a.kind == 'unmeasured' and a.id == '' and a.group == group and a.source == what and a.live()), None)
        if not on:
            if a:
                self.close(a, now)
        elif a:
            a.last, a.count = now, a.count + 1
        else:
            a = Alert('unmeasured', '', (), None, None, now, 1, None)
            a.group, a.source = group, what
            self.alerts.append(a)

    def age(self, now):
        for a in self.alerts:
            if a.state == IGNORED and a.until is not None and a.until <= now:
                a.state = OPEN
            if a.id == '' and a.kind != 'unmeasured' and a.state == OPEN and now - a.last > DAY:
                self.close(a, now)
            if a.state == RESOLVED and not a.seen and now - a.closed > 30 * DAY:
                a.seen = True

    # ---- decisions ----

    def cohort(self, alert):
        return [a for a in self.alerts if a.kind == alert.kind and a.group == alert.group and a.items == alert.items and
                a.digest == alert.digest and a.live()]

    def again(self, m, now):
        """The newest record's values by the sets that live now."""
        v = m.verdict
        if v is None or not v.proven:
            return
        new = self.judge(m, v.values, True, v.log)
        if v.reason == 'learned' and new.status == 'trusted':
            return  # new until its next record
        m.verdict = new
        if new.status == 'trusted':
            m.good = m.authentic
            for a in self.alerts_of.get(m.id, []):
                if a.state == OPEN and a.kind in ('pcr_mismatch', 'pcr_values_missing', 'no_baseline'):
                    self.close(a, now)

    def accept(self, alerts, now, group=False):
        touched = []
        for a in alerts:
            m = self.machines[a.id]
            a.state, a.closed, a.seen = ACCEPTED, now, True
            if a.kind == 'cloned_or_rolled_back':
                m.last, m.refused, m.boot = a.sequence, None, (None, None, None, None)
                continue
            overlaid = {**a.nearest, **{p: v for p, _, v in a.items}}
            if group:
                a.set = self.add_set('group', m.group, {p: overlaid[p] for p in PCRS if p not in INSTANCE_PCRS}, 'accepted', now, a)
                touched += [x for x in self.machines.values() if x.group == m.group]
            else:
                a.set = self.add_set('whole', m.id, overlaid, 'accepted', now, a)
                touched.append(m)
        for m in {m.id: m for m in touched}.values():
            self.again(m, now)

    def ignore(self, alerts, until=None):
        for a in alerts:
            a.state, a.until, a.seen = IGNORED, until, True  # somebody looked

    def ack(self, alerts):
        for a in alerts:
            a.seen = True

    def reopen(self, alerts, now):
        for a in alerts:
            if a.set is not None and a.set.ended is None:
                a.set.ended = now
            a.state, a.closed, a.until = OPEN, None, None
            self.again(self.machines[a.id], now)

    def retire_set(self, s, now):
        s.ended = now
        for m in self.machines.values():
            if s.owner == (m.group if s.kind == 'group' else m.id):
                self.again(m, now)

    # ---- what is shown ----

    def status(self, m, now):
        v = m.verdict
        silent = self.is_silent(m, now)
        if v is not None and v.status == 'untrusted':
            return 'untrusted', v.reason
        if silent:
            return 'unmeasured', None
        if v is None and m.refused_any:
            return 'invalid', None
        if v is None:
            return 'new', None
        return v.status, v.reason

    def told(self, now):
        out = {}
        for m in self.machines.values():
            status, reason = self.status(m, now)
            out[m.id] = {'status': status, 'reason': reason, 'last_valid': m.authentic, 'last_good': m.good, 'group': m.group}
        return out
