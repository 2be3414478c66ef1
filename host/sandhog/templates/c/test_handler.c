/* Tests the handler natively, without a host: make test. */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "sandhog.h"

static sandhog_result run(const char *body) {
    sandhog_test_reset();
    sandhog_message message = sandhog_test_message(body);
    return handle(&message);
}

static void an_order_is_totalled(void) {
    sandhog_result result =
        run("{\"id\": 7, \"items\": [{\"price\": 12.5, \"quantity\": 2}, {\"price\": 3, \"quantity\": 1}]}");
    assert(result.verdict == SANDHOG_SUCCESS);
    assert(sandhog_test_n_sent() == 1);
    const sandhog_test_send *sent = sandhog_test_sent(0);
    assert(strcmp(sent->queue, "totals") == 0);
    assert(sandhog_equal(sent->message.body, "{\"id\":7,\"total\":28}"));
    assert(sandhog_equal(sent->message.attributes[0].name, "items"));
    assert(sandhog_equal(sent->message.attributes[0].value, "2"));
    assert(strcmp(sandhog_test_logged(0)->text, "order 7: 2 items, 28 in total") == 0);
}

static void what_is_not_json_is_rejected(void) {
    sandhog_result result = run("seven spades");
    assert(result.verdict == SANDHOG_REJECT);
    assert(strstr(result.reason.data, "not JSON") != NULL);
    assert(sandhog_test_n_sent() == 0);
}

static void an_item_without_a_price_is_rejected(void) {
    sandhog_result result = run("{\"id\": 7, \"items\": [{\"quantity\": 1}]}");
    assert(result.verdict == SANDHOG_REJECT);
    assert(sandhog_equal(result.reason, "order 7 has an item without a price or a quantity"));
}

int main(void) {
    an_order_is_totalled();
    what_is_not_json_is_rejected();
    an_item_without_a_price_is_rejected();
    sandhog_test_reset();
    puts("3 tests passed");
    return 0;
}
