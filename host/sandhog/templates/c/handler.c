{{without http}}
/* Totals an order, and sends the total to the queue `totals`. */
{{end}}
{{with http}}
/* Totals an order, and sends the total to an API and to the queue `totals`. */
{{end}}
#define SANDHOG_IMPLEMENTATION
#include "sandhog.h"

{{with http without config}}
/* The manifest grants it. */
#define API "https://api.example.com"

{{end}}
/* Adds up the items. False if one has no price or no quantity. */
static bool add_up(sandhog_json items, double *total, int *n_items) {
    sandhog_json_items each = sandhog_json_each(items);
    sandhog_json item, price, quantity;
    while (sandhog_json_next(&each, &item)) {
        double one, times;
        if (!sandhog_json_get(item, "price", &price) || !sandhog_json_double(price, &one) ||
            !sandhog_json_get(item, "quantity", &quantity) || !sandhog_json_double(quantity, &times)) {
            return false;
        }
        *total += one * times;
        *n_items += 1;
    }
    return true;
}

{{with http}}
/* Sends a total to the API. It can come twice, from an attempt that failed later: the key tells the API so. */
static sandhog_result post(sandhog_slice total, sandhog_slice key) {
    sandhog_pair headers[] = {
        sandhog_pair_of("content-type", "application/json"),
        sandhog_pair_of("idempotency-key", key.data),
{{end}}
{{with http config}}
        sandhog_pair_of("authorization", sandhog_format("Bearer %s", sandhog_config("token").data).data),
{{end}}
{{with http}}
    };
    sandhog_request request = {
        .method = "POST",
{{end}}
{{with http without config}}
        .url = API "/totals",
{{end}}
{{with http config}}
        .url = sandhog_format("%s/totals", sandhog_config("api").data).data,
{{end}}
{{with http}}
        .headers = headers,
        .n_headers = sizeof headers / sizeof headers[0],
        .body = total,
        .timeout_ms = 5000,
    };
    sandhog_response answer = sandhog_http(&request);
    if (answer.error) {
        return sandhog_http_failure(answer);
    }
    if (answer.status < 200 || answer.status > 299) {
        /* After as long as the header retry-after says, which a busy API sends with the status 429. */
        return sandhog_http_retry(&answer, "the API answers %d", answer.status);
    }
    return sandhog_success();
}

{{end}}
sandhog_result handle(const sandhog_message *message) {
    sandhog_json order, id, items;
    const char *error = sandhog_json_parse(message->body, &order);
    if (error != NULL) {
        return sandhog_reject("%s", error);
    }
    if (!sandhog_json_get(order, "id", &id) || !sandhog_json_get(order, "items", &items) ||
        sandhog_json_kind_of(items) != SANDHOG_JSON_ARRAY) {
        return sandhog_reject("an order has an id and items");
    }
    double total = 0;
    int n_items = 0;
    if (!add_up(items, &total, &n_items)) {
        return sandhog_reject("order %.*s has an item without a price or a quantity", (int)id.text.length, id.text.data);
    }

{{with keyvalue}}
    /* What is written is kept if the handler succeeds, and dropped if it fails. */
    bool is_new;
    const char *key = sandhog_format("order/%.*s", (int)id.text.length, id.text.data).data;
    error = sandhog_kv_compare_and_set(NULL, key, (sandhog_slice){0}, sandhog_text("sent"), &is_new);
    if (error != NULL) {
        return sandhog_retry("%s", error);
    }
    if (!is_new) {
        sandhog_log(SANDHOG_INFO, "order %.*s was sent before", (int)id.text.length, id.text.data);
        return sandhog_success();
    }

{{end}}
    sandhog_writer json = {0};
    sandhog_write_object(&json);
    sandhog_write_key(&json, "id");
    sandhog_write_value(&json, id);
    sandhog_write_key(&json, "total");
    sandhog_write_double(&json, total);
{{with config without http}}
    sandhog_write_key(&json, "currency");
    sandhog_write_string(&json, sandhog_config("currency"));
{{end}}
    sandhog_write_object_end(&json);

{{with http}}
    sandhog_result posted = post(sandhog_written(&json), message->id);
    if (posted.verdict != SANDHOG_SUCCESS) {
        return posted;
    }
{{end}}
    sandhog_attribute attributes[] = {sandhog_attribute_integer("items", n_items)};
    sandhog_outgoing outgoing = {.body = sandhog_written(&json), .attributes = attributes, .n_attributes = 1};
    sandhog_sent sent = sandhog_send("totals", &outgoing);
    if (sent.error) {
        return sandhog_failure(sent);
    }
    sandhog_log(SANDHOG_INFO, "order %.*s: %d items, %g in total", (int)id.text.length, id.text.data, n_items, total);
    return sandhog_success();
}
