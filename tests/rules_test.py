#!/usr/bin/env python3
"""Every rule of the home's life cycle, each with a scenario that fails when the rule is taken out: small fleets, made-to-order evidence, the
command line, a clock that the test tells.

    rules_test.py QUOTEMILL QUOTE_MAKER [NAME...]

TABLE says which rule is shown by which scenario, or by which case (SUITE/CASE) of the unit tests; rule_mutations.py takes each out. Exit 77
where libfaketime is not installed."""
import base64, fcntl, json, os, shutil, sqlite3, subprocess, sys, tempfile, time, traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fleet_kit as kit
from fleet_kit import DAY, HOUR, MINUTE, SECOND, START, Quote

# (rule, scenarios and cases)
TABLE = [
    # Baselines are sets
    ('a set is one value for each baselined PCR of a class', 'set_kinds_and_their_pcrs'),
    ('without a group all PCRs are the instance\'s', 'no_group_shares_nothing'),
    ('in a group 1, 5 and 6 are the instance\'s, the others the group\'s', 'group_classes_by_default'),
    ('... unless the group says otherwise', 'group_classes_configured'),
    ('ignored PCRs are not compared', 'group_pcrs_ignored'),
    ('a record passes on one live whole set', 'passes_on_a_whole_set'),
    ('... or on one live set of the group and one of the instance', 'passes_on_a_pair'),
    ('accept without --group makes a whole set, of one machine', 'accept_is_one_machines'),
    ('baseline set makes a whole set', 'baseline_set_is_whole'),
    ('a baseline line makes a whole set', 'enrolled_is_whole'),
    ('--group makes a group\'s set', 'set_kinds_and_their_pcrs'),
    ('... a set from before more was baselined passes nothing, but fails what differs', 'older_set_passes_nothing'),
    ('values of different sets never mix', 'mixture_fails mixture_of_group_sets_fails'),
    ('the nearest set is the one with fewest PCRs that differ', 'nearest_by_count'),
    ('... then the newest', 'nearest_by_age'),
    ('an accepted set proves values without log and pcrs', 'set_proves_values pair_proves_values'),
    ('at most 8 live sets of each kind; one more asks which to end', 'eight_sets sets/eight_of_each_kind store/eight_sets'),
    ('a set has origin, who, when, why', 'set_origins'),
    ('a set may have an until', 'set_until'),
    ('baseline retire ends a set; ended sets stay in the history', 'retired_set_fails'),
    ('status counts machines by the set they pass on', 'status_counts_sets'),
    ('keep_old ends older sets after the first pass on a newer one; off by default', 'keep_old'),
    ('an enrolled baseline is used when the line changed, and never revives an ended set', 'enrolled_baseline_used_once'),
    ('a line equal to the last one taken does nothing', 'same_line_does_nothing'),
    ('a group without a baseline line: compared with the group\'s sets from the first record on', 'group_compares_first_record'),
    # Learning
    ('learn = first or never, for the home and per group', 'learn_never'),
    ('learning happens once', 'learns_once'),
    ('what a person ended is not learned again', 'ended_is_not_learned'),
    ('only within learn_within of enrolment', 'learn_within'),
    ('only from the earliest record of a run; what follows is compared with it', 'learns_from_the_earliest'),
    ('only from proven values', 'learns_proven_values'),
    ('PCRs that have a baseline are compared first; a mismatch learns nothing', 'mismatch_learns_nothing'),
    ('in a group with sets, the instance\'s PCRs are learned', 'learns_beside_the_group'),
    ('PCRs 0-7 at their reset value are never learned', 'reset_values_not_learned'),
    ('PCRs 16 and 23 cannot be baselined', 'sixteen_and_twentythree'),
    ('--replace-key keeps baseline and alerts; the sequence starts anew', 'replaced_key'),
    ('a record of a key that was replaced meanwhile counts no more', 'replaced_during_a_run'),
    ('what a run learned can be listed and taken back', 'learned_taken_back'),
    ('new for longer than unmeasured_after raises no_baseline or pcr_values_missing', 'new_is_no_hiding_place'),
    # The sequence of a TPM
    ('records of a run are taken in the TPM\'s order', 'order_within_a_run'),
    ('one of the last 16 attests again is a duplicate, and changes nothing', 'duplicate_changes_nothing'),
    ('the ledger keeps 16', 'sixteen_attests'),
    ('... unless it proves more', 'stripped_copy_first'),
    ('... and then moves no clock and counts no repeat', 'improving_moves_nothing'),
    ('reset behind is replayed', 'reset_behind'),
    ('counts are compared mod 2^32', 'counts_wrap'),
    ('within a reset: restart not behind and clock greater', 'restart_and_clock'),
    ('a reset further: a clock behind by more than 2^22 ms, or at all while safe, is tpm_state', 'tpm_state'),
    ('a replayed record newer than the last refused raises cloned_or_rolled_back with both sequences', 'cloned'),
    ('accept on it makes the shown sequence the new start', 'rolled_back_accepted'),
    ('--same and --tag make a rack one decision', 'restored_rack'),
    ('fresh: nonce at its first use, else clock', 'fresh_nonce'),
    ('status counts trusted by fresh', 'fresh_counted'),
    ('doctor says that clock does not stop quotes made in advance', 'doctor_says_what_clock_is'),
    ('a group may demand a beacon', 'beacon_demanded'),
    ('a beacon is accepted for beacon_life', 'beacon_expires'),
    ('per instance a beacon never goes back', 'beacon_never_back'),
    ('verifier time ahead of TPM time by more than lag_after raises held_back', 'held_back'),
    ('boots, and boots that sent nothing, are counted and shown', 'boots_counted'),
    # Status
    ('status is the verdict of the newest record by sequence, not by arrival', 'newest_by_sequence'),
    ('a record that fails a check changes nothing and is counted', 'refused_changes_nothing'),
    ('untrusted stays, stale, however long it is silent', 'untrusted_stays'),
    ('unmeasured after unmeasured_after, with its cause', 'unmeasured_causes'),
    ('invalid: never an authentic record, but refused ones', 'invalid_status'),
    ('computed when it is read, by the verifier\'s clock', 'status_is_of_now'),
    ('never by t', 't_is_not_trusted'),
    ('unmeasured comes before invalid', 'standing/unmeasured_comes_before_invalid'),
    ('hold: no unmeasured, mismatches still alert', 'held_machine'),
    ('retire takes out of table, counts and alerts; the id may be enrolled again', 'retired_machine'),
    ('hold and retire by tag', 'held_and_retired_by_tag'),
    ('retire - --older', 'retire_older'),
    ('retire_after per group', 'retire_after'),
    ('records of unknown ids are held and appraised once enrolled', 'held_evidence'),
    ('... for 24 h', 'held_evidence_ends'),
    # Alerts
    ('ok, learned and duplicate never alert', 'no_alert_for_good_news'),
    ('each kind of untrusted alerts', 'kinds_of_untrusted'),
    ('checks 1-7 make one row for each reason and source', 'refusals_by_source'),
    ('... with an estimate of distinct ids and the first 20', 'alerts/ids_are_estimated alerts/refusals_are_a_row_for_each_reason_and_source'),
    ('... which closes when none came for a day', 'refusals_close'),
    ('another key for an enrolled id: key_conflict, for each key, until a person or the replacement ends it', 'key_conflict'),
    ('one open row per change; a repeat moves last_seen and count', 'repeats'),
    ('an authentic record ends unmeasured, a refused one does not', 'unmeasured_closes'),
    ('text lists changes, --json alerts', 'listed_by_change'),
    ('... and their sources share a row where they are too many', 'judge/sources_without_end_share_a_row'),
    ('at most 8 rows per instance and alert, then one "many" that cannot be accepted', 'many'),
    ('... nor more than 16 that were opened within a day and closed again', 'alerts/so_many_rows_a_day_then_many'),
    ('group and instance PCRs changed: a row for each class', 'row_for_each_class'),
    ('a cohort is of one group; --same stays in it, --all-groups widens', 'cohort_of_a_group'),
    ('... and compared in full', 'cohort_in_full'),
    ('--same wants --yes', 'same_wants_yes'),
    ('ignored: listed, counted, does not change the status', 'ignored_counts'),
    ('ignored ends when the machine restarted and passes',
     'ignored_ends_by_pass alerts/ignored_counts_on_and_ends_with_a_restart_that_passes'),
    ('ignored ends at until', 'ignored_ends_at_until'),
    ('accept: nearest set overlaid with the changes; status at once', 'accept_overlays decisions/one_class_and_then_the_other'),
    ('accept --group: for machines that reboot later', 'passes_on_a_pair'),
    ('accept is refused without proven values', 'accept_wants_proof'),
    ('reopen withdraws what was accepted', 'reopen_withdraws'),
    ('ack marks as seen', 'resolved_unseen'),
    ('a pass resolves; not looked at, it stays in the default list until ack or 30 days', 'resolved_unseen'),
    ('a mismatch and a pass in one run still make the row', 'mismatch_and_pass'),
    ('unmeasured counts from enrolment, the end of a gap between runs', 'unmeasured_from'),
    ('... a gap longer than half of unmeasured_after', 'unmeasured_from_a_gap'),
    ('... and from the end of a hold', 'unmeasured_from_a_hold'),
    ('over 5 % of a group is one row', 'silent_group silent_without_group'),
    ('nothing from anyone is one row', 'silent_fleet'),
    ('a clock behind the last run\'s end raises none and exits 3', 'clock_behind'),
    ('a verdict of an older generation is judged again at commit', 'accept_during_a_run'),
    ('a stream that is cut is not applied, one that was is not again', 'streams_applied'),
    ('only run and apply exclude each other', 'exclusion'),
    # Spool and home
    ('a file is removed only if it is the one that was read', 'spool/grown_files_stay spool/what_is_replaced_while_it_waits'),
    ('... not one behind a directory that became a link',
     'spool/a_directory_that_became_a_link_is_not_followed spool/a_link_above_a_directory_is_not_followed'),
    ('a committed run is finished, an uncommitted one discarded', 'spool/recovery_both_ways'),
    ('... with its results', 'results_of_killed_runs results_elsewhere_of_killed_runs'),
    ('--results: a pipe or a device stays what it is', 'results_to_a_pipe'),
    ('sources take turns', 'sources_take_turns spool/sources_take_turns'),
    ('spool checks caps, framing and id, and delivers whole', 'spool_command spool/a_record_is_delivered_whole'),
    ('a file without record ends goes to quarantine after its earlier records were recorded', 'quarantine'),
    ('a file that cannot be read stays, is named, exit 3', 'unreadable_file'),
    ('run refuses / and the home as a spool', 'refused_spools spool/what_must_not_be_a_spool'),
    ('results are bounded by age, and the loss is counted', 'results_bounded'),
    ('quarantine, held, archive are bounded by age and size', 'trim/by_age_and_size trim/held_by_when_it_was_written trim/archive_by_run'),
    ('history is bounded by age, and the loss is counted', 'history_bounded alerts/time_opens_ignored_ones_and_drops_history'),
    ('what is left of a retired machine goes with history', 'retired_forgotten retire/forgotten_when_history_is'),
    ('... what others have too stays', 'retire/forgotten_when_history_is retire/lists_that_alerts_tell_of_stay retire/forgotten_to_the_last'),
    ('a newer program migrates in one transaction after keeping a copy', 'store/an_older_schema_is_brought_up_to_date'),
    ('an older program exits 3 and touches nothing', 'newer_schema'),
    ('run rebuilds a table that is of another version', 'table_rebuilt'),
    ('backup takes store and ledger of one generation; restore gives them back', 'backup_and_restore'),
    ('a home on a network file system is refused', 'backup/file_systems_over_the_network backup/a_home_over_the_network_is_refused'),
    ('the home\'s name is in results, alerts and metrics', 'home_name'),
    ('run exits 1 when something is wrong; --exit new only for new alerts', 'exit_new'),
    ('the unit takes 1 and 75 for success', 'unit_succeeds'),
    ('file names are shown escaped', 'names_escaped'),
    ('text of machines and people is shown escaped', 'text_escaped'),
    ('--on-alert gets the new alerts; its failure never fails the run', 'on_alert'),
    ('... has a limit of time and lines and a clean environment',
     'on_alert/whatever_it_does on_alert/new_alerts_once_as_lines on_alert/a_clean_place'),
    # What no rule removes
    ('it is said in the documentation', 'said_in_the_documentation'),
]

