/* Tests of the header itself, natively: cc -std=c11 -fsanitize=address,undefined -o test tests/test.c && ./test */
#define SANDHOG_IMPLEMENTATION
#include "../sandhog.h"

static int failures;
static const char *claim;

#define TEST(name) static void name(void)
#define RUN(name) (claim = #name, sandhog_test_reset(), name())
#define CHECK(fact)                                                                                                    \
    do {                                                                                                               \
        if (!(fact)) {                                                                                                 \
            failures++;                                                                                                \
            printf("%s: line %d: %s\n", claim, __LINE__, #fact);                                                       \
        }                                                                                                              \
    } while (0)

/* A handler to be tested: it sends the body on, and fails as the attribute `fail` says. */
sandhog_result handle(const sandhog_message *message) {
    const sandhog_attribute *fail = sandhog_message_attribute(message, "fail");
    sandhog_outgoing copy = {.body = message->body, .attributes = message->attributes, .n_attributes = message->n_attributes};
    sandhog_sent sent = sandhog_send("copies", &copy);
    sandhog_log(SANDHOG_INFO, "copied %zu bytes", message->body.length);
    if (sent.error) {
        return sandhog_failure(sent);
    }
    if (fail != NULL && sandhog_equal(fail->value, "later")) {
        return sandhog_retry_after(60, "busy until %d", 7);
    }
    return fail == NULL ? sandhog_success() : sandhog_reject("told to");
}

static sandhog_slice text(const char *c) { return sandhog_text(c); }

/* The document as the writer writes what the reader has read. */
static void copy(sandhog_writer *to, sandhog_json from) {
    sandhog_json_items items = sandhog_json_each(from);
    sandhog_json item;
    sandhog_slice string;
    double number;
    bool boolean;
    switch (sandhog_json_kind_of(from)) {
    case SANDHOG_JSON_NULL: sandhog_write_null(to); break;
    case SANDHOG_JSON_BOOLEAN: CHECK(sandhog_json_boolean(from, &boolean)); sandhog_write_boolean(to, boolean); break;
    case SANDHOG_JSON_NUMBER: CHECK(sandhog_json_double(from, &number)); sandhog_write_double(to, number); break;
    case SANDHOG_JSON_STRING: CHECK(sandhog_json_string(from, &string)); sandhog_write_string(to, string); break;
    case SANDHOG_JSON_ARRAY:
        sandhog_write_array(to);
        while (sandhog_json_next(&items, &item)) {
            copy(to, item);
        }
        sandhog_write_array_end(to);
        break;
    case SANDHOG_JSON_OBJECT:
        sandhog_write_object(to);
        while (sandhog_json_next(&items, &item)) {
            sandhog_write_key(to, items.key.data);
            copy(to, item);
        }
        sandhog_write_object_end(to);
        break;
    }
}

static const char *wrong(const char *json) {
    sandhog_json value;
    const char *error = sandhog_json_parse(text(json), &value);
    return error == NULL ? "" : error;
}

static bool copies_to(const char *json, const char *expected) {
    sandhog_json value;
    sandhog_writer writer = {0};
    const char *error = sandhog_json_parse(text(json), &value);
    if (error != NULL) {
        printf("%s: %s\n", json, error);
        return false;
    }
    copy(&writer, value);
    if (!sandhog_equal(sandhog_written(&writer), expected)) {
        printf("%s became %s\n", json, sandhog_written(&writer).data);
        return false;
    }
    return true;
}

TEST(what_is_read_is_written_again) {
    CHECK(copies_to("null", "null"));
    CHECK(copies_to(" [ ] ", "[]"));
    CHECK(copies_to("{\t}\r\n", "{}"));
    CHECK(copies_to("[1, [2,[]] ,{\"a\":{}, \"b\" : [ {} , 3]},true]", "[1,[2,[]],{\"a\":{},\"b\":[{},3]},true]"));
    CHECK(copies_to("[\"a\",\"b\" , \"\"]", "[\"a\",\"b\",\"\"]"));
    CHECK(copies_to("{\"a\":\"b\",\"c\":[\"d\" ],\"\":false}", "{\"a\":\"b\",\"c\":[\"d\"],\"\":false}"));
    CHECK(copies_to("[-0, 0.5, 1e3, 1E-2, 0.1, 12.50, 123456789012, 5e-324]",
                    "[-0,0.5,1000,0.01,0.1,12.5,123456789012,4.94065645841247e-324]"));
    CHECK(copies_to("[0.30000000000000004, 1.7976931348623157e308]", "[0.30000000000000004,1.7976931348623157e+308]"));
    CHECK(copies_to("\"\\u0041\\u00e9\\u20ac\\ud83e\\udd94\\/\\\\\\\"\\b\\f\\n\\r\\t\\u0000x\"",
                    "\"A\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x94/\\\\\\\"\\u0008\\u000c\\n\\u000d\\u0009\\u0000x\""));
    CHECK(copies_to("\"t\xc3\xa4xt\"", "\"t\xc3\xa4xt\""));
}

TEST(what_is_not_json_is_refused_with_its_place) {
    static const char *const bad[] = {
        "", " ", "nul", "nulll", "tru", "True", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1}", "{", "}", "{\"a\"",
        "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "{1:1}", "{\"a\":1]", "{,}", "{\"a\":,}",
        "\"", "\"a", "\"\\\"", "\"\\x\"", "\"\\", "\"\\u\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\ud800x\"",
        "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\\ud800\\ud800\"", "\"a\nb\"", "\"\x01\"", "\"\xff\"", "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"", "01", "-", "-a", "1.", ".5", "1.e1", "1e", "1e+", "+1",
        "0x10", "1 2", "[] []", "{} x", "NaN", "Infinity", "'a'", "// a", "\xef\xbb\xbf{}", "--1", "00", "-01", "1e1.5",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (*wrong(bad[i]) == '\0') {
            printf("accepted: %s\n", bad[i]);
            failures++;
        }
    }
    CHECK(strcmp(wrong("{\n  \"a\": }"), "the text is not JSON: something that is not a value at line 2 column 8") == 0);
    CHECK(strcmp(wrong(""), "the text is not JSON: the end of the text where a value should be at line 1 column 1") == 0);
}

TEST(a_zero_byte_is_not_the_end_of_the_text) {
    sandhog_json value;
    CHECK(sandhog_json_parse(sandhog_bytes("1\0", 2), &value) != NULL);
    CHECK(sandhog_json_parse(sandhog_bytes("\"\\\0\"", 4), &value) != NULL);
}

TEST(no_prefix_of_a_document_is_one) {
    const char *document = "{\"a\":[1.5e3,\"\\ud83e\\udd94\xc3\xa9\",{\"b\":null}],\"c\":true}";
    for (size_t length = 0; length < strlen(document); length++) {
        /* A block of its own, so that reading beyond its end is seen. */
        char *prefix = malloc(length + 1);
        memcpy(prefix, document, length);
        char *exact = realloc(prefix, length > 0 ? length : 1);
        sandhog_json value;
        CHECK(sandhog_json_parse(sandhog_bytes(exact, length), &value) != NULL);
        free(exact);
    }
}

TEST(any_bytes_are_judged_without_a_fault) {
    static const char alphabet[] = "[]{}:,\"\\u0dD8eE+-.1 tfnrulas\n\xc3\xa9\xff";
    unsigned long seed = 1;
    for (int round = 0; round < 200000; round++) {
        char bytes[24];
        size_t length = (size_t)(round % 24);
        for (size_t i = 0; i < length; i++) {
            seed = (seed * 1103515245UL + 12345UL) & 0x7fffffffUL;
            bytes[i] = alphabet[(seed >> 8) % (sizeof alphabet - 1)];
        }
        char *exact = malloc(length > 0 ? length : 1);
        memcpy(exact, bytes, length);
        sandhog_json value;
        if (sandhog_json_parse(sandhog_bytes(exact, length), &value) == NULL) {
            sandhog_writer writer = {0};
            double number;
            if (sandhog_json_kind_of(value) != SANDHOG_JSON_NUMBER || sandhog_json_double(value, &number)) {
                copy(&writer, value);
            }
        }
        free(exact);
        if (round % 1000 == 0) {
            sandhog_test_reset();
        }
    }
}

TEST(nesting_has_a_bound) {
    char deep[2 * 65 + 1] = {0};
    memset(deep, '[', 64);
    memset(deep + 64, ']', 64);
    CHECK(*wrong(deep) == '\0');
    memset(deep, '[', 65);
    memset(deep + 65, ']', 65);
    CHECK(strstr(wrong(deep), "nested too deep at line 1 column 65") != NULL);
}

TEST(numbers_are_read_as_what_fits) {
    sandhog_json value;
    int64_t integer = 0;
    double number = 0;
    CHECK(sandhog_json_parse(text("9223372036854775807"), &value) == NULL);
    CHECK(sandhog_json_integer(value, &integer) && integer == INT64_MAX);
    CHECK(sandhog_json_parse(text("-9223372036854775808"), &value) == NULL);
    CHECK(sandhog_json_integer(value, &integer) && integer == INT64_MIN);
    CHECK(sandhog_json_parse(text("9223372036854775808"), &value) == NULL && !sandhog_json_integer(value, &integer));
    CHECK(sandhog_json_parse(text("-9223372036854775809"), &value) == NULL && !sandhog_json_integer(value, &integer));
    CHECK(sandhog_json_parse(text("-0"), &value) == NULL && sandhog_json_integer(value, &integer) && integer == 0);
    CHECK(sandhog_json_parse(text("1.0"), &value) == NULL && !sandhog_json_integer(value, &integer));
    CHECK(sandhog_json_parse(text("1e400"), &value) == NULL && !sandhog_json_double(value, &number));
    CHECK(sandhog_json_parse(text("\"1\""), &value) == NULL && !sandhog_json_double(value, &number));
}

TEST(a_member_is_found_by_its_key) {
    sandhog_json order;
    sandhog_json value;
    sandhog_slice string;
    int64_t integer;
    CHECK(sandhog_json_parse(text("{\"x\":{\"id\":1},\"k\\u00e9y\":\"v\",\"id\":2,\"id\":3}"), &order) == NULL);
    CHECK(sandhog_json_get(order, "id", &value) && sandhog_json_integer(value, &integer) && integer == 3);
    CHECK(sandhog_json_get(order, "k\xc3\xa9y", &value) && sandhog_json_string(value, &string) && sandhog_equal(string, "v"));
    CHECK(!sandhog_json_get(order, "nothing", &value));
    CHECK(sandhog_json_parse(text("[\"id\",1]"), &order) == NULL && !sandhog_json_get(order, "id", &value));
}

TEST(bytes_that_are_not_text_become_question_marks) {
    sandhog_writer writer = {0};
    sandhog_write_string(&writer, text("a\xff\xc3\xa9\xc3"));
    CHECK(sandhog_equal(sandhog_written(&writer), "\"a?\xc3\xa9?\""));
    CHECK(sandhog_equal(sandhog_reject("bad: %s", "\xff").reason, "bad: ?"));
    writer = (sandhog_writer){0};
    sandhog_write_double(&writer, (double)INFINITY);
    CHECK(sandhog_equal(sandhog_written(&writer), "null"));
}

TEST(a_handler_is_run_natively) {
    sandhog_attribute attributes[] = {
        sandhog_attribute_text("t", "t\xc3\xa4xt"),
        sandhog_attribute_number("n", "-12.50"),
        sandhog_attribute_integer("i", -7),
        sandhog_attribute_binary("b", "\0\xff", 2),
    };
    sandhog_message message = sandhog_test_message("body");
    message.attributes = attributes;
    message.n_attributes = 4;
    sandhog_result result = handle(&message);
    CHECK(result.verdict == SANDHOG_SUCCESS);
    CHECK(sandhog_test_n_sent() == 1 && strcmp(sandhog_test_sent(0)->queue, "copies") == 0);
    const sandhog_outgoing *sent = &sandhog_test_sent(0)->message;
    CHECK(sandhog_equal(sent->body, "body") && sent->n_attributes == 4);
    CHECK(sandhog_equal(sent->attributes[2].value, "-7") && sent->attributes[2].kind == SANDHOG_NUMBER);
    CHECK(sent->attributes[3].value.length == 2 && sent->attributes[3].kind == SANDHOG_BINARY);
    CHECK(sandhog_test_n_logged() == 1 && strcmp(sandhog_test_logged(0)->text, "copied 4 bytes") == 0);
    CHECK(sandhog_test_sent(1) == NULL && sandhog_test_logged(1) == NULL);
}

TEST(failures_carry_their_reasons) {
    sandhog_attribute later = sandhog_attribute_text("fail", "later");
    sandhog_message message = sandhog_test_message("");
    message.attributes = &later;
    message.n_attributes = 1;
    sandhog_result result = handle(&message);
    CHECK(result.verdict == SANDHOG_RETRY_AFTER && result.delay_seconds == 60 && sandhog_equal(result.reason, "busy until 7"));
}

TEST(an_error_of_a_send_becomes_the_failure_that_fits) {
    sandhog_message message = sandhog_test_message("x");
    sandhog_test_refuse_sends(SANDHOG_NOT_GRANTED, "queue copies");
    sandhog_result result = handle(&message);
    CHECK(result.verdict == SANDHOG_RETRY && sandhog_equal(result.reason, "sending is not granted: queue copies"));
    CHECK(sandhog_test_n_sent() == 0);
    sandhog_test_refuse_sends(SANDHOG_LIMIT, "1000 messages");
    CHECK(handle(&message).verdict == SANDHOG_REJECT);
    sandhog_test_refuse_sends(SANDHOG_SENT, NULL);
    CHECK(handle(&message).verdict == SANDHOG_SUCCESS);
}

static bool refused(sandhog_outgoing message, const char *part) {
    sandhog_outgoing both[] = {{.body = text("first")}, message};
    sandhog_sent sent = sandhog_send_many("q", both, 2);
    return sent.error == SANDHOG_INVALID && strstr(sent.reason.data, part) != NULL && sandhog_test_n_sent() == 0;
}

TEST(a_message_that_a_host_refuses_is_refused_in_tests_with_all_others) {
    sandhog_attribute twice[] = {sandhog_attribute_text("a", "1"), sandhog_attribute_text("a", "2")};
    sandhog_attribute nameless = sandhog_attribute_text("", "1");
    sandhog_attribute broken = sandhog_attribute_text("a", "\xff");
    sandhog_attribute eleven[11] = {{{0}, 0, {0}}};
    char *large = sandhog_alloc(1048577);
    CHECK(refused((sandhog_outgoing){.body = sandhog_bytes(large, 1048577)}, "1048577 bytes"));
    CHECK(refused((sandhog_outgoing){.attributes = twice, .n_attributes = 2}, "two attributes a"));
    CHECK(refused((sandhog_outgoing){.attributes = &nameless, .n_attributes = 1}, "1 to 256"));
    CHECK(refused((sandhog_outgoing){.attributes = &broken, .n_attributes = 1}, "not UTF-8"));
    CHECK(refused((sandhog_outgoing){.attributes = eleven, .n_attributes = 11}, "11 attributes"));
    CHECK(refused((sandhog_outgoing){.delay_seconds = 43201}, "43201 s"));
    CHECK(refused((sandhog_outgoing){.priority = 10}, "priority 10"));
    CHECK(refused((sandhog_outgoing){.group_id = text("")}, "group id of 0 bytes"));
}

/* A server for tests: it answers with the body, or as the path says. */
static sandhog_response server(const sandhog_request *request) {
    static const sandhog_pair headers[] = {{{"content-type", 12}, {"text/plain", 10}}, {{"Retry-After", 11}, {"7", 1}}};
    if (strstr(request->url, "/late") != NULL) {
        sandhog_response late = {.error = SANDHOG_HTTP_TIMEOUT, .reason = sandhog_text("too late")};
        return late;
    }
    if (strstr(request->url, "/too-") != NULL) {
        bool is_large = strstr(request->url, "/too-large") != NULL;
        sandhog_response beyond = {.error = is_large ? SANDHOG_HTTP_LIMIT : SANDHOG_HTTP_TOO_MANY, .reason = sandhog_text("beyond")};
        return beyond;
    }
    sandhog_response response = sandhog_test_response(strstr(request->url, "/busy") == NULL ? 200 : 429, "");
    response.body = request->body;
    response.headers = headers;
    response.n_headers = 2;
    return response;
}

static sandhog_slice header_of(size_t index, const char *name) {
    const sandhog_request *request = sandhog_test_request(index);
    sandhog_response response = {.headers = request->headers, .n_headers = request->n_headers};
    return sandhog_response_header(&response, name);
}

TEST(a_request_has_what_servers_expect) {
    sandhog_pair own[] = {sandhog_pair_of("Content-Length", "1"), sandhog_pair_of("USER-AGENT", "me")};
    sandhog_request requests[] = {
        {.url = "https://a.example/x"},
        {.method = "POST", .url = "https://a.example/x"},
        {.method = "PUT", .url = "https://a.example/x", .body = text("ab"), .headers = own, .n_headers = 2},
    };
    sandhog_response responses[3];
    sandhog_test_answer(server);
    sandhog_http_all(requests, 3, responses);
    CHECK(sandhog_test_n_requests() == 3 && sandhog_test_request(3) == NULL);
    CHECK(strcmp(sandhog_test_request(0)->method, "GET") == 0 && header_of(0, "content-length").data == NULL);
    CHECK(sandhog_equal(header_of(0, "user-agent"), "sandhog.h/0.1.0") && sandhog_equal(header_of(1, "content-length"), "0"));
    CHECK(sandhog_equal(header_of(2, "content-length"), "1") && sandhog_equal(header_of(2, "user-agent"), "me"));
    CHECK(responses[2].status == 200 && sandhog_equal(responses[2].body, "ab"));
    CHECK(sandhog_equal(sandhog_response_header(&responses[2], "CONTENT-TYPE"), "text/plain"));
    CHECK(sandhog_response_header(&responses[2], "content").data == NULL);
}

TEST(without_a_grant_a_request_says_what_to_add) {
    sandhog_request request = {.url = "https://a.example:8443/x?y"};
    sandhog_response response = sandhog_http(&request);
    CHECK(response.error == SANDHOG_HTTP_NOT_GRANTED);
    CHECK(sandhog_equal(response.reason, "https://a.example:8443 is not granted: to grant it, add \"https://a.example:8443\" to http "
                                         "in [grant] of the manifest"));
    CHECK(sandhog_http_failure(response).verdict == SANDHOG_RETRY);
}

TEST(an_address_without_a_host_can_not_be_asked) {
    static const char *const addresses[] = {"", "/x", "a.example", "ftp://a.example/", "https://", "https:///x", "https://\xff/"};
    sandhog_test_answer(server);
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        sandhog_request request = {.url = addresses[i]};
        sandhog_response response = sandhog_http(&request);
        CHECK(response.error == SANDHOG_HTTP_INVALID && sandhog_http_failure(response).verdict == SANDHOG_REJECT);
    }
}

TEST(an_address_is_taken_apart) {
    sandhog_address_ address;
    CHECK(sandhog_address_of_("http://a.example:81/b/c?d#e", &address) == NULL && !address.is_secure);
    CHECK(sandhog_equal(address.origin, "http://a.example:81") && sandhog_equal(address.authority, "a.example:81"));
    CHECK(sandhog_equal(address.path, "/b/c?d"));
    CHECK(sandhog_address_of_("https://a.example", &address) == NULL && address.is_secure && sandhog_equal(address.path, "/"));
    CHECK(sandhog_address_of_("https://a.example?b", &address) == NULL && sandhog_equal(address.path, "/?b"));
}

TEST(an_error_shows_neither_the_query_of_an_address_nor_its_user) {
    static const char *const addresses[][2] = {
        {"ftp://me:s3cret@a.example/@b?token=s3cret", "the address ftp://a.example/@b has no scheme and host: write https://..."},
        {"/@b?to=//x&token=s3cret", "the address /@b has no scheme and host: write https://..."},
        {"https://?token=s3cret", "the address https:// has no host"},
        {"https://me:s3cret@a.example:81/b?token=s3cret", "https://a.example:81 is not granted: to grant it, add "
                                                           "\"https://a.example:81\" to http in [grant] of the manifest"},
    };
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        sandhog_request request = {.url = addresses[i][0]};
        CHECK(sandhog_equal(sandhog_http(&request).reason, addresses[i][1]));
    }
}

