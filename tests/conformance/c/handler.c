/* Does what the body says, so that one set of claims can be checked against every language. */
#define _POSIX_C_SOURCE 200809L /* nanosleep */
#define SANDHOG_IMPLEMENTATION
#include "sandhog.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What follows the command in the body, or NULL if the body's first word is another. */
static const char *after(const char *body, const char *command) {
    size_t length = strlen(command);
    if (strncmp(body, command, length) != 0 || (body[length] != ' ' && body[length] != '\0')) {
        return NULL;
    }
    return body[length] == ' ' ? body + length + 1 : body + length;
}

static sandhog_result sent_or_failed(sandhog_sent sent) {
    return sent.error ? sandhog_failure(sent) : sandhog_success();
}

static sandhog_result wait_for(long milliseconds) {
    struct timespec time = {milliseconds / 1000, (milliseconds % 1000) * 1000000};
    nanosleep(&time, NULL);
    return sandhog_success();
}

static sandhog_result echo(const sandhog_message *message) {
    sandhog_outgoing copy = {
        .body = message->body,
        .attributes = message->attributes,
        .n_attributes = message->n_attributes,
        .group_id = message->group_id,
    };
    return sent_or_failed(sandhog_send("out", &copy));
}

static sandhog_result send_all(void) {
    sandhog_attribute attributes[] = {
        sandhog_attribute_text("t", "täxt"),
        sandhog_attribute_number("n", "-12.50"),
        sandhog_attribute_binary("b", "\x00\xff", 2),
    };
    sandhog_outgoing messages[] = {
        {.body = sandhog_text("one"), .attributes = attributes, .n_attributes = 3},
        {.body = sandhog_text("two"), .delay_seconds = 1, .priority = 9},
        {.body = sandhog_text("three"), .group_id = sandhog_text("g"), .deduplication_id = sandhog_text("d")},
    };
    return sent_or_failed(sandhog_send_many("out", messages, 3));
}

static sandhog_result facts(const sandhog_message *message) {
    sandhog_writer json = {0};
    sandhog_write_object(&json);
    sandhog_write_key(&json, "id");
    sandhog_write_string(&json, message->id);
    sandhog_write_key(&json, "queue");
    sandhog_write_string(&json, message->queue);
    sandhog_write_key(&json, "receive-count");
    sandhog_write_integer(&json, message->receive_count);
    sandhog_write_key(&json, "group");
    if (message->group_id.data != NULL) {
        sandhog_write_string(&json, message->group_id);
    } else {
        sandhog_write_null(&json);
    }
    sandhog_write_key(&json, "length");
    sandhog_write_integer(&json, (int64_t)message->body.length);
    sandhog_write_object_end(&json);
    sandhog_outgoing all = {.body = sandhog_written(&json)};
    return sent_or_failed(sandhog_send("out", &all));
}

static sandhog_result denied(void) {
    sandhog_outgoing message = {.body = sandhog_text("x")};
    sandhog_sent sent = sandhog_send("elsewhere", &message);
    return sent.error == SANDHOG_NOT_GRANTED ? sandhog_reject("not-granted") : sent_or_failed(sent);
}

static sandhog_result length_of(const sandhog_message *message) {
    sandhog_outgoing length = {.body = sandhog_format("%zu", message->body.length)};
    return sent_or_failed(sandhog_send("out", &length));
}

sandhog_result handle(const sandhog_message *message) {
    const char *body = message->body.data;
    const char *rest;
    if (!sandhog_is_utf8(message->body)) {
        return length_of(message);
    }
    if (after(body, "ok") != NULL) {
        return sandhog_success();
    }
    if ((rest = after(body, "retry")) != NULL) {
        return sandhog_retry("%s", rest);
    }
    if ((rest = after(body, "retry-after")) != NULL) {
        char *why;
        unsigned long seconds = strtoul(rest, &why, 10);
        return sandhog_retry_after((uint32_t)seconds, "%s", *why == ' ' ? why + 1 : why);
    }
    if ((rest = after(body, "reject")) != NULL) {
        return sandhog_reject("%s", rest);
    }
    if (after(body, "crash") != NULL) {
        abort();
    }
    if ((rest = after(body, "wait")) != NULL) {
        return wait_for(strtol(rest, NULL, 10));
    }
    if ((rest = after(body, "log")) != NULL) {
        sandhog_log(SANDHOG_INFO, "%s", rest);
        return sandhog_success();
    }
    if (after(body, "echo") != NULL) {
        return echo(message);
    }
    if (after(body, "send-all") != NULL) {
        return send_all();
    }
    if (after(body, "facts") != NULL) {
        return facts(message);
    }
    return after(body, "denied") != NULL ? denied() : length_of(message);
}
