/* quotemill cpu: what the CPU offers, which kernels were built, which run here, which one each
 * class gets and why. Runs the self-test, as every command that verifies does, so that a wrong
 * kernel shows here first. */
#include <stdio.h>
#include <stdlib.h>

#include "codec/text.h"
#include "engine/kernel/kernel.h"
#include "tools/command.h"
#include "tools/options.h"

enum { OUT_MAX = 16 * 1024, WHY_MAX = 200, NAMES_MAX = 160 };

/* A signature kernel or a hash kernel, seen the same way. Class QM_SIG_CLASS_COUNT is SHA-256. */
struct view {
    const char *name;
    uint64_t cpu;
    uint32_t classes;
    unsigned lanes;
};

enum { SHA256_CLASS = QM_SIG_CLASS_COUNT, CLASS_COUNT };

static size_t view_count(void)
{
    return qm_sig_kernel_count + qm_hash_kernel_count;
}

static struct view view_at(size_t i)
{
    if (i < qm_sig_kernel_count) {
        const struct qm_sig_kernel *k = qm_sig_kernels[i];
        return (struct view){k->name, k->cpu, k->classes, k->lanes};
    }
    const struct qm_hash_kernel *k = qm_hash_kernels[i - qm_sig_kernel_count];
    return (struct view){k->name, k->cpu, 1u << SHA256_CLASS, k->lanes};
}

static const char *class_name(unsigned class)
{
    return class == SHA256_CLASS ? "sha256" : qm_sig_class_name((enum qm_sig_class) class);
}

static const char *chosen_name(const struct qm_kernels *k, unsigned class)
{
    return class == SHA256_CLASS ? k->sha256->name : k->sig[class]->name;
}

/* Why class got the kernel that it got. */
static void why_chosen(const struct qm_kernels *k, unsigned class, const char *forced, char *why)
{
    const char *chosen = chosen_name(k, class);
    size_t others = 0;
    why[0] = '\0';
    if (forced != NULL) {
        bool named = false;
        for (const char *p = forced; p != NULL && !named; p = strchr(p, ',')) {
            p += *p == ',';
            size_t len = strcspn(p, ",");
            named = len == strlen(chosen) && memcmp(p, chosen, len) == 0;
        }
        snprintf(why, WHY_MAX, "%s",
                 named ? "forced by QM_KERNEL"
                       : "portable: QM_KERNEL names no kernel of this class");
        return;
    }
    uint64_t needs = 0;
    for (size_t i = 0; i < view_count(); i++) {
        struct view v = view_at(i);
        if ((v.classes >> class & 1) != 0 && strcmp(v.name, chosen) == 0)
            needs = v.cpu;
    }
    /* those that are better elsewhere, and of the others those that need the same */
    for (size_t i = 0, behind = 0; i < view_count(); i++) {
        struct view v = view_at(i);
        if ((v.classes >> class & 1) == 0)
            continue;
        if (strcmp(v.name, chosen) == 0) {
            behind = 1;
            continue;
        }
        if (behind && v.cpu != needs)
            continue;
        char missing[NAMES_MAX];
        qm_cpu_names(v.cpu & ~qm_cpu_features(), missing, sizeof missing);
        size_t used = strlen(why);
        snprintf(why + used, WHY_MAX - used, "%s%s %s%s",
                 others++ == 0 ? "the best that runs here: " : ", ", v.name,
                 missing[0] != '\0' ? "needs " : "is slower on this CPU", missing);
    }
    if (others == 0)
        snprintf(why, WHY_MAX, "%s",
                 strcmp(chosen, qm_sig_openssl.name) == 0
                     ? "no other kernel was built for this class"
                     : "the best that was built");
}

static void why_runs(const struct view *v, char *why)
{
    char missing[NAMES_MAX];
    qm_cpu_names(v->cpu & ~qm_cpu_features(), missing, sizeof missing);
    snprintf(why, WHY_MAX, "%s%s",
             missing[0] != '\0' ? "the CPU lacks "
             : v->cpu == 0      ? "portable"
                                : "the CPU has what it needs",
             missing);
}

static void json_text(struct qm_out *o, const char *text)
{
    qm_out_json_string(o, (struct qm_span){(const uint8_t *)text, strlen(text)});
}

/* The names of CPU features as a JSON array. */
static void json_features(struct qm_out *o, uint64_t features)
{
    char names[NAMES_MAX];
    qm_cpu_names(features, names, sizeof names);
    qm_out_char(o, '[');
    for (char *rest, *name = strtok_r(names, " ", &rest); name != NULL;
         name = strtok_r(NULL, " ", &rest)) {
        if (name != names)
            qm_out_char(o, ',');
        json_text(o, name);
    }
    qm_out_char(o, ']');
}