SOURCES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
maker = None
program = None


class Machine:
    """One of a small fleet. Its TPM's clock goes with the home's."""
    def __init__(self, lab, id, key, group):
        self.lab, self.id, self.key, self.group = lab, id, key, group
        self.text = {p: f'pcr-{p}' for p in range(10)}
        if group:
            self.text.update({p: f'{id}-{p}' for p in (1, 5, 6)})
        self.reset, self.restart, self.behind, self.extra = 5, 0, 0, ''

    def boot(self, times=1, **text):
        self.reset += times
        for name, value in text.items():
            self.text[int(name[1:])] = value
        return self

    def pcrs(self):
        return tuple((p, (t,)) for p, t in sorted(self.text.items()))

    def quote(self, **more):
        return Quote(**{**dict(id=self.id, key=self.key, pcrs=self.pcrs(), reset=self.reset, restart=self.restart, extra=self.extra,
                               clock=10 * DAY + self.lab.now - START - self.behind), **more})

    def value(self, pcr):
        import hashlib
        return hashlib.sha256(bytes(32) + hashlib.sha256(self.text[pcr].encode()).digest()).hexdigest()


class Lab(kit.Home):
    def __init__(self):
        super().__init__(program, maker)
        self.keys = 0
        self.init()

    def machine(self, id, group=None, baseline=False, **more):
        self.keys += 1
        m = Machine(self, id, self.keys % 12, group)
        m.line = self.line(id, m.key, **({'group': group} if group else {}), **more)
        if baseline:
            m.line['baseline'] = {str(p): m.value(p) for p in range(10)}
        self.enroll(m.line)
        return m

    def known(self, id, group=None, **more):
        """A machine that has learned and passes."""
        m = self.machine(id, group, **more)
        self.wait().go(m.quote())
        m.last = self.wait() and m.quote()
        got = self.go(m.last)
        assert said(got) == ['trusted/ok'], got
        return m

    def wait(self, ms=HOUR):
        self.now += ms
        return self

    def go(self, *quotes, source='site', codes=(0, 1), args=()):
        """These records, in one file; their results in the same order."""
        if quotes:
            self.put(*quotes, source=source)
        return self.go_on(codes=codes, args=args)

    def go_on(self, codes=(0, 1), args=()):
        self.ran, self.answer = self.run(*args, codes=codes)
        if not self.ran:
            return []
        return sorted(self.results(self.ran['run']), key=lambda r: (r['src'], r['off']))

    def status_of(self, m):
        return self.stands(m.id if isinstance(m, Machine) else m)

    def rows(self, kind=None, id=None, state=None):
        return [a for a in self.alerts('--state', 'all') if (kind is None or a['alert'] == kind) and (id is None or a['id'] == id) and
                (state is None or a['state'] == state)]

    def one(self, kind=None, id=None, state=None):
        rows = self.rows(kind, id, state)
        assert len(rows) == 1, f'one {state or ""} {kind} of {id}, not {rows}'
        return rows[0]

    def act(self, what, alert, *args, codes=(0,)):
        return self.must('alerts', what, str(alert['no']), *args, codes=codes)

    def accept(self, alert, *args, codes=(0,)):
        return self.act('accept', alert, '--reason', 'as planned', *args, codes=codes)

    def sets(self, *args):
        return [{**s, 'kind': s['set'], 'set': s['no']} for s in self.must('baseline', 'history', '--json', *args).json()]

    def config(self, key, value, group=None):
        self.must('config', 'set', *(['--group', group] if group else []), key, value)


def said(results):
    return [f'{r["status"]}/{r["reason"]}' for r in results]


def equal(got, expected):
    assert got == expected, f'expected {expected}, got {got}'


# ---- baselines are sets ------------------------------------------------------------------------------------------------------


def set_kinds_and_their_pcrs(lab):
    m = lab.known('a', 'web')
    lab.wait().go(m.boot(p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch'), '--group')
    group = [s for s in lab.sets() if s['kind'] == 'group']
    equal([sorted(map(int, s['values'])) for s in group], [[0, 2, 3, 4, 7, 8, 9]])
    whole = [s for s in lab.sets() if s['kind'] == 'whole']
    equal([sorted(map(int, s['values'])) for s in whole], [list(range(10))])


def no_group_shares_nothing(lab):
    a, b = lab.known('a'), lab.known('b')
    lab.wait().go(a.boot(p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch', 'a'))
    equal(said(lab.wait().go(a.quote(), b.boot(p9='kernel-2').quote())), ['trusted/ok', 'untrusted/pcr_mismatch'])
    lab.must('baseline', 'set', 'b', '--own', *[f'{p}={b.value(p)}' for p in range(10)], '--reason', 'all its own')
    equal(said(lab.wait().go(b.quote())), ['trusted/ok'])


def older_set_passes_nothing(lab):
    lab.config('learn', 'never')
    m = lab.machine('a', baselined=list(range(9)))
    lab.must('baseline', 'set', 'a', *[f'{p}={m.value(p)}' for p in range(9)], '--reason', 'by hand')
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])
    lab.enroll({**m.line, 'baselined': list(range(10))})
    equal(said(lab.wait().go(m.quote())), ['new/no_baseline'])
    equal(said(lab.wait().go(m.boot(p3='other').quote())), ['untrusted/pcr_mismatch'])


def group_classes_by_default(lab):
    a, b = lab.known('a', 'web'), lab.known('b', 'web')
    lab.wait().go(a.boot(p0='fw-2').quote())
    lab.accept(lab.one('pcr_mismatch', 'a'), '--group')
    equal(said(lab.wait().go(a.quote(), b.boot(p0='fw-2').quote())), ['trusted/ok', 'trusted/ok'])
    for pcr in (1, 5, 6):
        kept = b.text[pcr]
        equal(said(lab.wait().go(b.boot(**{f'p{pcr}': a.text[pcr]}).quote())), ['untrusted/pcr_mismatch'])
        b.boot(**{f'p{pcr}': kept})
    equal(said(lab.wait().go(b.quote())), ['trusted/ok'])


def group_classes_configured(lab):
    lab.config('instance_pcrs', '1,5,6,9', 'web')
    a, b = lab.known('a', 'web'), lab.known('b', 'web')
    lab.wait().go(a.boot(p0='fw-2').quote())
    lab.accept(lab.one('pcr_mismatch', 'a'), '--group')
    group = [s for s in lab.sets() if s['kind'] == 'group']
    equal([sorted(map(int, s['values'])) for s in group], [[0, 2, 3, 4, 7, 8]])
    equal(said(lab.wait().go(b.boot(p0='fw-2').quote())), ['trusted/ok'])


def group_pcrs_ignored(lab):
    lab.config('ignored_pcrs', '2', 'web')
    a, b = lab.known('a', 'web'), lab.known('b', 'db')
    equal(said(lab.wait().go(a.boot(p2='other-rom').quote(), b.boot(p2='other-rom').quote())), ['trusted/ok', 'untrusted/pcr_mismatch'])


def passes_on_a_whole_set(lab):
    m = lab.known('a')
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])
    for pcr in range(10):
        kept = m.text[pcr]
        equal(said(lab.wait().go(m.boot(**{f'p{pcr}': 'other'}).quote())), ['untrusted/pcr_mismatch'])
        m.boot(**{f'p{pcr}': kept})


def passes_on_a_pair(lab):
    a, b = lab.known('a', 'web'), lab.known('b', 'web')
    lab.wait().go(a.boot(p8='cmdline-2', p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch', 'a'), '--group')
    equal(lab.status_of(a)['status'], 'trusted')
    c = lab.machine('c', 'web')
    c.text.update({8: 'cmdline-2', 9: 'kernel-2'})
    b.boot(p8='cmdline-2', p9='kernel-2')
    equal(said(lab.wait().go(a.quote(), b.quote(), c.quote())), ['trusted/ok', 'trusted/ok', 'new/learned'])
    equal(said(lab.wait().go(c.quote())), ['trusted/ok'])
    equal(said(lab.wait().go(c.boot(p5='other-disk').quote())), ['untrusted/pcr_mismatch'])


def accept_is_one_machines(lab):
    a, b = lab.known('a', 'web'), lab.known('b', 'web')
    lab.wait().go(a.boot(p9='kernel-2').quote(), b.boot(p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch', 'a'))
    equal(said(lab.wait().go(a.quote(), b.quote())), ['trusted/ok', 'untrusted/pcr_mismatch'])


def baseline_set_is_whole(lab):
    m = lab.machine('a', 'web')
    lab.must('baseline', 'set', 'a', *[f'{p}={m.value(p)}' for p in range(10)], '--reason', 'from the vendor')
    equal([s['kind'] for s in lab.sets()], ['whole'])
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])


def enrolled_is_whole(lab):
    m = lab.machine('a', 'web', baseline=True)
    equal([(s['kind'], s['origin']) for s in lab.sets()], [('whole', 'enrolled')])
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])


def two_accepted(lab, *args, group=None):
    m = lab.known('a', group)
    lab.wait().go(m.boot(p8='cmdline-2', p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch', state='open'), *args)
    lab.wait().go(m.boot(p8='cmdline-3', p9='kernel-3').quote())
    lab.accept(lab.one('pcr_mismatch', state='open'), *args)
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])
    return m


def mixture_fails(lab):
    m = two_accepted(lab)
    equal(said(lab.wait().go(m.boot(p8='cmdline-2', p9='kernel-2').quote())), ['trusted/ok'])
    equal(said(lab.wait().go(m.boot(p8='cmdline-2', p9='kernel-3').quote())), ['untrusted/pcr_mismatch'])


def mixture_of_group_sets_fails(lab):
    m = two_accepted(lab, '--group', group='web')
    equal(said(lab.wait().go(m.boot(p8='cmdline-2', p9='kernel-2').quote())), ['trusted/ok'])
    equal(said(lab.wait().go(m.boot(p8='cmdline-2', p9='kernel-3').quote())), ['untrusted/pcr_mismatch'])


def nearest_by_count(lab):
    m = two_accepted(lab)
    lab.wait().go(m.boot(p0='fw-2', p8='cmdline-2', p9='kernel-2').quote())
    equal([c['pcr'] for c in lab.one('pcr_mismatch', state='open')['changes']], [0])


def nearest_by_age(lab):
    m = two_accepted(lab)
    newest = m.value(9)
    lab.wait().go(m.boot(p8='cmdline-4', p9='kernel-4').quote())
    equal([c['expected'] for c in lab.one('pcr_mismatch', state='open')['changes'] if c['pcr'] == 9], [newest])


def set_proves_values(lab):
    m = lab.known('a')
    equal(said(lab.wait().go(m.quote(log='no'))), ['trusted/ok'])
    equal(said(lab.wait().go(m.boot(p9='kernel-2').quote(log='no'))), ['untrusted/pcr_mismatch'])


