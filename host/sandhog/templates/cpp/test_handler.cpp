// Tests the handler natively, without a host: make test.
#undef NDEBUG
#include <cassert>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "sandhog.h"

static sandhog_result run(const char *body) {
    sandhog_test_reset();
    sandhog_message message = sandhog_test_message(body);
    return handle(&message);
}

static void an_order_is_totalled() {
    sandhog_result result =
        run(R"({"id": 7, "items": [{"price": 12.5, "quantity": 2}, {"price": 3, "quantity": 1}]})");
    assert(result.verdict == SANDHOG_SUCCESS);
    assert(sandhog_test_n_sent() == 1);
    const sandhog_test_send *sent = sandhog_test_sent(0);
    assert(std::strcmp(sent->queue, "totals") == 0);
    assert(sandhog_equal(sent->message.body, R"({"id":7,"total":28})"));
    assert(sandhog_equal(sent->message.attributes[0].value, "2"));
}

static void what_is_no_order_is_rejected() {
    for (const char *body : {"no order", "[]", R"({"id": 7, "items": [{"price": 12.5}]})"}) {
        assert(run(body).verdict == SANDHOG_REJECT);
        assert(sandhog_test_n_sent() == 0);
    }
}

int main() {
    an_order_is_totalled();
    what_is_no_order_is_rejected();
    sandhog_test_reset();
    std::puts("2 tests passed");
}
