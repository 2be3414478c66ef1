/*
 * Does what the body says, so that one set of claims can be checked against every language and flavour.
 *
 * A command differs from a handler in this:
 * - retry-after is a retry: there is no exit code for a delay.
 * - log writes to standard error.
 * - echo and send-all print lines. A line has no attributes, delay, priority, group or deduplication id, and a body of
 *   several lines becomes several messages.
 * - facts knows no group, and denied prints a length: a command names no queue that could be refused.
 */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BAD_INPUT = 65, TRY_LATER = 75, BODY_MAX = 1 << 20 };

static char body[BODY_MAX + 1];

/* What follows the command in the body, or NULL if the body's first word is another. */
static const char *after(const char *command) {
    size_t length = strlen(command);
    if (strncmp(body, command, length) != 0 || (body[length] != ' ' && body[length] != '\0')) {
        return NULL;
    }
    return body[length] == ' ' ? body + length + 1 : body + length;
}

static int fail(int code, const char *why) {
    fprintf(stderr, "%s\n", why);
    return code;
}

static bool is_utf8(const char *text, size_t length) {
    const unsigned char *at = (const unsigned char *)text;
    const unsigned char *end = at + length;
    while (at < end) {
        int more = *at < 0x80 ? 0 : *at < 0xc2 ? -1 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : *at < 0xf5 ? 3 : -1;
        if (more < 0 || end - at <= more) {
            return false;
        }
        for (at++; more > 0; more--, at++) {
            if ((*at & 0xc0) != 0x80) {
                return false;
            }
        }
    }
    return true;
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value == NULL ? "" : value;
}

static int wait_for(long milliseconds) {
    struct timespec time = {milliseconds / 1000, (milliseconds % 1000) * 1000000};
    nanosleep(&time, NULL);
    return 0;
}

int main(void) {
    size_t length = fread(body, 1, BODY_MAX, stdin);
    const char *rest;
    if (!is_utf8(body, length)) {
        body[0] = '\0';
    }
    if (after("ok") != NULL) {
        return 0;
    }
    if ((rest = after("retry")) != NULL || (rest = after("retry-after")) != NULL) {
        return fail(TRY_LATER, rest);
    }
    if ((rest = after("reject")) != NULL) {
        return fail(BAD_INPUT, rest);
    }
    if (after("crash") != NULL) {
        abort();
    }
    if ((rest = after("wait")) != NULL) {
        return wait_for(strtol(rest, NULL, 10));
    }
    if ((rest = after("log")) != NULL) {
        return fail(0, rest);
    }
    if (after("echo") != NULL) {
        fwrite(body, 1, length, stdout);
        putchar('\n');
    } else if (after("send-all") != NULL) {
        puts("one\ntwo\nthree");
    } else if (after("facts") != NULL) {
        printf("{\"id\":\"%s\",\"queue\":\"%s\",\"receive-count\":%s,\"group\":null,\"length\":%zu}\n",
               variable("SANDHOG_MESSAGE_ID"), variable("SANDHOG_QUEUE"), variable("SANDHOG_RECEIVE_COUNT"), length);
    } else {
        printf("%zu\n", length);
    }
    return 0;
}