static void write_json(struct qm_out *o, const struct qm_kernels *k, const char *forced)
{
    char why[WHY_MAX];
    qm_out_text(o, "{\"kind\":\"cpu\",\"features\":");
    json_features(o, qm_cpu_features());
    qm_out_text(o, ",\"forced\":");
    if (forced != NULL)
        json_text(o, forced);
    else
        qm_out_text(o, "null");
    qm_out_text(o, ",\"classes\":{");
    for (unsigned c = 0; c < CLASS_COUNT; c++) {
        why_chosen(k, c, forced, why);
        if (c != 0)
            qm_out_char(o, ',');
        json_text(o, class_name(c));
        qm_out_text(o, ":{\"kernel\":");
        json_text(o, chosen_name(k, c));
        qm_out_text(o, ",\"why\":");
        json_text(o, why);
        qm_out_char(o, '}');
    }
    qm_out_text(o, "},\"kernels\":[");
    for (size_t i = 0; i < view_count(); i++) {
        struct view v = view_at(i);
        bool first = true;
        why_runs(&v, why);
        qm_out_text(o, i != 0 ? ",{\"name\":" : "{\"name\":");
        json_text(o, v.name);
        qm_out_text(o, ",\"classes\":[");
        for (unsigned c = 0; c < CLASS_COUNT; c++) {
            if ((v.classes >> c & 1) == 0)
                continue;
            if (!first)
                qm_out_char(o, ',');
            json_text(o, class_name(c));
            first = false;
        }
        qm_out_text(o, "],\"lanes\":");
        qm_out_u64(o, v.lanes);
        qm_out_text(o, ",\"needs\":");
        json_features(o, v.cpu);
        qm_out_text(o, (v.cpu & ~qm_cpu_features()) == 0 ? ",\"runs\":true,\"why\":"
                                                         : ",\"runs\":false,\"why\":");
        json_text(o, why);
        qm_out_char(o, '}');
    }
    qm_out_text(o, "],\"selftest\":\"passed\"}\n");
}

static void print_text(const struct qm_kernels *k, const char *forced)
{
    char names[NAMES_MAX], why[WHY_MAX];
    qm_cpu_names(qm_cpu_features(), names, sizeof names);
    printf("CPU features: %s\n\n%-10s%-14s%s\n",
           names[0] != '\0' ? names : "none that a kernel asks for", "class", "kernel", "why");
    for (unsigned c = 0; c < CLASS_COUNT; c++) {
        why_chosen(k, c, forced, why);
        printf("%-10s%-14s%s\n", class_name(c), chosen_name(k, c), why);
    }
    printf("\n%-14s%-7s%-6s%-28s%s\n", "kernel", "lanes", "runs", "why", "classes");
    for (size_t i = 0; i < view_count(); i++) {
        struct view v = view_at(i);
        why_runs(&v, why);
        printf("%-14s%-7u%-6s%-28s", v.name, v.lanes,
               (v.cpu & ~qm_cpu_features()) == 0 ? "yes" : "no", why);
        for (unsigned c = 0, first = 1; c < CLASS_COUNT; c++)
            if ((v.classes >> c & 1) != 0) {
                printf("%s%s", first ? "" : " ", class_name(c));
                first = 0;
            }
        putchar('\n');
    }
    puts("\nEvery chosen kernel passed its self-test.");
}

int qm_cmd_cpu(int argc, char **argv)
{
    bool json = false;
    const struct qm_usage usage = {
        .command = "cpu",
        .operands = "",
        .summary = "Shows the CPU's features, the kernels that were built, and which one each "
                   "class gets and why.",
        .text = "QM_KERNEL in the environment forces kernels: names, separated by commas. What "
                "cannot run is an error.\n",
    };
    const struct qm_option options[] = {
        {.name = "json", .kind = QM_OPT_FLAG, .to = &json, .help = "one JSON object on one line"},
    };
    int first, exit_code;
    if (!qm_options_parse(&usage, options, QM_COUNT(options), argc, argv, 0, 0, &first, &exit_code))
        return exit_code;
    const char *forced = getenv("QM_KERNEL");
    if (forced != NULL && (forced[0] == '\0' || strcmp(forced, "auto") == 0))
        forced = NULL;
    struct qm_kernels kernels;
    struct qm_fault fault = {.text = ""};
    qm_err err = qm_kernels_choose(&kernels, forced, &fault);
    if (err == QM_OK)
        err = qm_kernels_selftest(&kernels, &fault);
    if (err != QM_OK)
        return qm_complain("cpu", &fault);
    if (json) {
        static char text[OUT_MAX];
        struct qm_out out = qm_out_init(text, sizeof text);
        write_json(&out, &kernels, forced);
        if (out.full)
            return qm_complain("cpu", &(struct qm_fault){.err = QM_E_LIMIT,
                                                         .text = "the output outgrew its buffer"});
        fwrite(text, 1, out.len, stdout);
    } else {
        print_text(&kernels, forced);
    }
    return qm_stdout_close("cpu");
}
