#!/usr/bin/env python3
"""Every rule of the home's life cycle, taken out: does the test that claims the rule notice?

    rule_mutations.py --check ROOT           is every text below in its file exactly once, and every rule of rules_test.py taken out somewhere?
    rule_mutations.py ROOT [--dir DIR] [WORD...]
                                             in a copy of the sources (DIR, kept; otherwise a temporary one), one change after another: built,
                                             its test run, and the test must fail. WORDs: only tests whose name begins with one of them.

The check is part of the ordinary tests, so that the list stays true; all changes take 8 to 15 minutes on two shared cores, with ccache."""
import os, re, shutil, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rules_test

# What fails -> (what is taken out, file, its text, what stands there instead). A name alone is a scenario of rules_test.py;
# 'NAME/CASE' is a case of the unit test NAME.
MUTATIONS = {
    # ---- baselines are sets ----
    'set_kinds_and_their_pcrs': [
        ('a group\'s set has the group\'s PCRs alone', 'tools/store/store_accept.c', '*mask = m->class_group & m->row.profile.baselined;',
         '*mask = m->row.profile.baselined;'),
        ('--group makes a group\'s set', 'tools/store/store_accept.c', 'new.kind = QM_SET_GROUP;',
         'new.kind = QM_SET_WHOLE;\n    new.slot = c->machine.row.slot;'),
    ],
    'no_group_shares_nothing': [
        ('without a group all PCRs are the instance\'s', 'tools/store/store_config.c', 'p->class_group = p->class_ignored = 0;', ';'),
    ],
    'group_classes_by_default': [
        ('PCR 6 is the instance\'s', 'tools/store/store_config.c', '"instance_pcrs", "1,5,6"', '"instance_pcrs", "1,5"'),
        ('the others are the group\'s', 'tools/store/store_config.c', '"instance_pcrs", "1,5,6"', '"instance_pcrs", "0,1,5,6"'),
    ],
    'group_classes_configured': [
        ('a group says otherwise', 'tools/store/store_config.c', 'const char *scope = k->home_only ? "" : group;', 'const char *scope = ""; (void)group;'),
    ],
    'group_pcrs_ignored': [
        ('ignored PCRs are not in the table', 'tools/store/store_publish.c', 'row->profile.baselined &= ~policy->class_ignored;', ';'),
        ('... nor looked at when it is judged again', 'tools/store/store_sets.c', 'out->profile.baselined &= ~policy->class_ignored;', ';'),
    ],
    'passes_on_a_whole_set': [
        ('all baselined values equal the set\'s', 'engine/compare.c', 'if ((mask >> pcr & 1) != 0 && memcmp',
         'if (pcr != 3 && (mask >> pcr & 1) != 0 && memcmp'),
    ],
    'older_set_passes_nothing': [
        ('a set without all baselined PCRs passes nothing', 'engine/compare.c', 'baselined != 0 && covers(c.set, baselined);', 'baselined != 0;'),
    ],
    'passes_on_a_pair': [
        ('a group\'s set stands beside the instance\'s', 'tools/store/store_sets.c', 'put(&p, &shared[i], &part[j]);', 'put(&p, &shared[i], NULL);'),
        ('a group\'s sets are live', 'tools/store/store_sets.c',
         '" WHERE b.grp = ?1 AND b.ended_ms IS NULL AND', '" WHERE b.grp = ?1 AND 0 AND b.ended_ms IS NULL AND'),
        ('accept --group judges the group at once', 'tools/store/store_accept.c', 'err = judge_groups(c, fault);', ';'),
    ],
    'accept_is_one_machines': [
        ('accept without --group is of one machine', 'tools/store/store_accept.c', 'new.kind = QM_SET_WHOLE;',
         'new.kind = m->row.group_no != 0 ? QM_SET_GROUP : QM_SET_WHOLE;\n        new.group_no = m->row.group_no;'),
    ],
    'baseline_set_is_whole': [
        ('baseline set makes a whole set', 'tools/cmd_baseline.c', 'a->own ? QM_SET_INSTANCE : QM_SET_WHOLE;', 'QM_SET_INSTANCE;'),
    ],
    'enrolled_is_whole': [
        ('a baseline line makes a whole set', 'tools/store/store_open.c',
         'INSERT INTO baseline(slot, vals, origin, who, since_ms) VALUES(?1,', 'INSERT INTO baseline(kind, slot, vals, origin, who, since_ms) VALUES(2, ?1,'),
    ],
    'mixture_fails': [
        ('values of whole sets do not mix', 'engine/compare.c', 'uint32_t differ = differences(value, s, baselined & s->mask);',
         'uint32_t differ = differences(value, s, baselined & s->mask) & (i == 0 ? ~0u : c.differ);'),
    ],
    'mixture_of_group_sets_fails': [
        ('values of a group\'s sets do not mix', 'engine/compare.c', 'uint32_t differ = differences(value, s, baselined & s->mask);',
         'uint32_t differ = differences(value, s, baselined & s->mask) & (i == 0 ? ~0u : c.differ);'),
    ],
    'nearest_by_count': [
        ('fewest PCRs that differ', 'engine/compare.c', '(whole == covers(c.set, baselined) && __builtin',
         '(false && whole == covers(c.set, baselined) && __builtin'),
    ],
    'nearest_by_age': [
        ('the newest of equals', 'engine/compare.c', '__builtin_popcount(differ) < __builtin_popcount(c.differ)',
         '__builtin_popcount(differ) <= __builtin_popcount(c.differ)'),
    ],
    'set_proves_values': [
        ('a set proves values', 'engine/appraise.c', 'if (s->composite_size == 0 || s->composite_size != it->attest.pcr_digest.len',
         'if (true || s->composite_size != it->attest.pcr_digest.len'),
    ],
    'pair_proves_values': [
        ('a pair proves values', 'engine/appraise.c', 'if (s->composite_size == 0 || s->composite_size != it->attest.pcr_digest.len',
         'if (s->pair_no != 0 || s->composite_size != it->attest.pcr_digest.len'),
    ],
    'eight_sets': [
        ('at most 8 live sets', 'tools/store/store_sets.c', 'if (count >= QM_SET_MAX)', 'if (count >= QM_SET_MAX + 1u)'),
        ('one more asks which to end', 'tools/store/store_sets.c', '(%s): which is to end? see quotemill baseline retire"', '%.0s"'),
    ],
    'sets/eight_of_each_kind': [
        ('8 of each kind', 'tools/store/store_sets.c', 'WHERE slot = ?1 AND kind = ?2 AND ended_ms IS NULL', 'WHERE slot = ?1 AND ended_ms IS NULL'),
    ],
    'store/eight_sets': [
        ('8 by enrolment too', 'tools/store/store_enroll.c', 'if (number >= QM_SET_MAX)', 'if (number >= QM_SET_MAX + 1u)'),
    ],
    'set_origins': [
        ('from alert N', 'tools/store/store_accept.c', '.alert = alert}', '.alert = alert * 0}'),
        ('why', 'tools/store/store_accept.c', '.why = d->decision->reason, ', ''),
        ('who', 'tools/store/store_sets.c', 'sqlite3_bind_text(st, 6, s->who, -1, SQLITE_STATIC);', 'sqlite3_bind_text(st, 6, "", -1, SQLITE_STATIC);'),
        ('when', 'tools/store/store_sets.c', 'sqlite3_bind_int64(st, 10, (sqlite3_int64)s->now_ms);', 'sqlite3_bind_int64(st, 10, 1);'),
        ('imported', 'tools/cmd_baseline.c', 'line.set.origin = "imported";', 'line.set.origin = "set";'),
    ],
    'set_until': [
        ('judged again then', 'tools/store/store_sets.c', 'return slot != 0 ? qm_store_rejudge(s, slot, NULL, &r, fault)', 'return slot != 0 ? QM_OK'),
        ('a set ends at its until', 'tools/store/store_sets.c',
         'sqlite3_bind_int64(st, 11, (sqlite3_int64)set->until_ms);', 'sqlite3_bind_int64(st, 11, 0);'),
    ],
    'retired_set_fails': [
        ('judged again when it ends', 'tools/store/store_baseline.c', 'return settle(s, slot, group_no, change, fault);', 'return QM_OK;'),
        ('judged again when one is given', 'tools/store/store_baseline.c',
         'return added ? settle(s, set->slot, set->group_no, change, fault) : QM_OK;', 'return QM_OK;'),
        ('baseline retire ends a set', 'tools/store/store_sets.c', '"UPDATE baseline SET ended_ms = ?2, ended_who = ?3, ended_why = ?4 WHERE no = ?1"',
         '"UPDATE baseline SET ended_why = ?4 WHERE no = ?1"'),
        ('ended sets stay in the history', 'tools/store/store_sets.c',
         '"UPDATE baseline SET ended_ms = ?2, ended_who = ?3, ended_why = ?4 WHERE no = ?1"', '"DELETE FROM baseline WHERE no = ?1"'),
    ],
    'status_counts_sets': [
        ('machines are counted by the set they pass on', 'tools/store/store_status.c', 'return use_add(&s->uses, l, group_no, 1, fault);',
         'return use_add(&s->uses, l, group_no, 0, fault);'),
    ],
    'keep_old': [
        ('off by default', 'tools/store/store_config.c', '"keep_old", "off"', '"keep_old", "1h"'),
        ('that long after the first pass', 'tools/store/store_sets.c', '<= ?3 - ?5"', '<= ?3 + 0 * ?5"'),
        ('older sets, not newer ones', 'tools/store/store_sets.c', 'WHERE slot = ?1 AND no < ?2"', 'WHERE slot = ?1 AND no <> ?2"'),
        ('they end', 'tools/judge/judge_record.c', 'err = end_old_sets(j, u, fault);', ';'),
    ],
    'enrolled_baseline_used_once': [
        ('never revives an ended set', 'tools/store/store_open.c', '"SELECT no FROM baseline WHERE slot = ?1 AND vals = ?2 LIMIT 1"',
         '"SELECT no FROM baseline WHERE slot = ?1 AND vals = ?2 AND ended_ms IS NULL LIMIT 1"'),
        ('a changed line is used', 'tools/store/store_enroll.c', 'if (err == QM_OK && e->baseline_mask != 0)',
         'if (err == QM_OK && e->baseline_mask != 0 && !present.found)'),
    ],
    'same_line_does_nothing': [
        ('it does nothing', 'tools/store/store_open.c', '"SELECT 1 FROM instance WHERE id = ?1 AND line = ?2"',
         '"SELECT 1 FROM instance WHERE id = ?1 AND line = ?2 AND 0"'),
    ],
    'group_compares_first_record': [
        ('compared with the group\'s sets from the first record on', 'tools/store/store_sets.c', 'if (parts == 0)', 'if (parts == 77)'),
    ],
    # ---- learning ----
    'learn_never': [
        ('learn = never', 'tools/judge/judge_record.c', '*may = u->policy->learn == QM_LEARN_FIRST && ', '*may = '),
        ('... for a group', 'tools/judge/judge_subject.c', 'if (group != 0)', 'if (group == UINT32_MAX)'),
    ],
    'learns_once': [
        ('learning happens once', 'tools/judge/judge_record.c', '|| (set.mask & ~compared_to & before) != 0)', ')'),
    ],
    'ended_is_not_learned': [
        ('what a person ended is not learned', 'tools/judge/judge_record.c', '|| (set.mask & ~compared_to & before) != 0)', ')'),
        ('... whoever gave it', 'tools/store/store_run.c', '" WHERE b.slot = ?1", fault);', '" WHERE b.slot = ?1 AND b.origin = \'learned\'", fault);'),
    ],
    'learn_within': [
        ('only within learn_within', 'tools/judge/judge_record.c',
         '(within_ms == 0 || r->checked_ms <= u->row.enrolled_ms + within_ms)', '(within_ms != 1)'),
        ('7 days', 'tools/store/store_config.c', '"learn_within", "7d"', '"learn_within", "8d"'),
    ],
    'learns_from_the_earliest': [
        ('from the earliest', 'tools/judge/judge.c', 'if (count > 1)\n', 'if (count > 1000000)\n'),
        ('what follows is compared with it', 'tools/judge/judge_record.c', 'u->learned = u->decided = true;', 'u->learned = true;'),
    ],
    'learns_proven_values': [
        ('reported values are proven by the digest', 'engine/appraise.c',
         'if (digest_is(it, v->composite[n]) && reported_values(', 'if (reported_values('),
    ],
    'mismatch_learns_nothing': [
        ('a mismatch learns nothing', 'tools/judge/judge_record.c', 'if (r->status != QM_NEW || r->reason != QM_NO_BASELINE || ', 'if ('),
    ],
    'learns_beside_the_group': [
        ('the instance\'s PCRs are learned beside the group\'s sets', 'tools/judge/judge_record.c',
         '*kind = j->sets.group_count != 0 && j->sets.whole_count == 0 ?', '*kind = j->sets.group_count > 1000 ?'),
    ],
    'reset_values_not_learned': [
        ('reset values are not learned', 'tools/judge/judge_record.c', 'return pcr <= 7 && memcmp', 'return pcr > 23 && memcmp'),
        ('PCR 0\'s after a StartupLocality neither', 'tools/judge/judge_record.c', '|| (pcr == 0 && value[31] <= 4));', ');'),
        ('PCR 7\'s neither', 'tools/judge/judge_record.c', 'return pcr <= 7 && memcmp', 'return pcr <= 6 && memcmp'),
        ('PCRs 8 and 9 are not the firmware\'s', 'tools/judge/judge_record.c', 'return pcr <= 7 && memcmp', 'return pcr <= 8 && memcmp'),
    ],
    'sixteen_and_twentythree': [
        ('not by enrolment', 'tools/enrolment.c', 'if ((p->baselined & anybody) != 0)', 'if ((p->baselined & anybody) == ~0u)'),
        ('not by hand', 'tools/store/store_sets.c', 'if ((set->mask & anybody) != 0)', 'if ((set->mask & anybody) == ~0u)'),
    ],
    'replaced_key': [
        ('--replace-key is needed', 'tools/store/store_objection.c', 'if (present->found && new_key && !options->replace_key) {', 'if (false) {'),
        ('the sequence starts anew', 'tools/store/store_enroll.c', 'if (l.ak != ak)', 'if (l.ak == UINT32_MAX)'),
        ('alerts are kept', 'tools/store/store_enroll.c', 'qm_alert_resolve(s, slot, 1u << QM_ALERT_KEY_CONFLICT, ', 'qm_alert_resolve(s, slot, ~0u, '),
    ],
    'replaced_during_a_run': [
        ('it counts no more', 'tools/judge/judge_record.c', 'if (u->gone || u->rekeyed || refused) {', 'if (u->gone || refused) {'),
    ],
    'learned_taken_back': [
        ('what a run learned can be listed', 'tools/judge/judge_record.c', '.run = j->out->run_no}', '.run = 0}'),
        ('... and taken back', 'tools/store/store_baseline.c', 'err = end_one(s, e.no[i], why, &found, change, fault);', 'found = why == NULL;'),
    ],
    'new_is_no_hiding_place': [
        ('new for too long alerts', 'tools/judge/judge_silent.c', 'return s->status == QM_STANDS_NEW &&', 'return s->status == QM_STANDS_COUNT &&'),
        ('pcr_values_missing where values are', 'tools/judge/judge_silent.c',
         'a.kind = l->reason == QM_PCR_VALUES_MISSING ?', 'a.kind = l->reason == QM_REASON_COUNT ?'),
    ],
    # ---- the sequence of a TPM ----
    'order_within_a_run': [
        ('records are taken in the TPM\'s order', 'tools/judge/judge.c', 'if (count > 1)\n', 'if (count > 1000000)\n'),
    ],
    'duplicate_changes_nothing': [
        ('one of the last attests again is a duplicate', 'engine/ledger.c',
         '(s->proof & ~recent_proof(l, i)) != 0 ? QM_ORDER_IMPROVES', 's->proof != 77 ? QM_ORDER_IMPROVES'),
    ],
    'sixteen_attests': [
        ('the ledger keeps 16', 'engine/ledger.c',
         'const unsigned i = l->recent_next % QM_LEDGER_RECENT;', 'const unsigned i = l->recent_next % (QM_LEDGER_RECENT - 1);'),
    ],
    'stripped_copy_first': [
        ('unless it proves more', 'engine/ledger.c',
         '(s->proof & ~recent_proof(l, i)) != 0 ? QM_ORDER_IMPROVES', 's->proof == 77 ? QM_ORDER_IMPROVES'),
    ],
    'improving_moves_nothing': [
        ('a log that replays proves more', 'tools/judge/judge_record.c', '(r->log == QM_LOG_REPLAYED ? QM_PROOF_LOG : 0)),', '0),'),
        ('improving moves no clock', 'engine/ledger.c', 'set_recent_proof(l, i, recent_proof(l, i) | s->proof);',
         'set_recent_proof(l, i, recent_proof(l, i) | s->proof);\n        move_on(l, s, o);'),
        ('improving counts no repeat', 'tools/judge/judge_record.c', 'err = verdict_alerts(j, u, r, o->order == QM_ORDER_NEWER, is_status, fault);',
         'err = verdict_alerts(j, u, r, true, is_status, fault);'),
    ],
    'reset_behind': [
        ('a reset behind is replayed', 'engine/ledger.c', 'return reset > 0 || (reset == 0', 'return reset != 0 || (reset == 0'),
    ],
    'counts_wrap': [
        ('counts go round', 'engine/ledger.c', 'return d < 0 ? -1 : d > 0;', 'return d == 0 ? 0 : a < b ? -1 : 1;'),
    ],
    'restart_and_clock': [
        ('restart not behind', 'engine/ledger.c', 'compare_count(s->restart, last->restart) >= 0 && s', 's'),
        ('the clock greater', 'engine/ledger.c', '>= 0 && s->clock_ms > last->clock_ms);', '>= 0);'),
        ('... not the same', 'engine/ledger.c', '>= 0 && s->clock_ms > last->clock_ms);', '>= 0 && s->clock_ms >= last->clock_ms);'),
    ],
    'tpm_state': [
        ('behind by more than 2^22 ms', 'engine/ledger.c', 'return safe || last->clock_ms - s->clock_ms > CLOCK_SLACK_MS;', 'return safe;'),
        ('2^22 ms are allowed', 'engine/ledger.c', 'return safe || last->clock_ms - s->clock_ms > CLOCK_SLACK_MS;',
         'return safe || last->clock_ms - s->clock_ms >= CLOCK_SLACK_MS;'),
        ('behind at all while safe', 'engine/ledger.c', 'return safe || last', 'return last'),
        ('the same clock is not behind', 'engine/ledger.c', '<= 0 || s->clock_ms >= last->clock_ms)', '<= 0 || s->clock_ms > last->clock_ms)'),
    ],
    'cloned': [
        ('newer than the last refused', 'engine/ledger.c', 'o.cloned = (l->flags & QM_LEDGER_REFUSED) != 0 && newer(&s->at, &l->refused);',
         'o.cloned = (l->flags & QM_LEDGER_REFUSED) != 0;'),
        ('the newest refused one is kept', 'engine/ledger.c', 'if ((l->flags & QM_LEDGER_REFUSED) == 0 || newer(&s->at, &l->refused))', ''),
        ('both sequences are shown', 'tools/judge/judge_record.c', '"seen", &u->ledger.last, r);', '"seen", &u->ledger.refused, r);'),
        ('a pass does not close it', 'tools/judge/judge_alert.c', 'DECIDED = BIT(QM_ALERT_CLONED_OR_ROLLED_BACK) | BIT(', 'DECIDED = BIT('),
    ],
    'rolled_back_accepted': [
        ('accept makes the shown sequence the new start', 'tools/store/store_accept.c',
         'qm_ledger_restart(&entry, &a->refused);', 'qm_ledger_restart(&entry, &a->seen);'),
    ],
    'restored_rack': [
        ('--tag narrows', 'tools/store/store_decisions.c',
         'if (p->tag_key != NULL)\n        qm_out_text(&sql, " AND EXISTS',
         'if (p->all_groups && p->tag_key != NULL)\n        qm_out_text(&sql, " AND EXISTS'),
        ('--same widens', 'tools/store/store_decisions.c', 'if (err == QM_OK && p->same)', 'if (err == QM_OK && p->same && p->kind != NULL)'),
    ],
    'fresh_nonce': [
        ('a nonce says something once', 'tools/judge/judge_record.c', 'u->ledger.nonce |= QM_LEDGER_NONCE_USED;', ';'),
        ('another nonce is fresh again', 'tools/store/store_enroll.c', 'if ((l.nonce & ~QM_LEDGER_NONCE_USED) != nonce)', 'if (l.nonce == 0)'),
        ('the same nonce is not', 'tools/store/store_enroll.c', 'if ((l.nonce & ~QM_LEDGER_NONCE_USED) != nonce)', ''),
    ],
    'fresh_counted': [
        ('trusted by fresh', 'tools/store/store_status.c', 'out->by_fresh[l->fresh]++;', 'out->by_fresh[0]++;'),
    ],
    'doctor_says_what_clock_is': [
        ('doctor says so', 'tools/cmd_doctor.c', 'if (by_clock != 0)', 'if (by_clock == 99)'),
    ],
    'beacon_demanded': [
        ('a group may demand a beacon', 'engine/appraise.c', ': it->instance->require_beacon && it->beacon == 0)', ': false)'),
        ('with the machine\'s id', 'engine/appraise.c',
         '(uint32_t)(sizeof beacon_text + QM_BEACON_SIZE + id.len), v->composite[n]',
         '(uint32_t)(sizeof beacon_text + QM_BEACON_SIZE), v->composite[n]'),
    ],
    'beacon_expires': [
        ('beacon_life', 'tools/store/store_beacon.c', 'AS till FROM beacon WHERE till > ?1"', 'AS till FROM beacon WHERE ?1"'),
        ('3 h', 'tools/store/store_config.c', '"beacon_life", "3h"', '"beacon_life", "4h"'),
    ],
    'beacon_never_back': [
        ('a beacon never goes back', 'tools/judge/judge_record.c', 'if (beacon_back && u->policy', 'if (false && u->policy'),
        ('... nor makes fresh where none is demanded', 'tools/judge/judge_record.c', 'if (r->fresh == QM_FRESH_BEACON && r->beacon < u->ledger.beacon)',
         'if (r->fresh == QM_FRESH_BEACON && r->beacon > UINT32_MAX - 1)'),
    ],
    'held_back': [
        ('held_back', 'engine/ledger.c',
         'return verifier > tpm && verifier - tpm > lag_after_ms;', 'return verifier > tpm && verifier - tpm > 1000 * lag_after_ms;'),
        ('over lag_after, not at once', 'engine/ledger.c', 'return verifier > tpm && verifier - tpm > lag_after_ms;', 'return verifier > tpm;'),
        ('6 h', 'tools/store/store_config.c', '"lag_after", "6h"', '"lag_after", "4h"'),
        ('within one boot', 'engine/ledger.c', '|| l->boot_first_s == 0 || !same_boot(l, &s->at))', '|| l->boot_first_s == 0)'),
    ],
    'boots_counted': [
        ('boots are counted', 'engine/ledger.c', 'l->boots += o->boots;', ''),
        ('... and those that sent nothing', 'engine/ledger.c', 'l->boots_silent += o->boots > 1 ? o->boots - 1 : 0;', ''),
    ],
    # ---- status ----
    'newest_by_sequence': [
        ('an older record says nothing about the status', 'tools/judge/judge_record.c',
         'const bool is_status = o->order == QM_ORDER_NEWER || o->newest;', 'const bool is_status = true;'),
    ],
    'refused_changes_nothing': [
        ('it is no sign of life', 'engine/ledger.c',
         'l->refused_reason = (uint8_t)reason;', 'l->refused_reason = (uint8_t)reason;\n    l->authentic_ms = checked_ms;'),
        ('it is counted', 'engine/ledger.c', 'l->refused_count += l->refused_count != UINT32_MAX;', 'l->refused_count |= 1;'),
        ('when', 'engine/ledger.c', 'l->refused_s = (uint32_t)(checked_ms / 1000);', ''),
        ('why', 'engine/ledger.c', 'l->refused_reason = (uint8_t)reason;', 'l->refused_reason = QM_MALFORMED;'),
        ('refused ones do not make it invalid', 'engine/standing.c',
         'else if (l->authentic_ms == 0 && l->refused_count != 0)', 'else if (l->refused_count != 0)'),
    ],
    'untrusted_stays': [
        ('untrusted stays', 'engine/standing.c', 'if (judged && l->status == QM_UNTRUSTED)', 'if (judged && !silent && l->status == QM_UNTRUSTED)'),
        ('stale', 'engine/standing.c', 's.stale = silent && ', 's.stale = !silent && '),
    ],
    'unmeasured_causes': [
        ('unmeasured', 'engine/standing.c', 'else if (silent && !s.held)', 'else if (false)'),
        ('24 h', 'tools/store/store_config.c', '"unmeasured_after", "24h"', '"unmeasured_after", "72h"'),
        ('refused', 'engine/standing.c', 'if (l->refused_count != 0 && !longer_than', 'if (false && !longer_than'),
        ('nothing from anyone', 'engine/standing.c',
         'return t->fleet_silent ? QM_SILENCE_FLEET : QM_SILENCE_INSTANCE;', 'return QM_SILENCE_INSTANCE;'),
    ],
    'status_is_of_now': [
        ('by the clock', 'tools/store/store_status.c',
         '.now_ms = later(qm_store_now_ms(s), run != NULL ? run->end_ms : 0)}', '.now_ms = run != NULL ? run->end_ms : 1}'),
    ],
    'standing/unmeasured_comes_before_invalid': [
        ('unmeasured comes first', 'engine/standing.c', 'else if (silent && !s.held)', 'else if (silent && !s.held && l->refused_count == 0)'),
    ],
    'invalid_status': [
        ('invalid', 'engine/standing.c', 'else if (l->authentic_ms == 0 && l->refused_count != 0)', 'else if (false)'),
    ],
    't_is_not_trusted': [
        ('never by t', 'tools/judge/judge_record.c', '.checked_ms = r->checked_ms,\n', '.checked_ms = r->has_t ? r->t_ms : r->checked_ms,\n'),
    ],
    'held_machine': [
        ('no unmeasured while it is parked', 'engine/standing.c', 'else if (silent && !s.held)', 'else if (silent)'),
    ],
    'retired_machine': [
        ('out of alerts', 'tools/store/store_retire.c', 'qm_err err = qm_alert_retire(s, slot, s->now_ms, fault);', 'qm_err err = QM_OK;'),
        ('out of counts', 'tools/store/store_retire.c',
         'return err == QM_OK ? qm_store_ledger_put(s, slot, &nothing, fault) : err;', '(void)nothing;\n    return err;'),
        ('the id is free', 'tools/store/store_retire.c', '"DELETE FROM instance WHERE slot = ?1"', '"UPDATE instance SET tags = NULL WHERE slot = ?1"'),
    ],
    'held_and_retired_by_tag': [
        ('only those of the tag', 'tools/store/store_retire.c',
         'qm_err err = keep && key != NULL ? has_tag(s, l->slot[i], key, value, &keep, fault) : QM_OK;',
         'qm_err err = keep && key == value ? has_tag(s, l->slot[i], key, value, &keep, fault) : QM_OK;'),
    ],
    'retire_older': [
        ('--older', 'tools/store/store_retire.c', 's->now_ms - since >= older_ms;', 'older_ms != 0;'),
    ],
    'retire_after': [
        ('not what is untrusted', 'tools/store/store_retire.c', 'standing.status != QM_STANDS_UNTRUSTED && ', ''),
        ('not what is parked', 'tools/store/store_retire.c', 'if (!standing.held && ', 'if ('),
        ('silent ones go', 'tools/store/store_retire.c', 'err = slots_put(&c->slots, first + i, fault);', 'err = QM_OK;'),
        ('only where the group says so', 'tools/store/store_retire.c', 'if (err != QM_OK || policy->retire_after_ms == 0)', 'if (err != QM_OK)'),
    ],
    'held_evidence': [
        ('records of unknown ids are kept', 'tools/cmd_run.c', 'qm_spool_hold(n->spool, rec->evidence.id, rec->evidence.record);', ';'),
        ('... the newest', 'tools/spool/spool_held.c',
         'good = good && (!again || sp->held_again < QM_HELD_AGAIN_MAX);', 'good = good && !again;'),
        ('... and appraised once enrolled', 'tools/spool/spool_take.c',
         'return t->known != NULL && spool_held_id', 'return t->known == NULL && spool_held_id'),
    ],
    'held_evidence_ends': [
        ('for 24 h', 'tools/store/store_config.c', '"held_keep", "24h"', '"held_keep", "7d"'),
    ],
    # ---- alerts ----
    'no_alert_for_good_news': [
        ('ok', 'tools/judge/judge_record.c',
         'else if (r->status == QM_UNTRUSTED && r->reason == QM_LOG_REQUIRED)', 'else if (r->reason == QM_LOG_REQUIRED || r->reason == QM_ALL_GOOD)'),
        ('learned', 'tools/judge/judge_record.c',
         'else if (r->status == QM_UNTRUSTED && r->reason == QM_LOG_REQUIRED)', 'else if (r->reason == QM_LOG_REQUIRED || r->reason == QM_LEARNED)'),
        ('duplicate', 'tools/judge/judge_record.c',
         'return QM_OK; /* re-delivery is normal: it changes nothing */', 'return judge_raise(j, u, QM_ALERT_REPLAYED, r, "{}", true, fault);'),
    ],
    'kinds_of_untrusted': [
        ('pcr_mismatch', 'tools/judge/judge_record.c', 'err = judge_raise_mismatch(j, u, r, repeat, change, fault);', 'err = QM_OK;'),
        ('pcr_values_missing', 'tools/judge/judge_record.c', 'if (r->status == QM_UNTRUSTED && r->reason == QM_PCR_VALUES_MISSING)', 'if (false)'),
        ('log_required', 'tools/judge/judge_record.c', 'else if (r->status == QM_UNTRUSTED && r->reason == QM_LOG_REQUIRED)', 'else if (false)'),
        ('log_inconsistent', 'tools/judge/judge_record.c', 'if (err == QM_OK && r->log == QM_LOG_INCONSISTENT)', 'if (false)'),
    ],
    'refusals_by_source': [
        ('a row for each source', 'tools/judge/judge_refused.c',
         'const char *source = j->options->source_of(j->options->source_ctx, r->source);', 'const char *source = "";'),
        ('a row for each reason', 'tools/judge/judge_refused.c', 'find(j->refusals, r->reason, source);', 'find(j->refusals, QM_BAD_SIGNATURE, source);'),
        ('... and each owner', 'tools/spool/spool_take.c', 'qm_out_u64(&o, uid);', 'qm_out_u64(&o, 0);'),
        ('counted', 'tools/store/store_refused.c', 'err = count_more(s, raised.no, r->count - 1, fault);', ';'),
        ('the first ids', 'tools/store/store_refused.c', 'if (!ids_has(ids, r->id[i]))', 'if (r->count == 0)'),
    ],
    'alerts/ids_are_estimated': [
        ('an estimate of distinct ids', 'tools/store/store_refused.c', 'sketch[digest[0]] = rank;', ';'),
    ],
    'alerts/refusals_are_a_row_for_each_reason_and_source': [
        ('the first 20', 'tools/store/store_refused.c', 'if (ids->count == QM_REFUSED_IDS)', 'if (ids->count == QM_REFUSED_IDS - 1)'),
    ],
    'refusals_close': [
        ('closed when none came for a day', 'tools/store/store_refused.c', 'AND kind >= 16 AND last_ms < ?1"', 'AND kind >= 99 AND last_ms < ?1"'),
        ('a day', 'tools/store/store_refused.c', '(24ull * 3600 * 1000)', '(12ull * 3600 * 1000)'),
    ],
    'repeats': [
        ('one open row', 'tools/store/store_alerts.c', 'out->opened = row->no == 0;', 'out->opened = true;'),
        ('last_seen', 'tools/store/store_alerts.c', 'SET last_ms = max(last_ms, ?2), count = count + 1,', 'SET count = count + 1,'),
        ('count', 'tools/store/store_alerts.c', 'SET last_ms = max(last_ms, ?2), count = count + 1,', 'SET last_ms = max(last_ms, ?2),'),
    ],
    'unmeasured_closes': [
        ('an authentic record ends it', 'tools/judge/judge_alert.c', 'return BIT(QM_ALERT_UNMEASURED) | (r->proven', 'return (r->proven'),
    ],
    'listed_by_change': [
        ('a line for each change', 'tools/store/store_alerts_read.c', '" GROUP BY a.change) SELECT "', '" GROUP BY a.no) SELECT "'),
    ],
    'judge/sources_without_end_share_a_row': [
        ('they share one', 'tools/store/store_refused.c', 'if (err == QM_OK && rows >= QM_REFUSED_ROWS_MAX) {', 'if (false) {'),
    ],
    'many': [
        ('at most 8 rows', 'tools/store/store_alerts.c', 'a->alone_max : QM_ALERTS_ALONE_MAX);', 'a->alone_max : 100);'),
        ('8', 'tools/store/store_alerts.c', 'a->alone_max : QM_ALERTS_ALONE_MAX);', 'a->alone_max : QM_ALERTS_ALONE_MAX - 1);'),
        ('"many" cannot be accepted', 'tools/store/store_accept.c', 'if (a->many)', 'if (false)'),
    ],
    'alerts/so_many_rows_a_day_then_many': [
        ('closed ones count', 'tools/store/store_alerts.c', 'err = had_enough(s, a, &many, fault);', ';'),
        ('of a day', 'tools/store/store_alerts.c', '*enough &= first_ms > day_before(a->at_ms);', ';'),
        ('and the row for many is one', 'tools/store/store_alerts.c', 'err = row_of_today(s, a, row_change, &old, fault);', ';'),
        ('but where somebody did something', 'tools/store/store_alerts.c', 'WHERE d.alert = alert.no)"', 'WHERE d.alert = -alert.no)"'),
        ('and told again', 'tools/store/store_alerts.c', 'SET no = (SELECT max(no) + 1 FROM alert), state = 0', 'SET state = 0'),
    ],
    'row_for_each_class': [
        ('a row for each class', 'tools/judge/judge_alert.c', 'const bool grouped = u->ledger.group != 0;', 'const bool grouped = false;'),
    ],
    'cohort_of_a_group': [
        ('--same stays in the group', 'tools/store/store_decisions.c', 'p->all_groups ? "" : " AND d.grp = c.grp"', 'p->all_groups ? "" : ""'),
        ('--all-groups widens', 'tools/store/store_decisions.c',
         'p->all_groups ? "" : " AND d.grp = c.grp"', 'p->all_groups ? " AND d.grp = c.grp" : " AND d.grp = c.grp"'),
    ],
    'cohort_in_full': [
        ('all that differs makes the cohort', 'tools/store/store_alerts.c', 'KEY_SUBJECT_MAX = 4096', 'KEY_SUBJECT_MAX = 65'),
    ],
    'key_conflict': [
        ('another key is told', 'tools/store/store_enroll.c', 'if (err != QM_E_REFUSED || d.what == STORE_NO_OBJECTION)', 'if (true)'),
        ('once for each', 'tools/store/store_objection.c', '.subject = {(const uint8_t *)subject, key.len}, ', ''),
        ('a pass does not end it', 'tools/judge/judge_alert.c', '| BIT(QM_ALERT_KEY_CONFLICT),', '| 0u,'),
        ('the replacement does', 'tools/store/store_enroll.c',
         'err = end_conflicts(s, slot, fault);', 'err = present.ak == 0 ? end_conflicts(s, slot, fault) : QM_OK;'),
    ],
    'same_wants_yes': [
        ('--yes', 'tools/cmd_alerts.c', 'if (k->yes || (!k->same && k->kind == NULL))', 'if (true)'),
        ('says how many', 'tools/cmd_alerts.c',
         'k->command, p->alerts,\n            plural(p->alerts), p->machines,',
         'k->command, (uint64_t)0,\n            plural(p->alerts), (uint64_t)0,'),
    ],
    'ignored_counts': [
        ('goes on counting', 'tools/store/store_alerts.c',
         'return a->quiet ? QM_OK : row_repeat(', 'return a->quiet || out->state == QM_ALERT_IGNORED ? QM_OK : row_repeat('),
        ('listed as ignored', 'tools/cmd_alerts.c',
         'k->filter.states = 1u << QM_ALERT_OPEN | 1u << QM_ALERT_IGNORED;', 'k->filter.states = 1u << QM_ALERT_OPEN;'),
        ('stands for its change', 'tools/store/store_alerts.c',
         'sqlite3_column_int(st, 1) > QM_ALERT_IGNORED;', 'sqlite3_column_int(st, 1) > QM_ALERT_OPEN;'),
    ],
    'ignored_ends_by_pass': [
        ('ends when it restarted and passes', 'tools/store/store_alerts.c',
         '(row[i].state == QM_ALERT_IGNORED && same_boot)', '(row[i].state == QM_ALERT_IGNORED)'),
    ],
    'alerts/ignored_counts_on_and_ends_with_a_restart_that_passes': [
        ('not without a restart', 'tools/store/store_alerts.c', '(row[i].state == QM_ALERT_IGNORED && same_boot)', '(same_boot && false)'),
    ],
    'ignored_ends_at_until': [
        ('ends at until', 'tools/store/store_refused.c', 'WHERE state = 1 AND until_ms <= ?1"', 'WHERE state = 1 AND until_ms < 0 * ?1"'),
    ],
    'accept_overlays': [
        ('what was measured', 'tools/store/store_accept.c',
         '*v = m->measured;\n    if (c->shows_all)', '*v = m->measured;\n    v->mask &= ~bit(3);\n    if (c->shows_all)'),
        ('at once', 'tools/store/store_accept.c', 'return err == QM_OK && made != 0 ? judge_again(c, made, fault) : err;', 'return err;'),
    ],
    'decisions/one_class_and_then_the_other': [
        ('the nearest set is overlaid', 'tools/store/store_accept.c',
         'v->value[a->item[i].pcr] = a->item[i].measured;', 'v->value[a->item[i].pcr] = a->item[i].expected;'),
    ],
    'accept_wants_proof': [
        ('refused without proven values', 'tools/store/store_accept.c', 'if (a->item_count == 0)', 'if (false)'),
    ],
    'reopen_withdraws': [
        ('reopen ends the set', 'tools/store/store_decisions.c',
         'err = qm_set_end(d->store, a->set_no, d->decision->reason, &found, fault);', 'found = true;'),
        ('reopen opens the alert', 'tools/store/store_decisions.c', 'err = open_all_of_set(d, a, fault);', ';'),
    ],
    'resolved_unseen': [
        ('a pass resolves', 'tools/store/store_alerts.c', 'else if ((err = row_resolve(s, row[i].no, at_ms, fault)) == QM_OK)', 'else'),
        ('listed', 'tools/cmd_alerts.c', 'unseen.unseen = true;', 'unseen.states = 1u << QM_ALERT_ACCEPTED;'),
        ('until ack', 'tools/store/store_decisions.c',
         '"UPDATE alert SET seen = 1 WHERE no IN (SELECT no FROM picked)"', '"UPDATE alert SET seen = seen WHERE no IN (SELECT no FROM picked)"'),
        ('or 30 days', 'tools/store/store_refused.c',
         'now_ms > 30 * DAY_MS ? now_ms - 30 * DAY_MS : 0', 'now_ms > 300 * DAY_MS ? now_ms - 300 * DAY_MS : 0'),
        ('30', 'tools/store/store_refused.c', 'now_ms > 30 * DAY_MS ? now_ms - 30 * DAY_MS : 0', 'now_ms > 29 * DAY_MS ? now_ms - 29 * DAY_MS : 0'),
    ],
    'mismatch_and_pass': [
        ('every record of a run raises', 'tools/judge/judge.c',
         'err = judge_record(j, &u, &first[i], fault);', 'err = i + 1 == count ? judge_record(j, &u, &first[i], fault) : QM_OK;'),
    ],
    'unmeasured_from': [
        ('from enrolment', 'engine/standing.c', 'later(l->authentic_ms, (uint64_t)l->enrolled_s * 1000)', 'l->authentic_ms'),
        ('from the end of a gap', 'engine/standing.c', ', t->gap_end_ms);', ', 0);'),
    ],
    'unmeasured_from_a_hold': [
        ('from the end of a hold', 'engine/standing.c', 's.since_ms = later(s.since_ms, hold_until_ms);', ';'),
    ],
    'unmeasured_from_a_gap': [
        ('longer than half of unmeasured_after', 'tools/store/store_status.c',
         'run->start_ms - f->last.end_ms > after / 2)', 'run->start_ms - f->last.end_ms > after)'),
        ('... of earlier runs', 'tools/store/store_status.c',
         'sqlite3_bind_int64(st, 2, (sqlite3_int64)(after / 2));', 'sqlite3_bind_int64(st, 2, (sqlite3_int64)after);'),
    ],
    'silent_group': [
        ('one row for a group', 'tools/judge/judge_silent.c', 'return told > 1 && 20 * told > g->machines;', 'return told > 1000000;'),
        ('over 5 %', 'tools/judge/judge_silent.c', '20 * told > g->machines;', '20 * told >= g->machines;'),
        ('5 %', 'tools/judge/judge_silent.c', '20 * told > g->machines;', '13 * told > g->machines;'),
    ],
    'silent_without_group': [
        ('machines without a group are a group', 'tools/judge/judge_silent.c', 'if (!c->all_silent && in_bulk(c, (uint32_t)g))',
         'if (!c->all_silent && g != 0 && in_bulk(c, (uint32_t)g))'),
        ('... and not the fleet', 'tools/alert_words.c', 'strstr(a->detail, "anyone") != NULL;', 'true;'),
    ],
    'silent_fleet': [
        ('one row for the fleet', 'tools/judge/judge_silent.c',
         'c->all_silent = c->j->out->fleet_silent = c->fleet.scope[0].silent && silent != 0;', 'c->all_silent = false;'),
        ('closed when somebody speaks', 'tools/judge/judge_silent.c', 'qm_err err = close_shared(c, 0, "fleet", &closed, fault);', 'qm_err err = QM_OK;'),
    ],
    'clock_behind': [
        ('exit 3', 'tools/judge/judge.c', 'out->clock_behind = options->clock_ms < last_end;', 'out->clock_behind = false;'),
        ('raises none', 'tools/judge/judge_silent.c', 'if (j->out->clock_behind)', 'if (false)'),
    ],
    'accept_during_a_run': [
        ('judged again at commit', 'tools/judge/judge_subject.c', '.decided = is_changed(j, slot)}', '.decided = is_changed(j, slot) && false}'),
    ],
    'streams_applied': [
        ('not when results are missing', 'tools/cmd_apply.c', 'if (err == QM_OK && t->run.records != t->results)', 'if (false)'),
        ('not twice', 'tools/cmd_apply.c', 'if (err != QM_OK || *known)', 'if (err != QM_OK)'),
    ],
    'exclusion': [
        ('run and apply exclude each other', 'tools/commit.c', 'while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {', 'while (false) {'),
    ],
    # ---- spool and home ----
    'spool/grown_files_stay': [
        ('a file that grew stays', 'tools/spool/spool_finish.c',
         'if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != item->size) {', 'if (!S_ISREG(st.st_mode)) {'),
    ],
    'spool/a_directory_that_became_a_link_is_not_followed': [
        ('links are not followed', 'ingest/plain_reader.c',
         'O_CLOEXEC | O_NOFOLLOW),\n        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,', 'O_CLOEXEC),\n        .resolve = 0,'),
    ],
    'spool/a_link_above_a_directory_is_not_followed': [
        ('nor links on the way', 'tools/spool/spool_take.c', '.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,', '.resolve = 0,'),
    ],
    'spool/what_is_replaced_while_it_waits': [
        ('looked at again once it is taken', 'tools/spool/spool_take.c', 'if (!S_ISREG(st.st_mode)) {', 'if (false) {'),
    ],
    'spool/recovery_both_ways': [
        ('a committed run is finished', 'tools/spool/spool_recover.c', 'if (committed)\n            finish_past(', 'if (false)\n            finish_past('),
        ('one that is not is read again', 'tools/spool/spool_recover.c', 'if (committed)\n            finish_past(', 'if (true)\n            finish_past('),
    ],
    'sources_take_turns': [
        ('sources take turns', 'tools/spool/spool_take.c',
         'find_source(sp, t->place, d->rel, d->source_part, uid);', 'find_source(sp, t->place, "", 0, 0);'),
    ],
    'spool/sources_take_turns': [
        ('one file of each in turn', 'tools/spool/spool_take.c',
         'find_source(sp, t->place, d->rel, d->source_part, uid);', 'find_source(sp, t->place, "", 0, 0);'),
    ],
    'spool_command': [
        ('--as', 'tools/cmd_spool.c', 'if (as == NULL || qm_span_eq', 'if (true || qm_span_eq'),
        ('one record', 'tools/cmd_spool.c', 'if (e->record.len != bytes.len)', 'if (false)'),
        ('a whole one', 'tools/cmd_spool.c', 'case QM_FRAME_MORE:\n', 'case QM_FRAME_MORE:\n        break;\n'),
        ('within the rules', 'tools/cmd_spool.c', 'if (e->malformed)', 'if (false)'),
    ],
    'spool/a_record_is_delivered_whole': [
        ('under a hidden name until it is whole', 'tools/spool/spool_deliver.c', '".%s.tmp"', '"%s.mpk"'),
    ],
    'quarantine': [
        ('a broken file goes to quarantine', 'tools/cmd_run.c', 'qm_spool_quarantine(n->spool, (const char *)rec->source.p, rec->bad_file);', ';'),
        ('with the old name, escaped', 'tools/spool/spool_finish.c',
         'qm_out_shown(&o, (struct qm_span){(const uint8_t *)item->name, strnlen(item->name, 4096)});', 'qm_out_text(&o, item->name);'),
    ],
    'unreadable_file': [
        ('exit 3', 'tools/cmd_run.c', 'qm_worklist_errors(n->list) + qm_spool_errors(n->spool) != 0)', 'qm_spool_errors(n->spool) != 0)'),
    ],
    # Only opened there: a run without the rule would take what it finds below /.
    'spool/what_must_not_be_a_spool': [
        ('/ is no spool, nor what contains the home', 'tools/spool/spool_take.c', 'if (contains_home(sp, fd))', 'if (false && contains_home(sp, fd))'),
        ('nor a part of the home', 'tools/spool/spool_take.c', 'else if (in_forbidden_part(sp, fd))', 'else if (false && in_forbidden_part(sp, fd))'),
    ],
    'refused_spools': [
        ('the home is no spool', 'tools/spool/spool_take.c', 'if (contains_home(sp, fd))', 'if (false && contains_home(sp, fd))'),
    ],
    'results_bounded': [
        ('by age', 'tools/spool/spool_trim.c', 'bool old = keep_ms != 0 &&', 'bool old = keep_ms == 1 &&'),
        ('the loss is counted', 'tools/commit.c', 'qm_retention_write(c->retention, &o);', 'qm_out_text(&o, "{}");'),
    ],
    'trim/by_age_and_size': [
        ('by size', 'tools/spool/spool_trim.c', '(max_bytes == 0 || bytes <= max_bytes)', '(max_bytes == 0 || bytes != 0)'),
    ],
    'trim/held_by_when_it_was_written': [
        ('held evidence ages from when it was written', 'tools/spool/spool_trim.c', 't->kind == QM_TRIM_HELD ? st.st_mtim : st.st_ctim', 'st.st_ctim'),
    ],
    'trim/archive_by_run': [
        ('a run\'s archive goes whole', 'tools/spool/spool_trim.c', '(errno == EISDIR && sweep_named(t->fd, name, true, NULL, NULL))', 'false'),
    ],
    'history_bounded': [
        ('runs are bounded', 'tools/store/store_run.c', '"DELETE FROM run WHERE end_ms < ?1 AND', '"DELETE FROM run WHERE end_ms < 0 * ?1 AND'),
        ('but those that sets came of', 'tools/store/store_run.c', 'FROM baseline b WHERE b.run = run.no)"', 'FROM baseline b WHERE b.run = -run.no)"'),
        ('the loss is counted', 'tools/commit.c', '{"lost", j->dropped + c->forgotten', '{"lost", c->forgotten'),
        ('alerts are bounded', 'tools/store/store_refused.c', 'err = drop_old(s, now_ms - history_keep_ms, dropped, fault);', ';'),
    ],
    'alerts/time_opens_ignored_ones_and_drops_history': [
        ('what is open stays', 'tools/store/store_refused.c',
         'alert INDEXED BY alert_closed"\n                     " WHERE closed_ms IS NOT NULL AND closed_ms < ?1 AND state IN (2, 3)"',
         'alert WHERE last_ms < ?1"'),
        ('what is over goes', 'tools/store/store_refused.c',
         '"DELETE FROM alert WHERE no IN (SELECT no FROM old_alert)"', '"DELETE FROM alert WHERE no < 0"'),
    ],
    'retired_forgotten': [
        ('by age', 'tools/store/store_forget.c', 'WHERE retired_ms < ?1"', 'WHERE retired_ms > ?1"'),
        ('it goes', 'tools/commit.c', 'return err == QM_OK ? qm_store_forget(s, forgotten, fault) : err;', 'return err;'),
        ('the loss is counted', 'tools/commit.c', 'j->dropped + c->forgotten + c->not_held', 'j->dropped - j->dropped + c->not_held'),
    ],
    'retire/forgotten_when_history_is': [
        ('not what alerts tell of', 'tools/store/store_forget.c', 'WHERE a.slot = r.slot)', 'WHERE a.slot = -r.slot)'),
        ('the highest number stays', 'tools/store/store_forget.c', 'AND slot <> (SELECT max(slot) FROM retired)"', '"'),
        ('once a day', 'tools/store/store_forget.c', 's->now_ms - last_ms < DAY_MS)', 's->now_ms - last_ms < 0 * DAY_MS)'),
        ('sets', 'tools/store/store_forget.c', '"DELETE FROM baseline WHERE slot IN (SELECT slot FROM old_slot);"', '""'),
        ('keys', 'tools/store/store_forget.c', '"DELETE FROM ak WHERE no IN (SELECT no FROM old_ak);"', '""'),
        ('... but not those that others have', 'tools/store/store_forget.c', ' OR no IN (SELECT ak FROM instance) OR no IN (SELECT ak FROM ak_history);"', ';"'),
        ('values', 'tools/store/store_forget.c', '"DELETE FROM pcr_values WHERE no IN (SELECT no FROM old_values)"', '""'),
        ('... but not those that others have', 'tools/store/store_forget.c', ' OR no IN (SELECT vals FROM baseline);"', ';"'),
        ('lists', 'tools/store/store_forget.c', 'err = store_events_forget(s, o.at[i].pcr, o.at[i].value, fault);', ';'),
        ('... and their bytes', 'tools/store/store_events.c', 'found ? count_bytes(s, -(int64_t)bytes, fault) : err;', 'found ? err : err;'),
    ],
    'retire/lists_that_alerts_tell_of_stay': [
        ('they stay', 'tools/store/store_forget.c', 'err = over_changes(s, &o, fault);', ';'),
    ],
    'retire/forgotten_to_the_last': [
        ('changes without rows', 'tools/store/store_forget.c', 'err = store_alert_forget(s, (uint64_t)sqlite3_column_int64(st, 0), fault);', ';'),
        ('blocks of the ledger', 'tools/store/store_forget.c', '" AND entries = zeroblob(?2)"', '" AND entries = ?2"'),
        ('... that are empty', 'tools/store/store_forget.c', '" AND entries = zeroblob(?2)"', '" AND ?2"'),
    ],
    'results_of_killed_runs': [
        ('results of a run that is not committed go', 'tools/commit.c', ': unlinkat(dir, name, 0)) == 0', ': 0) == 0'),
        ('those of one that is get their name', 'tools/commit.c', '(known ? renameat(', '(false ? renameat('),
    ],
    'results_elsewhere_of_killed_runs': [
        ('results of a run that is not committed go', 'tools/commit.c', ': unlink(part)) == 0;', ': 0) == 0;'),
        ('those of one that is get their name', 'tools/commit.c', '(known ? rename(part, path)', '(false ? rename(part, path)'),
        ('by what the run wrote down', 'tools/commit.c', 'else if (is_of_run(e->d_name, elsewhere, run))', 'else if (false)'),
        ('... which then goes', 'tools/commit.c', 'sync_directory_of(r->path, NULL) == QM_OK)', 'false)'),
        ('... also where the run fails', 'tools/commit.c', "if (dropped && r->note[0] != '\\0')", 'if (false)'),
    ],
    'results_to_a_pipe': [
        ('it is not replaced', 'tools/commit.c', '&& !S_ISREG(st.st_mode)) {', '&& S_ISLNK(st.st_mode)) {'),
    ],
    'newer_schema': [
        ('an older program exits 3', 'tools/store/store_open.c', 'if (version > QM_STORE_SCHEMA)', 'if (version > QM_STORE_SCHEMA + 9)'),
    ],
    'store/an_older_schema_is_brought_up_to_date': [
        ('a copy is kept', 'tools/store/store_schema.c',
         'qm_err err = keep_copy(s, version, fault);', 'qm_err err = version < 0 ? keep_copy(s, version, fault) : QM_OK;'),
        ('every instance has its entry', 'tools/store/store_schema.c', 'if (err == QM_OK && now < 2)', 'if (err == QM_OK && now < 1)'),
        ('who only reads does not', 'tools/store/store_open.c', 'err = writable ? store_schema_migrate(s, s->schema, fault)', 'err = true ? QM_OK'),
    ],
    'table_rebuilt': [
        ('another version is rebuilt', 'tools/store/store_publish.c',
         'if (qm_table_open(&t, path, NULL) != QM_OK)\n        return false;', 'if (qm_table_open(&t, path, NULL) != QM_OK)\n        return true;'),
    ],
    'backup_and_restore': [
        ('the first run says what could be replayed', 'tools/store/store_backup.c',
         'err = qm_store_meta_set(s, "restored_ms", s->now_ms, fault);', 'err = QM_OK;'),
    ],
    'backup/file_systems_over_the_network': [
        ('network file systems are known', 'tools/home_check.c', 'if (magic == remote[i].magic)', 'if (magic == 0)'),
    ],
    'backup/a_home_over_the_network_is_refused': [
        ('none is opened there', 'tools/store/store_open.c', 'err = qm_home_local(home, fault);\n    if (err != QM_OK)\n        return err;', ';'),
        ('none is made there', 'tools/store/store_open.c',
         'err = qm_home_local(home, fault);\n    if (err == QM_OK)\n        err = make_parts', 'err = make_parts'),
    ],
    'home_name': [
        ('in results', 'tools/pipeline.c', 'w->result[i].home = w->home;', ';'),
        ('in alerts', 'tools/store/store_alerts_read.c', 'a->home = policy->name;', 'a->home = NULL;'),
        ('in metrics', 'tools/metrics.c', 'take_home(m, policy->name);', ';'),
    ],
    'exit_new': [
        ('--exit new', 'tools/cmd_run.c', 'if (strcmp(n->q->exit, "new") == 0)', 'if (false)'),
        ('new alerts', 'tools/cmd_run.c', 'return j->opened != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;', 'return QM_EXIT_OK;'),
        ('untrusted', 'tools/cmd_run.c', 'return r->by_status[QM_UNTRUSTED] + r->by', 'return r->by'),
    ],
    'names_escaped': [
        ('file names are escaped', 'tools/setup.c',
         'qm_out_shown(&o, (struct qm_span){(const uint8_t *)name, strlen(name)});', 'qm_out_text(&o, name);'),
    ],
    'text_escaped': [
        ('text is escaped', 'tools/show.c', 'qm_out_shown(&o, text);', 'qm_out_bytes(&o, text.p, text.len);'),
    ],
    'on_alert': [
        ('new alerts', 'tools/cmd_run.c', '.after_no = n->judgment.alerts_before};', '.after_no = 0};'),
    ],
    'on_alert/whatever_it_does': [
        ('a limit of time', 'tools/on_alert.c', 'f->late = monotonic_ms() >= f->end_ms;', 'f->late = monotonic_ms() >= f->end_ms + 60000;'),
        ('with all that it started', 'tools/on_alert.c', 'kill(-f->pid, SIGKILL);', 'kill(f->pid, SIGKILL);'),
    ],
    'on_alert/new_alerts_once_as_lines': [
        ('a limit of lines', 'tools/on_alert.c', 'if (f->told == f->options->lines_max) {', 'if (false) {'),
    ],
    'on_alert/a_clean_place': [
        ('a clean environment', 'tools/on_alert.c', 'execve("/bin/sh", argv, env);', '(void)env;\n    execve("/bin/sh", argv, environ);'),
        ('no descriptors of ours', 'tools/on_alert.c', ' || close_range(3, ~0u, 0) != 0)', ')'),
        ('no signals ignored', 'tools/on_alert.c', 'signal(sig, SIG_DFL);', ';'),
    ],
    'unit_succeeds': [
        ('the unit takes 1 and 75 for success', 'tools/units/quotemill.service.in', 'SuccessExitStatus=1 75', 'SuccessExitStatus=1'),
    ],
    'said_in_the_documentation': [
        ('copied states', 'README.md', 'Who holds a copy of a vTPM\'s state', 'Who holds no copy of a vTPM\'s state'),
    ],
}