def pair_proves_values(lab):
    a, b = lab.known('a', 'web'), lab.known('b', 'web')
    lab.wait().go(a.boot(p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch', 'a'), '--group')
    equal(said(lab.wait().go(b.boot(p9='kernel-2').quote(log='no'))), ['trusted/ok'])


def eight_sets(lab):
    m = lab.known('a')
    for n in range(7):
        lab.wait().go(m.boot(p9=f'kernel-{n}').quote())
        lab.accept(lab.one('pcr_mismatch', state='open'))
    lab.wait().go(m.boot(p9='kernel-8').quote())
    refused = lab.accept(lab.one('pcr_mismatch', state='open'), codes=(1, 2, 3))
    assert 'end' in refused.err and '8' in refused.err, refused
    equal(len([s for s in lab.sets() if not s.get('ended')]), 8)
    lab.must('baseline', 'retire', str(min(s['set'] for s in lab.sets())), '--reason', 'old')
    lab.accept(lab.one('pcr_mismatch', state='open'))


def set_origins(lab):
    a, b = lab.known('a'), lab.machine('b', baseline=True)
    at = lab.wait(HOUR).now
    lab.wait().go(a.boot(p9='kernel-2').quote())
    alert = lab.one('pcr_mismatch')
    lab.accept(alert)
    lab.must('baseline', 'set', 'b', *[f'{p}={a.value(p)}' for p in range(10)], '--reason', 'by hand')
    exported = lab.must('baseline', 'export')
    by = {s['origin']: s for s in lab.sets()}
    equal(sorted(by), ['accepted', 'enrolled', 'learned', 'set'])
    equal((by['accepted']['alert'], by['accepted']['why'], by['accepted']['since']), (alert['no'], 'as planned', at + HOUR))
    assert by['set']['who'] and by['set']['why'] == 'by hand', by['set']
    other = Lab()
    try:
        other.enroll(a.line, b.line)
        other.must('baseline', 'import', '-', stdin=exported.out.encode())
        assert 'imported' in {s['origin'] for s in other.sets()}, other.sets()
    finally:
        other.close()


def set_until(lab):
    m = lab.machine('a')
    lab.must('baseline', 'set', 'a', *[f'{p}={m.value(p)}' for p in range(10)], '--until', lab.when(lab.now + 10 * HOUR), '--reason', 'a trial')
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])
    got = lab.wait(10 * HOUR).go(m.quote())
    assert got[0]['status'] != 'trusted', got
    other = lab.machine('b')
    lab.must('baseline', 'set', 'b', *[f'{p}={other.value(p)}' for p in range(10)], '--until', lab.when(lab.now + 10 * HOUR), '--reason', 'a trial')
    lab.wait().go(other.quote())
    equal(lab.status_of(other)['status'], 'trusted')
    lab.wait(10 * HOUR).go()
    equal(lab.status_of(other)['status'], 'new')  # without a record of its own


def retired_set_fails(lab):
    m = two_accepted(lab)
    first = min(s['set'] for s in lab.sets())
    lab.must('baseline', 'retire', str(first), '--reason', 'old')
    equal(said(lab.wait().go(m.boot(p8='pcr-8', p9='pcr-9').quote())), ['untrusted/pcr_mismatch'])
    lab.wait().go(m.boot(p8='cmdline-3', p9='kernel-3').quote())
    equal(lab.status_of(m)['status'], 'trusted')
    lab.must('baseline', 'retire', str(max(s['set'] for s in lab.sets())), '--reason', 'withdrawn')
    equal(lab.status_of(m)['status'], 'untrusted')  # at once
    lab.must('baseline', 'set', 'a', *[f'{p}={m.value(p)}' for p in range(10)], '--reason', 'it was good')
    equal(lab.status_of(m)['status'], 'trusted')
    ended = [s for s in lab.sets() if s['set'] == first]
    assert len(ended) == 1 and ended[0]['ended'], ended


def status_counts_sets(lab):
    a, b = lab.known('a', 'web'), lab.known('b', 'web')
    lab.wait().go(a.boot(p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch'), '--group')

    def moved():
        text = lab.must('status', codes=(0, 1)).out
        line = [l for l in text.splitlines() if 'web' in l and 'accepted' in l]
        assert len(line) == 1, text
        return int(line[0].split()[-1])
    equal(moved(), 1)
    lab.wait().go(b.boot(p9='kernel-2').quote())
    equal(moved(), 2)


def keep_old(lab):
    m = two_accepted(lab)
    lab.wait(DAY).go(m.quote())
    lab.wait(DAY).go(m.quote())
    equal([s for s in lab.sets() if s.get('ended')], [])
    lab.config('keep_old', '2d')
    for _ in range(4):  # on the first of three: it ends none that is newer
        lab.wait(DAY).go(m.boot(p8='pcr-8', p9='pcr-9').quote())
    equal([s for s in lab.sets() if s.get('ended')], [])
    m.boot(p8='cmdline-3', p9='kernel-3')
    for _ in range(2):
        lab.wait(DAY).go(m.quote())
    equal([s for s in lab.sets() if s.get('ended')], [])
    for _ in range(2):
        lab.wait(DAY).go(m.quote())
    equal(len([s for s in lab.sets() if not s.get('ended')]), 1)
    equal(said(lab.wait().go(m.boot(p8='cmdline-2', p9='kernel-2').quote())), ['untrusted/pcr_mismatch'])


def enrolled_baseline_used_once(lab):
    lab.config('learn', 'never')
    m = lab.machine('a', baseline=True)
    lab.must('baseline', 'retire', str(lab.sets()[0]['set']), '--reason', 'stolen')
    lab.enroll(m.line)
    lab.enroll({**m.line, 'tags': {'rack': '1'}})
    got = lab.wait().go(m.quote())
    assert got[0]['status'] != 'trusted', got
    lab.enroll({**m.line, 'tags': {'rack': '1'}, 'baseline': {**m.line['baseline'], '9': 'ab' * 32}})
    equal(said(lab.wait().go(m.quote())), ['untrusted/pcr_mismatch'])


def same_line_does_nothing(lab):
    m = lab.machine('a', nonce='aa55')
    m.extra = 'aa55'
    equal([r['fresh'] for r in lab.wait().go(m.quote())], ['nonce'])
    again = lab.enroll(m.line)
    assert '0 changed' in again.err and '1 unchanged' in again.err, again
    other = lab.enroll({**m.line, 'tags': {'rack': '1'}})
    assert '1 changed' in other.err, other
    back = lab.enroll(m.line)  # as before, but not the line that was taken last
    assert '1 changed' in back.err, back


def group_compares_first_record(lab):
    a = lab.known('a', 'web')
    lab.wait().go(a.boot(p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch'), '--group')
    b = lab.machine('b', 'web')
    b.text[9] = 'implant'
    equal(said(lab.wait().go(b.quote())), ['untrusted/pcr_mismatch'])


# ---- learning ----------------------------------------------------------------------------------------------------------------


def learn_never(lab):
    lab.config('learn', 'never', 'web')
    a, b = lab.machine('a', 'web'), lab.machine('b', 'db')
    equal(said(lab.wait().go(a.quote(), b.quote())), ['new/no_baseline', 'new/learned'])
    lab.config('learn', 'never')
    c = lab.machine('c')
    equal(said(lab.wait().go(c.quote())), ['new/no_baseline'])


def learns_once(lab):
    m = lab.known('a')
    lab.must('baseline', 'retire', str(lab.sets()[0]['set']), '--reason', 'again')
    equal(said(lab.wait().go(m.quote())), ['new/no_baseline'])


def ended_is_not_learned(lab):
    m = lab.machine('a', baseline=True)
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])
    lab.must('baseline', 'retire', str(lab.sets()[0]['set']), '--reason', 'stolen')
    equal(said(lab.wait().go(m.quote())), ['new/no_baseline'])
    equal([s['origin'] for s in lab.sets()], ['enrolled'])


def learn_within(lab):
    a, b = lab.machine('a'), lab.machine('b')
    equal(said(lab.wait(7 * DAY - HOUR).go(a.quote())), ['new/learned'])
    equal(said(lab.wait(2 * HOUR).go(b.quote())), ['new/no_baseline'])


def learns_from_the_earliest(lab):
    m = lab.machine('a')
    early = m.quote()
    lab.wait(HOUR)
    equal(said(lab.wait().go(m.boot(p9='implant').quote(), early)), ['untrusted/pcr_mismatch', 'new/learned'])


def learns_proven_values(lab):
    m = lab.machine('a')
    equal(said(lab.wait().go(m.quote(log='no'))), ['new/pcr_values_missing'])
    equal(said(lab.wait().go(m.quote(log='no', values='wrong'))), ['new/pcr_values_missing'])
    equal(said(lab.wait().go(m.quote(log='no', values='yes'))), ['new/learned'])


def mismatch_learns_nothing(lab):
    a = lab.known('a', 'web')
    lab.wait().go(a.boot(p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch'), '--group')
    b = lab.machine('b', 'web')
    b.text[9] = 'implant'
    lab.wait().go(b.quote())
    equal([s for s in lab.sets() if s.get('id') == 'b'], [])
    equal(said(lab.wait().go(b.boot(p9='kernel-2').quote())), ['new/learned'])


def learns_beside_the_group(lab):
    a = lab.known('a', 'web')
    lab.wait().go(a.boot(p9='kernel-2').quote())
    lab.accept(lab.one('pcr_mismatch'), '--group')
    b = lab.machine('b', 'web')
    b.text[9] = 'kernel-2'
    equal(said(lab.wait().go(b.quote())), ['new/learned'])
    equal([(s['kind'], sorted(map(int, s['values']))) for s in lab.sets() if s.get('id') == 'b'], [('instance', [1, 5, 6])])


def reset_values_not_learned(lab):
    for pcr in range(10):
        m = lab.machine(f'm{pcr}')
        equal(said(lab.wait().go(m.quote(log='no', values='yes', kept=(pcr,)))), ['new/no_baseline' if pcr < 8 else 'new/learned'])
    for locality, word in ((3, 'no_baseline'), (4, 'no_baseline'), (5, 'learned')):  # where PCR 0 starts after a StartupLocality
        m = lab.machine(f'started-{locality}')
        equal(said(lab.wait().go(m.quote(log='no', values='yes', kept=(0,), locality=locality))), [f'new/{word}'])


def sixteen_and_twentythree(lab):
    for pcr in (16, 23):
        line = lab.line(f'm{pcr}', 1, select=[{'bank': 'sha256', 'pcrs': [0, pcr]}], baselined=[0, pcr])
        refused = lab.enroll(line, codes=(1,))
        assert str(pcr) in refused.err, refused
    lab.machine('a', 'web')
    values = [f'{p}={"ab" * 32}' for p in (0, 2, 3, 4, 7, 8, 9)]
    refused = lab.must('baseline', 'set', '--group', 'web', *values, f'16={"cd" * 32}', '--reason', 'by hand', codes=(1, 3))
    assert 'anybody resets them' in refused.err, refused


def replaced_key(lab):
    m = lab.known('a')
    lab.wait().go(m.boot(p9='implant').quote())
    lab.enroll(lab.line('a', 11), codes=(1,))
    lab.enroll(lab.line('a', 11), args=('--replace-key',))
    m.key = 11
    equal(lab.one('pcr_mismatch', 'a')['state'], 'open')
    m.reset = 1  # another TPM: its counts begin elsewhere
    equal(said(lab.wait().go(m.quote())), ['untrusted/pcr_mismatch'])
    equal(said(lab.wait().go(m.boot(p9='pcr-9').quote())), ['trusted/ok'])


def replaced_during_a_run(lab):
    m = lab.known('a')
    lab.wait(HOUR).put(m.boot(p9='implant').quote())
    lab.deliver()
    raw = verified(lab)
    lab.enroll(lab.line('a', 11), args=('--replace-key',))
    lab.must('apply', '-', stdin=raw, codes=(0, 1))
    stands = lab.status_of(m)
    equal((stands['status'], stands['refused']['reason'], lab.rows('pcr_mismatch')), ('trusted', 'bad_signature', []))


def learned_taken_back(lab):
    a = lab.machine('a')
    lab.wait().go(a.quote())
    first = lab.ran['run']
    b = lab.machine('b')
    lab.wait().go(b.quote())
    learned = [s for s in lab.sets('--run', first)]
    equal([s['id'] for s in learned], ['a'])
    lab.must('baseline', 'retire', '--run', first, '--reason', 'was not clean')
    equal(said(lab.wait().go(a.quote(), b.quote())), ['new/no_baseline', 'trusted/ok'])


def new_is_no_hiding_place(lab):
    lab.config('learn', 'never')
    a, b = lab.machine('a'), lab.machine('b')
    lab.wait().go(a.quote(), b.quote(log='no'))
    equal(lab.rows(), [])
    lab.wait(11 * HOUR).go(a.quote(), b.quote(log='no'))
    lab.wait(11 * HOUR).go(a.quote(), b.quote(log='no'))
    equal(lab.rows(), [])
    lab.wait(11 * HOUR).go(a.quote(), b.quote(log='no'))
    equal(lab.one(id='a')['alert'], 'no_baseline')
    equal(lab.one(id='b')['alert'], 'pcr_values_missing')


# ---- the sequence of a TPM ---------------------------------------------------------------------------------------------------


def order_within_a_run(lab):
    m = lab.known('a')
    for sources in (('site', 'other'), ('other', 'site')):  # whichever is read first
        lab.wait(2 * HOUR)
        early = m.quote()
        lab.wait(2 * HOUR)
        lab.put(m.quote(), source=sources[0])
        lab.put(early, source=sources[1])
        equal(said(lab.wait().go()), ['trusted/ok', 'trusted/ok'])


def duplicate_changes_nothing(lab):
    m = lab.known('a')
    bad = m.boot(p9='implant').quote()
    lab.wait().go(bad)
    before = lab.status_of(m), lab.rows()
    equal(said(lab.wait().go(bad)), ['duplicate/duplicate'])
    equal((lab.status_of(m), lab.rows()), before)


def sixteen_attests(lab):
    m = lab.known('a')
    sent = []
    for _ in range(17):
        lab.wait(MINUTE)
        sent.append(m.quote())
    lab.wait().go(*sent)
    equal(said(lab.wait().go(sent[0], sent[1])), ['invalid/replayed', 'duplicate/duplicate'])


def stripped_copy_first(lab):
    m = lab.known('a')
    m.boot(p9='kernel-2')
    lab.wait(HOUR)
    whole = m.quote()
    equal(said(lab.wait().go(whole._replace(log='no'))), ['untrusted/pcr_mismatch'])
    equal(said(lab.wait().go(whole)), ['untrusted/pcr_mismatch'])
    rows = [a for a in lab.rows('pcr_mismatch') if a['changes']]
    equal([[c['pcr'] for c in a['changes']] for a in rows], [[9]])
    equal(said(lab.wait().go(whole._replace(log='no'), whole)), ['duplicate/duplicate', 'duplicate/duplicate'])
    lab.accept(rows[0])
    equal(lab.status_of(m)['status'], 'trusted')


def improving_moves_nothing(lab):
    m = lab.known('a')
    m.boot(p9='kernel-2')
    lab.wait(HOUR)
    whole = m.quote()
    lab.wait().go(whole._replace(values='yes', log='no'))
    row, stands = lab.one('pcr_mismatch'), lab.status_of(m)
    equal(said(lab.wait().go(whole)), ['untrusted/pcr_mismatch'])
    after = lab.one('pcr_mismatch')
    equal((after['count'], after['last_seen']), (row['count'], row['last_seen']))
    equal(lab.status_of(m)['last_valid'], stands['last_valid'])
    equal(said(lab.wait().go(m.quote(clock=whole.clock + 1))), ['untrusted/pcr_mismatch'])


def reset_behind(lab):
    m = lab.known('a')
    equal(said(lab.wait().go(m.quote(reset=m.reset - 1))), ['invalid/replayed'])
    equal(said(lab.wait().go(m.quote(reset=m.reset - 1000))), ['invalid/replayed'])
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])


def counts_wrap(lab):
    m = lab.machine('a')
    m.reset = 2**32 - 1
    lab.wait().go(m.quote())
    m.reset = 0
    got = lab.wait().go(m.quote())
    equal((said(got), got[0]['boots']), (['trusted/ok'], 1))
    m.restart = 2**32 - 1
    m.reset = 1
    lab.wait().go(m.quote())
    m.restart = 0
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])
    equal(said(lab.wait().go(m.quote(reset=2**32 - 1))), ['invalid/replayed'])


