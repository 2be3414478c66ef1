{{without http}}
// Totals an order, and sends the total to the queue `totals`.
{{end}}
{{with http}}
// Totals an order, and sends the total to an API and to the queue `totals`.
{{end}}
#define SANDHOG_IMPLEMENTATION
#include "sandhog.h"

{{with http}}
#include <iterator>
{{end}}
#include <optional>
#include <string_view>
#include <vector>

namespace {

{{with http without config}}
// The manifest grants it.
#define API "https://api.example.com"

{{end}}
struct Item {
    double price;
    double quantity;
};

std::optional<double> number(sandhog_json object, const char *key) {
    sandhog_json value;
    double number;
    if (!sandhog_json_get(object, key, &value) || !sandhog_json_double(value, &number)) {
        return std::nullopt;
    }
    return number;
}

// The items, or nothing if one has no price or no quantity.
std::optional<std::vector<Item>> items_of(sandhog_json list) {
    std::vector<Item> items;
    sandhog_json_items each = sandhog_json_each(list);
    for (sandhog_json item; sandhog_json_next(&each, &item);) {
        auto price = number(item, "price");
        auto quantity = number(item, "quantity");
        if (!price || !quantity) {
            return std::nullopt;
        }
        items.push_back({*price, *quantity});
    }
    return items;
}

{{with http}}
// Sends a total to the API. It can come twice, from an attempt that failed later: the key tells the API so.
sandhog_result post(sandhog_slice total, sandhog_slice key) {
    sandhog_pair headers[] = {
        sandhog_pair_of("content-type", "application/json"),
        sandhog_pair_of("idempotency-key", key.data),
{{end}}
{{with http config}}
        sandhog_pair_of("authorization", sandhog_format("Bearer %s", sandhog_config("token").data).data),
{{end}}
{{with http}}
    };
    sandhog_request request = {};
    request.method = "POST";
{{end}}
{{with http without config}}
    request.url = API "/totals";
{{end}}
{{with http config}}
    request.url = sandhog_format("%s/totals", sandhog_config("api").data).data;
{{end}}
{{with http}}
    request.headers = headers;
    request.n_headers = std::size(headers);
    request.body = total;
    request.timeout_ms = 5000;
    sandhog_response answer = sandhog_http(&request);
    if (answer.error) {
        return sandhog_http_failure(answer);
    }
    if (answer.status < 200 || answer.status > 299) {
        // After as long as the header retry-after says, which a busy API sends with the status 429.
        return sandhog_http_retry(&answer, "the API answers %d", answer.status);
    }
    return sandhog_success();
}

{{end}}
} // namespace

sandhog_result handle(const sandhog_message *message) {
    sandhog_json order, id, list;
    if (const char *error = sandhog_json_parse(message->body, &order)) {
        return sandhog_reject("%s", error);
    }
    if (!sandhog_json_get(order, "id", &id) || !sandhog_json_get(order, "items", &list) ||
        sandhog_json_kind_of(list) != SANDHOG_JSON_ARRAY) {
        return sandhog_reject("an order has an id and items");
    }
    std::string_view name(id.text.data, id.text.length);
    auto items = items_of(list);
    if (!items) {
        return sandhog_reject("order %.*s has an item without a price or a quantity", int(name.size()), name.data());
    }
{{with keyvalue}}
    // What is written is kept if the handler succeeds, and dropped if it fails.
    bool is_new;
    const char *key = sandhog_format("order/%.*s", int(name.size()), name.data()).data;
    if (const char *error = sandhog_kv_compare_and_set(nullptr, key, {}, sandhog_text("sent"), &is_new)) {
        return sandhog_retry("%s", error);
    }
    if (!is_new) {
        sandhog_log(SANDHOG_INFO, "order %.*s was sent before", int(name.size()), name.data());
        return sandhog_success();
    }
{{end}}
    double total = 0;
    for (const Item &item : *items) {
        total += item.price * item.quantity;
    }

    sandhog_writer json = {};
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
    sandhog_attribute attributes[] = {sandhog_attribute_integer("items", int64_t(items->size()))};
    sandhog_outgoing outgoing = {};
    outgoing.body = sandhog_written(&json);
    outgoing.attributes = attributes;
    outgoing.n_attributes = 1;
    sandhog_sent sent = sandhog_send("totals", &outgoing);
    if (sent.error) {
        return sandhog_failure(sent);
    }
    sandhog_log(SANDHOG_INFO, "order %.*s: %zu items, %g in total", int(name.size()), name.data(), items->size(), total);
    return sandhog_success();
}
