// Tests the handler natively, without a host: make test.
#undef NDEBUG
#include <cassert>
#include <cstdio>
#include <cstring>
#include <initializer_list>

#include "sandhog.h"

{{with http}}
static sandhog_response created(const sandhog_request *) {
    return sandhog_test_response(201, "");
}

static sandhog_response busy(const sandhog_request *) {
    static const sandhog_pair after = {{"retry-after", 11}, {"7", 1}};
    sandhog_response answer = sandhog_test_response(429, "");
    answer.headers = &after;
    answer.n_headers = 1;
    return answer;
}

{{end}}
{{with any}}
static const char *const order = R"({"id": 7, "items": [{"price": 12.5, "quantity": 2}]})";

// Grants what the manifest grants.
static void grant() {
    sandhog_test_reset();
{{end}}
{{with http}}
    sandhog_test_answer(created);
{{end}}
{{with keyvalue}}
    sandhog_test_grant_kv();
{{end}}
{{with http config}}
    sandhog_test_config("api", "https://api.example.com");
    sandhog_test_config("token", "secret");
{{end}}
{{with config without http}}
    sandhog_test_config("currency", "EUR");
{{end}}
{{with any}}
}

static sandhog_result handled(const char *body) {
    sandhog_message message = sandhog_test_message(body);
    return handle(&message);
}

{{end}}
static sandhog_result run(const char *body) {
{{without any}}
    sandhog_test_reset();
    sandhog_message message = sandhog_test_message(body);
    return handle(&message);
{{end}}
{{with any}}
    grant();
    return handled(body);
{{end}}
}

static void an_order_is_totalled() {
    sandhog_result result =
        run(R"({"id": 7, "items": [{"price": 12.5, "quantity": 2}, {"price": 3, "quantity": 1}]})");
    assert(result.verdict == SANDHOG_SUCCESS);
    assert(sandhog_test_n_sent() == 1);
    const sandhog_test_send *sent = sandhog_test_sent(0);
    assert(std::strcmp(sent->queue, "totals") == 0);
{{without config}}
    assert(sandhog_equal(sent->message.body, R"({"id":7,"total":28})"));
{{end}}
{{with http config}}
    assert(sandhog_equal(sent->message.body, R"({"id":7,"total":28})"));
{{end}}
{{with config without http}}
    assert(sandhog_equal(sent->message.body, R"({"id":7,"total":28,"currency":"EUR"})"));
{{end}}
    assert(sandhog_equal(sent->message.attributes[0].value, "2"));
}

static void what_is_no_order_is_rejected() {
    for (const char *body : {"no order", "[]", R"({"id": 7, "items": [{"price": 12.5}]})"}) {
        assert(run(body).verdict == SANDHOG_REJECT);
        assert(sandhog_test_n_sent() == 0);
    }
}

{{with keyvalue}}
static void an_order_that_comes_twice_is_sent_once() {
    assert(run(order).verdict == SANDHOG_SUCCESS && handled(order).verdict == SANDHOG_SUCCESS);
    assert(sandhog_test_n_sent() == 1);
}

{{end}}
{{with http}}
static void a_total_is_posted_to_the_api() {
    assert(run(order).verdict == SANDHOG_SUCCESS && sandhog_test_n_requests() == 1);
    const sandhog_request *request = sandhog_test_request(0);
    assert(std::strcmp(request->method, "POST") == 0 && std::strcmp(request->url, "https://api.example.com/totals") == 0);
    assert(sandhog_equal(request->headers[1].name, "idempotency-key"));
    assert(sandhog_equal(request->body, R"({"id":7,"total":25})"));
}

static void a_busy_api_is_asked_again_when_it_says() {
    grant();
    sandhog_test_answer(busy);
    sandhog_result result = handled(order);
    assert(result.verdict == SANDHOG_RETRY_AFTER && result.delay_seconds == 7);
    assert(sandhog_test_n_sent() == 0);
}

{{end}}
{{with http config}}
static void the_api_gets_the_token() {
    run(order);
    const sandhog_request *request = sandhog_test_request(0);
    assert(sandhog_equal(request->headers[2].name, "authorization"));
    assert(sandhog_equal(request->headers[2].value, "Bearer secret"));
}

{{end}}
{{with config without http}}
static void the_currency_is_that_of_the_manifest() {
    grant();
    sandhog_test_config("currency", "CHF");
    handled(order);
    assert(sandhog_equal(sandhog_test_sent(0)->message.body, R"({"id":7,"total":25,"currency":"CHF"})"));
}

{{end}}
int main() {
    an_order_is_totalled();
    what_is_no_order_is_rejected();
{{with keyvalue}}
    an_order_that_comes_twice_is_sent_once();
{{end}}
{{with http}}
    a_total_is_posted_to_the_api();
    a_busy_api_is_asked_again_when_it_says();
{{end}}
{{with http config}}
    the_api_gets_the_token();
{{end}}
{{with config without http}}
    the_currency_is_that_of_the_manifest();
{{end}}
    sandhog_test_reset();
{{without any}}
    std::puts("2 tests passed");
{{end}}
{{with any}}
    std::puts("all tests passed");
{{end}}
}