def restart_and_clock(lab):
    m = lab.machine('a')
    m.restart = 3
    lab.wait().go(m.quote())
    last = lab.wait() and m.quote()
    lab.go(last)
    same = last.clock
    equal(said(lab.wait().go(m.quote(restart=2))), ['invalid/replayed'])
    equal(said(lab.wait().go(m.quote(clock=same, safe=0))), ['invalid/replayed'])
    equal(said(lab.wait().go(m.quote(clock=same - 1))), ['invalid/replayed'])
    equal(said(lab.wait().go(m.quote(restart=4, clock=same - 1))), ['invalid/replayed'])
    equal(said(lab.wait().go(m.quote(restart=4, clock=same + 1))), ['trusted/ok'])


def tpm_state(lab):
    slack = 1 << 22
    for id, behind, safe, raised in (('a', slack, 0, 0), ('b', slack + 1, 0, 1), ('c', 1, 1, 1), ('d', 0, 1, 0)):
        m = lab.known(id)
        equal(said(lab.wait().go(m.boot().quote(clock=m.last.clock - behind, safe=safe))), ['trusted/ok'])
        equal(len(lab.rows('tpm_state', id)), raised)


def cloned(lab):
    m = lab.known('a')
    old = [m.quote(reset=m.reset - 1, clock=m.quote().clock + n) for n in range(3)]
    lab.wait().go(old[1])
    equal(len(lab.rows('replayed')), 1)
    equal(lab.rows('cloned_or_rolled_back'), [])
    lab.wait().go(old[0])
    lab.wait().go(old[1])  # the one that was refused first, again: not newer than itself
    equal(lab.rows('cloned_or_rolled_back'), [])
    lab.wait().go(old[2])
    row = lab.one('cloned_or_rolled_back')
    text = json.dumps(row)
    for sequence in (m, old[2]):
        assert f'"reset": {sequence.reset}' in text, row
    lab.wait().go(m.quote())
    equal(lab.one('cloned_or_rolled_back')['state'], 'open')


def rolled_back(lab, m):
    m.reset -= 2
    lab.wait().go(m.quote())
    shown = lab.wait() and m.quote()
    equal(said(lab.go(shown)), ['invalid/replayed'])
    return shown


def rolled_back_accepted(lab):
    m = lab.known('a')
    shown = rolled_back(lab, m)
    lab.accept(lab.one('cloned_or_rolled_back', 'a'))
    equal(said(lab.wait().go(shown._replace(clock=shown.clock - 1, extra='01'))), ['invalid/replayed'])
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])


def restored_rack(lab):
    rack = [lab.machine(f'm{n}', tags={'rack': '7' if n < 3 else '8'}) for n in range(4)]
    for _ in range(2):
        lab.wait().go(*[m.quote() for m in rack])
    for m in rack:
        m.reset -= 2
    for _ in range(2):
        lab.wait().go(*[m.quote() for m in rack])
    first = next(a for a in lab.rows('cloned_or_rolled_back') if a['id'] == 'm0')
    lab.accept(first, '--same', '--tag', 'rack=7', '--yes')
    equal(said(lab.wait().go(*[m.quote() for m in rack])), ['trusted/ok'] * 3 + ['invalid/replayed'])


def fresh_nonce(lab):
    a, b = lab.machine('a', nonce='aa55'), lab.machine('b')
    a.extra = 'aa55'
    equal([r['fresh'] for r in lab.wait().go(a.quote(), b.quote())], ['nonce', 'clock'])
    equal([r['fresh'] for r in lab.wait().go(a.quote(), b.quote())], ['clock', 'clock'])
    equal(said(lab.wait().go(a.quote(extra='aa56'))), ['invalid/stale_nonce'])
    lab.enroll({**a.line, 'nonce': 'aa56'})
    a.extra = 'aa56'
    equal([r['fresh'] for r in lab.wait().go(a.quote())], ['nonce'])
    lab.enroll({**a.line, 'nonce': 'aa56', 'tags': {'rack': '1'}})
    equal([r['fresh'] for r in lab.wait().go(a.quote())], ['clock'])


def fresh_counted(lab):
    a, b = lab.machine('a', nonce='aa55', baseline=True), lab.machine('b', baseline=True)
    a.extra = 'aa55'
    lab.wait().go(a.quote(), b.quote())
    summary = lab.status()[1]
    equal({k: v for k, v in summary['trusted_by'].items() if v}, {'clock': 1, 'nonce': 1})


def beacon_extra(lab, m):
    import hashlib
    shown = max(lab.must('beacon', 'show', '--json').json(), key=lambda b: b['no'])
    return hashlib.sha256(b'quotemill-beacon-v1' + bytes.fromhex(shown['value']) + m.id.encode()).hexdigest()


def doctor_says_what_clock_is(lab):
    said = lab.must('doctor', codes=(0, 1)).out
    assert 'does not stop quotes made in advance' in said, said
    lab.config('freshness', 'beacon')
    said = lab.must('doctor', codes=(0, 1)).out
    assert 'does not stop quotes made in advance' not in said, said


def beacon_demanded(lab):
    lab.config('freshness', 'beacon', 'web')
    a, b = lab.machine('a', 'web', baseline=True), lab.machine('b', 'db', baseline=True)
    lab.must('beacon', 'rotate')
    equal(said(lab.wait(MINUTE).go(a.quote(), b.quote())), ['invalid/stale_nonce', 'trusted/ok'])
    got = lab.wait(MINUTE).go(a.quote(extra=beacon_extra(lab, a)), b.quote(extra=beacon_extra(lab, b)))
    equal(said(got), ['trusted/ok', 'trusted/ok'])
    equal([r['fresh'] for r in got], ['beacon', 'beacon'])
    equal(said(lab.wait(MINUTE).go(a.quote(extra=beacon_extra(lab, b)))), ['invalid/stale_nonce'])


def beacon_expires(lab):
    lab.config('freshness', 'beacon', 'web')
    m = lab.machine('a', 'web', baseline=True)
    lab.must('beacon', 'rotate')
    extra = beacon_extra(lab, m)
    equal(said(lab.wait(3 * HOUR - MINUTE).go(m.quote(extra=extra))), ['trusted/ok'])
    equal(said(lab.wait(2 * MINUTE).go(m.quote(extra=extra))), ['invalid/stale_nonce'])


