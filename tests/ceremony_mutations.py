#!/usr/bin/env python3
"""Every check of the enrolment ceremony, taken out: does ceremony_test.py notice?

    ceremony_mutations.py --check ROOT       is every text below in its file exactly once, and is something taken out for every test?
    ceremony_mutations.py ROOT [--dir DIR] [WORD...]
                                             in a copy of the sources, one change after another; as rule_mutations.py"""
import os, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ceremony_test, rule_mutations

CHAIN, CEREMONY, CHALLENGE, ENROLL, OBJECTION, STORE, EK = (f'tools/{n}.c' for n in (
    'ceremony/cert_chain', 'ceremony/ceremony', 'ceremony/ceremony_challenge', 'store/store_enroll', 'store/store_objection',
    'store/store_ceremony', 'ceremony/ek_public'))

# A test of ceremony_test.py -> (what is taken out, file, its text, what stands there instead).
MUTATIONS = {
    'every_ek': [
        ('the credential is for this Name', CHALLENGE, 'err = qm_credential_make(ek, ak, credential, &wrapped, fault);',
         'err = qm_credential_make(ek, &ek->name, credential, &wrapped, fault);'),
        ('the label of the seed has its NUL', 'tools/ceremony/credential.c', 'OSSL_PARAM_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, label, sizeof label)',
         'OSSL_PARAM_octet_string(OSSL_ASYM_CIPHER_PARAM_OAEP_LABEL, label, sizeof label - 1)'),
        ('the EK\'s point is part of the seed', 'tools/ceremony/credential.c', '(struct qm_span){point + 1, bytes}, ek->public.a, seed);',
         '(struct qm_span){point + 1, bytes}, ek->public.b, seed);'),
        ('the certificate\'s subject names the instance', CEREMONY, 'if (names != NULL && qm_cert_names_has(names, id))', 'if (names != NULL && id.len == 0)'),
    ],
    'evidence': [
        ('the enrolled key is the proposal\'s', CHALLENGE, 'qm_out_base64(&o, p->ak, p->ak_len);', 'qm_out_base64(&o, p->ek, p->ek_len);'),
    ],
    'pending': [
        ('an answer waits where nobody said whose the EK is', CEREMONY, 'return bound != NULL ? use(c, ch, bound, fault) : pend(c, ch, fault);',
         'return use(c, ch, bound, fault);'),
        ('a confirmed one is used up', STORE, 'UPDATE challenge SET state = 2,', 'UPDATE challenge SET'),
        ('why it was confirmed is kept', ENROLL, '(d->what == STORE_WEAKER || reason != NULL)', '(d->what == STORE_WEAKER)'),
    ],
    'two_claim_one_id': [
        ('two answers under one id are not guessed', CEREMONY, 'else if (err == QM_OK && waiting > 1)', 'else if (err != QM_OK)'),
        ('--ek says which', STORE, '" AND substr(ek, 1, length(?3)) = ?3 ORDER BY no";\n    sqlite3_stmt', '" AND ?3 <> 7 ORDER BY no";\n    sqlite3_stmt'),
    ],
    'rejected': [
        ('what was rejected waits no longer', STORE, "UPDATE challenge SET state = 3, line = ''", "UPDATE challenge SET state = 1, line = ''"),
        ('... and cannot be answered again', CEREMONY, 'if (ch->state == QM_CHALLENGE_REJECTED)', 'if (ch->no == 0)'),
        ('two answers under one id are not both rejected', CEREMONY, 'else if (err == QM_OK && waiting > 1)', 'else if (err != QM_OK)'),
        ('who rejected it is kept', STORE, 'err == QM_OK ? store_journal(s, STORE_NOTE_REJECTED, id, why, fault) : err', 'err'),
        ('why is', STORE, '    if (reason != NULL) {\n        qm_out_text(&o, ": ");', '    if (reason == NULL) {\n        qm_out_text(&o, ": ");'),
        ('whose it was', STORE, 'qm_out_hex(&o, c->ek, sizeof c->ek);', ';'),
    ],
    'operator_list': [
        ('the id\'s EK is another', CEREMONY, 'case QM_EXPECTED_OTHER_EK:\n', 'case QM_EXPECTED_OTHER_EK:\n        break;\n'),
        ('the EK is another id\'s', CEREMONY, 'case QM_EXPECTED_OTHER_ID:\n', 'case QM_EXPECTED_OTHER_ID:\n        break;\n'),
        ('without a certificate the list has to have it', CHALLENGE, 'if (err == QM_OK && !certified && *bound == NULL)', 'if (err != QM_OK && *bound == NULL)'),
        ('the list counts when it answers, too', CEREMONY, 'qm_err err = qm_ceremony_bind(c, ch->id, ch->ek, NULL, &bound, fault);',
         'qm_err err = QM_OK;\n    bound = NULL;'),
    ],
    'defaults': [
        ('the group picks the line', 'tools/ceremony/ceremony_given.c', 'else if (qm_span_eq((struct qm_span){e->group, e->group_len}, wanted)) {', 'else if (!found) {'),
        ('a default has no id', 'tools/enrolment.c', 'if (l->defaults && (f == F_ID || f == F_AK || f == F_SCHEME))', 'if (l->defaults && f == F_AK)'),
        ('--tag goes over a line\'s', 'tools/ceremony/ceremony_given.c', 'if (qm_span_eq(tag_key(m->tags[i]), item->key))', 'if (tag_key(m->tags[i]).len == 0)'),
    ],
    'keys_of_other_kinds': [
        ('the AK is restricted', 'tools/ak_read.c', '{QM_TPMA_RESTRICTED,', '{0 * QM_TPMA_RESTRICTED + QM_TPMA_SIGN,'),
        ('the AK is fixedTPM', 'tools/ak_read.c', '{QM_TPMA_FIXED_TPM,', '{0 * QM_TPMA_FIXED_TPM + QM_TPMA_SIGN,'),
    ],
    'other_ek': [
        ('the EK is its certificate\'s key', CHAIN, 'key != NULL && EVP_PKEY_eq(key, ek->key) == 1 ? NULL', 'key != NULL ? NULL'),
    ],
    'challenges_misused': [
        ('a challenge is answered once', CEREMONY, 'if (ch->state == QM_CHALLENGE_USED)', 'if (ch->no == 0)'),
        ('... and until it expires', CEREMONY, 'if (ch->until_ms <= qm_store_now_ms(c->store))', 'if (ch->until_ms == 0)'),
        ('... under its id', CEREMONY, '!qm_span_eq(ch->id, (struct qm_span){x->a->id, x->a->id_len}) || ', ''),
        ('... with the right proof', CEREMONY, ' || memcmp(digest, ch->proof_digest, sizeof digest) != 0', ''),
        ('the proof is of this id', 'tools/ceremony/answer.c', 'memcpy(text + len, id.p, id.len);', 'memset(text + len, 0, id.len);'),
        ('an expired one is removed', STORE, 'DELETE FROM challenge WHERE until_ms <= ?1', 'DELETE FROM challenge WHERE until_ms <= 0 * ?1'),
        ('what waits expires', STORE, '"SELECT " COLUMNS " FROM challenge WHERE state = 1 AND until_ms > ?1 AND id = ?2"',
         '"SELECT " COLUMNS " FROM challenge WHERE state = 1 AND ?1 > 0 AND id = ?2"'),
        ('another key replaces no challenge', STORE, 'AND line = ?3 AND state = 0', 'AND ?3 <> 7 AND state = 0'),
    ],
    'chains': [
        ('a chain is verified', CHAIN, 'if (X509_verify_cert(c) != 1)', 'if (X509_verify_cert(c) == 7)'),
        ('at the time of now', CHAIN, 'X509_VERIFY_PARAM_set_time(p, t->now);', 'X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_NO_CHECK_TIME);'),
        ('with no SHA-1', CHAIN, 'X509_VERIFY_PARAM_set_auth_level(p, SECURITY_LEVEL);', ';'),
        ('an issuing CA ends it', CHAIN, 'X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN);', ';'),
        ('unknown critical extensions are not let pass', CHAIN, 'if (X509_EXTENSION_get_critical(e) == 0 || X509_supported_extension(e) == 1)',
         'if (X509_EXTENSION_get_critical(e) == 1 || X509_supported_extension(e) == 1)'),
        ('subjectDirectoryAttributes is', CHAIN, 'X509_STORE_CTX_set_verify_cb(c, on_error);', ';'),
        ('what it has is read', CHAIN, 'const bool whole = attributes != NULL && p == end;', 'const bool whole = p <= end;'),
        ('extended key usage is an EK\'s', CHAIN, 'if (is_ek == OTHER)', 'if (is_ek == OTHER && ek == NULL)'),
        ('... or the TPM\'s maker is named', CHAIN, 'if (is_ek == ABSENT && !names_tpm(x))', 'if (is_ek == ABSENT && ek == NULL)'),
        ('key usage has to be there', CHAIN, '(X509_get_extension_flags(x) & EXFLAG_KUSAGE) == 0 || ', ''),
        ('a leaf is no CA\'s', CHAIN, 'if (X509_check_ca(x) != 0)', 'if (x == NULL)'),
        ('--ca takes CAs', CHAIN, 'if (X509_check_ca(sk_X509_value(all, i)) == 0)', 'if (i < 0)'),
        ('a certificate is exactly one', CHAIN, 'if (one == NULL || p != chain[i].p + chain[i].len) {', 'if (one == NULL) {'),
        ('revocation is asked for', CHAIN, 'X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_CRL_CHECK);', ';'),
    ],
    'templates': [
        ('attributes are the template\'s', EK, ' && p->attributes == t->attributes', ''),
        ('the policy is', EK, ' && qm_span_eq(p->policy, t->policy)', ''),
        ('the cipher is', EK, 'p->symmetric_bits == t->symmetric_bits && ', ''),
    ],
    'claims': [
        ('an id has one AK', OBJECTION, 'if (present->found && new_key && !options->replace_key) {', 'if (present->found && new_key && options->unique_keys) {'),
        ('an AK has one id', OBJECTION, 'if (options->unique_keys || proven != NULL)', 'if (options->unique_keys)'),
        ('an EK has one id', OBJECTION, 'proven != NULL && proven->has_ek) {', 'proven != NULL && !proven->has_ek) {'),
        ('... but for what was taken out', OBJECTION, '" WHERE h.ek = ?1 AND h.until_ms IS NULL AND i.id <> ?2 LIMIT 1"', '" WHERE h.ek = ?1 LIMIT 1"'),
        ('a claim raises an alert', OBJECTION, ': raise_conflict(s, e, proven, proposed, d, fault);', ': QM_OK;'),
        ('it is looked at before the TPM is asked', CHALLENGE, 'return qm_store_enroll_check(c->store, c->enrolment, &options, fault);',
         'return options.proven != NULL ? QM_OK : QM_E_REFUSED;'),
    ],
    'conflicts_hide_nothing': [
        ('proposals of one EK are one row', OBJECTION, 'if (proposed && has_ek)', 'if (proposed && !has_ek)'),
        ('... whatever id they are for', OBJECTION, 'if (!proposed) {', 'if (has_ek) {'),
        ('they get a few rows', OBJECTION, '.alone_max = proposed ? PROPOSED_ALONE_MAX : 0', '.alone_max = 0'),
        ('what is proven gets its own', OBJECTION, '.alone_max = proposed ? PROPOSED_ALONE_MAX : 0', '.alone_max = PROPOSED_ALONE_MAX'),
    ],
    'weaker': [
        ('less is refused', OBJECTION, '(proven == NULL || proven->allow_weaker)', '(proven == NULL || proven->has_ek)'),
        ('a refusal is kept', OBJECTION, 'd->what == STORE_WEAKER ? store_enrolment_note(s, e, d, NULL, false, fault)', 'd->what == STORE_WEAKER ? QM_OK'),
        ('PCRs that are not selected', 'tools/weaker.c', 'pcrs(o, was->select[i].mask & ~left, text);', ';'),
        ('a log that is not required', 'tools/weaker.c', 'if (was->require_log && !now->require_log)', 'if (!was->require_log && now->require_log)'),
        ('a key that nothing proves', OBJECTION, '(was.proven && !new_key)', 'was.proven'),
        ('a plain file\'s is counted', ENROLL, '++*options->weaker;', ';'),
    ],
    'hostile_lines': [
        ('a line has its cap', 'tools/ceremony/ceremony_read.c', 'if (len > QM_LINE_MAX)', 'if (len > 2 * QM_LINE_MAX)'),
        ('a key stands once', 'tools/ceremony/ceremony_read.c', 'if ((r->seen & 1u << which) != 0)', 'if (which > 99)'),
        ('a line is of its kind', 'tools/ceremony/ceremony_read.c', 'return item->kind == QM_JSON_TEXT && qm_span_eq(item->text, kind) ? QM_OK',
         'return item->kind == QM_JSON_TEXT && kind.len != 0 ? QM_OK'),
    ],
    'ak_certificates': [
        ('extended key usage is an AK\'s', CHAIN, 'if (why == NULL && extended_use(leaf, OID_AK_CERTIFICATE) == OTHER)', 'if (why != NULL)'),
        ('its chain is verified', CHAIN, 'err = why == NULL ? verify(t, all, "AK", &out->anchor, fault) : refuse(fault, why);', 'err = why == NULL ? QM_OK : refuse(fault, why);'),
        ('a certificate takes no EK away', 'tools/store/store_open.c', "ek = ifnull(?7, ek),", "ek = ?7,"),
        ('one of several DNS names is no id', CEREMONY, '(!n->name[0].dns || n->count == 1)', '(!n->name[0].dns || n->count != 0)'),
    ],
    'who_vouched': [
        ('the anchor is the chain\'s end', CHAIN, 'read_anchor(sk_X509_value(chain, sk_X509_num(chain) - 1), anchor)', 'read_anchor(sk_X509_value(chain, 0), anchor)'),
        ('a long name is cut', CHAIN, 'len > QM_ANCHOR_SUBJECT_MAX ? QM_ANCHOR_SUBJECT_MAX - 3 :', 'len > 4 * QM_ANCHOR_SUBJECT_MAX ? 0 :'),
        ('a challenge has it', CEREMONY, '.anchor = ch->anchor, ', ''),
        ('the newest proof counts', 'tools/store/store_open.c', "anchor = iif(how = 'credential' AND ?6 <> how, anchor, nullif(?10, 0))", "anchor = ifnull(anchor, ?10)"),
    ],
    'secrets': [
        ('the home keeps a hash of the proof', CHALLENGE, 'qm_hash_one(QM_HASH_SHA256, (struct qm_span){proof, sizeof proof}, out->proof_digest);',
         'memcpy(out->proof_digest, proof, sizeof proof);'),
    ],
    'backup': [
        ('an answer is looked up in what was restored', STORE, '" FROM challenge WHERE name = ?1"', '" FROM challenge WHERE name = ?1 AND no > 1"'),
    ],
    'one_tpm_many_claims': [
        ('older challenges of a TPM give way', STORE, 'WHERE n >= ?2)"', 'WHERE n >= 1000 + ?2)"'),
        ('... and no other TPM\'s', STORE, 'FROM challenge WHERE ek = ?1 AND state <> 1) WHERE n', 'FROM challenge WHERE ?1 <> 1 AND state <> 1) WHERE n'),
        ('so many ids of a TPM wait', STORE, 'ids >= QM_PENDING_OF_EK', 'ids >= 1000'),
        ('a newer answer takes the older one\'s place', STORE, 'DELETE FROM challenge WHERE ek = ?1 AND id = ?2 AND state = 1',
         'DELETE FROM challenge WHERE ek = ?1 AND id = ?2 AND state = 9'),
    ],
    'retired': [
        ('retiring ends what was begun', 'tools/store/store_retire.c', 'id FROM instance WHERE slot = ?1) AND state <> 2', 'id FROM instance WHERE slot = ?1) AND state = 9'),
        ('... under this id', 'tools/store/store_retire.c', 'DELETE FROM challenge WHERE id = (SELECT id FROM instance WHERE slot = ?1) AND',
         'DELETE FROM challenge WHERE ?1 >= 0 AND'),
    ],
    'waiting_for_lines': [
        ('lines are gathered before the store is locked', CEREMONY, 'qm_err err = of_lines ? QM_OK : begin_batch(c, fault);', 'qm_err err = begin_batch(c, fault);'),
        ('a pipe with certificates is read while the store is open', CEREMONY, 'qm_err err = waits ? end_batch(c, fault) : QM_OK;', 'qm_err err = QM_OK;'),
    ],
    'waiting_after_many': [
        ('a stream is read before the store is locked', 'tools/cmd_enroll.c', 'if (qm_lines_wait(files[i]))', 'if (count == 7)'),
        ('standard input is one', 'tools/line_read.c', 'fstat(STDIN_FILENO, &st) : stat(name, &st);', '-1 : stat(name, &st);'),
        ('a shell\'s pipe is one', 'tools/line_read.c', 'fstat(STDIN_FILENO, &st) : stat(name, &st);', 'fstat(STDIN_FILENO, &st) : -1;'),
        ('what is read into has no name', 'tools/line_read.c', '*fd >= 0 && unlink(path) == 0 ? QM_OK', '*fd >= 0 ? QM_OK'),
    ],
    'names': [
        ('of several common names none counts', CHAIN, 'if (at >= 0 && X509_NAME_get_index_by_NID(subject, NID_commonName, at) < 0) {', 'if (at >= 0) {'),
        ('byte for byte', CHAIN, 'if (qm_span_eq((struct qm_span){n->name[i].text, n->name[i].len}, id))',
         'if (n->name[i].len >= id.len && memcmp(n->name[i].text, id.p, id.len) == 0)'),
    ],
}

