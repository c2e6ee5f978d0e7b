/* What commands show to people: colours and circles on a terminal, plain words everywhere else, ages in words. Text of foreign origin
 * goes out escaped (qm_out_shown), whatever the terminal. */
#ifndef QM_SHOW_H
#define QM_SHOW_H

#include <stdio.h>

#include "codec/base.h"

enum qm_colour { QM_PLAIN, QM_GREEN, QM_RED, QM_GREY, QM_YELLOW, QM_BOLD };

struct qm_show {
    FILE *to;
    bool colour;
};

/* Colours when it is a terminal that can, and NO_COLOR is not set (or empty). */
struct qm_show qm_show_init(FILE *to);
/* A word, padded with blanks to width; on a terminal in its colour. */
void qm_show_word(const struct qm_show *s, enum qm_colour colour, const char *word, int width);
/* A circle in its colour and a blank; without colours nothing, since the word beside it says the same. */
void qm_show_circle(const struct qm_show *s, enum qm_colour colour);
/* Anybody's text, escaped, padded to width; cut with "…" where it is longer than width (0: never). */
void qm_show_text(const struct qm_show *s, struct qm_span text, int width);
/* How wide qm_show_text makes it. */
int qm_show_width(struct qm_span text);
/* The first `bytes` bytes in hex. */
void qm_show_hex(const struct qm_show *s, const uint8_t *p, size_t bytes);

enum { QM_AGE_MAX = 48 };
/* A span of time in words: "3 days", "1 hour", "0 s"; gives buf. */
const char *qm_age(char buf[QM_AGE_MAX], uint64_t ms);
/* A moment, from now: "3 days ago", "in 2 hours", "never" for 0. */
const char *qm_ago(char buf[QM_AGE_MAX], uint64_t now_ms, uint64_t then_ms);
/* "2026-11-27 06:41:30Z"; "never" for 0. */
const char *qm_moment(char buf[QM_AGE_MAX], uint64_t ms);

#endif