def beacon_never_back(lab):
    lab.config('freshness', 'beacon', 'web')
    m = lab.machine('a', 'web', baseline=True)
    lab.must('beacon', 'rotate')
    old = beacon_extra(lab, m)
    lab.wait(HOUR).must('beacon', 'rotate')
    equal(said(lab.wait(MINUTE).go(m.quote(extra=old))), ['trusted/ok'])
    equal(said(lab.wait(MINUTE).go(m.quote(extra=beacon_extra(lab, m)))), ['trusted/ok'])
    equal(said(lab.wait(MINUTE).go(m.quote(extra=old))), ['invalid/stale_nonce'])
    other = lab.machine('b', 'db', baseline=True)  # where a clock will do, it is just not fresh
    lab.go(other.quote(extra=beacon_extra(lab, other)))
    old = beacon_extra(lab, other)
    lab.wait(MINUTE).must('beacon', 'rotate')
    got = lab.wait(MINUTE).go(other.quote(extra=beacon_extra(lab, other))) + lab.wait(MINUTE).go(other.quote(extra=old))
    equal([r['fresh'] for r in got], ['beacon', 'clock'])


def held_back(lab):
    m = lab.known('a')
    m.behind = 5 * HOUR
    equal(said(lab.wait(6 * HOUR).go(m.quote())), ['trusted/ok'])
    equal(lab.rows('held_back'), [])
    m.behind = 6 * HOUR + MINUTE
    equal(said(lab.wait(2 * HOUR).go(m.quote())), ['trusted/ok'])
    lab.one('held_back', 'a', 'open')
    lab.wait().go(m.boot().quote())  # another boot counts anew
    equal(lab.one('held_back', 'a')['state'], 'resolved')
    lab.wait().go(m.quote())
    equal(lab.one('held_back', 'a')['state'], 'resolved')


def boots_counted(lab):
    m = lab.known('a')
    lab.wait().go(m.boot().quote())
    got = lab.wait().go(m.boot(3).quote())
    equal(got[0]['boots'], 3)
    text = json.dumps(lab.status_of(m))
    assert '"boots": 4' in text and '"boots_silent": 2' in text, text


# ---- status ------------------------------------------------------------------------------------------------------------------


def newest_by_sequence(lab):
    m = lab.known('a')
    lab.wait(HOUR)
    early = m.boot(p9='implant').quote()
    lab.wait(HOUR)
    late = m.boot(p9='pcr-9').quote()
    lab.wait().go(late, early)
    equal(lab.status_of(m)['status'], 'trusted')
    m.boot(p9='implant')
    lab.wait(HOUR)
    stripped = m.quote(log='no')
    lab.wait().go(stripped)
    lab.wait().go(m.boot(p9='pcr-9').quote())
    lab.wait().go(stripped._replace(log='yes'))
    equal(lab.status_of(m)['status'], 'trusted')


def refused_changes_nothing(lab):
    m = lab.known('a')
    before = lab.status_of(m)
    bad = m.boot(p9='implant').quote
    got = lab.wait().go(bad(broken=1), bad(select=0x1ff), bad(magic=1), bad(extra='01', broken=1), bad(key=9), bad(reset=1))
    equal(said(got), ['invalid/bad_signature', 'invalid/wrong_selection', 'invalid/not_a_quote', 'invalid/bad_signature',
                      'invalid/bad_signature', 'invalid/replayed'])
    after = lab.status_of(m)
    for field in ('status', 'reason', 'last_good', 'last_valid'):
        equal(after[field], before[field])
    equal((after['refused']['count'], after['refused']['last']), (6, lab.now))
    lab.wait().go(bad(select=0x1ff))
    after = lab.status_of(m)
    equal((after['refused']['count'], after['refused']['reason']), (7, 'wrong_selection'))
    m.boot(p9='pcr-9')
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])


def status_is_of_now(lab):
    m = lab.known('a')
    equal(lab.wait(24 * HOUR).status_of(m)['status'], 'trusted')
    equal(lab.wait(SECOND).status_of(m)['status'], 'unmeasured')  # no run in between


def untrusted_stays(lab):
    m, other = lab.known('a'), lab.known('b')
    lab.wait().go(m.boot(p9='implant').quote())
    for _ in range(10):
        lab.wait(11 * HOUR).go(other.quote())
    stands = lab.status_of(m)
    equal((stands['status'], stands.get('stale')), ('untrusted', True))


def unmeasured_causes(lab):
    quiet, refused, other, held = lab.known('quiet'), lab.known('refused'), lab.known('other'), lab.known('held')
    lab.must('hold', 'held', '--until', lab.when(lab.now + 20 * DAY), '--reason', 'repair')
    for _ in range(3):
        lab.wait(11 * HOUR).go(other.quote(), refused.quote(broken=1))
    equal(lab.status_of(held)['status'], 'trusted')
    reasons = {}
    for m in (quiet, refused):
        stands = lab.status_of(m)
        equal(stands['status'], 'unmeasured')
        reasons[m.id] = stands['reason']
    for _ in range(3):
        lab.wait(11 * HOUR).go()
    reasons['fleet'] = lab.status_of(other)['reason']
    equal(len(set(reasons.values())), 3)


def invalid_status(lab):
    m = lab.machine('a')
    equal(lab.status_of(m)['status'], 'new')
    lab.wait().go(m.quote(broken=1))
    equal(lab.status_of(m)['status'], 'invalid')
    lab.wait().go(m.quote())
    equal(lab.status_of(m)['status'], 'new')


def t_is_not_trusted(lab):
    m = lab.known('a')
    lab.wait().go(m.quote(t=lab.now + 100 * DAY))
    for _ in range(3):
        lab.wait(11 * HOUR).go()
    equal(lab.status_of(m)['status'], 'unmeasured')


def held_machine(lab):
    m, other = lab.known('a'), lab.known('b')
    lab.must('hold', 'a', '--until', lab.when(lab.now + 44 * HOUR), '--reason', 'repair')
    for _ in range(4):
        lab.wait(10 * HOUR).go(other.quote())
    equal(lab.rows('unmeasured'), [])
    lab.wait().go(m.boot(p9='implant').quote(), other.quote())
    equal(lab.one('pcr_mismatch', 'a')['state'], 'open')
    lab.wait().go(m.boot(p9='pcr-9').quote(), other.quote())
    lab.wait(11 * HOUR).go(other.quote())
    lab.wait(11 * HOUR).go(other.quote())
    equal(lab.rows('unmeasured'), [])
    lab.wait(11 * HOUR).go(other.quote())
    lab.one('unmeasured', 'a', 'open')


def retired_machine(lab):
    m, other = lab.known('a'), lab.known('b')
    lab.wait().go(m.boot(p9='implant').quote())
    lab.must('retire', 'a')
    equal(lab.rows(), [])
    equal(lab.status()[1]['instances'], 1)
    equal(said(lab.wait().go(m.quote())), ['invalid/unknown_instance'])
    with open(os.path.join(lab.path, 'metrics', 'quotemill.prom')) as f:
        assert 'alert="pcr_mismatch",state="open"} 0' in f.read()
    again = lab.machine('a')
    again.text[9], again.reset = 'kernel-9', 1
    lab.wait(2 * DAY).go(again.quote())  # what was held of the id before it was enrolled is over
    equal(said(lab.wait().go(again.quote())), ['trusted/ok'])


def held_and_retired_by_tag(lab):
    other = lab.known('other', tags={'rack': '8'})
    for id in 'ab':
        lab.known(id, tags={'rack': '7'})
    lab.must('hold', '--tag', 'rack=7', '--until', lab.when(lab.now + 20 * DAY), '--reason', 'repair')
    for _ in range(3):
        lab.wait(11 * HOUR).go()
    equal([r['id'] for r in lab.rows('unmeasured') if r['id']], ['other'])
    equal({id: s['status'] for id, s in lab.status()[0].items()}, {'a': 'trusted', 'b': 'trusted', 'other': 'unmeasured'})
    lab.must('retire', 'a', 'other', '--tag', 'rack=7')
    equal(sorted(lab.status()[0]), ['b', 'other'])
    lab.must('retire', '--tag', 'rack=7')
    equal(sorted(lab.status()[0]), ['other'])


def retire_older(lab):
    old, fresh = lab.known('old'), lab.known('fresh')
    for _ in range(6):
        lab.wait(11 * HOUR).go(fresh.quote())
    lab.wait(HOUR).must('retire', '-', '--older', '2d', stdin=b'old\nfresh\n')
    equal(sorted(lab.status()[0]), ['fresh'])


def retire_after(lab):
    lab.config('retire_after', '3d', 'batch')
    a, b, c = lab.known('a', 'batch'), lab.known('b', 'web'), lab.known('c', 'batch')
    bad, held = lab.known('bad', 'batch'), lab.known('held', 'batch')
    lab.wait().go(bad.boot(p9='implant').quote())
    lab.must('hold', 'held', '--until', lab.when(lab.now + 20 * DAY), '--reason', 'repair')
    for _ in range(8):
        lab.wait(11 * HOUR).go(c.quote())
    equal(sorted(lab.status()[0]), ['b', 'bad', 'c', 'held'])  # nobody leaves the alerts by silence, or while it is parked


def held_evidence(lab):
    other = lab.known('b')
    stranger = Machine(lab, 'a', 5, None)
    lab.wait(MINUTE)
    equal(said(lab.wait().go(stranger.quote(), stranger.boot(p9='kernel-2').quote(clock=stranger.quote().clock + 1))), ['invalid/unknown_instance'] * 2)
    lab.enroll(lab.line('a', 5))
    lab.wait(2 * HOUR).go(other.quote())
    equal(lab.status_of('a')['reason'], 'learned')
    stranger.text[9] = 'kernel-2'
    equal(said(lab.wait().go(stranger.quote())), ['trusted/ok'])  # the newest one was kept


def held_evidence_ends(lab):
    other = lab.known('b')
    stranger = Machine(lab, 'a', 5, None)
    lab.wait().go(stranger.quote())
    for _ in range(3):
        lab.wait(11 * HOUR).go(other.quote())
    lab.enroll(lab.line('a', 5))
    lab.wait().go(other.quote())
    equal(lab.status_of('a')['status'], 'new')
    equal(lab.status_of('a')['last_valid'], None)


# ---- alerts ------------------------------------------------------------------------------------------------------------------


def no_alert_for_good_news(lab):
    m = lab.known('a')
    lab.wait().go(m.quote())
    again = m.quote()
    lab.wait().go(again)
    equal(lab.rows(), [])


def kinds_of_untrusted(lab):
    a, b = lab.known('a'), lab.known('b', require_log=True)
    c = lab.machine('c', select=[{'bank': 'sha256', 'pcrs': list(range(11))}], baselined=list(range(10)), baseline=True)
    got = lab.wait().go(a.boot(p9='implant').quote(), b.quote(log='no'), c.quote(log='no', select=0x7ff))
    equal(said(got), ['untrusted/pcr_mismatch', 'untrusted/log_required', 'untrusted/pcr_values_missing'])
    equal(sorted((r['alert'], r['id']) for r in lab.rows()), [('log_required', 'b'), ('pcr_mismatch', 'a'), ('pcr_values_missing', 'c')])
    d = lab.known('d')
    equal(said(lab.wait().go(d.quote(values='yes', log='other'))), ['trusted/ok'])
    lab.one('log_inconsistent', 'd', 'open')


