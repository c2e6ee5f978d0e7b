#include "tools/gen/gen_fleet.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "codec/text.h"
#include "tools/json_read.h"

/* How fleets are derived from their parameters. A change of any choice, image or value is a new
 * number: measuring an older fleet again would show changes that no machine made. */
enum { RECIPE = 1 };

enum { PARAMS_MAX = 4096 };

qm_err qm_gen_write_all(int fd, const void *p, size_t len, const char *name, struct qm_fault *fault)
{
    const uint8_t *at = p;
    while (len != 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return qm_fail(fault, QM_E_IO, n < 0 ? errno : EIO, "cannot write %s", name);
        at += n;
        len -= (size_t)n;
    }
    return QM_OK;
}

/* Writes name with up to three pieces of content. */
static qm_err write_file(int dir_fd, const char *name, const struct qm_span *pieces, size_t count,
                         struct qm_fault *fault)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot write %s", name);
    qm_err err = QM_OK;
    for (size_t i = 0; i < count && err == QM_OK; i++)
        err = qm_gen_write_all(fd, pieces[i].p, pieces[i].len, name, fault);
    if (close(fd) != 0 && err == QM_OK)
        err = qm_fail(fault, QM_E_IO, errno, "cannot write %s", name);
    return err;
}

static qm_err rename_into_place(int dir_fd, const char *from, const char *to,
                                struct qm_fault *fault)
{
    if (renameat(dir_fd, from, dir_fd, to) != 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot rename %s", from);
    return QM_OK;
}

static void put_number(struct qm_out *o, const char *key, uint64_t v)
{
    qm_out_text(o, ",\n  \"");
    qm_out_text(o, key);
    qm_out_text(o, "\": ");
    qm_out_u64(o, v);
}

qm_err qm_gen_params_write(int dir_fd, const struct qm_gen_params *p, struct qm_fault *fault)
{
    char text[PARAMS_MAX];
    struct qm_out o = qm_out_init(text, sizeof text);
    qm_out_text(&o, "{\n  \"kind\": \"quotemill-gen\"");
    put_number(&o, "recipe", RECIPE);
    put_number(&o, "instances", p->instances);
    qm_out_text(&o, ",\n  \"key\": ");
    qm_out_json_string(&o, (struct qm_span){(const uint8_t *)p->key, strlen(p->key)});
    put_number(&o, "keys", p->keys);
    put_number(&o, "events", p->events);
    put_number(&o, "log_bytes", p->log_bytes);
    put_number(&o, "per_file", p->per_file);
    put_number(&o, "seed", p->seed);
    qm_out_text(&o, p->baseline ? ",\n  \"baseline\": true\n}\n" : ",\n  \"baseline\": false\n}\n");
    struct qm_span piece = {(const uint8_t *)text, o.len};
    return write_file(dir_fd, QM_GEN_FLEET_PART, &piece, 1, fault);
}

qm_err qm_gen_params_publish(int dir_fd, struct qm_fault *fault)
{
    return rename_into_place(dir_fd, QM_GEN_FLEET_PART, QM_GEN_FLEET_FILE, fault);
}

struct reading {
    struct qm_gen_params params;
    uint64_t recipe;
    unsigned seen; /* one bit for each line of the table below */
    bool ours;
};

static qm_err take_param(const struct qm_json_item *item, void *user, struct qm_fault *fault)
{
    struct reading *r = user;
    struct {
        const char *key;
        enum qm_json_kind kind;
        uint64_t *to;
    } known[] = {
        {"kind", QM_JSON_TEXT, NULL},
        {"recipe", QM_JSON_INT, &r->recipe},
        {"instances", QM_JSON_INT, &r->params.instances},
        {"key", QM_JSON_TEXT, NULL},
        {"keys", QM_JSON_INT, &r->params.keys},
        {"events", QM_JSON_INT, &r->params.events},
        {"log_bytes", QM_JSON_INT, &r->params.log_bytes},
        {"per_file", QM_JSON_INT, &r->params.per_file},
        {"seed", QM_JSON_INT, &r->params.seed},
        {"baseline", QM_JSON_BOOL, NULL},
    };
    size_t i = 0;
    while (i < QM_COUNT(known) && !qm_json_key_is(item, known[i].key))
        i++;
    if (i == QM_COUNT(known) || item->kind != known[i].kind || (r->seen >> i & 1) != 0 ||
        item->number < 0)
        return qm_fail(fault, QM_E_FORMAT, 0, "unexpected %.*s", (int)item->key.len,
                       (const char *)item->key.p);
    r->seen |= 1u << i;
    if (known[i].to != NULL) {
        *known[i].to = (uint64_t)item->number;
    } else if (item->kind == QM_JSON_BOOL) {
        r->params.baseline = item->number != 0;
    } else if (i == 0) {
        r->ours = item->text.len == 13 && memcmp(item->text.p, "quotemill-gen", 13) == 0;
    } else if (item->text.len < sizeof r->params.key) {
        memcpy(r->params.key, item->text.p, item->text.len);
        r->params.key[item->text.len] = '\0';
    }
    return QM_OK;
}

qm_err qm_gen_params_read(int dir_fd, struct qm_gen_params *params, struct qm_fault *fault)
{
    enum { ALL = (1 << 10) - 1 };
    char text[PARAMS_MAX];
    int fd = openat(dir_fd, QM_GEN_FLEET_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot read " QM_GEN_FLEET_FILE);
    ssize_t len = read(fd, text, sizeof text);
    int sys = errno;
    close(fd);
    if (len < 0)
        return qm_fail(fault, QM_E_IO, sys, "cannot read " QM_GEN_FLEET_FILE);
    struct qm_json *json;
    struct reading r = {0};
    struct qm_fault why = {0};
    qm_err err = qm_json_open(&json, fault);
    if (err != QM_OK)
        return err;
    err = qm_json_each(json, QM_JSON_OBJECT, text, (size_t)len, take_param, &r, &why);
    qm_json_close(json);
    if (err == QM_E_STORE || err == QM_E_NOMEM)
        return qm_fail(fault, err, 0, "%s", why.text);
    if (err != QM_OK)
        return qm_fail(fault, QM_E_FORMAT, 0, QM_GEN_FLEET_FILE " is no fleet's: %.200s", why.text);
    if (r.seen != ALL || !r.ours || r.params.key[0] == '\0' || r.params.instances == 0 ||
        r.params.per_file == 0 || r.params.keys == 0)
        return qm_fail(fault, QM_E_FORMAT, 0, QM_GEN_FLEET_FILE " is no fleet's");
    if (r.recipe != RECIPE)
        return qm_fail(fault, QM_E_FORMAT, 0,
                       "this fleet was made by another version of quotemill: make a new one");
    *params = r.params;
    return QM_OK;
}

qm_err qm_gen_params_agree(const struct qm_gen_params *asked, const struct qm_gen_params *kept,
                           struct qm_fault *fault)
{
    const struct {
        const char *name;
        uint64_t asked, kept;
    } numbers[] = {
        {"instances", asked->instances, kept->instances},
        {"keys", asked->keys, kept->keys},
        {"events", asked->events, kept->events},
        {"log-bytes", asked->log_bytes, kept->log_bytes},
        {"per-file", asked->per_file, kept->per_file},
        {"seed", asked->seed, kept->seed},
    };
    for (size_t i = 0; i < QM_COUNT(numbers); i++) {
        if (numbers[i].asked == QM_GEN_UNSET || numbers[i].asked == numbers[i].kept)
            continue;
        if (numbers[i].kept == 0)
            return qm_fail(fault, QM_E_USAGE, 0, "--%s was not given when this fleet was made",
                           numbers[i].name);
        return qm_fail(fault, QM_E_USAGE, 0, "--%s is %llu in this fleet", numbers[i].name,
                       (unsigned long long)numbers[i].kept);
    }
    if (asked->key[0] != '\0' && strcmp(asked->key, kept->key) != 0)
        return qm_fail(fault, QM_E_USAGE, 0, "--key is %s in this fleet", kept->key);
    if (asked->baseline && !kept->baseline)
        return qm_fail(fault, QM_E_USAGE, 0, "--baseline was not given when this fleet was made");
    return QM_OK;
}

/* state.bin: magic, count, the states, SHA-256 over all before. */
struct state_head {
    char magic[8];
    uint64_t count;
};
static const struct state_head head_of_none = {"QMGENST1", 0};

static bool state_digest(const struct state_head *head, const struct qm_gen_state *state,
                         uint8_t digest[32])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
                EVP_DigestUpdate(ctx, head, sizeof *head) == 1 &&
                EVP_DigestUpdate(ctx, state, head->count * sizeof *state) == 1 &&
                EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return good;
}

qm_err qm_gen_state_write(int dir_fd, size_t count, const struct qm_gen_state *state,
                          struct qm_fault *fault)
{
    static const char part[] = QM_GEN_STATE_FILE ".part";
    struct state_head head = head_of_none;
    uint8_t digest[32];
    head.count = count;
    if (!state_digest(&head, state, digest))
        return qm_fail(fault, QM_E_CRYPTO, 0, "OpenSSL has no SHA-256");
    const struct qm_span pieces[] = {{(const uint8_t *)&head, sizeof head},
                                     {(const uint8_t *)state, count * sizeof *state},
                                     {digest, sizeof digest}};
    qm_err err = write_file(dir_fd, part, pieces, QM_COUNT(pieces), fault);
    return err != QM_OK ? err : rename_into_place(dir_fd, part, QM_GEN_STATE_FILE, fault);
}

static bool read_exactly(int fd, void *to, size_t len)
{
    uint8_t *p = to;
    while (len != 0) {
        ssize_t n = read(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

qm_err qm_gen_state_read(int dir_fd, size_t count, struct qm_gen_state **state,
                         struct qm_fault *fault)
{
    struct state_head head;
    uint8_t kept[32], digest[32];
    *state = NULL;
    int fd = openat(dir_fd, QM_GEN_STATE_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return qm_fail(fault, QM_E_IO, errno, "cannot read " QM_GEN_STATE_FILE);
    struct qm_gen_state *s = calloc(count, sizeof *s);
    bool good = s != NULL && read_exactly(fd, &head, sizeof head) &&
                memcmp(head.magic, head_of_none.magic, sizeof head.magic) == 0 &&
                head.count == count && read_exactly(fd, s, count * sizeof *s) &&
                read_exactly(fd, kept, sizeof kept) && state_digest(&head, s, digest) &&
                memcmp(kept, digest, sizeof digest) == 0;
    close(fd);
    if (good) {
        *state = s;
        return QM_OK;
    }
    if (s == NULL)
        return qm_fail(fault, QM_E_NOMEM, 0, "out of memory");
    free(s);
    return qm_fail(fault, QM_E_FORMAT, 0, QM_GEN_STATE_FILE " is damaged or another fleet's");
}

/* Opens a directory to be walked; NULL with errno. */
static DIR *open_dir(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL && fd >= 0)
        close(fd);
    return dir;
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

qm_err qm_gen_remove_tree(int dir_fd, const char *name, struct qm_fault *fault)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return QM_OK;
    DIR *dir = open_dir(dir_fd, name);
    if (dir == NULL)
        return qm_fail(fault, QM_E_IO, errno, "cannot remove %.100s", name);
    qm_err err = QM_OK;
    /* two levels deep at most: DIR/spool-R.part/0000/ */
    for (struct dirent *e; err == QM_OK && (e = readdir(dir)) != NULL;)
        if (!is_dots(e->d_name))
            err = qm_gen_remove_tree(dirfd(dir), e->d_name, fault);
    closedir(dir);
    if (err == QM_OK && unlinkat(dir_fd, name, AT_REMOVEDIR) != 0)
        err = qm_fail(fault, QM_E_IO, errno, "cannot remove %.100s", name);
    return err;
}

qm_err qm_gen_tree_has_files(int dir_fd, const char *name, bool *has, struct qm_fault *fault)
{
    DIR *dir = open_dir(dir_fd, name);
    *has = false;
    if (dir == NULL) {
        *has = errno == ENOTDIR || errno == ELOOP;
        return *has || errno == ENOENT ? QM_OK
                                       : qm_fail(fault, QM_E_IO, errno, "cannot read %.100s", name);
    }
    qm_err err = QM_OK;
    for (struct dirent *e; err == QM_OK && !*has && (e = readdir(dir)) != NULL;)
        if (!is_dots(e->d_name))
            err = qm_gen_tree_has_files(dirfd(dir), e->d_name, has, fault);
    closedir(dir);
    return err;
}
