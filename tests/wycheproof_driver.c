/* Checks signatures from stdin through every kernel that runs here, for wycheproof.py. A line is
 * one signature, nine words:
 *
 *   ID CLASS HASH SCHEME EXPONENT A B MESSAGE SIGNATURE
 *
 * CLASS rsa, p256 or p384; HASH as qm_hash_name; SCHEME rsassa, rsapss, ecdsa, or ecdsa-outside
 * where r or s is not in [1, n-1] (the portable kernel only); numbers and bytes in hex, - for none.
 * A: modulus or x, B: y. The signature has the length that the key demands.
 *
 * Out: "ID KERNEL valid|invalid|unsteady" for each kernel and for the oracle, or "ID - refused
 * REASON" for a key that is not taken. Unsteady: alone and among the others of its class the
 * answers differ. */
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "engine/kernel/key.h"

enum { ITEM_MAX = 4096, INPUT_MAX = 65536, WORDS = 9 };

struct item {
    char *id;
    struct qm_key *key;
    struct qm_sig_job job;
    uint8_t digest[QM_DIGEST_MAX];
    struct qm_span sig;
    bool outside;
};

static struct item items[ITEM_MAX];
static size_t item_count;

static _Noreturn void stop(const char *why)
{
    fprintf(stderr, "wycheproof_driver: item %zu: %s\n", item_count, why);
    exit(2);
}

/* Hex to memory of its own. */
static struct qm_span bytes_of(const char *hex)
{
    size_t len = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;
    uint8_t *p = malloc(len + 1);
    if (p == NULL || (len != 0 && (strlen(hex) % 2 != 0 || !qm_hex_read(hex, p, len))))
        stop("bad hex");
    return (struct qm_span){p, len};
}

static void release(struct qm_span bytes)
{
    free((void *)(uintptr_t)bytes.p);
}

static void take(char **word)
{
    if (item_count == ITEM_MAX)
        stop("too many");
    struct item *it = &items[item_count];
    struct qm_fault fault = {.text = ""};
    struct qm_public_numbers numbers = {
        .rsa = strcmp(word[1], "rsa") == 0,
        .ec_class = strcmp(word[1], "p256") == 0 ? QM_SIG_P256 : QM_SIG_P384,
        .exponent = strtoull(word[4], NULL, 16),
        .a = bytes_of(word[5]),
        .b = bytes_of(word[6]),
    };
    enum qm_hash hash = qm_hash_of_name(word[2], strlen(word[2]));
    it->key = aligned_alloc(QM_CACHE_LINE, QM_KEY_BYTES_MAX);
    if (it->key == NULL || hash == QM_HASH_NONE)
        stop("no memory, or no such hash");
    bool taken = qm_key_make(&numbers, it->key, &fault) == QM_OK;
    release(numbers.a);
    release(numbers.b);
    if (!taken) {
        printf("%s - refused %s\n", word[0], fault.text);
        free(it->key);
        return;
    }
    struct qm_span message = bytes_of(word[7]);
    qm_hash_one(hash, message, it->digest);
    release(message);
    it->sig = bytes_of(word[8]);
    if (it->sig.len != (numbers.rsa ? (it->key->bits + 7u) / 8 : it->key->bits / 4u))
        stop("the signature's length");
    it->id = strdup(word[0]);
    it->outside = strcmp(word[3], "ecdsa-outside") == 0;
    it->job = (struct qm_sig_job){
        .key = it->key,
        .digest = it->digest,
        .sig = it->sig.p,
        .hash = (uint8_t)hash,
        .scheme = strcmp(word[3], "rsassa") == 0   ? QM_SCHEME_RSASSA
                  : strcmp(word[3], "rsapss") == 0 ? QM_SCHEME_RSAPSS
                                                   : QM_SCHEME_ECDSA,
    };
    item_count++;
}

static void answer_kernel(const struct qm_sig_kernel *k, enum qm_sig_class class)
{
    static struct qm_sig_job job[ITEM_MAX];
    static struct qm_sig_job *order[ITEM_MAX];
    static const struct item *from[ITEM_MAX];
    size_t count = 0;
    for (size_t i = 0; i < item_count; i++)
        if (items[i].key->sig_class == class && (!items[i].outside || k == &qm_sig_openssl)) {
            from[count] = &items[i];
            job[count] = items[i].job;
            order[count] = &job[count];
            count++;
        }
    void *scratch = aligned_alloc(QM_CACHE_LINE, qm_align_up(k->scratch_size(), QM_CACHE_LINE));
    struct qm_fault fault = {.text = ""};
    if (scratch == NULL || k->init(scratch, &qm_hash_openssl, &fault) != QM_OK)
        stop(fault.text);
    k->verify(scratch, order, count);
    for (size_t i = 0; i < count; i++) {
        bool together = job[i].valid;
        job[i].valid = !together;
        k->verify(scratch, &order[i], 1);
        printf("%s %s %s\n", from[i]->id, k->name,
               job[i].valid != together ? "unsteady"
               : together               ? "valid"
                                        : "invalid");
    }
    k->close(scratch);
    free(scratch);
}

static void answer_oracle(void)
{
    for (size_t i = 0; i < item_count; i++) {
        bool valid;
        struct qm_fault fault;
        if (qm_oracle_verify(&items[i].job, &valid, &fault) != QM_OK)
            stop(fault.text);
        printf("%s oracle %s\n", items[i].id, valid ? "valid" : "invalid");
    }
}

int main(void)
{
    static char line[INPUT_MAX];
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *word[WORDS];
        size_t count = 0;
        for (char *w = strtok(line, " \n"); w != NULL; w = strtok(NULL, " \n"))
            if (count < WORDS)
                word[count++] = w;
        if (count != WORDS)
            stop("a line has nine words");
        take(word);
    }
    for (size_t i = 0; i < qm_sig_kernel_count; i++)
        for (unsigned c = 0; c < QM_SIG_CLASS_COUNT; c++)
            if ((qm_sig_kernels[i]->classes >> c & 1) != 0 &&
                (qm_sig_kernels[i]->cpu & ~qm_cpu_features()) == 0)
                answer_kernel(qm_sig_kernels[i], (enum qm_sig_class)c);
    answer_oracle();
    for (size_t i = 0; i < item_count; i++) {
        free(items[i].id);
        free(items[i].key);
        release(items[i].sig);
    }
    return fflush(stdout) == 0 ? 0 : 2;
}