def refusals_by_source(lab):
    machines = [lab.known(f'm{n}') for n in range(3)]
    for source in ('site-a', 'site-b'):
        lab.wait().go(*[m.quote(broken=1) for m in machines], machines[0].quote(select=1), source=source)
    lab.wait().go(machines[0].quote(broken=1), source='site-a')
    rows = [(r['alert'], r['id'], r['count']) for r in lab.rows()]
    equal(sorted(rows), [('bad_signature', '', 3), ('bad_signature', '', 4), ('wrong_selection', '', 1), ('wrong_selection', '', 1)])
    text = json.dumps(lab.rows('bad_signature'))
    assert 'site-a' in text and 'site-b' in text and 'm2' in text, text
    if os.getuid() != 0:
        return  # only root gives files away
    for uid in (1001, 1002):
        lab.wait(MINUTE).put(machines[0].quote(magic=1), source='shared')
        lab.maker.sync()
        os.chown(lab.pending[-1][0], uid, uid)
        os.chmod(os.path.join(lab.spool, 'shared'), 0o1777)
        lab.deliver()
    lab.go_on()
    text = json.dumps(lab.rows('not_a_quote'))
    assert 'shared (uid 1001)' in text and 'shared (uid 1002)' in text, text


def key_conflict(lab):
    m = lab.known('a')
    for key, rows in ((10, 1), (10, 1), (11, 2)):
        lab.enroll(lab.line('a', key), codes=(1,))
        equal(len(lab.rows('key_conflict', 'a', 'open')), rows)
    equal(sorted(r['count'] for r in lab.rows('key_conflict')), [1, 2])
    equal(said(lab.wait().go(m.boot().quote())), ['trusted/ok'])
    first, second = lab.rows('key_conflict', 'a', 'open')  # that it passes says nothing about who has the other key
    refused = lab.accept(first, codes=(1,))
    assert 'no values' in refused.err, refused
    lab.act('ignore', first, '--reason', 'a typing error')
    lab.wait().go(m.boot().quote())
    equal([r['no'] for r in lab.rows('key_conflict', state='ignored')], [first['no']])
    lab.enroll(lab.line('a', 11), args=('--replace-key',))
    equal({r['state'] for r in lab.rows('key_conflict', 'a')}, {'resolved'})


def refusals_close(lab):
    m = lab.known('a')
    lab.wait().go(m.quote(broken=1))
    lab.wait(11 * HOUR).go(m.quote())
    lab.wait(11 * HOUR).go(m.quote())
    equal(lab.one('bad_signature')['state'], 'open')
    lab.wait(3 * HOUR).go(m.quote())
    equal(lab.one('bad_signature')['state'], 'resolved')


def repeats(lab):
    m = lab.known('a')
    m.boot(p9='implant')
    lab.wait().go(m.quote())
    first = lab.one('pcr_mismatch')
    lab.wait().go(m.quote())
    again = lab.one('pcr_mismatch')
    equal((again['no'], again['first_seen'], again['last_seen'], again['count']), (first['no'], first['first_seen'], lab.now, 2))


def unmeasured_closes(lab):
    m, other = lab.known('a'), lab.known('b')
    for _ in range(3):
        lab.wait(11 * HOUR).go(other.quote())
    equal(lab.one('unmeasured', 'a')['state'], 'open')
    lab.wait().go(m.quote(broken=1), other.quote())
    equal(lab.one('unmeasured', 'a')['state'], 'open')
    lab.wait().go(m.boot(p9='implant').quote(), other.quote())  # whatever it says, it speaks
    equal(lab.one('unmeasured', 'a')['state'], 'resolved')


def listed_by_change(lab):
    machines = [lab.known(f'm{n}', 'web') for n in range(3)]
    lab.wait().go(*[m.boot(p9='kernel-2').quote() for m in machines])
    text = lab.must('alerts', 'list').out
    equal((text.count('pcr_mismatch'), '3 machines of group web' in text, len(lab.rows())), (1, True, 3))


def many(lab):
    m = lab.known('a')
    for n in range(12):
        lab.wait().go(m.boot(p9=f'implant-{n}').quote())
    rows = lab.rows('pcr_mismatch', 'a')
    equal(len(rows), 9)
    row = next(r for r in rows if r['change'] == 'many')
    equal(row['count'], 4)
    refused = lab.accept(row, codes=(1,))
    assert 'many changes' in refused.err, refused
    equal(lab.status_of(m)['status'], 'untrusted')


def row_for_each_class(lab):
    a, b = lab.known('a', 'web'), lab.known('b', 'web')
    lab.wait().go(a.boot(p9='kernel-2').quote(), b.boot(p9='kernel-2', p5='other-disk').quote())
    rows = [([c['pcr'] for c in r['changes']], r['id']) for r in lab.rows('pcr_mismatch')]
    equal(sorted(rows), [([5], 'b'), ([9], 'a'), ([9], 'b')])
    lab.accept(lab.one('pcr_mismatch', 'a'), '--same', '--group', '--yes')
    equal([[c['pcr'] for c in r['changes']] for r in lab.rows('pcr_mismatch', state='open')], [[5]])
    lab.accept(lab.one('pcr_mismatch', state='open'))
    equal(said(lab.wait().go(a.quote(), b.quote())), ['trusted/ok', 'trusted/ok'])


def cohort_of_a_group(lab):
    machines = [lab.known('a', 'web'), lab.known('b', 'web'), lab.known('c', 'db'), lab.known('d', 'db')]
    lab.wait().go(*[m.boot(p9='kernel-2').quote() for m in machines])
    a = lab.one('pcr_mismatch', 'a')
    lab.accept(a, '--same', '--yes')
    equal([r['id'] for r in lab.rows('pcr_mismatch', state='open')], ['c', 'd'])
    lab.wait().go(*[m.boot(p9='pcr-9', p4='loader-2').quote() for m in machines])
    a = lab.one('pcr_mismatch', 'a', 'open')
    lab.accept(a, '--same', '--all-groups', '--yes')
    equal([r['state'] for r in lab.rows('pcr_mismatch') if r['change'] == a['change']], ['accepted'] * 4)


def cohort_in_full(lab):
    a, b, c = machines = [lab.known(id, 'web') for id in 'abc']
    for m, last in ((a, 'kernel-2'), (b, 'kernel-2'), (c, 'implant')):
        m.boot(p8='cmdline-2', p9=last)
    lab.wait().go(*[m.quote() for m in machines])
    lab.accept(lab.one('pcr_mismatch', 'a'), '--same', '--group', '--yes')
    equal([r['id'] for r in lab.rows('pcr_mismatch', state='open')], ['c'])
    equal(said(lab.wait().go(*[m.quote() for m in machines])), ['trusted/ok', 'trusted/ok', 'untrusted/pcr_mismatch'])


def same_wants_yes(lab):
    machines = [lab.known(f'm{n}') for n in range(3)]
    lab.wait().go(*[m.boot(p9='kernel-2').quote() for m in machines])
    asked = lab.accept(lab.rows()[0], '--same', codes=(1, 2, 3))
    assert '3' in asked.err, asked
    equal(len(lab.rows(state='open')), 3)
    lab.accept(lab.rows()[0], '--same', '--yes')
    equal(lab.rows(state='open'), [])


def ignored_counts(lab):
    m = lab.known('a')
    m.boot(p9='odd')
    lab.wait().go(m.quote())
    lab.act('ignore', lab.one(), '--reason', 'known')
    lab.wait().go(m.quote())
    row = lab.one()
    equal((row['state'], row['count'], lab.status_of(m)['status']), ('ignored', 2, 'untrusted'))
    assert 'ignored' in lab.must('alerts', 'list').out


def ignored_ends_by_pass(lab):
    m = lab.known('a')
    lab.wait().go(m.boot(p9='odd').quote())
    lab.act('ignore', lab.one(), '--reason', 'known')
    lab.wait().go(m.boot(p9='pcr-9').quote())
    equal(lab.one()['state'], 'resolved')
    lab.wait().go(m.boot(p9='odd').quote())
    equal([r['state'] for r in lab.rows()].count('open'), 1)


def ignored_ends_at_until(lab):
    m = lab.known('a')
    m.boot(p9='odd')
    lab.wait().go(m.quote())
    lab.act('ignore', lab.one(), '--until', lab.when(lab.now + 3 * HOUR), '--reason', 'known')
    lab.wait().go(m.quote())
    equal(lab.one()['state'], 'ignored')
    lab.wait(3 * HOUR).go(m.quote())
    equal(lab.one()['state'], 'open')


def accept_overlays(lab):
    m = lab.known('a')
    lab.wait().go(m.boot(p8='cmdline-2', p9='kernel-2').quote())
    row = lab.one()
    lab.accept(row)
    stands = lab.status_of(m)
    equal((stands['status'], lab.one()['state']), ('trusted', 'accepted'))
    new = next(s for s in lab.sets() if s['origin'] == 'accepted')
    equal({int(p): v for p, v in new['values'].items()}, {p: m.value(p) for p in range(10)})


def accept_wants_proof(lab):
    m = lab.known('a')
    lab.wait().go(m.boot(p9='kernel-2').quote(log='no'))
    refused = lab.accept(lab.one(), codes=(1, 2, 3))
    assert 'log' in refused.err or 'pcrs' in refused.err, refused
    equal(lab.status_of(m)['status'], 'untrusted')


def reopen_withdraws(lab):
    m = lab.known('a')
    lab.wait().go(m.boot(p9='kernel-2').quote())
    lab.accept(lab.one())
    lab.act('reopen', lab.one(), '--reason', 'a mistake')
    equal((lab.one()['state'], lab.status_of(m)['status']), ('open', 'untrusted'))
    equal(said(lab.wait().go(m.quote())), ['untrusted/pcr_mismatch'])


def resolved_unseen(lab):
    a, b = lab.known('a'), lab.known('b')
    lab.wait().go(a.boot(p9='implant').quote(), b.boot(p9='implant').quote())
    lab.wait().go(a.boot(p9='pcr-9').quote(), b.boot(p9='pcr-9').quote())
    for id in 'ab':
        row = lab.one('pcr_mismatch', id)
        equal((row['state'], row['seen']), ('resolved', False))
    listed = lab.must('alerts', 'list').out
    assert 'passes again' in listed or 'pass again' in listed, listed
    lab.act('ack', lab.one('pcr_mismatch', 'a'))
    equal(lab.one('pcr_mismatch', 'a')['seen'], True)
    lab.wait(29 * DAY + HOUR).go(a.quote(), b.quote())
    equal(lab.one('pcr_mismatch', 'b')['seen'], False)
    lab.wait(2 * DAY).go(a.quote(), b.quote())
    equal(lab.one('pcr_mismatch', 'b')['seen'], True)


def mismatch_and_pass(lab):
    m = lab.known('a')
    lab.wait(HOUR)
    bad = m.boot(p9='implant').quote()
    lab.wait(HOUR)
    lab.wait().go(bad, m.boot(p9='pcr-9').quote())
    equal((lab.one('pcr_mismatch')['state'], lab.status_of(m)['status']), ('resolved', 'trusted'))


def unmeasured_from(lab):
    other = lab.known('other')
    lab.wait(HOUR)
    late = lab.machine('late')  # counts from its enrolment
    lab.wait(11 * HOUR).go(other.quote())
    lab.wait(11 * HOUR).go(other.quote())
    equal(lab.rows(), [])
    lab.wait(3 * HOUR).go(other.quote())
    lab.one('unmeasured', 'late', 'open')
    gone = lab.known('gone')
    lab.wait(5 * DAY).go(other.quote(), late.quote())  # nobody was looking
    equal(lab.rows('unmeasured', 'gone'), [])
    lab.wait(11 * HOUR).go(other.quote(), late.quote())
    equal(lab.rows('unmeasured', 'gone'), [])
    lab.wait(11 * HOUR).go(other.quote(), late.quote())
    lab.wait(3 * HOUR).go(other.quote(), late.quote())
    lab.one('unmeasured', 'gone', 'open')


