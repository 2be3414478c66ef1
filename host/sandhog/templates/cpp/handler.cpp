// Totals an order, and sends the total to the queue `totals`.
#define SANDHOG_IMPLEMENTATION
#include "sandhog.h"

#include <optional>
#include <string_view>
#include <vector>

namespace {

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
    sandhog_write_object_end(&json);

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