TEST(too_many_requests_are_retried_and_too_large_bodies_rejected) {
    sandhog_request many = {.url = "https://a.example/too-many"};
    sandhog_request large = {.url = "https://a.example/too-large"};
    sandhog_test_answer(server);
    sandhog_result result = sandhog_http_failure(sandhog_http(&many));
    CHECK(result.verdict == SANDHOG_RETRY && sandhog_equal(result.reason, "beyond"));
    CHECK(sandhog_http_failure(sandhog_http(&large)).verdict == SANDHOG_REJECT);
}

TEST(a_busy_server_is_asked_again_when_it_says) {
    sandhog_request request = {.url = "https://a.example/busy"};
    sandhog_test_answer(server);
    sandhog_response response = sandhog_http(&request);
    sandhog_result result = sandhog_http_retry(&response, "busy: %d", response.status);
    CHECK(result.verdict == SANDHOG_RETRY_AFTER && result.delay_seconds == 7 && sandhog_equal(result.reason, "busy: 429"));
    sandhog_pair date = sandhog_pair_of("retry-after", "Sun, 29 Nov 2026 12:00:00 GMT");
    response.headers = &date;
    response.n_headers = 1;
    CHECK(sandhog_http_retry(&response, "busy").verdict == SANDHOG_RETRY);
    date.value = text("99999999999999999999");
    CHECK(sandhog_http_retry(&response, "busy").delay_seconds >= 43200);
    request.url = "https://a.example/late";
    response = sandhog_http(&request);
    CHECK(response.error == SANDHOG_HTTP_TIMEOUT && sandhog_equal(sandhog_http_failure(response).reason, "too late"));
}