def unmeasured_from_a_hold(lab):
    other, parked = lab.known('other'), lab.known('parked')
    lab.must('hold', 'parked', '--until', lab.when(lab.now + 30 * HOUR), '--reason', 'repair')
    for _ in range(5):  # 50 hours, and 20 since the hold
        lab.wait(10 * HOUR).go(other.quote())
    equal(lab.rows('unmeasured'), [])
    lab.wait(10 * HOUR).go(other.quote())
    lab.one('unmeasured', 'parked', 'open')


def unmeasured_from_a_gap(lab):
    other, gone = lab.known('other'), lab.known('gone')
    lab.wait(11 * HOUR).go(other.quote())
    lab.wait(13 * HOUR + MINUTE).go(other.quote())  # longer than half of the 24 h
    equal(lab.rows('unmeasured'), [])
    lab.wait(MINUTE).go(other.quote())
    equal(lab.rows('unmeasured'), [])
    lab.wait(11 * HOUR).go(other.quote())  # and that was long ago
    lab.wait(11 * HOUR).go(other.quote())
    equal(lab.rows('unmeasured'), [])
    lab.wait(3 * HOUR).go(other.quote())
    lab.one('unmeasured', 'gone', 'open')


def silent_group(lab):
    machines = [lab.machine(f'm{n:02d}', 'web') for n in range(30)]
    rest = [lab.machine(f'r{n:02d}', 'db') for n in range(30)]
    twentieth = [lab.machine(f't{n:02d}', 'edge') for n in range(40)]
    more = [lab.machine(f'u{n:02d}', 'core') for n in range(39)]
    lab.wait().go(*[m.quote() for m in machines + rest + twentieth + more])
    for _ in range(3):
        lab.wait(11 * HOUR).go(*[m.quote() for m in machines[10:] + rest[1:] + twentieth[2:] + more[2:]])
    rows = lab.rows('unmeasured')
    equal(sorted(r['id'] or r['group'] for r in rows), ['core', 'r00', 't00', 't01', 'web'])


def silent_without_group(lab):
    machines = [lab.machine(f'm{n}') for n in range(3)] + [lab.machine('w0', 'web'), lab.machine('w1', 'web')]
    speaks = lab.machine('speaks', 'db')
    lab.wait().go(*[m.quote() for m in machines + [speaks]])
    for _ in range(3):
        lab.wait(11 * HOUR).go(speaks.quote())
    alone, web = sorted(lab.rows('unmeasured'), key=lambda r: r['group'] or '')
    equal((alone['group'], alone['detail']), (None, {'machines': 3, 'of': 3}))  # three of six: not the fleet
    out = lab.must('alerts', 'list').out
    assert 'unmeasured  3 of 3 machines without a group: open\n' in out and 'unmeasured  2 of 2 machines of group web: open\n' in out, out
    out = lab.act('show', alone).out
    assert '  machines  those without a group\n' in out and '  silent    3 of 3 machines\n' in out and 'On the machine:' in out, out
    assert '"title":"unmeasured among machines without a group"' in lab.must('alerts', 'list', '--format', 'ocsf').out


def silent_fleet(lab):
    machines = [lab.machine(f'm{n}', 'web' if n < 3 else 'db') for n in range(6)]
    lab.wait().go(*[m.quote() for m in machines])
    for _ in range(3):
        lab.wait(11 * HOUR).go()
    row = lab.one('unmeasured', '', 'open')
    equal(row['detail'], {'cause': 'nothing_from_anyone', 'machines': 6, 'of': 6})
    out = lab.act('show', row).out
    assert '  machines  the fleet\n' in out and 'does the transport deliver into the spool' in out, out
    assert 'unmeasured  the fleet: open\n' in lab.must('alerts', 'list').out
    assert '"title":"unmeasured in the fleet"' in lab.must('alerts', 'list', '--format', 'ocsf').out
    lab.wait().go(*[m.quote() for m in machines])
    equal(lab.one('unmeasured')['state'], 'resolved')


def clock_behind(lab):
    m, other = lab.known('a'), lab.known('b')
    for _ in range(4):
        lab.wait(5 * HOUR).go(other.quote())
    rows = len(lab.rows('unmeasured'))
    late = lab.now
    quote = other.quote(clock=other.quote().clock + 1)
    lab.config('unmeasured_after', '12h')  # by which a is silent, were that clock believed
    lab.now -= HOUR
    lab.put(quote)
    lab.deliver()
    equal(lab.call('run', lab.spool).code, 3)
    lab.now = late
    equal(len(lab.rows('unmeasured')), rows)


def verified(lab):
    """What verify writes of the spool."""
    p = subprocess.run([lab.program, 'verify', '--format', 'msgpack', lab.spool], cwd=lab.top, env=dict(lab.env, FAKETIME=lab.faketime()),
                       capture_output=True)
    equal(p.returncode, 1)
    return p.stdout


def accept_during_a_run(lab):
    m = lab.known('a')
    lab.wait().go(m.boot(p9='kernel-2').quote())
    lab.wait(HOUR).put(m.quote())
    lab.deliver()
    raw = verified(lab)
    lab.accept(lab.one('pcr_mismatch'))
    lab.must('apply', '-', stdin=raw, codes=(0, 1))
    equal(lab.status_of(m)['status'], 'trusted')
    equal(lab.rows('pcr_mismatch', state='open'), [])


def streams_applied(lab):
    m = lab.known('a')
    lab.wait(HOUR).put(m.boot(p9='implant').quote())
    lab.deliver()
    raw = verified(lab)
    lines = lab.call('verify', '--json', lab.spool).out.encode().splitlines(keepends=True)
    for broken in (b''.join(lines[:-1]), lines[-1], raw[:len(raw) // 2], raw[:-1]):
        equal(lab.call('apply', '-', stdin=broken).code, 3)
    equal(lab.rows(), [])
    lab.must('apply', '-', stdin=raw, codes=(1,))
    before = lab.status_of(m), lab.rows()
    equal(before[1][0]['count'], 1)
    again = lab.wait().must('apply', '-', stdin=raw)
    assert 'was applied before' in again.err, again
    equal((lab.status_of(m), lab.rows()), before)


def exclusion(lab):
    m = lab.known('a')
    stream = lab.must('verify', '--json', lab.spool).out
    with open(os.path.join(lab.path, 'run.lock')) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        equal((lab.call('run', lab.spool).code, lab.call('apply', '-', stdin=stream if isinstance(stream, bytes) else stream.encode()).code), (75, 75))
        lab.machine('b')
        lab.must('hold', 'a', '--until', lab.when(lab.now + DAY), '--reason', 'x')
        lab.must('alerts', 'list')
        lab.must('retire', 'b')
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])


# ---- spool and home ----------------------------------------------------------------------------------------------------------


def sources_take_turns(lab):
    m = lab.known('a')
    lab.wait(HOUR)
    quiet = [f'quiet-{n}' for n in range(20)]  # some of which are behind it, however a directory is listed
    for source in quiet[:10] + ['flood'] * 60 + quiet[10:]:
        lab.put(*[m.quote(broken=1)] * (20 if source == 'flood' else 1), source=source)
    lab.deliver()
    run, _ = lab.run('--workers', '1')
    order = [r['src'].split('/')[-2] for r in lab.results(run['run'])]
    last = max(map(order.index, quiet))
    assert last < len(order) // 2, f'{last} of {len(order)}'


def record_bytes(lab, q):
    path = os.path.join(lab.top, 'one-record')
    if os.path.exists(path):
        os.unlink(path)
    maker.order(path, q)
    maker.sync()
    with open(path, 'rb') as f:
        return f.read()


def spool_command(lab):
    m = lab.known('a')
    lab.wait(HOUR)
    record = record_bytes(lab, m.quote())
    to = os.path.join(lab.spool, 'site')
    os.makedirs(to, exist_ok=True)
    lab.must('spool', '--to', to, '--as', 'b', stdin=record, codes=(1, 2, 3))
    for broken, words in ((record + record, 'one record at a time'), (record[:-1], 'is cut short'), (b'\x81\xa1v\x01', 'is malformed'),
                          (b'\x01', 'is no evidence record'), (bytes(2**23 + 1), 'longer than a record may be')):
        refused = lab.must('spool', '--to', to, stdin=broken, codes=(1,))
        assert words in refused.err, refused
    lab.must('spool', '--to', to, stdin=b'', codes=(1, 2, 3))
    equal(lab.left(), [])
    lab.must('spool', '--to', to, '--as', 'a', stdin=record)
    equal([n.endswith('.mpk') for n in lab.left()], [True])
    equal(said(lab.go_on()), ['trusted/ok'])


def quarantine(lab):
    m = lab.known('a')
    lab.wait(HOUR)
    lab.put(record_bytes(lab, m.quote()) + b'\xc1' * 100, source='si\nte')
    equal(said(lab.go_on()), ['trusted/ok', 'invalid/malformed'])
    equal(lab.left(), [])
    names = [n for _, _, files in os.walk(os.path.join(lab.path, 'quarantine')) for n in files]
    assert names and not any('\n' in n for n in names), names
    texts = []
    for folder, _, files in os.walk(os.path.join(lab.path, 'quarantine')):
        for n in files:
            with open(os.path.join(folder, n), 'rb') as f:
                texts.append(f.read())
    assert any(b'si\\u{a}te' in t for t in texts), [t[:200] for t in texts]


def run_ordinary(lab):
    """A run of somebody who may not open everything, as root may unless it gives that up."""
    lesser = ['setpriv', '--inh-caps=-all', '--bounding-set=-dac_override,-dac_read_search'] if os.getuid() == 0 else []
    env = dict(lab.env, FAKETIME=lab.faketime())
    loaded = env.pop('LD_PRELOAD')  # into the program alone
    return subprocess.run([*lesser, 'env', f'LD_PRELOAD={loaded}', lab.program, 'run', lab.spool], cwd=lab.top, env=env, capture_output=True,
                          timeout=300)


def unreadable_file(lab):
    m = lab.known('a')
    lab.wait(HOUR).put(m.quote(), source='site')
    lab.deliver()
    os.symlink('/nowhere', os.path.join(lab.spool, 'site', 'link.mpk'))
    os.mkfifo(os.path.join(lab.spool, 'site', 'fifo.mpk'))
    got = lab.go_on(codes=(0, 1, 3))
    equal(said(got), ['trusted/ok'])
    equal(len(lab.left()), 2)
    path = os.path.join(lab.spool, 'site', 'closed.mpk')
    with open(path, 'wb') as f:
        f.write(b'x')
    os.chmod(path, 0)
    p = run_ordinary(lab)
    assert p.returncode == 3 and b'closed.mpk' in p.stderr and os.path.exists(path), p


def refused_spools(lab):
    for spool in (lab.path, lab.top):  # not /: without the rule, everything below it would be taken
        a = lab.call('run', spool)
        assert a.code == 2 and 'cannot be a spool' in a.err, a


def results_bounded(lab):
    m = lab.known('a')
    lab.config('results_keep', '2d')
    before = len(os.listdir(os.path.join(lab.path, 'results')))
    lab.wait(DAY).go(m.quote())
    equal(len(os.listdir(os.path.join(lab.path, 'results'))), before + 1)
    lab.wait(3 * DAY).go(m.quote())
    equal(len(os.listdir(os.path.join(lab.path, 'results'))), 1)
    db = sqlite3.connect(os.path.join(lab.path, 'fleet.db'))
    row = json.loads(db.execute('SELECT record FROM run ORDER BY no DESC').fetchone()[0])
    db.close()
    equal((row['lost'], row['lost_files']['results']['files']), (before + 1, before + 1))


