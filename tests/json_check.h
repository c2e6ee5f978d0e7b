/* Is that one whole JSON value (RFC 8259), in printable ASCII? For tests; bounded, no recursion. */
#ifndef QM_JSON_CHECK_H
#define QM_JSON_CHECK_H

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static inline bool json_string_end(const char *p, size_t len, size_t *at)
{
    for (size_t i = *at + 1; i < len; i++) {
        if ((unsigned char)p[i] < 0x20 || (unsigned char)p[i] > 0x7e)
            return false;
        if (p[i] == '"') {
            *at = i + 1;
            return true;
        }
        if (p[i] != '\\')
            continue;
        if (++i >= len || strchr("\"\\/bfnrtu", p[i]) == NULL)
            return false;
        if (p[i] == 'u')
            for (int k = 0; k < 4; k++)
                if (++i >= len || !isxdigit((unsigned char)p[i]))
                    return false;
    }
    return false;
}

static inline bool json_is_value(const char *p, size_t len)
{
    enum { DEPTH = 32 };
    char open[DEPTH];
    size_t depth = 0, i = 0;
    bool key = false; /* a key must come, or '}' where first */
    bool first = true;
    for (;;) {
        if (key) {
            if (first && i < len && p[i] == '}')
                goto close;
            if (i >= len || p[i] != '"' || !json_string_end(p, len, &i) || i >= len ||
                p[i++] != ':')
                return false;
        }
        if (!key && first && depth != 0 && i < len && p[i] == ']')
            goto close;
        if (i >= len)
            return false;
        if (p[i] == '{' || p[i] == '[') {
            if (depth == DEPTH)
                return false;
            key = (open[depth++] = p[i++]) == '{';
            first = true;
            continue;
        }
        if (p[i] == '"') {
            if (!json_string_end(p, len, &i))
                return false;
        } else if (isdigit((unsigned char)p[i])) {
            while (i < len && isdigit((unsigned char)p[i]))
                i++;
        } else if (len - i >= 4 &&
                   (memcmp(p + i, "true", 4) == 0 || memcmp(p + i, "null", 4) == 0)) {
            i += 4;
        } else if (len - i >= 5 && memcmp(p + i, "false", 5) == 0) {
            i += 5;
        } else {
            return false;
        }
        goto after;
    close:
        i++;
        depth--;
    after:
        if (depth == 0)
            return i == len;
        if (i >= len)
            return false;
        key = open[depth - 1] == '{';
        first = false;
        if (p[i] == (key ? '}' : ']'))
            goto close;
        if (p[i++] != ',')
            return false;
    }
}

#endif