TEST(a_store_keeps_values_by_their_keys) {
    sandhog_slice value;
    const sandhog_slice *keys;
    size_t n_keys;
    bool is_there;
    CHECK(strstr(sandhog_kv_get(NULL, "a", &value), "keyvalue = true") != NULL && value.data == NULL);
    sandhog_test_grant_kv();
    sandhog_pair entries[] = {sandhog_pair_of("b/2", "y"), sandhog_pair_of("a", "1"), sandhog_pair_of("b/1", "")};
    CHECK(sandhog_kv_set_many(NULL, entries, 3) == NULL && sandhog_kv_set("other", "a", text("2")) == NULL);
    CHECK(sandhog_kv_get("default", "a", &value) == NULL && sandhog_equal(value, "1"));
    CHECK(sandhog_kv_get(NULL, "b/1", &value) == NULL && value.data != NULL && value.length == 0);
    CHECK(sandhog_kv_get("other", "a", &value) == NULL && sandhog_equal(value, "2"));
    CHECK(sandhog_kv_keys(NULL, NULL, &keys, &n_keys) == NULL && n_keys == 3 && sandhog_equal(keys[0], "a"));
    CHECK(sandhog_kv_keys(NULL, "b/", &keys, &n_keys) == NULL && n_keys == 2 && sandhog_equal(keys[1], "b/2"));
    CHECK(sandhog_kv_keys(NULL, "b/1 and more", &keys, &n_keys) == NULL && n_keys == 0);
    sandhog_slice some[] = {text("b/2"), text("nothing"), text("a")};
    sandhog_slice values[3];
    CHECK(sandhog_kv_get_many(NULL, some, 3, values) == NULL && sandhog_equal(values[0], "y") && values[1].data == NULL);
    CHECK(sandhog_kv_delete_many(NULL, some, 2) == NULL && sandhog_kv_exists(NULL, "b/2", &is_there) == NULL && !is_there);
    CHECK(sandhog_kv_delete(NULL, "a") == NULL && sandhog_kv_exists(NULL, "a", &is_there) == NULL && !is_there);
    CHECK(sandhog_kv_exists("other", "a", &is_there) == NULL && is_there);
    CHECK(sandhog_kv_set(NULL, "", text("x")) != NULL && sandhog_kv_set(NULL, "\xff", text("x")) != NULL);
}

