/* Totals an order, and sends the total to the queue `totals`. */
#define SANDHOG_IMPLEMENTATION
#include "sandhog.h"

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

    sandhog_writer json = {0};
    sandhog_write_object(&json);
    sandhog_write_key(&json, "id");
    sandhog_write_value(&json, id);
    sandhog_write_key(&json, "total");
    sandhog_write_double(&json, total);
    sandhog_write_object_end(&json);

    sandhog_attribute attributes[] = {sandhog_attribute_integer("items", n_items)};
    sandhog_outgoing outgoing = {.body = sandhog_written(&json), .attributes = attributes, .n_attributes = 1};
    sandhog_sent sent = sandhog_send("totals", &outgoing);
    if (sent.error) {
        return sandhog_failure(sent);
    }
    sandhog_log(SANDHOG_INFO, "order %.*s: %d items, %g in total", (int)id.text.length, id.text.data, n_items, total);
    return sandhog_success();
}
