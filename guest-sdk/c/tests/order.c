/* Tests the example, natively. */
#undef NDEBUG
#include <assert.h>

#include "../examples/order.c"

static uint16_t status;

static sandhog_response api(const sandhog_request *request) {
    static const sandhog_pair busy = {{"retry-after", 11}, {"7", 1}};
    sandhog_response answer = sandhog_test_response(status, "");
    assert(strcmp(request->url, "https://api.example/invoices") == 0);
    answer.headers = &busy;
    answer.n_headers = status == 429;
    return answer;
}

static sandhog_result handle_order(uint16_t answered) {
    status = answered;
    sandhog_test_answer(api);
    sandhog_test_config("api", "https://api.example");
    sandhog_test_config("token", "secret");
    sandhog_message message = sandhog_test_message(
        "{\"id\": \"A7\", \"email\": \"a@b.example\", \"items\": [{\"price\": 2.5, \"quantity\": 2}]}");
    return handle(&message);
}

static void an_order_is_invoiced_once(void) {
    sandhog_test_grant_kv();
    assert(sandhog_kv_set(NULL, "handled", sandhog_text("41")) == NULL);
    assert(handle_order(201).verdict == SANDHOG_SUCCESS && handle_order(201).verdict == SANDHOG_SUCCESS);
    assert(sandhog_test_n_requests() == 1 && sandhog_test_n_sent() == 1);
    const sandhog_request *request = sandhog_test_request(0);
    assert(sandhog_equal(request->headers[0].value, "Bearer secret"));
    assert(sandhog_equal(request->body, "{\"order\":\"A7\",\"email\":\"a@b.example\",\"total\":5}"));
    assert(sandhog_equal(sandhog_test_sent(0)->message.body, "{\"id\":\"A7\",\"total\":5}"));
    sandhog_slice handled;
    assert(sandhog_kv_get(NULL, "handled", &handled) == NULL && sandhog_equal(handled, "42"));
}

static void what_may_pass_is_tried_again(void) {
    bool is_there;
    sandhog_test_grant_kv();
    sandhog_result result = handle_order(429);
    assert(result.verdict == SANDHOG_RETRY_AFTER && result.delay_seconds == 7);
    result = handle_order(503);
    assert(result.verdict == SANDHOG_RETRY && sandhog_equal(result.reason, "the API answers 503"));
    assert(sandhog_kv_exists(NULL, "A7", &is_there) == NULL && !is_there && sandhog_test_n_sent() == 0);
}

static void what_the_server_refuses_is_rejected(void) {
    sandhog_test_grant_kv();
    assert(handle_order(422).verdict == SANDHOG_REJECT);
}

int main(void) {
    an_order_is_invoiced_once();
    sandhog_test_reset();
    what_may_pass_is_tried_again();
    sandhog_test_reset();
    what_the_server_refuses_is_rejected();
    sandhog_test_reset();
    puts("the example holds");
    return 0;
}
