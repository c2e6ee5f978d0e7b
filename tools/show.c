#include "tools/show.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "codec/text.h"

static const char *const escapes[] = {"", "\x1b[32m", "\x1b[31m", "\x1b[90m", "\x1b[33m", "\x1b[1m"};

struct qm_show qm_show_init(FILE *to)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    const bool can = term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0;
    return (struct qm_show){to, isatty(fileno(to)) == 1 && can && (no == NULL || no[0] == '\0')};
}

void qm_show_word(const struct qm_show *s, enum qm_colour colour, const char *word, int width)
{
    const bool coloured = s->colour && colour != QM_PLAIN;
    fprintf(s->to, "%s%s%s", coloured ? escapes[colour] : "", word, coloured ? "\x1b[0m" : "");
    if ((int)strlen(word) < width)
        fprintf(s->to, "%*s", width - (int)strlen(word), "");
}

void qm_show_circle(const struct qm_show *s, enum qm_colour colour)
{
    if (s->colour)
        fprintf(s->to, "%s●\x1b[0m ", escapes[colour]);
}

enum { SHOWN_MAX = 2048 };

static size_t shown(struct qm_span text, char out[SHOWN_MAX])
{
    struct qm_out o = qm_out_init(out, SHOWN_MAX);
    qm_out_shown(&o, text);
    return o.len;
}

int qm_show_width(struct qm_span text)
{
    char out[SHOWN_MAX];
    return (int)shown(text, out);
}

void qm_show_text(const struct qm_show *s, struct qm_span text, int width)
{
    char out[SHOWN_MAX];
    const int len = (int)shown(text, out); /* pure ASCII: bytes are columns */
    if (width > 0 && len > width) {
        fprintf(s->to, "%.*s…", width - 1, out);
        return;
    }
    fprintf(s->to, "%.*s", len, out);
    if (len < width)
        fprintf(s->to, "%*s", width - len, "");
}

void qm_show_hex(const struct qm_show *s, const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        fprintf(s->to, "%02x", p[i]);
}

const char *qm_age(char buf[QM_AGE_MAX], uint64_t ms)
{
    static const struct {
        uint64_t ms;
        const char *one, *many;
    } unit[] = {{86400000, "day", "days"}, {3600000, "hour", "hours"}, {60000, "minute", "minutes"}};
    for (size_t i = 0; i < QM_COUNT(unit); i++)
        if (ms >= unit[i].ms) {
            const unsigned long long n = ms / unit[i].ms;
            snprintf(buf, QM_AGE_MAX, "%llu %s", n, n == 1 ? unit[i].one : unit[i].many);
            return buf;
        }
    snprintf(buf, QM_AGE_MAX, "%llu s", (unsigned long long)(ms / 1000));
    return buf;
}

const char *qm_ago(char buf[QM_AGE_MAX], uint64_t now_ms, uint64_t then_ms)
{
    char age[QM_AGE_MAX];
    if (then_ms == 0)
        return "never";
    if (then_ms > now_ms)
        snprintf(buf, QM_AGE_MAX, "in %.40s", qm_age(age, then_ms - now_ms));
    else
        snprintf(buf, QM_AGE_MAX, "%.40s ago", qm_age(age, now_ms - then_ms));
    return buf;
}

const char *qm_moment(char buf[QM_AGE_MAX], uint64_t ms)
{
    struct tm tm;
    const time_t s = (time_t)(ms / 1000);
    if (ms == 0 || gmtime_r(&s, &tm) == NULL || strftime(buf, QM_AGE_MAX, "%Y-%m-%d %H:%M:%SZ", &tm) == 0)
        return "never";
    return buf;
}
