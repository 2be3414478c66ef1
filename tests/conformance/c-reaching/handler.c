/* Reaches out as the first word of the body says, so that one set of tests serves every language. */
#define _GNU_SOURCE
#define SANDHOG_IMPLEMENTATION
#include "sandhog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WORDS_MAX 4
#define REQUESTS_MAX 100

static sandhog_result sent(sandhog_slice text) {
    sandhog_outgoing answer = {.body = text};
    sandhog_sent sent = sandhog_send("out", &answer);
    return sent.error ? sandhog_failure(sent) : sandhog_success();
}

/* What a request came to: its status with its body, or with the length of a long one. */
static sandhog_result told(sandhog_response response) {
    static const char *const errors[] = {
        [SANDHOG_HTTP_NOT_GRANTED] = "not-granted", [SANDHOG_HTTP_INVALID] = "invalid",
        [SANDHOG_HTTP_LIMIT] = "limit",             [SANDHOG_HTTP_TIMEOUT] = "timeout",
        [SANDHOG_HTTP_CONNECTION] = "connection",   [SANDHOG_HTTP_TOO_MANY] = "too-many",
    };
    if (response.error != SANDHOG_ANSWERED) {
        return sent(sandhog_text(errors[response.error]));
    }
    if (response.body.length > 20) {
        return sent(sandhog_format("%d %zu", response.status, response.body.length));
    }
    return sent(sandhog_format("%d %.*s", response.status, (int)response.body.length, response.body.data));
}

static sandhog_result post(const char *url, size_t length) {
    char *body = malloc(length);
    if (body == NULL) {
        return sandhog_retry("no memory");
    }
    memset(body, 'x', length);
    sandhog_request request = {.method = "POST", .url = url, .body = {body, length}};
    return told(sandhog_http(&request));
}

static sandhog_result many(const char *url, size_t times) {
    int good = 0;
    for (size_t each = 0; each < times; each++) {
        sandhog_request request = {.url = url};
        good += sandhog_http(&request).status == 200;
    }
    return sent(sandhog_format("%d", good));
}

static sandhog_result together(const char *url, size_t times) {
    static sandhog_request requests[REQUESTS_MAX];
    static sandhog_response responses[REQUESTS_MAX];
    int good = 0;
    for (size_t each = 0; each < times; each++) {
        requests[each] = (sandhog_request){.url = url};
    }
    sandhog_http_all(requests, times, responses);
    for (size_t each = 0; each < times; each++) {
        good += responses[each].status == 200;
    }
    return sent(sandhog_format("%d", good));
}

static sandhog_result stored(const char *word, char *const words[]) {
    const char *key = words[1], *error = NULL;
    if (strcmp(word, "set") == 0 || strcmp(word, "lose") == 0) {
        error = sandhog_kv_set(NULL, key, sandhog_text(words[2]));
        if (error == NULL) {
            return strcmp(word, "lose") == 0 ? sandhog_retry("lost") : sandhog_success();
        }
    } else if (strcmp(word, "read") == 0) {
        sandhog_slice value;
        error = sandhog_kv_get(NULL, key, &value);
        if (error == NULL) {
            return sent(value.data == NULL ? sandhog_text("nothing") : value);
        }
    } else if (strcmp(word, "count") == 0) {
        int64_t sum;
        error = sandhog_kv_increment(NULL, key, 1, &sum);
        if (error == NULL) {
            return sent(sandhog_format("%lld", (long long)sum));
        }
    } else if (strcmp(word, "swap") == 0) {
        bool was_set;
        sandhog_slice expected = strcmp(words[2], "-") == 0 ? (sandhog_slice){0} : sandhog_text(words[2]);
        error = sandhog_kv_compare_and_set(NULL, key, expected, sandhog_text(words[3]), &was_set);
        if (error == NULL) {
            return sent(sandhog_text(was_set ? "true" : "false"));
        }
    } else {
        sandhog_crash("told to crash");
    }
    return sandhog_retry("%s", error);
}

static sandhog_result keys(const char *prefix) {
    const sandhog_slice *keys;
    size_t n_keys;
    const char *error = sandhog_kv_keys(NULL, prefix, &keys, &n_keys);
    if (error != NULL) {
        return sandhog_retry("%s", error);
    }
    sandhog_slice all = sandhog_text("");
    for (size_t each = 0; each < n_keys; each++) {
        all = sandhog_format("%.*s%s%.*s", (int)all.length, all.data, each ? " " : "", (int)keys[each].length, keys[each].data);
    }
    return sent(all);
}

/* The first line of a file. */
static sandhog_result file(const char *path) {
    FILE *file = fopen(path, "r");
    static char line[100];
    if (file == NULL || fgets(line, sizeof line, file) == NULL) {
        return sent(sandhog_text("nothing"));
    }
    fclose(file);
    return sent(sandhog_text(line));
}

static sandhog_result clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return sent(sandhog_format("%lld", (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000));
}

static sandhog_result random_number(void) {
    uint64_t number;
    getentropy(&number, sizeof number);
    return sent(sandhog_format("%llu", (unsigned long long)number));
}

sandhog_result handle(const sandhog_message *message) {
    char *words[WORDS_MAX] = {"", "", "", ""};
    char *text = strdup(message->body.data);
    size_t n = 0;
    for (char *word = strtok(text, " "); word != NULL && n < WORDS_MAX; word = strtok(NULL, " ")) {
        words[n++] = word;
    }
    size_t number = strtoul(words[2], NULL, 10);
    sandhog_request request = {.url = words[1]};
    if (strcmp(words[0], "get") == 0) {
        return told(sandhog_http(&request));
    }
    if (strcmp(words[0], "late") == 0) {
        request.timeout_ms = (uint32_t)number;
        return told(sandhog_http(&request));
    }
    if (strcmp(words[0], "post") == 0) {
        return post(words[1], number);
    }
    if (strcmp(words[0], "many") == 0) {
        return many(words[1], number);
    }
    if (strcmp(words[0], "together") == 0 && number <= REQUESTS_MAX) {
        return together(words[1], number);
    }
    if (strcmp(words[0], "keys") == 0) {
        return keys(words[1]);
    }
    if (strcmp(words[0], "config") == 0) {
        sandhog_slice value = sandhog_config(words[1]);
        return sent(value.data == NULL ? sandhog_text("nothing") : value);
    }
    if (strcmp(words[0], "env") == 0) {
        const char *value = getenv(words[1]);
        return sent(sandhog_text(value == NULL ? "nothing" : value));
    }
    if (strcmp(words[0], "clock") == 0) {
        return clock_now();
    }
    if (strcmp(words[0], "random") == 0) {
        return random_number();
    }
    if (strcmp(words[0], "file") == 0) {
        return file(words[1]);
    }
    return stored(words[0], words);
}