def check(root):
    problems = []
    for test, mutations in MUTATIONS.items():
        if not any(test in row[1].split() for row in rules_test.TABLE):
            problems.append(f'{test}: rules_test.py has no rule that it shows')
        for what, path, text, instead in mutations:
            with open(os.path.join(root, path), encoding='utf-8') as f:
                n = f.read().count(text)
            if n != 1 or text == instead:
                problems.append(f'{test}: without "{what}": {path} has its text {n} times')
        if '/' in test and unit_test_of(root, test) is None:
            problems.append(f'{test}: no unit test has this case')
    for row in rules_test.TABLE:
        for name in row[1].split():
            if name not in MUTATIONS:
                problems.append(f'{name}: no change takes its rule out ({row[0]})')
    for p in problems:
        print('FAIL', p)
    print(f'{sum(map(len, MUTATIONS.values()))} changes for {len(MUTATIONS)} tests, {len(problems)} failed')
    return 1 if problems else 0


class Copy:
    """The sources, copied and built."""
    def __init__(self, root, top):
        self.top, self.build = top, os.path.join(top, 'build')
        self.env = {**os.environ, 'CCACHE_NOHASHDIR': '1'}
        listed = subprocess.run(['git', '-C', root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], check=True, capture_output=True)
        for path in filter(None, listed.stdout.decode().split('\0')):
            to = os.path.join(top, path)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            if os.path.isfile(os.path.join(root, path)):
                shutil.copy(os.path.join(root, path), to)
        if not os.path.exists(os.path.join(self.build, 'build.ninja')):
            subprocess.run(['meson', 'setup', '-Dtests=enabled', '-Dbench=disabled', '-Dwerror=false', self.build, top], check=True,
                           stdout=subprocess.DEVNULL)

    def needs(self, test):
        return [f'tests/{unit_test_of(self.top, test)}'] if '/' in test else ['tools/quotemill', 'tests/quote_maker']

    def command(self, test):
        if '/' in test:
            return [os.path.join(self.build, 'tests', unit_test_of(self.top, test)), '--filter', test]
        return [sys.executable, os.path.join(self.top, 'tests/rules_test.py'), os.path.join(self.build, 'tools/quotemill'),
                os.path.join(self.build, 'tests/quote_maker'), test]

    def make(self, test):
        """What the test needs; the end of the compiler's words, or None."""
        p = subprocess.run(['ninja', '-C', self.build, '-j2', *self.needs(test)], env=self.env, capture_output=True, text=True)
        return None if p.returncode == 0 else p.stdout[-1500:]

    def run(self, test):
        """Whether the test passes, and what it says; a test that does not come to its end failed."""
        try:
            p = subprocess.run(self.command(test), cwd=self.top, env=self.env, capture_output=True, text=True, errors='replace', timeout=300)
        except subprocess.TimeoutExpired:
            return False, 'no end'
        return p.returncode == 0, p.stdout + p.stderr

    def change(self, path, text, instead):
        with open(os.path.join(self.top, path), encoding='utf-8') as f:
            before = f.read()
        with open(os.path.join(self.top, path), 'w', encoding='utf-8') as f:
            f.write(before.replace(text, instead))
        return before

    def restore(self, path, before):
        with open(os.path.join(self.top, path), 'w', encoding='utf-8') as f:
            f.write(before)