TEST(a_counter_counts_both_ways) {
    int64_t sum;
    sandhog_test_grant_kv();
    CHECK(sandhog_kv_increment(NULL, "n", 3, &sum) == NULL && sum == 3);
    CHECK(sandhog_kv_increment(NULL, "n", -5, &sum) == NULL && sum == -2);
    CHECK(sandhog_kv_increment(NULL, "n", INT64_MIN, NULL) != NULL);
    CHECK(sandhog_kv_set(NULL, "n", text("x")) == NULL && sandhog_kv_increment(NULL, "n", 1, &sum) != NULL);
}

TEST(a_value_is_replaced_if_it_is_the_expected_one) {
    bool was_set;
    sandhog_slice none = sandhog_text(NULL);
    sandhog_test_grant_kv();
    CHECK(sandhog_kv_compare_and_set(NULL, "k", text("a"), text("b"), &was_set) == NULL && !was_set);
    CHECK(sandhog_kv_compare_and_set(NULL, "k", none, text("a"), &was_set) == NULL && was_set);
    CHECK(sandhog_kv_compare_and_set(NULL, "k", none, text("b"), &was_set) == NULL && !was_set);
    CHECK(sandhog_kv_compare_and_set(NULL, "k", text("a"), text("b"), &was_set) == NULL && was_set);
}