# Tests of what a TPM does: nothing of ours can be taken out for them.
OF_THE_TPM = {'key_outside'}


def check(root):
    problems = [f'{t.__name__}: nothing is taken out for it' for t in ceremony_test.TESTS if t.__name__ not in MUTATIONS and t.__name__ not in OF_THE_TPM]
    for test, mutations in MUTATIONS.items():
        if not any(t.__name__ == test for t in ceremony_test.TESTS):
            problems.append(f'{test}: ceremony_test.py has no such test')
        for what, path, text, instead in mutations:
            with open(os.path.join(root, path), encoding='utf-8') as f:
                n = f.read().count(text)
            if n != 1 or text == instead:
                problems.append(f'{test}: without "{what}": {path} has its text {n} times')
    for p in problems:
        print('FAIL', p)
    print(f'{sum(map(len, MUTATIONS.values()))} changes for {len(MUTATIONS)} tests, {len(problems)} failed')
    return 1 if problems else 0


class Copy(rule_mutations.Copy):
    def needs(self, test):
        return ['tools/quotemill']

    def command(self, test):
        return [sys.executable, os.path.join(self.top, 'tests/ceremony_test.py'), os.path.join(self.build, 'tools/quotemill'), test]


if __name__ == '__main__':
    sys.exit(check(sys.argv[2]) if sys.argv[1] == '--check' else rule_mutations.main(Copy, MUTATIONS))