def unit_test_of(root, test):
    """'SUITE/CASE': the program that has the case."""
    suite, case = test.split('/')
    for name in sorted(os.listdir(os.path.join(root, 'tests'))):
        if re.fullmatch(r'test_\w+\.c', name):
            with open(os.path.join(root, 'tests', name), encoding='utf-8') as f:
                if re.search(rf'Test\({suite}, {case}\b', f.read()):
                    return name[5:-2]
    return None


def take_out(copy, tests, mutations):
    """Each change alone; how many survived."""
    survived = 0
    for test in tests:
        said = copy.make(test)
        if said is None and not copy.run(test)[0]:
            said = copy.run(test)[1][-1500:]
        if said is not None:
            print(f'FAIL {test} fails before anything is changed\n{said}', flush=True)
            survived += 1
            continue
        for what, path, text, instead in mutations[test]:
            before = copy.change(path, text, instead)
            try:
                said = copy.make(test)
                passed, output = copy.run(test) if said is None else (True, said)
            finally:
                copy.restore(path, before)
            survived += passed
            word = 'FAIL' if passed else 'ok  '
            end = ' does not build' if said is not None else ' is not missed' if passed else ''
            print(f'{word} {test}: "{what}"{end}', flush=True)
            if passed and said is not None:
                print(output, flush=True)
    return survived


def main(kind=Copy, mutations=MUTATIONS):
    root, words = os.path.abspath(sys.argv[1]), sys.argv[2:]
    top = None
    if words[:1] == ['--dir']:
        top, words = words[1], words[2:]
    tests = [t for t in mutations if not words or any(t.startswith(w) for w in words)]
    started, made = time.monotonic(), top or tempfile.mkdtemp(prefix='qm-rules-')
    try:
        survived = take_out(kind(root, made), tests, mutations)
    finally:
        if top is None:
            shutil.rmtree(made, ignore_errors=True)
    print(f'{sum(len(mutations[t]) for t in tests)} rules taken out, {survived} not missed, in {time.monotonic() - started:.0f} s')
    return 1 if survived else 0


if __name__ == '__main__':
    sys.exit(check(sys.argv[2]) if sys.argv[1] == '--check' else main())
