/* A home's health, its copy in one file, and the way back. */
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/homes.h"
#include "tools/home_check.h"
#include "tools/store/store_backup.h"
#include "tools/store/store_health.h"
#include "tools/store/store_ledger.h"

/* The system's, but for what kind of file system it says that it is. */
static bool over_the_network;
int statfs(const char *path, struct statfs *fs)
{
    const int rc = (int)syscall(SYS_statfs, path, fs);
    if (rc == 0 && over_the_network)
        fs->f_type = 0x6969;
    return rc;
}

TestSuite(backup, .init = home_make, .fini = home_end);

static unsigned failed;
static char said[512];

static void finding(void *ctx, const char *check, enum qm_health health, const char *text, const char *todo)
{
    (void)ctx;
    (void)check;
    (void)todo;
    if (health != QM_HEALTH_PASS) {
        failed++;
        snprintf(said, sizeof said, "%s", text);
    }
}

Test(backup, a_store_is_sound_or_what_is_wrong_is_said)
{
    home_enroll("a", 1, "");
    GOOD(qm_store_check(store, finding, NULL, &fault));
    cr_expect_eq(failed, 0, "%s", said);
    home_change("PRAGMA foreign_keys=OFF; UPDATE instance SET profile = 99");
    GOOD(qm_store_check(store, finding, NULL, &fault));
    cr_expect_eq(failed, 1);
    cr_expect_not_null(strstr(said, "profile"), "%s", said);
    home_change("PRAGMA foreign_keys=OFF; UPDATE instance SET profile = 1; UPDATE ledger SET entries = zeroblob(length(entries))");
    GOOD(qm_store_check(store, finding, NULL, &fault));
    cr_expect_eq(failed, 2);
    cr_expect_not_null(strstr(said, "the ledger has 0 machines"), "%s", said);
}

Test(backup, a_backup_restored_is_the_same_store)
{
    char file[600];
    struct qm_backup b;
    struct qm_restored r;
    struct qm_ledger l;
    const uint64_t now = qm_store_now_ms(store);
    snprintf(file, sizeof file, "%s.backup", home_path);
    home_enroll("a", 1, "");
    BEGIN();
    GOOD(qm_store_ledger_get(store, 1, &l, &fault));
    l.flags |= QM_LEDGER_SEEN;
    GOOD(qm_store_ledger_put(store, 1, &l, &fault));
    COMMIT();
    GOOD(qm_store_backup(store, file, &b, &fault));
    cr_expect_eq(b.instances, 1);
    const uint64_t then = b.generation;
    home_enroll("b", 2, "");
    home_publish();
    const uint64_t before = qm_store_generation(store);
    qm_store_close(store);
    store = NULL;

    GOOD(qm_backup_check(file, &b, &fault));
    cr_expect_eq(b.generation, then);
    cr_expect_eq(qm_store_restore(home_path, file, false, &b, &fault), QM_E_REFUSED, "there is a fleet");
    cr_expect_not_null(strstr(fault.text, "2 instances"), "%s", fault.text);
    GOOD(qm_store_restore(home_path, file, true, &b, &fault));
    cr_expect_gt(b.generation, before, "no table of the time between may be taken for this one");
    GOOD(qm_store_open(&store, home_path, true, &fault));
    cr_expect_eq(home_ask("SELECT count(*) FROM instance"), 1);
    cr_expect_eq(home_ask("SELECT count(*) FROM journal WHERE what = 'restore'"), 1);
    struct qm_table *t = home_table();
    cr_expect_eq(qm_table_instances(t), 1);
    cr_expect_eq(qm_table_generation(t), b.generation);
    qm_table_close(t);
    GOOD(qm_store_restored(store, &r, &fault));
    cr_expect(r.pending && r.machines == 1 && r.backup_ms == b.made_ms && r.restored_ms >= now);
    BEGIN();
    GOOD(qm_store_restored_said(store, &fault));
    COMMIT();
    GOOD(qm_store_restored(store, &r, &fault));
    cr_expect(!r.pending);
}

Test(backup, what_is_no_backup_is_not_restored)
{
    char file[600];
    struct qm_backup b;
    snprintf(file, sizeof file, "%s.not", home_path);
    cr_expect_eq(qm_backup_check(file, &b, &fault), QM_E_IO);
    FILE *to = fopen(file, "w");
    fputs("hello\n", to);
    fclose(to);
    cr_expect_eq(qm_backup_check(file, &b, &fault), QM_E_FORMAT, "%s", fault.text);
    home_enroll("a", 1, "");
    GOOD(qm_store_backup(store, file, &b, &fault));
    sqlite3 *db;
    MUST(sqlite3_open(file, &db) == SQLITE_OK);
    MUST(sqlite3_exec(db, "UPDATE meta SET value = 99 WHERE key = 'schema'", NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    cr_expect_eq(qm_backup_check(file, &b, &fault), QM_E_FORMAT);
    cr_expect_not_null(strstr(fault.text, "newer quotemill"), "%s", fault.text);
    /* a page in the middle */
    to = fopen(file, "r+");
    fseek(to, 3 * 8192 + 100, SEEK_SET);
    for (int i = 0; i < 4000; i++)
        fputc(0x55, to);
    fclose(to);
    cr_expect_eq(qm_backup_check(file, &b, &fault), QM_E_FORMAT);
}

Test(backup, file_systems_over_the_network)
{
    cr_expect_str_eq(qm_file_system_remote(0x6969), "NFS");
    cr_expect_str_eq(qm_file_system_remote(0xff534d42), "CIFS");
    cr_expect_null(qm_file_system_remote(0xef53), "ext4");
    cr_expect_null(qm_file_system_remote(0x58465342), "XFS");
    GOOD(qm_home_local(home_path, &fault));
    GOOD(qm_home_local("/nowhere", &fault));
}

Test(backup, a_home_over_the_network_is_refused)
{
    struct qm_store *other;
    char path[600];
    bool made = true;
    snprintf(path, sizeof path, "%s-2", home_path);
    over_the_network = true;
    cr_expect_eq(qm_store_open(&other, home_path, true, &fault), QM_E_IO);
    cr_expect_not_null(strstr(fault.text, "over the network"), "%s", fault.text);
    cr_expect_eq(qm_store_open(&other, home_path, false, &fault), QM_E_IO);
    cr_expect_eq(qm_store_create(path, &made, &fault), QM_E_IO);
    cr_expect(!made && access(path, F_OK) != 0);
    over_the_network = false;
    GOOD(qm_store_open(&other, home_path, false, &fault));
    qm_store_close(other);
}