TEST(configuration_is_what_the_test_says) {
    size_t n_values;
    sandhog_test_config("token", "secret");
    sandhog_test_config("api", "https://a.example");
    CHECK(sandhog_equal(sandhog_config("token"), "secret") && sandhog_config("nothing").data == NULL);
    const sandhog_pair *all = sandhog_config_all(&n_values);
    CHECK(n_values == 2 && sandhog_equal(all[0].name, "api"));
}

int main(void) {
    RUN(what_is_read_is_written_again);
    RUN(what_is_not_json_is_refused_with_its_place);
    RUN(a_zero_byte_is_not_the_end_of_the_text);
    RUN(no_prefix_of_a_document_is_one);
    RUN(any_bytes_are_judged_without_a_fault);
    RUN(nesting_has_a_bound);
    RUN(numbers_are_read_as_what_fits);
    RUN(a_member_is_found_by_its_key);
    RUN(bytes_that_are_not_text_become_question_marks);
    RUN(a_handler_is_run_natively);
    RUN(failures_carry_their_reasons);
    RUN(an_error_of_a_send_becomes_the_failure_that_fits);
    RUN(a_message_that_a_host_refuses_is_refused_in_tests_with_all_others);
    RUN(a_request_has_what_servers_expect);
    RUN(without_a_grant_a_request_says_what_to_add);
    RUN(an_address_without_a_host_can_not_be_asked);
    RUN(an_address_is_taken_apart);
    RUN(an_error_shows_neither_the_query_of_an_address_nor_its_user);
    RUN(too_many_requests_are_retried_and_too_large_bodies_rejected);
    RUN(a_busy_server_is_asked_again_when_it_says);
    RUN(a_store_keeps_values_by_their_keys);
    RUN(a_counter_counts_both_ways);
    RUN(a_value_is_replaced_if_it_is_the_expected_one);
    RUN(configuration_is_what_the_test_says);
    sandhog_test_reset();
    printf(failures == 0 ? "all claims hold\n" : "%d failures\n", failures);
    return failures != 0;
}
