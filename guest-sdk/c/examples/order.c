/* Sends the invoice of an order to an API, once, and its total to a queue. */
#define SANDHOG_IMPLEMENTATION
#include "../sandhog.h"

static bool add_up(sandhog_json items, double *total) {
    sandhog_json item, price, quantity;
    double one, times;
    for (sandhog_json_items each = sandhog_json_each(items); sandhog_json_next(&each, &item); *total += one * times) {
        if (!sandhog_json_get(item, "price", &price) || !sandhog_json_double(price, &one) ||
            !sandhog_json_get(item, "quantity", &quantity) || !sandhog_json_double(quantity, &times)) {
            return false;
        }
    }
    return true;
}

sandhog_result handle(const sandhog_message *message) {
    sandhog_json order, value, email, items;
    sandhog_slice id;
    double total = 0;
    bool is_done;
    const char *error = sandhog_json_parse(message->body, &order);
    if (error != NULL || !sandhog_json_get(order, "id", &value) || !sandhog_json_string(value, &id) ||
        !sandhog_json_get(order, "email", &email) || !sandhog_json_get(order, "items", &items) || !add_up(items, &total)) {
        return sandhog_reject("%s", error != NULL ? error : "an order has an id, an email and items");
    }
    error = sandhog_kv_exists(NULL, id.data, &is_done);
    if (error != NULL || is_done) {
        return error != NULL ? sandhog_retry("%s", error) : sandhog_success();
    }

    sandhog_writer json = {0};
    sandhog_write_object(&json);
    sandhog_write_key(&json, "order");
    sandhog_write_string(&json, id);
    sandhog_write_key(&json, "email");
    sandhog_write_value(&json, email);
    sandhog_write_key(&json, "total");
    sandhog_write_double(&json, total);
    sandhog_write_object_end(&json);
    sandhog_pair headers[] = {
        sandhog_pair_of("authorization", sandhog_format("Bearer %s", sandhog_config("token").data).data),
        sandhog_pair_of("content-type", "application/json"),
    };
    sandhog_request request = {
        .method = "POST", .url = sandhog_format("%s/invoices", sandhog_config("api").data).data,
        .headers = headers, .n_headers = 2, .body = sandhog_written(&json), .timeout_ms = 5000,
    };
    sandhog_response answer = sandhog_http(&request);
    if (answer.error) {
        return sandhog_http_failure(answer);
    }
    if (answer.status == 429 || answer.status >= 500) {
        return sandhog_http_retry(&answer, "the API answers %d", answer.status);
    }
    if (answer.status >= 300) {
        return sandhog_reject("the API answers %d", answer.status);
    }

    error = sandhog_kv_set(NULL, id.data, sandhog_text(""));
    error = error == NULL ? sandhog_kv_increment(NULL, "handled", 1, NULL) : error;
    if (error != NULL) {
        return sandhog_retry("%s", error);
    }
    sandhog_outgoing outgoing = {.body = sandhog_format("{\"id\":%.*s,\"total\":%g}", (int)value.text.length, value.text.data, total)};
    sandhog_sent sent = sandhog_send("totals", &outgoing);
    return sent.error ? sandhog_failure(sent) : sandhog_success();
}