def history_bounded(lab):
    lab.config('history_keep', '10d')
    m = lab.known('a')
    learned = lab.sets()[0]['run']
    lab.wait().go(m.boot(p9='implant').quote())
    lab.wait().go(m.boot(p9='pcr-9').quote())
    lab.wait(9 * DAY).go(m.quote())

    def kept():
        db = sqlite3.connect(os.path.join(lab.path, 'fleet.db'))
        try:
            rows = db.execute("SELECT id, record FROM run ORDER BY no").fetchall()
            return [row[0] for row in rows], json.loads(rows[-1][1])
        finally:
            db.close()
    equal((len(kept()[0]), kept()[1]['lost'], len(lab.rows())), (5, 0, 1))
    lab.wait(2 * DAY).go(m.quote())
    runs, row = kept()
    equal((len(runs), row['lost'], lab.rows()), (3, 5, []))  # three runs, the alert, and that a policy was set
    equal(runs[0], learned)  # a set came of it
    equal([s['id'] for s in lab.sets('--run', learned)], ['a'])


def retired_forgotten(lab):
    lab.config('history_keep', '10d')
    a, b, c = lab.known('a'), lab.known('b'), lab.known('c')
    lab.must('retire', 'a', 'c', '--reason', 'scrapped')

    def known():
        db = sqlite3.connect(os.path.join(lab.path, 'fleet.db'))
        try:
            rows = [r[0] for r in db.execute('SELECT id FROM retired ORDER BY id')]
            return rows, json.loads(db.execute('SELECT record FROM run ORDER BY no DESC').fetchone()[0])['lost']
        finally:
            db.close()
    lab.wait(9 * DAY).go(b.quote())
    equal(known(), (['a', 'c'], 0))
    equal(len(lab.sets('a')), 1)
    lab.wait(2 * DAY).go(b.quote())
    got, lost = known()
    equal(got, ['c'])  # the last one's number is known
    assert lost >= 1, lost
    assert lab.call('baseline', 'history', 'a').code != 0
    equal(said(lab.wait().go(b.quote())), ['trusted/ok'])
    assert lab.integrity()


def results_of_killed_runs(lab):
    m = lab.known('a')
    folder = os.path.join(lab.path, 'results')
    known = next(n for n in os.listdir(folder) if lab.ran['run'] in n)
    os.rename(os.path.join(folder, known), os.path.join(folder, known + '.part'))  # killed behind the commit
    with open(os.path.join(folder, '20260101T000000Z-abc.mpk.part'), 'wb') as f:  # killed before
        f.write(b'half')
    lab.wait().go(m.quote())
    names = os.listdir(folder)
    assert known in names and not any(n.endswith('.part') or n.startswith('20260101') for n in names), names


def results_elsewhere_of_killed_runs(lab):
    m = lab.known('a')
    notes, out = os.path.join(lab.path, 'results'), os.path.join(lab.top, 'out')
    os.mkdir(out)

    def left_by(run, name, data):
        """As a kill leaves it; the run was called with --results out/NAME."""
        with open(os.path.join(out, f'{name}.{run}.part'), 'wb') as f:
            f.write(data)
        os.symlink(os.path.join(os.path.realpath(out), name), os.path.join(notes, run + '.elsewhere'))
    lab.wait().put(m.quote())
    left_by(lab.run('--results', 'none')[0]['run'], 'one.mpk', b'all of it')  # behind the commit
    left_by('20260101T000000Z-abc', 'two.mpk', b'half')  # before it
    with open(os.path.join(out, 'strange.mpk.part'), 'wb') as f:
        f.write(b'of nobody here')
    os.symlink(os.path.join(out, 'gone', 'three.mpk'), os.path.join(notes, '20260101T000000Z-abd.elsewhere'))
    lab.wait().put(m.quote())
    lab.run('--results', 'out/four.mpk')  # from lab.top
    equal(sorted(os.listdir(out)), ['four.mpk', 'one.mpk', 'strange.mpk.part'])
    equal([n for n in os.listdir(notes) if not n.endswith('.mpk')], [])
    with open(os.path.join(out, 'one.mpk'), 'rb') as f:
        equal(f.read(), b'all of it')
    equal(len(lab.results_in(os.path.join(out, 'four.mpk'))), 1)
    # a run that fails before the commit takes both away itself
    os.mkdir(os.path.join(out, 'five.mpk'))
    lab.wait().put(m.quote())
    _, a = lab.run('--results', 'out/five.mpk', codes=(3,))
    assert 'cannot write the results' in a.err, a
    _, a = lab.run('--results', 'out/' + 'x' * 250, codes=(3,))
    assert 'cannot write the results' in a.err, a
    equal((sorted(os.listdir(out)), len(lab.left())), (['five.mpk', 'four.mpk', 'one.mpk', 'strange.mpk.part'], 1))
    equal([n for n in os.listdir(notes) if not n.endswith('.mpk')], [])


def results_to_a_pipe(lab):
    m = lab.known('a')
    pipe = os.path.join(lab.top, 'pipe')
    os.mkfifo(pipe)
    with subprocess.Popen(['cat', pipe], stdout=subprocess.PIPE) as reader:
        lab.wait().put(m.quote())
        lab.run('--results', 'pipe')
        read = reader.stdout.read()
    equal(kit.unpack(read, 0)[0]['id'], 'a')
    equal([n for n in os.listdir(lab.top) if n.startswith('pipe')], ['pipe'])
    assert os.path.exists(pipe) and not os.path.isfile(pipe)


def unit_succeeds(lab):
    with open(os.path.join(SOURCES, 'tools/units/quotemill.service.in')) as f:
        assert 'SuccessExitStatus=1 75' in f.read().splitlines()


def said_in_the_documentation(lab):
    with open(os.path.join(SOURCES, 'README.md')) as f:
        text = ' '.join(f.read().split())
    for statement in ('A quote proves what was measured at boot, not what runs now.', 'with a beacon a machine may still quote, then reboot.',
                      'A TPM reset without a reset of the platform forges PCRs anew and shows only as one boot more.',
                      'Who holds a copy of a vTPM\'s state can sign while the original is silent.', 'Event types and most event text are claims.'):
        assert statement in text, statement


def newer_schema(lab):
    m = lab.known('a')
    db = sqlite3.connect(os.path.join(lab.path, 'fleet.db'))
    db.execute("UPDATE meta SET value = value + 1 WHERE key = 'schema'")
    db.commit()
    db.close()
    lab.wait(HOUR).put(m.quote())
    lab.deliver()
    for args in (('run', lab.spool), ('status',), ('alerts', 'list'), ('enroll', '-')):
        a = lab.call(*args, stdin=b'')
        equal(a.code, 3)
    equal(len(lab.left()), 1)


def table_rebuilt(lab):
    m = lab.known('a')
    path = os.path.join(lab.path, 'fleet.tbl')
    with open(path, 'r+b') as f:
        f.seek(8)
        f.write(b'\xfe')
    equal(said(lab.wait().go(m.quote())), ['trusted/ok'])


def backup_and_restore(lab):
    m = lab.known('a')
    copy = os.path.join(lab.top, 'copy')
    lab.must('backup', copy)
    lab.wait().go(m.boot(p9='implant').quote())
    lab.must('restore', copy, '--force')
    equal(lab.rows(), [])
    equal(lab.status_of(m)['status'], 'trusted')
    lab.wait().go(m.boot(p9='pcr-9').quote())
    assert 'was restored' in lab.answer.err and '1 machines' in lab.answer.err, lab.answer
    equal(lab.status_of(m)['status'], 'trusted')


def home_name(lab):
    m = lab.known('a')
    lab.config('name', 'tenant-7')
    got = lab.wait().go(m.boot(p9='implant').quote())
    assert 'tenant-7' in json.dumps(got[0], default=lambda b: b.hex()), got
    assert 'tenant-7' in json.dumps(lab.rows()), lab.rows()
    with open(os.path.join(lab.path, 'metrics', 'quotemill.prom')) as f:
        numbers = f.read()
    assert 'tenant-7' in numbers, numbers


def exit_new(lab):
    m = lab.known('a')
    m.boot(p9='implant')

    def code(*args):
        lab.wait(HOUR).put(m.quote())
        lab.deliver()
        return lab.call('run', *args, lab.spool).code
    equal(code('--exit', 'new'), 1)
    equal(code('--exit', 'new'), 0)
    equal(code(), 1)
    m.boot(p9='pcr-9')
    equal(code(), 0)
    other = lab.known('b')
    for expected in (0, 0, 1):
        lab.wait(10 * HOUR).put(other.quote())
        lab.deliver()
        equal(lab.call('run', lab.spool).code, expected)
    lab.wait().put(other.quote(broken=1))
    lab.deliver()
    equal(lab.call('run', lab.spool).code, 1)


def names_escaped(lab):
    m = lab.known('a')
    lab.wait(HOUR).put(m.quote(), source='site')
    lab.deliver()
    path = os.path.join(lab.spool, 'site', 'bad\x1b[31m\u202e.mpk')
    with open(path, 'wb') as f:
        f.write(b'x')
    os.chmod(path, 0)
    said = run_ordinary(lab).stderr.decode()
    assert 'bad\\u{1b}[31m\\u{202e}.mpk' in said and '\x1b' not in said and '\u202e' not in said, said


def text_escaped(lab):
    m = lab.known('a\u202eb')
    lab.wait().go(m.boot(p9='implant').quote())
    lab.act('ignore', lab.one('pcr_mismatch'), '--reason', 'kn\u202eown')
    for args in (('status',), ('status', m.id), ('alerts', 'list'), ('alerts', 'show', '1'), ('baseline', 'history')):
        text = lab.must(*args, codes=(0, 1)).out
        assert '\u202e' not in text and '\\u{202e}' in text, (args, text)


def on_alert(lab):
    m = lab.known('a')
    out = os.path.join(lab.top, 'alerted')
    lab.wait().go(m.boot(p9='implant').quote(), args=('--on-alert', f'cat > {out}; exit 9'))
    with open(out) as f:
        lines = [json.loads(line) for line in f]
    equal([(a['alert'], a['id']) for a in lines], [('pcr_mismatch', 'a')])
    os.unlink(out)
    lab.wait().go(m.quote(), args=('--on-alert', f'cat > {out}'))
    assert not os.path.exists(out) or os.path.getsize(out) == 0, 'a repeat is nothing new'


# ------------------------------------------------------------------------------------------------------------------------------


def main():
    global maker, program
    program = sys.argv[1]
    kit.skip_without(program, sys.argv[2])
    wanted = sys.argv[3:]
    maker = kit.Maker(sys.argv[2])
    passed, failed, names, started = 0, [], [], time.monotonic()
    for row in TABLE:
        for name in row[1].split():
            if '/' in name or name in names or (wanted and name not in wanted):
                continue
            names.append(name)
            lab = None
            try:
                lab = Lab()
                globals()[name](lab)
                assert lab.integrity(), 'the database is not sound'
                passed += 1
                print(f'ok   {name}: {row[0]}', flush=True)
            except Exception as e:
                failed.append(name)
                at = [f for f in traceback.extract_tb(e.__traceback__) if f.name == name]
                print(f'FAIL {name}: {row[0]}\n     line {at[-1].lineno if at else "?"}: {str(e) or repr(e)}'[:1500], flush=True)
            finally:
                if lab:
                    lab.close()
    maker.close()
    print(f'{passed} passed, {len(failed)} failed in {time.monotonic() - started:.1f} s')
    return 1 if failed or not passed else 0


if __name__ == '__main__':
    sys.exit(main())
