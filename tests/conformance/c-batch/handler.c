/* Does what each body of a batch says: "reject", "retry", or it is sent on. */
#define SANDHOG_IMPLEMENTATION
#define SANDHOG_BATCH
#include "sandhog.h"

#include <stdbool.h>
#include <string.h>

static bool is(sandhog_slice body, const char *text) {
    return body.length == strlen(text) && memcmp(body.data, text, body.length) == 0;
}

void handle_batch(const sandhog_message *messages, size_t n_messages, sandhog_result *results) {
    for (size_t i = 0; i < n_messages; i++) {
        if (is(messages[i].body, "reject")) {
            results[i] = sandhog_reject("never");
        } else if (is(messages[i].body, "retry")) {
            results[i] = sandhog_retry("later");
        } else {
            sandhog_sent sent = sandhog_send("out", &(sandhog_outgoing){.body = messages[i].body});
            if (sent.error) {
                results[i] = sandhog_failure(sent);
            }
        }
    }
}
