#include "tools/moment_read.h"

#include <ctype.h>
#include <stdint.h>

#include "tools/store/store_config.h"

/* A number of exactly so many digits, between min and max. */
static bool digits(const char **p, unsigned count, unsigned min, unsigned max, unsigned *value)
{
    *value = 0;
    for (unsigned i = 0; i < count; i++, (*p)++) {
        if (!isdigit((unsigned char)**p))
            return false;
        *value = *value * 10 + (unsigned)(**p - '0');
    }
    return *value >= min && *value <= max;
}

static bool one_of(const char **p, const char *set)
{
    if (**p == '\0' || strchr(set, **p) == NULL)
        return false;
    ++*p;
    return true;
}

static bool leap(unsigned y)
{
    return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* Days since 1970-01-01, 1970 <= y <= 9999; false: the month has no such day. */
static bool days_of(unsigned y, unsigned m, unsigned d, uint64_t *days)
{
    static const uint8_t length[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint64_t n = d - 1;
    if (d > length[m - 1] + (m == 2 && leap(y) ? 1u : 0u))
        return false;
    for (unsigned k = 1; k < m; k++)
        n += length[k - 1] + (k == 2 && leap(y) ? 1u : 0u);
    for (unsigned k = 1970; k < y; k++)
        n += leap(k) ? 366 : 365;
    *days = n;
    return true;
}

/* "Z" or "+hh:mm"; seconds ahead of UTC. */
static bool zone(const char **p, int *ahead_s)
{
    unsigned h, m;
    const char sign = **p;
    *ahead_s = 0;
    if (one_of(p, "Zz"))
        return true;
    if (!one_of(p, "+-") || !digits(p, 2, 0, 23, &h) || !one_of(p, ":") || !digits(p, 2, 0, 59, &m))
        return false;
    *ahead_s = (int)(h * 3600 + m * 60) * (sign == '-' ? -1 : 1);
    return true;
}

static bool calendar(const char *p, uint64_t *ms)
{
    unsigned y, mo, d, h = 0, mi = 0, sec = 0, milli = 0;
    int ahead_s = 0;
    uint64_t days;
    if (!digits(&p, 4, 1970, 9999, &y) || !one_of(&p, "-") || !digits(&p, 2, 1, 12, &mo) || !one_of(&p, "-") ||
        !digits(&p, 2, 1, 31, &d) || !days_of(y, mo, d, &days))
        return false;
    if (*p != '\0') {
        if (!one_of(&p, "Tt ") || !digits(&p, 2, 0, 23, &h) || !one_of(&p, ":") || !digits(&p, 2, 0, 59, &mi) ||
            !one_of(&p, ":") || !digits(&p, 2, 0, 60, &sec))
            return false;
        if (one_of(&p, ".")) {
            unsigned scale = 100;
            if (!isdigit((unsigned char)*p))
                return false;
            for (; isdigit((unsigned char)*p); p++, scale /= 10)
                milli += (unsigned)(*p - '0') * scale;
        }
        if (!zone(&p, &ahead_s))
            return false;
    }
    const int64_t at = (int64_t)(days * 86400 + h * 3600 + mi * 60 + sec) - ahead_s;
    *ms = at >= 0 ? (uint64_t)at * 1000 + milli : 0;
    return *p == '\0' && at >= 0;
}

bool qm_moment_read(const char *text, uint64_t now_ms, bool ahead, uint64_t *ms)
{
    uint64_t span;
    if (calendar(text, ms))
        return true;
    if (!qm_duration_read(text, &span) || (ahead ? span > INT64_MAX - now_ms : span > now_ms))
        return false;
    *ms = ahead ? now_ms + span : now_ms - span;
    return true;
}
