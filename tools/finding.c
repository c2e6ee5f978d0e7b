#include "tools/finding.h"

#include <stdarg.h>

#include "codec/emit.h"
#include "tools/options.h"

enum { TEXT_MAX = 1024, LINE_MAX = 16384 };

void qm_find(qm_finding found, void *ctx, const char *check, enum qm_health health, const char *todo, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    found(ctx, check, health, text, todo);
}

void qm_doctor_say(struct qm_doctor *d, const char *check, enum qm_health health, const char *todo, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    qm_doctor_found(d, check, health, text, todo);
}

static struct qm_span span(const char *text)
{
    return (struct qm_span){(const uint8_t *)text, strlen(text)};
}

void qm_doctor_found(void *ctx, const char *check, enum qm_health health, const char *text, const char *todo)
{
    static const char *const word[] = {"pass", "warn", "FAIL"}, *const name[] = {"pass", "warn", "fail"};
    static const enum qm_colour colour[] = {QM_GREEN, QM_YELLOW, QM_RED};
    struct qm_doctor *d = ctx;
    char line[LINE_MAX];
    struct qm_out o = qm_out_init(line, sizeof line);
    d->count[health]++;
    if (d->json) {
        struct qm_emit e = qm_emit_init(&o, true);
        qm_emit_map(&e);
        qm_emit_key(&e, "check");
        qm_emit_text(&e, span(check));
        qm_emit_key(&e, "state");
        qm_emit_name(&e, name[health]);
        qm_emit_key(&e, "text");
        qm_emit_text(&e, span(text));
        qm_emit_key(&e, "do");
        if (todo != NULL)
            qm_emit_text(&e, span(todo));
        else
            qm_emit_null(&e);
        qm_emit_end(&e);
    } else {
        qm_show_circle(&d->show, colour[health]);
        qm_show_word(&d->show, colour[health], word[health], 5);
        printf(" %-12s ", check);
        qm_out_line(&o, span(text));
        if (todo != NULL) {
            qm_out_text(&o, "; ");
            qm_out_line(&o, span(todo));
        }
    }
    qm_out_char(&o, '\n');
    fwrite(o.p, 1, o.len, stdout);
}

int qm_doctor_close(const struct qm_doctor *d)
{
    const int code = qm_stdout_close("doctor");
    return code != QM_EXIT_OK ? code : d->count[QM_HEALTH_FAIL] != 0 ? QM_EXIT_FOUND : QM_EXIT_OK;
}
