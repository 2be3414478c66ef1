/**
 * @file sandhog.h
 * Write sandhog queue handlers in C: one header and one function.
 *
 *     #define SANDHOG_IMPLEMENTATION
 *     #include "sandhog.h"
 *
 *     sandhog_result handle(const sandhog_message *message) {
 *         if (message->body.length == 0) {
 *             return sandhog_reject("an order of nothing");     // never passes: a dead letter at once
 *         }
 *         sandhog_outgoing invoice = {.body = message->body};
 *         sandhog_sent sent = sandhog_send("invoices", &invoice); // goes out only if this function succeeds
 *         if (sent.error) {
 *             return sandhog_failure(sent);
 *         }
 *         return sandhog_success();                             // the message is deleted
 *     }
 *
 * Exactly one source file of a handler defines SANDHOG_IMPLEMENTATION before it includes this header. One
 * that also defines SANDHOG_BATCH writes handle_batch instead of handle. One that defines SANDHOG_PROGRAM has a main
 * instead, and is a program: its message is the standard input, and its exit code the verdict.
 *
 * Compiled for WebAssembly, the file is a handler. Compiled natively, sends and logs are kept for
 * tests to look at: see the functions sandhog_test_*.
 *
 * Memory: everything that this header returns lives until the handler returns, and is then freed.
 * sandhog_alloc gives a handler such memory for itself. malloc works as well.
 *
 * C11 or C++20. It needs the C library and nothing else.
 */
#ifndef SANDHOG_H
#define SANDHOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SANDHOG_PRINTF(text, values) __attribute__((__format__(__printf__, text, values)))
#else
#define SANDHOG_PRINTF(text, values)
#endif

#ifdef __cplusplus
#define SANDHOG_NORETURN [[noreturn]]
#else
#define SANDHOG_NORETURN _Noreturn
#endif

/* ---- Bytes and text ---- */

/**
 * Bytes, which are text where the documentation says so.
 *
 * Those that a handler receives are followed by a zero byte that is not counted, so that text without
 * zero bytes in it is also a C string. A slice whose data is NULL is one that is not there.
 */
typedef struct {
    const char *data;
    size_t length;
} sandhog_slice;

/** Returns a C string as a slice. It is not copied. NULL gives a slice that is not there. */
sandhog_slice sandhog_text(const char *text);

/** Returns bytes as a slice. They are not copied. */
sandhog_slice sandhog_bytes(const void *data, size_t length);

/** Whether a slice holds exactly this text. */
bool sandhog_equal(sandhog_slice slice, const char *text);

/** Whether a slice is valid UTF-8. */
bool sandhog_is_utf8(sandhog_slice slice);

/** Returns formatted text, as sprintf does, in memory that lives until the handler returns. */
sandhog_slice sandhog_format(const char *format, ...) SANDHOG_PRINTF(1, 2);

/** Returns memory that lives until the handler returns, set to zero. Never NULL: without memory it traps. */
void *sandhog_alloc(size_t size);

/* ---- Messages ---- */

/** The kind of an attribute's value. The three are kept apart on every kind of queue. */
enum {
    /** Unicode text. */
    SANDHOG_TEXT = 0,
    /** A decimal number in text form, such as -12.50. It stays text so that no digit is lost on the way. */
    SANDHOG_NUMBER = 1,
    /** Any bytes. */
    SANDHOG_BINARY = 2
};

/** A typed value beside a message's body, under a name. */
typedef struct {
    sandhog_slice name;
    /** SANDHOG_TEXT, SANDHOG_NUMBER or SANDHOG_BINARY. */
    uint8_t kind;
    sandhog_slice value;
} sandhog_attribute;

/** Makes an attribute of text. Neither is copied. */
sandhog_attribute sandhog_attribute_text(const char *name, const char *text);
/** Makes an attribute of a number from its decimal text, such as "-12.50". Neither is copied. */
sandhog_attribute sandhog_attribute_number(const char *name, const char *decimal);
/** Makes an attribute of a whole number. */
sandhog_attribute sandhog_attribute_integer(const char *name, int64_t number);
/** Makes an attribute of bytes. Neither is copied. */
sandhog_attribute sandhog_attribute_binary(const char *name, const void *data, size_t length);

/** One delivery of a message to a handler. */
typedef struct {
    /**
     * The id that the queue gave the message when it was sent. It stays the same across retries, so it
     * is the key to use for idempotency.
     */
    sandhog_slice id;
    /** The body: any bytes, empty included, up to 1 MiB. Nothing guarantees that it is text. */
    sandhog_slice body;
    /** What the sender attached, in the sender's order. Names are unique. */
    const sandhog_attribute *attributes;
    size_t n_attributes;
    /** The name of the queue that the message was received from. */
    sandhog_slice queue;
    /** How many times the message has been received, this time included: 1 the first time. */
    uint32_t receive_count;
    /** When the message was sent, in milliseconds since 1970-01-01T00:00:00Z. */
    uint64_t sent_at_ms;
    /** The message group, or a slice that is not there. Messages of one group are handled one after another. */
    sandhog_slice group_id;
} sandhog_message;

/** Returns the attribute of this name, which is case-sensitive, or NULL. */
const sandhog_attribute *sandhog_message_attribute(const sandhog_message *message, const char *name);

/* ---- What a handler returns ---- */

typedef enum { SANDHOG_SUCCESS, SANDHOG_RETRY, SANDHOG_RETRY_AFTER, SANDHOG_REJECT } sandhog_verdict;

/** What becomes of a message. The functions below make one. */
typedef struct {
    sandhog_verdict verdict;
    /** For people: it is logged, and kept with a dead letter. Bytes that are not UTF-8 become question marks. */
    sandhog_slice reason;
    /** Of SANDHOG_RETRY_AFTER: 0 to 43200; a larger number counts as 43200. */
    uint32_t delay_seconds;
} sandhog_result;

/** The message is deleted, and what was sent goes out. */
sandhog_result sandhog_success(void);
/** Something that may pass: the message becomes visible again after a growing delay. The reason is as for printf. */
sandhog_result sandhog_retry(const char *format, ...) SANDHOG_PRINTF(1, 2);
/** As sandhog_retry, but after this many seconds, 0 to 43200. */
sandhog_result sandhog_retry_after(uint32_t delay_seconds, const char *format, ...) SANDHOG_PRINTF(2, 3);
/** Something that will never pass: the message goes to the dead-letter queue at once. */
sandhog_result sandhog_reject(const char *format, ...) SANDHOG_PRINTF(1, 2);

/**
 * Handles one message. Written by you. It is called once for each time that the message is received.
 *
 * A trap (abort, __builtin_trap) and running into a limit count as a retry.
 */
sandhog_result handle(const sandhog_message *message);

/**
 * Handles a batch of one or more messages, never two of one group. Written by you, in a file that defines
 * SANDHOG_BATCH. The results are in the order of the messages, and are successes until you set them.
 */
void handle_batch(const sandhog_message *messages, size_t n_messages, sandhog_result *results);

/* ---- Sending ---- */

/** A message to be sent. A field that is left zero has its default. */
typedef struct {
    /** Any bytes, up to 1 MiB. */
    sandhog_slice body;
    /** At most 10, with unique names of 1 to 256 bytes. */
    const sandhog_attribute *attributes;
    size_t n_attributes;
    /** Hides the message for this many seconds after it was sent: 0 to 43200. */
    uint32_t delay_seconds;
    /** Messages of one group are handled one after another, in the order sent. */
    sandhog_slice group_id;
    /** A second message with the same id within five minutes is accepted and dropped. */
    sandhog_slice deduplication_id;
    /** 0 to 9; a higher priority is received first. */
    uint8_t priority;
} sandhog_outgoing;

typedef enum {
    SANDHOG_SENT = 0,
    /** The manifest does not grant this queue. Add it: [grant] send = ["thumbnails"]. */
    SANDHOG_NOT_GRANTED,
    /** The message itself is not acceptable; the reason says what and why. */
    SANDHOG_INVALID,
    /** The attempt has sent as many messages, or as many bytes, as it may. */
    SANDHOG_LIMIT
} sandhog_send_error;

/** What became of a send. */
typedef struct {
    sandhog_send_error error;
    sandhog_slice reason;
} sandhog_sent;

/** Sends one message. It is held back until the handler returns success, and dropped when it fails. */
sandhog_sent sandhog_send(const char *queue, const sandhog_outgoing *message);

/** Sends messages in their order, all of them or, on an error, none. */
sandhog_sent sandhog_send_many(const char *queue, const sandhog_outgoing *messages, size_t n_messages);

/**
 * Turns an error of a send into the failure that fits: a missing grant is retried, since an operator can
 * add it while the messages wait; the others are rejected, since the same message would fail again.
 */
sandhog_result sandhog_failure(sandhog_sent sent);

/* ---- HTTP ---- */

/** A name and its value: a header, or an entry of the configuration. */
typedef struct {
    sandhog_slice name;
    sandhog_slice value;
} sandhog_pair;

/** Makes a pair of two texts. Neither is copied. */
sandhog_pair sandhog_pair_of(const char *name, const char *value);

/** A request. A field that is left zero has its default. */
typedef struct {
    /** GET if NULL. */
    const char *method;
    /** The whole address, such as "https://api.example.com/invoices?draft=1". The manifest grants its origin. */
    const char *url;
    /** The host sets host, connection and the like by itself; content-length and user-agent come by themselves. */
    const sandhog_pair *headers;
    size_t n_headers;
    /** Any bytes. */
    sandhog_slice body;
    /** How long it may take, from its start to the end of the answer's body. 0: until the attempt's own deadline. */
    uint32_t timeout_ms;
} sandhog_request;

typedef enum {
    /** There is an answer, of whatever status. */
    SANDHOG_ANSWERED = 0,
    /** The manifest does not grant this; the reason has what to add to it. */
    SANDHOG_HTTP_NOT_GRANTED,
    /** The request can't be made; the reason says why. */
    SANDHOG_HTTP_INVALID,
    /** The bodies of the attempt have more bytes than the manifest lets them: limits.http-request-bytes, http-response-bytes. */
    SANDHOG_HTTP_LIMIT,
    /** The answer has not come in time. */
    SANDHOG_HTTP_TIMEOUT,
    /** The server was not found, refused the connection, failed its TLS, or broke off. */
    SANDHOG_HTTP_CONNECTION,
    /**
     * The attempt makes more requests than the manifest lets it: limits.http-requests, limits.http-concurrent. Whether they are
     * too many depends on the batch and on the server, not on the message alone.
     */
    SANDHOG_HTTP_TOO_MANY
} sandhog_http_error;

/** The answer to a request, or why there is none. */
typedef struct {
    sandhog_http_error error;
    /** Of an error. */
    sandhog_slice reason;
    uint16_t status;
    const sandhog_pair *headers;
    size_t n_headers;
    sandhog_slice body;
} sandhog_response;

/** Makes a request, and returns the whole answer. A redirect is an answer like any other. */
sandhog_response sandhog_http(const sandhog_request *request);

/** Makes requests, up to eight at a time, and returns their answers in the order of the requests. */
void sandhog_http_all(const sandhog_request *requests, size_t n_requests, sandhog_response *responses);

/** Returns the first header of this name, in whatever case, or a slice that is not there. */
sandhog_slice sandhog_response_header(const sandhog_response *response, const char *name);

/**
 * Turns the error of a request into the failure that fits: what may pass, and what an operator can grant while the
 * messages wait, is retried; what would fail again is rejected.
 */
sandhog_result sandhog_http_failure(sandhog_response response);

/**
 * The failure of a message whose server asks for patience: a retry after as many seconds as the answer's retry-after says,
 * or after the queue's own growing delay if it does not. The reason is as for printf.
 */
sandhog_result sandhog_http_retry(const sandhog_response *response, const char *format, ...) SANDHOG_PRINTF(2, 3);

/* ---- The key-value store ---- */

/*
 * What an attempt writes is one transaction with the deletion of the message, and is dropped if the handler fails. The attempt
 * reads its own writes at once; nobody else does before the handler has succeeded.
 *
 * Each function returns NULL, or what went wrong, ready to be the reason of a retry. A store is named by its first argument;
 * NULL is the store "default". A key has 1 to 1024 bytes, a value at most 1 MiB.
 */

/** Gets the value of a key: a slice that is not there if there is none. */
const char *sandhog_kv_get(const char *store, const char *key, sandhog_slice *value);
/** Gives a key this value. The last that is committed wins. */
const char *sandhog_kv_set(const char *store, const char *key, sandhog_slice value);
/** Removes a key, whether it is there or not. */
const char *sandhog_kv_delete(const char *store, const char *key);
/** Says whether a key has a value. */
const char *sandhog_kv_exists(const char *store, const char *key, bool *exists);
/** Gets the keys that begin with `prefix`, in the order of their bytes; all keys if it is NULL. */
const char *sandhog_kv_keys(const char *store, const char *prefix, const sandhog_slice **keys, size_t *n_keys);
/**
 * Adds to the number of a key, and gets the sum, unless `sum` is NULL. A key without a value counts as 0. Attempts that do so
 * at the same time lose nothing.
 */
const char *sandhog_kv_increment(const char *store, const char *key, int64_t delta, int64_t *sum);
/**
 * Gives a key a value if it has the one that is expected, or none if `expected` is a slice that is not there; `*was_set` says
 * whether it did. If another attempt has changed the key by the commit, nothing of this attempt happens, and the message is
 * tried again.
 */
const char *sandhog_kv_compare_and_set(const char *store, const char *key, sandhog_slice expected, sandhog_slice value,
                                       bool *was_set);
/** Gets the values of up to 1000 keys, in the order of the keys. */
const char *sandhog_kv_get_many(const char *store, const sandhog_slice *keys, size_t n_keys, sandhog_slice *values);
/** Gives up to 1000 keys their values: all of them or, on an error, none. */
const char *sandhog_kv_set_many(const char *store, const sandhog_pair *entries, size_t n_entries);
/** Removes up to 1000 keys: all of them or, on an error, none. */
const char *sandhog_kv_delete_many(const char *store, const sandhog_slice *keys, size_t n_keys);

/* ---- Configuration ---- */

/** Returns a value of the manifest's configuration, or a slice that is not there. Secrets are values like any other: do not log them. */
sandhog_slice sandhog_config(const char *name);
/** Returns all of the configuration. */
const sandhog_pair *sandhog_config_all(size_t *n_values);

/* ---- Crashes ---- */

/**
 * Ends the attempt, which counts as a retry. The text, as for printf, is the reason. A failed assert does the same with what it
 * says.
 */
SANDHOG_NORETURN void sandhog_crash(const char *format, ...) SANDHOG_PRINTF(1, 2);

/* ---- Logging ---- */

typedef enum {
    SANDHOG_TRACE = 0,
    SANDHOG_DEBUG,
    SANDHOG_INFO,
    SANDHOG_WARN,
    SANDHOG_ERROR,
    SANDHOG_CRITICAL
} sandhog_level;

/** Writes a line into the host's log, with the message's id and the handler's name. The text is as for printf. */
void sandhog_log(sandhog_level level, const char *format, ...) SANDHOG_PRINTF(2, 3);

/* ---- JSON ---- */

typedef enum {
    SANDHOG_JSON_NULL,
    SANDHOG_JSON_BOOLEAN,
    SANDHOG_JSON_NUMBER,
    SANDHOG_JSON_STRING,
    SANDHOG_JSON_ARRAY,
    SANDHOG_JSON_OBJECT
} sandhog_json_kind;

/**
 * A value of a JSON document: a piece of its text, which must outlive it. The functions below take only
 * values that sandhog_json_parse or one of them has made.
 */
typedef struct {
    sandhog_slice text;
} sandhog_json;

/** How deep arrays and objects may be nested. */
#define SANDHOG_JSON_DEPTH_MAX 64

/**
 * Checks that the text is one JSON value (RFC 8259, UTF-8, nested 64 deep at most), and returns NULL. If
 * not, returns what is wrong and where, ready to be the reason of a rejection.
 */
const char *sandhog_json_parse(sandhog_slice text, sandhog_json *value);

sandhog_json_kind sandhog_json_kind_of(sandhog_json value);

/** Gets the member of an object; the last one, if there are several. False if there is none or it is no object. */
bool sandhog_json_get(sandhog_json object, const char *key, sandhog_json *value);

/** The elements of an array, or the members of an object, one after another. */
typedef struct {
    const char *position;
    const char *end;
    /** The key of the current member, of an object. */
    sandhog_slice key;
} sandhog_json_items;

/** Starts at the first element of an array or member of an object. Any other value has none. */
sandhog_json_items sandhog_json_each(sandhog_json value);
/** Goes on to the next one. False at the end. */
bool sandhog_json_next(sandhog_json_items *items, sandhog_json *value);

/** Gets a number. False if it is none, or beyond what a double can hold. */
bool sandhog_json_double(sandhog_json value, double *number);
/** Gets a whole number, written without point and exponent. False if it is none, or beyond 64 bits. */
bool sandhog_json_integer(sandhog_json value, int64_t *number);
/** Gets true or false. False if it is neither. */
bool sandhog_json_boolean(sandhog_json value, bool *boolean);
/** Gets a string without its escapes, in UTF-8, followed by a zero byte. False if it is none. */
bool sandhog_json_string(sandhog_json value, sandhog_slice *string);

/** JSON in the making. Start with all fields zero: `sandhog_writer writer = {0};` Commas come by themselves. */
typedef struct {
    char *data;
    size_t length;
    size_t capacity;
    bool needs_comma;
} sandhog_writer;

void sandhog_write_object(sandhog_writer *writer);
void sandhog_write_object_end(sandhog_writer *writer);
void sandhog_write_array(sandhog_writer *writer);
void sandhog_write_array_end(sandhog_writer *writer);
/** Writes the key of a member. Its value comes next. */
void sandhog_write_key(sandhog_writer *writer, const char *key);
/** Writes a string with the escapes that it needs. Bytes that are not UTF-8 become question marks. */
void sandhog_write_string(sandhog_writer *writer, sandhog_slice string);
/** Writes a number with as few digits as give the same number again. What JSON has no number for becomes null. */
void sandhog_write_double(sandhog_writer *writer, double number);
void sandhog_write_integer(sandhog_writer *writer, int64_t number);
void sandhog_write_boolean(sandhog_writer *writer, bool boolean);
void sandhog_write_null(sandhog_writer *writer);
/** Writes a value of another document as it is. */
void sandhog_write_value(sandhog_writer *writer, sandhog_json value);
/** Returns what was written, followed by a zero byte that is not counted. */
sandhog_slice sandhog_written(const sandhog_writer *writer);

/* ---- Tests of a handler, natively ---- */

#ifndef __wasm__

/** Makes a message with this body: the first receive of an ungrouped message of queue "test", without attributes. */
sandhog_message sandhog_test_message(const char *body);

/** A message that a handler sent in a native build. */
typedef struct {
    const char *queue;
    sandhog_outgoing message;
} sandhog_test_send;

/** A line that a handler logged in a native build. */
typedef struct {
    sandhog_level level;
    const char *text;
} sandhog_test_line;

/**
 * How many messages were sent since sandhog_test_reset. The host drops what a failed attempt sent; this does
 * not, so that a test can look at it.
 */
size_t sandhog_test_n_sent(void);
/** Returns a message that was sent, counted from 0, or NULL. */
const sandhog_test_send *sandhog_test_sent(size_t index);
/** How many lines were logged since sandhog_test_reset. */
size_t sandhog_test_n_logged(void);
/** Returns a line that was logged, counted from 0, or NULL. */
const sandhog_test_line *sandhog_test_logged(size_t index);
/** Makes every later send fail with this error, or, with SANDHOG_SENT, succeed again. */
void sandhog_test_refuse_sends(sandhog_send_error error, const char *reason);

/** Answers every later request by this function. Without one, no origin is granted. */
void sandhog_test_answer(sandhog_response (*answer)(const sandhog_request *request));
/** Makes an answer of this status and body. */
sandhog_response sandhog_test_response(uint16_t status, const char *body);
/** How many requests were made since sandhog_test_reset. */
size_t sandhog_test_n_requests(void);
/** Returns a request that was made, counted from 0, or NULL. */
const sandhog_request *sandhog_test_request(size_t index);
/** Grants key-value stores, which are empty. The functions sandhog_kv_* fill them, and look at them. */
void sandhog_test_grant_kv(void);
/** Grants the configuration, and puts this value into it. */
void sandhog_test_config(const char *name, const char *value);

/** Forgets everything that happened and was granted, accepts sends, and frees everything that this header has returned. */
void sandhog_test_reset(void);

#endif

#ifdef __cplusplus
}
#endif

#endif /* SANDHOG_H */

#if defined(SANDHOG_IMPLEMENTATION) && !defined(SANDHOG_IMPLEMENTED)
#define SANDHOG_IMPLEMENTED

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
/* What is left out of {0} is zero, in both languages. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#endif

/* ---- Memory: a list of blocks, freed together when the handler has returned ---- */

typedef struct sandhog_block_ {
    struct sandhog_block_ *next;
    max_align_t start[];
} sandhog_block_;

static sandhog_block_ *sandhog_blocks_;

static sandhog_block_ *sandhog_block_new_(size_t size) {
    /* One byte more, which stays zero: see sandhog_slice. */
    sandhog_block_ *block = size < SIZE_MAX / 2 ? (sandhog_block_ *)calloc(1, sizeof(sandhog_block_) + size + 1) : NULL;
    if (block == NULL) {
        abort();
    }
    block->next = sandhog_blocks_;
    sandhog_blocks_ = block;
    return block;
}

void *sandhog_alloc(size_t size) {
    return sandhog_block_new_(size)->start;
}

static void sandhog_free_all_(void) {
    while (sandhog_blocks_ != NULL) {
        sandhog_block_ *next = sandhog_blocks_->next;
        free(sandhog_blocks_);
        sandhog_blocks_ = next;
    }
}

#ifdef __wasm__
/* Frees what was allocated last, if this is it; otherwise it stays until the handler returns. */
static void sandhog_free_newest_(const void *data) {
    sandhog_block_ *newest = sandhog_blocks_;
    if (newest != NULL && data == (const void *)newest->start) {
        sandhog_blocks_ = newest->next;
        free(newest);
    }
}
#endif

static void *sandhog_array_(size_t n, size_t size) {
    if (n > SIZE_MAX / 2 / size) {
        abort();
    }
    return sandhog_alloc(n * size);
}

static sandhog_slice sandhog_copy_(sandhog_slice slice) {
    if (slice.data == NULL) {
        return slice;
    }
    char *copy = (char *)sandhog_alloc(slice.length);
    if (slice.length > 0) {
        memcpy(copy, slice.data, slice.length);
    }
    return sandhog_bytes(copy, slice.length);
}

/* ---- Bytes and text ---- */

sandhog_slice sandhog_text(const char *text) {
    return sandhog_bytes(text, text == NULL ? 0 : strlen(text));
}

sandhog_slice sandhog_bytes(const void *data, size_t length) {
    sandhog_slice slice = {(const char *)data, length};
    return slice;
}

bool sandhog_equal(sandhog_slice slice, const char *text) {
    size_t length = strlen(text);
    return slice.length == length && (length == 0 || memcmp(slice.data, text, length) == 0);
}

/* The length of the valid UTF-8 sequence at `at`, or 0. */
static size_t sandhog_utf8_(const char *at, const char *end) {
    const unsigned char *byte = (const unsigned char *)at;
    size_t left = (size_t)(end - at);
    if (left == 0) {
        return 0;
    }
    if (byte[0] < 0x80) {
        return 1;
    }
    size_t length = byte[0] >= 0xf0 ? 4 : byte[0] >= 0xe0 ? 3 : 2;
    if (byte[0] < 0xc2 || byte[0] > 0xf4 || left < length) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((byte[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    /* Too long a form, half of a surrogate pair, and what lies beyond U+10FFFF. */
    if ((byte[0] == 0xe0 && byte[1] < 0xa0) || (byte[0] == 0xed && byte[1] > 0x9f) ||
        (byte[0] == 0xf0 && byte[1] < 0x90) || (byte[0] == 0xf4 && byte[1] > 0x8f)) {
        return 0;
    }
    return length;
}

bool sandhog_is_utf8(sandhog_slice slice) {
    const char *at = slice.data;
    const char *end = slice.length > 0 ? slice.data + slice.length : slice.data;
    while (at != end) {
        size_t length = sandhog_utf8_(at, end);
        if (length == 0) {
            return false;
        }
        at += length;
    }
    return true;
}

/* The text itself, or a copy with a question mark for each byte that is not UTF-8: the host traps on such. */
static sandhog_slice sandhog_lossy_(sandhog_slice text) {
    if (sandhog_is_utf8(text)) {
        return text;
    }
    char *copy = (char *)sandhog_alloc(text.length);
    size_t i = 0;
    while (i < text.length) {
        size_t length = sandhog_utf8_(text.data + i, text.data + text.length);
        if (length == 0) {
            copy[i] = '?';
            length = 1;
        } else {
            memcpy(copy + i, text.data + i, length);
        }
        i += length;
    }
    return sandhog_bytes(copy, text.length);
}

SANDHOG_PRINTF(1, 0)
static sandhog_slice sandhog_vformat_(const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length < 0) {
        va_end(again);
        return sandhog_text("(a text that could not be formatted)");
    }
    char *text = (char *)sandhog_alloc((size_t)length);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return sandhog_bytes(text, (size_t)length);
}

sandhog_slice sandhog_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    sandhog_slice text = sandhog_vformat_(format, arguments);
    va_end(arguments);
    return text;
}

/* ---- Messages and results ---- */

static sandhog_attribute sandhog_attribute_(const char *name, uint8_t kind, sandhog_slice value) {
    sandhog_attribute attribute = {sandhog_text(name), kind, value};
    return attribute;
}

sandhog_attribute sandhog_attribute_text(const char *name, const char *text) {
    return sandhog_attribute_(name, SANDHOG_TEXT, sandhog_text(text));
}

sandhog_attribute sandhog_attribute_number(const char *name, const char *decimal) {
    return sandhog_attribute_(name, SANDHOG_NUMBER, sandhog_text(decimal));
}

sandhog_attribute sandhog_attribute_integer(const char *name, int64_t number) {
    return sandhog_attribute_(name, SANDHOG_NUMBER, sandhog_format("%lld", (long long)number));
}

sandhog_attribute sandhog_attribute_binary(const char *name, const void *data, size_t length) {
    return sandhog_attribute_(name, SANDHOG_BINARY, sandhog_bytes(data, length));
}

const sandhog_attribute *sandhog_message_attribute(const sandhog_message *message, const char *name) {
    for (size_t i = 0; i < message->n_attributes; i++) {
        if (sandhog_equal(message->attributes[i].name, name)) {
            return &message->attributes[i];
        }
    }
    return NULL;
}

static sandhog_result sandhog_result_(sandhog_verdict verdict, sandhog_slice reason, uint32_t delay_seconds) {
    sandhog_result result = {verdict, sandhog_lossy_(reason), delay_seconds};
    return result;
}

sandhog_result sandhog_success(void) {
    return sandhog_result_(SANDHOG_SUCCESS, sandhog_text(""), 0);
}

sandhog_result sandhog_retry(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    sandhog_result result = sandhog_result_(SANDHOG_RETRY, sandhog_vformat_(format, arguments), 0);
    va_end(arguments);
    return result;
}

sandhog_result sandhog_retry_after(uint32_t delay_seconds, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    sandhog_slice reason = sandhog_vformat_(format, arguments);
    va_end(arguments);
    return sandhog_result_(SANDHOG_RETRY_AFTER, reason, delay_seconds);
}

sandhog_result sandhog_reject(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    sandhog_result result = sandhog_result_(SANDHOG_REJECT, sandhog_vformat_(format, arguments), 0);
    va_end(arguments);
    return result;
}

sandhog_result sandhog_failure(sandhog_sent sent) {
    switch (sent.error) {
    case SANDHOG_SENT:
        return sandhog_success();
    case SANDHOG_NOT_GRANTED:
        return sandhog_retry("sending is not granted: %.*s", (int)sent.reason.length, sent.reason.data);
    case SANDHOG_INVALID:
        return sandhog_reject("the message to be sent is not valid: %.*s", (int)sent.reason.length, sent.reason.data);
    case SANDHOG_LIMIT:
        break;
    }
    return sandhog_reject("the attempt may not send more: %.*s", (int)sent.reason.length, sent.reason.data);
}

/* ---- JSON: reading ---- */

static const char *sandhog_json_space_(const char *at, const char *end) {
    while (at != end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) {
        at++;
    }
    return at;
}

static bool sandhog_is_digit_(const char *at, const char *end) {
    return at != end && *at >= '0' && *at <= '9';
}

static int sandhog_hex_(char digit) {
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* Four hexadecimal digits, or -1. */
static int sandhog_json_unit_(const char *at, const char *end) {
    if (end - at < 4) {
        return -1;
    }
    int unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = sandhog_hex_(at[i]);
        if (digit < 0) {
            return -1;
        }
        unit = unit * 16 + digit;
    }
    return unit;
}

/* What stands behind `\u` at `at`: the code point, and how many characters it takes. -1: half of a pair, or no digits. */
static long sandhog_json_point_(const char *at, const char *end, size_t *length) {
    int high = sandhog_json_unit_(at, end);
    *length = 4;
    if (high < 0xd800 || high > 0xdfff) {
        return high;
    }
    if (high > 0xdbff || end - at < 10 || at[4] != '\\' || at[5] != 'u') {
        return -1;
    }
    int low = sandhog_json_unit_(at + 6, end);
    *length = 10;
    return low < 0xdc00 || low > 0xdfff ? -1 : 0x10000L + ((long)(high - 0xd800) << 10) + (low - 0xdc00);
}

/* The end of the string whose first quote is at `at`. On an error, *wrong says what, and the place is returned. */
static const char *sandhog_json_string_end_(const char *at, const char *end, const char **wrong) {
    at++;
    while (at != end && *at != '"') {
        if ((unsigned char)*at < 0x20) {
            *wrong = "a control character in a string";
            return at;
        }
        size_t length = sandhog_utf8_(at, end);
        if (length == 0) {
            *wrong = "bytes that are not UTF-8";
            return at;
        }
        if (*at == '\\') {
            const char *escape = at;
            at++;
            if (at != end && *at == 'u') {
                if (sandhog_json_point_(at + 1, end, &length) < 0) {
                    *wrong = "an escape that is not a character";
                    return escape;
                }
                length++;
            } else if (at == end || *at == '\0' || strchr("\"\\/bfnrt", *at) == NULL) {
                *wrong = "an unknown escape";
                return escape;
            }
        }
        at += length;
    }
    if (at == end) {
        *wrong = "the end of the text inside a string";
        return at;
    }
    return at + 1;
}

static const char *sandhog_json_number_end_(const char *at, const char *end, const char **wrong) {
    *wrong = "a number that is not one";
    if (at != end && *at == '-') {
        at++;
    }
    if (!sandhog_is_digit_(at, end)) {
        return at;
    }
    bool zero = *at == '0';
    at++;
    if (zero && sandhog_is_digit_(at, end)) {
        return at;
    }
    while (sandhog_is_digit_(at, end)) {
        at++;
    }
    if (at != end && *at == '.') {
        at++;
        if (!sandhog_is_digit_(at, end)) {
            return at;
        }
        while (sandhog_is_digit_(at, end)) {
            at++;
        }
    }
    if (at != end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at != end && (*at == '+' || *at == '-')) {
            at++;
        }
        if (!sandhog_is_digit_(at, end)) {
            return at;
        }
        while (sandhog_is_digit_(at, end)) {
            at++;
        }
    }
    *wrong = NULL;
    return at;
}

/* The end of a value that is neither an array nor an object. */
static const char *sandhog_json_plain_end_(const char *at, const char *end, const char **wrong) {
    static const char *const words[] = {"null", "true", "false"};
    if (at == end) {
        *wrong = "the end of the text where a value should be";
        return at;
    }
    if (*at == '"') {
        return sandhog_json_string_end_(at, end, wrong);
    }
    if (*at == '-' || sandhog_is_digit_(at, end)) {
        return sandhog_json_number_end_(at, end, wrong);
    }
    for (size_t i = 0; i < 3; i++) {
        size_t length = strlen(words[i]);
        if ((size_t)(end - at) >= length && memcmp(at, words[i], length) == 0) {
            return at + length;
        }
    }
    *wrong = "something that is not a value";
    return at;
}

/* The value position behind an object's key. */
static const char *sandhog_json_key_end_(const char *at, const char *end, const char **wrong) {
    if (at == end || *at != '"') {
        *wrong = "no key where one should be";
        return at;
    }
    at = sandhog_json_string_end_(at, end, wrong);
    if (*wrong != NULL) {
        return at;
    }
    at = sandhog_json_space_(at, end);
    if (at == end || *at != ':') {
        *wrong = "no colon behind a key";
        return at;
    }
    return sandhog_json_space_(at + 1, end);
}

/*
 * The end of the value at `at`. On an error, *wrong says what, and the place is returned. Without recursion:
 * the text decides how deep it is nested, and the stack is small.
 */
static const char *sandhog_json_end_(const char *at, const char *end, const char **wrong) {
    char open[SANDHOG_JSON_DEPTH_MAX];
    size_t depth = 0;
    *wrong = NULL;
    for (;;) {
        if (at != end && (*at == '[' || *at == '{')) {
            if (depth == SANDHOG_JSON_DEPTH_MAX) {
                *wrong = "arrays and objects nested too deep";
                return at;
            }
            char opened = *at;
            at = sandhog_json_space_(at + 1, end);
            if (at == end || *at != (opened == '[' ? ']' : '}')) {
                open[depth++] = opened;
                at = opened == '{' ? sandhog_json_key_end_(at, end, wrong) : at;
                if (*wrong != NULL) {
                    return at;
                }
                continue;
            }
            at++;
        } else {
            at = sandhog_json_plain_end_(at, end, wrong);
            if (*wrong != NULL) {
                return at;
            }
        }
        /* A value has ended: so may have what it is in. */
        for (;;) {
            if (depth == 0) {
                return at;
            }
            at = sandhog_json_space_(at, end);
            if (at == end || (*at != ',' && *at != (open[depth - 1] == '[' ? ']' : '}'))) {
                *wrong = "neither a comma nor the end of an array or object";
                return at;
            }
            bool more = *at == ',';
            at++;
            if (more) {
                break;
            }
            depth--;
        }
        at = sandhog_json_space_(at, end);
        if (open[depth - 1] == '{') {
            at = sandhog_json_key_end_(at, end, wrong);
            if (*wrong != NULL) {
                return at;
            }
        }
    }
}

const char *sandhog_json_parse(sandhog_slice text, sandhog_json *value) {
    const char *begin = text.length > 0 ? text.data : "";
    const char *end = begin + text.length;
    const char *start = sandhog_json_space_(begin, end);
    const char *wrong = NULL;
    const char *at = sandhog_json_end_(start, end, &wrong);
    value->text = sandhog_bytes(start, (size_t)(at - start));
    if (wrong == NULL) {
        at = sandhog_json_space_(at, end);
        if (at == end) {
            return NULL;
        }
        wrong = "something behind the value";
    }
    size_t line = 1;
    size_t column = 1;
    for (const char *c = begin; c != at; c++) {
        column = *c == '\n' ? 1 : column + 1;
        line += *c == '\n';
    }
    value->text = sandhog_text("null");
    return sandhog_format("the text is not JSON: %s at line %zu column %zu", wrong, line, column).data;
}

sandhog_json_kind sandhog_json_kind_of(sandhog_json value) {
    switch (value.text.length > 0 ? value.text.data[0] : 'n') {
    case 'n':
        return SANDHOG_JSON_NULL;
    case 't':
    case 'f':
        return SANDHOG_JSON_BOOLEAN;
    case '"':
        return SANDHOG_JSON_STRING;
    case '[':
        return SANDHOG_JSON_ARRAY;
    case '{':
        return SANDHOG_JSON_OBJECT;
    default:
        return SANDHOG_JSON_NUMBER;
    }
}

sandhog_json_items sandhog_json_each(sandhog_json value) {
    sandhog_json_kind kind = sandhog_json_kind_of(value);
    bool some = kind == SANDHOG_JSON_ARRAY || kind == SANDHOG_JSON_OBJECT;
    sandhog_json_items items = {value.text.data, value.text.data, {NULL, 0}};
    if (some) {
        items.end += value.text.length;
    }
    return items;
}

bool sandhog_json_next(sandhog_json_items *items, sandhog_json *value) {
    const char *at = items->position;
    const char *end = items->end;
    const char *wrong = NULL;
    if (at == end) {
        return false;
    }
    /* At the opening bracket, at a comma, or at the closing one: the text is valid, so nothing else can be. */
    at = sandhog_json_space_(at + 1, end);
    if (at == end || *at == ']' || *at == '}') {
        items->position = end;
        return false;
    }
    /* The first one of an object is a key, as is every later one: keys are known by the colon behind them. */
    if (*at == '"') {
        const char *behind = sandhog_json_string_end_(at, end, &wrong);
        const char *colon = sandhog_json_space_(behind, end);
        if (colon != end && *colon == ':') {
            sandhog_json key = {sandhog_bytes(at, (size_t)(behind - at))};
            sandhog_json_string(key, &items->key);
            at = sandhog_json_space_(colon + 1, end);
        }
    }
    const char *behind = sandhog_json_end_(at, end, &wrong);
    value->text = sandhog_bytes(at, (size_t)(behind - at));
    items->position = sandhog_json_space_(behind, end);
    return true;
}

bool sandhog_json_get(sandhog_json object, const char *key, sandhog_json *value) {
    sandhog_json_items members = sandhog_json_each(object);
    sandhog_json member;
    bool found = false;
    if (sandhog_json_kind_of(object) != SANDHOG_JSON_OBJECT) {
        return false;
    }
    while (sandhog_json_next(&members, &member)) {
        if (sandhog_equal(members.key, key)) {
            *value = member;
            found = true;
        }
    }
    return found;
}

bool sandhog_json_double(sandhog_json value, double *number) {
    if (sandhog_json_kind_of(value) != SANDHOG_JSON_NUMBER) {
        return false;
    }
    double read = strtod(sandhog_copy_(value.text).data, NULL);
    if (!isfinite(read)) {
        return false;
    }
    *number = read;
    return true;
}

bool sandhog_json_integer(sandhog_json value, int64_t *number) {
    if (sandhog_json_kind_of(value) != SANDHOG_JSON_NUMBER) {
        return false;
    }
    bool negative = value.text.data[0] == '-';
    uint64_t most = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    uint64_t magnitude = 0;
    for (size_t i = negative ? 1 : 0; i < value.text.length; i++) {
        if (value.text.data[i] < '0' || value.text.data[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(value.text.data[i] - '0');
        if (magnitude > (most - digit) / 10) {
            return false;
        }
        magnitude = magnitude * 10 + digit;
    }
    /* Not negated as an int64_t: the smallest one has no positive counterpart. */
    *number = negative && magnitude > 0 ? -(int64_t)(magnitude - 1) - 1 : (int64_t)magnitude;
    return true;
}

bool sandhog_json_boolean(sandhog_json value, bool *boolean) {
    if (sandhog_json_kind_of(value) != SANDHOG_JSON_BOOLEAN) {
        return false;
    }
    *boolean = value.text.data[0] == 't';
    return true;
}

static char *sandhog_json_encode_(char *to, long point) {
    if (point < 0x80) {
        *to++ = (char)point;
    } else if (point < 0x800) {
        *to++ = (char)(0xc0 | (point >> 6));
        *to++ = (char)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        *to++ = (char)(0xe0 | (point >> 12));
        *to++ = (char)(0x80 | ((point >> 6) & 0x3f));
        *to++ = (char)(0x80 | (point & 0x3f));
    } else {
        *to++ = (char)(0xf0 | (point >> 18));
        *to++ = (char)(0x80 | ((point >> 12) & 0x3f));
        *to++ = (char)(0x80 | ((point >> 6) & 0x3f));
        *to++ = (char)(0x80 | (point & 0x3f));
    }
    return to;
}

bool sandhog_json_string(sandhog_json value, sandhog_slice *string) {
    static const char escapes[] = "bfnrt";
    static const char meanings[] = "\b\f\n\r\t";
    if (sandhog_json_kind_of(value) != SANDHOG_JSON_STRING) {
        return false;
    }
    /* No escape is shorter than what it stands for. */
    char *text = (char *)sandhog_alloc(value.text.length);
    char *to = text;
    const char *at = value.text.data + 1;
    const char *end = value.text.data + value.text.length - 1;
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
        } else if (at[1] == 'u') {
            size_t length;
            to = sandhog_json_encode_(to, sandhog_json_point_(at + 2, end, &length));
            at += 2 + length;
        } else {
            const char *escape = strchr(escapes, at[1]);
            *to++ = escape != NULL ? meanings[escape - escapes] : at[1];
            at += 2;
        }
    }
    *string = sandhog_bytes(text, (size_t)(to - text));
    return true;
}

/* ---- JSON: writing ---- */

static void sandhog_append_(sandhog_writer *writer, const char *data, size_t length) {
    if (length > SIZE_MAX / 4 - writer->length) {
        abort();
    }
    if (writer->length + length > writer->capacity) {
        writer->capacity = 2 * (writer->length + length) + 64;
        char *larger = (char *)sandhog_alloc(writer->capacity);
        if (writer->length > 0) {
            memcpy(larger, writer->data, writer->length);
        }
        writer->data = larger;
    }
    if (length > 0) {
        memcpy(writer->data + writer->length, data, length);
    }
    writer->length += length;
}

static void sandhog_write_(sandhog_writer *writer, sandhog_slice text, bool needs_comma) {
    if (writer->needs_comma) {
        sandhog_append_(writer, ",", 1);
    }
    sandhog_append_(writer, text.data, text.length);
    writer->needs_comma = needs_comma;
}

void sandhog_write_object(sandhog_writer *writer) {
    sandhog_write_(writer, sandhog_text("{"), false);
}

void sandhog_write_array(sandhog_writer *writer) {
    sandhog_write_(writer, sandhog_text("["), false);
}

void sandhog_write_object_end(sandhog_writer *writer) {
    sandhog_append_(writer, "}", 1);
    writer->needs_comma = true;
}

void sandhog_write_array_end(sandhog_writer *writer) {
    sandhog_append_(writer, "]", 1);
    writer->needs_comma = true;
}

void sandhog_write_key(sandhog_writer *writer, const char *key) {
    sandhog_write_string(writer, sandhog_text(key));
    sandhog_append_(writer, ":", 1);
    writer->needs_comma = false;
}

void sandhog_write_string(sandhog_writer *writer, sandhog_slice string) {
    static const char hex[] = "0123456789abcdef";
    sandhog_slice text = sandhog_lossy_(string);
    sandhog_write_(writer, sandhog_text("\""), false);
    size_t written = 0;
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            continue;
        }
        char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        size_t length = 6;
        if (c == '"' || c == '\\') {
            escape[1] = (char)c;
            length = 2;
        } else if (c == '\n') {
            escape[1] = 'n';
            length = 2;
        }
        sandhog_append_(writer, text.data + written, i - written);
        sandhog_append_(writer, escape, length);
        written = i + 1;
    }
    if (written < text.length) {
        sandhog_append_(writer, text.data + written, text.length - written);
    }
    sandhog_append_(writer, "\"", 1);
    writer->needs_comma = true;
}

void sandhog_write_double(sandhog_writer *writer, double number) {
    char text[32];
    if (!isfinite(number)) {
        sandhog_write_null(writer);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (digits == 17 || !(strtod(text, NULL) < number || strtod(text, NULL) > number)) {
            break;
        }
    }
    sandhog_write_(writer, sandhog_text(text), true);
}

void sandhog_write_integer(sandhog_writer *writer, int64_t number) {
    sandhog_write_(writer, sandhog_format("%lld", (long long)number), true);
}

void sandhog_write_boolean(sandhog_writer *writer, bool boolean) {
    sandhog_write_(writer, sandhog_text(boolean ? "true" : "false"), true);
}

void sandhog_write_null(sandhog_writer *writer) {
    sandhog_write_(writer, sandhog_text("null"), true);
}

void sandhog_write_value(sandhog_writer *writer, sandhog_json value) {
    sandhog_write_(writer, value.text, true);
}

sandhog_slice sandhog_written(const sandhog_writer *writer) {
    return writer->data == NULL ? sandhog_text("") : sandhog_bytes(writer->data, writer->length);
}

/* Whether all that should be text is: the host ends an attempt that passes it anything else. */
static bool sandhog_texts_are_texts_(const char *queue, const sandhog_outgoing *message) {
    bool all = sandhog_is_utf8(sandhog_text(queue)) && sandhog_is_utf8(message->group_id) &&
               sandhog_is_utf8(message->deduplication_id);
    for (size_t i = 0; i < message->n_attributes; i++) {
        const sandhog_attribute *attribute = &message->attributes[i];
        all = all && sandhog_is_utf8(attribute->name) && attribute->kind <= SANDHOG_BINARY &&
              (attribute->kind == SANDHOG_BINARY || sandhog_is_utf8(attribute->value));
    }
    return all;
}

static sandhog_sent sandhog_not_text_(void) {
    sandhog_sent sent = {SANDHOG_INVALID, sandhog_text("a name, a text or an id is not UTF-8")};
    return sent;
}

/* ---- Requests and answers ---- */

sandhog_pair sandhog_pair_of(const char *name, const char *value) {
    sandhog_pair pair = {sandhog_text(name), sandhog_text(value)};
    return pair;
}

static bool sandhog_is_header_(sandhog_slice slice, const char *name) {
    size_t length = strlen(name);
    bool same = slice.length == length;
    for (size_t i = 0; same && i < length; i++) {
        char upper = slice.data[i];
        same = (upper >= 'A' && upper <= 'Z' ? upper + ('a' - 'A') : upper) == name[i];
    }
    return same;
}

sandhog_slice sandhog_response_header(const sandhog_response *response, const char *name) {
    char lower[64] = {0};
    for (size_t i = 0; i < sizeof lower - 1 && name[i] != '\0'; i++) {
        lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + ('a' - 'A') : name[i]);
    }
    for (size_t i = 0; i < response->n_headers; i++) {
        if (sandhog_is_header_(response->headers[i].name, lower)) {
            return response->headers[i].value;
        }
    }
    return sandhog_bytes(NULL, 0);
}

static sandhog_response sandhog_no_answer_(sandhog_http_error error, sandhog_slice reason) {
    sandhog_response response;
    memset(&response, 0, sizeof response);
    response.error = error;
    response.reason = reason;
    return response;
}

sandhog_result sandhog_http_failure(sandhog_response response) {
    bool fails_again = response.error == SANDHOG_HTTP_INVALID || response.error == SANDHOG_HTTP_LIMIT;
    return sandhog_result_(fails_again ? SANDHOG_REJECT : SANDHOG_RETRY, sandhog_lossy_(response.reason), 0);
}

sandhog_result sandhog_http_retry(const sandhog_response *response, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    sandhog_slice reason = sandhog_lossy_(sandhog_vformat_(format, arguments));
    va_end(arguments);
    sandhog_slice after = sandhog_response_header(response, "retry-after");
    uint32_t seconds = 0;
    for (size_t i = 0; i < after.length; i++) {
        if (!sandhog_is_digit_(after.data + i, after.data + after.length)) {
            after.length = 0; /* A date: no clock is needed for the queue's own delay. */
        } else if (seconds < 43200) {
            seconds = seconds * 10 + (uint32_t)(after.data[i] - '0');
        }
    }
    return sandhog_result_(after.length > 0 ? SANDHOG_RETRY_AFTER : SANDHOG_RETRY, reason, seconds);
}

/* The parts of an address. */
typedef struct {
    bool is_secure;
    /* Scheme and host, as a grant has them. */
    sandhog_slice origin;
    sandhog_slice authority;
    sandhog_slice path;
} sandhog_address_;

/* Returns an address without its query and its user, which are often secret: reasons are in logs and dead letters. */
static const char *sandhog_shown_(const char *url) {
    size_t length = strcspn(url, "?#");
    const char *slashes = strstr(url, "//");
    size_t front = slashes != NULL && (size_t)(slashes - url) < length ? (size_t)(slashes - url) + 2 : 0;
    size_t server = front;
    for (size_t i = front; i < length && url[i] != '/'; i++) {
        server = url[i] == '@' ? i + 1 : server;
    }
    return sandhog_format("%.*s%.*s", (int)front, url, (int)(length - server), url + server).data;
}

/* Takes an address apart. Returns what is wrong with it, or NULL. */
static const char *sandhog_address_of_(const char *url, sandhog_address_ *address) {
    memset(address, 0, sizeof *address);
    if (url == NULL || !sandhog_is_utf8(sandhog_text(url))) {
        return "the request has no address";
    }
    address->is_secure = strncmp(url, "https://", 8) == 0;
    if (!address->is_secure && strncmp(url, "http://", 7) != 0) {
        return sandhog_format("the address %s has no scheme and host: write https://...", sandhog_shown_(url)).data;
    }
    const char *host = url + (address->is_secure ? 8 : 7);
    size_t length = strcspn(host, "/?#");
    if (length == 0) {
        return sandhog_format("the address %s has no host", sandhog_shown_(url)).data;
    }
    address->origin = sandhog_text(sandhog_shown_(sandhog_copy_(sandhog_bytes(url, (size_t)(host - url) + length)).data));
    address->authority = sandhog_bytes(host, length);
    const char *path = host + length;
    address->path = sandhog_bytes(path, strcspn(path, "#"));
    if (*path != '/') {
        address->path = sandhog_format("/%.*s", (int)address->path.length, path);
    }
    return NULL;
}

static sandhog_response sandhog_not_granted_(const char *origin) {
    return sandhog_no_answer_(
        SANDHOG_HTTP_NOT_GRANTED,
        sandhog_format("%s is not granted: to grant it, add \"%s\" to http in [grant] of the manifest", origin, origin));
}

/* The headers of a request, with those that come by themselves. */
static sandhog_pair *sandhog_headers_of_(const sandhog_request *request, const char *method, size_t *n_headers) {
    bool has_length = false;
    bool has_agent = false;
    sandhog_pair *headers = (sandhog_pair *)sandhog_array_(request->n_headers + 2, sizeof *headers);
    *n_headers = request->n_headers;
    for (size_t i = 0; i < request->n_headers; i++) {
        headers[i] = request->headers[i];
        has_length = has_length || sandhog_is_header_(headers[i].name, "content-length");
        has_agent = has_agent || sandhog_is_header_(headers[i].name, "user-agent");
    }
    bool expects_body = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
    if (!has_length && (expects_body || request->body.length > 0)) {
        headers[(*n_headers)++] = sandhog_pair_of("content-length", sandhog_format("%zu", request->body.length).data);
    }
    if (!has_agent) {
        headers[(*n_headers)++] = sandhog_pair_of("user-agent", "sandhog.h/0.1.0");
    }
    return headers;
}

sandhog_response sandhog_http(const sandhog_request *request) {
    sandhog_response response;
    sandhog_http_all(request, 1, &response);
    return response;
}

/* ---- Keys and values ---- */

#define SANDHOG_NO_UTF8_KEY_ "the name of a store or a key is not UTF-8"

static const char *sandhog_check_keys_(const sandhog_slice *keys, size_t n_keys) {
    for (size_t i = 0; i < n_keys; i++) {
        if (!sandhog_is_utf8(keys[i])) {
            return SANDHOG_NO_UTF8_KEY_;
        }
    }
    return NULL;
}

static bool sandhog_has_prefix_(sandhog_slice key, const char *prefix) {
    size_t length = prefix == NULL ? 0 : strlen(prefix);
    return key.length >= length && (length == 0 || memcmp(key.data, prefix, length) == 0);
}

/* Whether two values are the same, or neither is there. */
static bool sandhog_same_(sandhog_slice one, sandhog_slice other) {
    return (one.data == NULL) == (other.data == NULL) && one.length == other.length &&
           (one.length == 0 || memcmp(one.data, other.data, one.length) == 0);
}

#ifdef __wasm__

/* ---- The host: the contract's records in the canonical ABI of the component model ---- */

typedef struct {
    sandhog_slice body;
    const sandhog_attribute *attributes;
    size_t n_attributes;
    uint8_t has_delay;
    uint32_t delay_seconds;
    uint8_t has_group_id;
    sandhog_slice group_id;
    uint8_t has_deduplication_id;
    sandhog_slice deduplication_id;
    uint8_t has_priority;
    uint8_t priority;
} sandhog_wire_outgoing_;

typedef struct {
    uint8_t is_error;
    struct {
        uint8_t kind;
        sandhog_slice reason;
        uint32_t delay_seconds;
    } failure;
} sandhog_wire_result_;

typedef struct {
    uint8_t is_error;
    struct {
        uint8_t kind;
        sandhog_slice reason;
    } error;
} sandhog_wire_sent_;

_Static_assert(sizeof(sandhog_attribute) == 20 && offsetof(sandhog_attribute, value) == 12, "an attribute as the host lays it out");
_Static_assert(sizeof(sandhog_wire_outgoing_) == 52, "a message to be sent as the host lays it out");
_Static_assert(sizeof(sandhog_wire_result_) == 20, "a result as the host lays it out");
_Static_assert(sizeof(sandhog_wire_sent_) == 16, "a send's result as the host lays it out");

#define SANDHOG_IMPORT_(module, name) __attribute__((__import_module__(module), __import_name__(name)))
#define SANDHOG_EXPORT_(name) __attribute__((__export_name__(name)))

SANDHOG_IMPORT_("sandhog:worker/sender@0.1.0", "send")
extern void sandhog_import_send_(const char *, size_t, const char *, size_t, const sandhog_attribute *, size_t, int32_t,
                                 uint32_t, int32_t, const char *, size_t, int32_t, const char *, size_t, int32_t,
                                 int32_t, sandhog_wire_sent_ *);

SANDHOG_IMPORT_("sandhog:worker/sender@0.1.0", "send-many")
extern void sandhog_import_send_many_(const char *, size_t, const sandhog_wire_outgoing_ *, size_t,
                                      sandhog_wire_sent_ *);

SANDHOG_IMPORT_("wasi:logging/logging@0.1.0-draft", "log")
extern void sandhog_import_log_(int32_t, const char *, size_t, const char *, size_t);

/* Where the host puts what it passes. It is freed with everything else when the handler has returned. */
SANDHOG_EXPORT_("cabi_realloc")
void *sandhog_export_realloc_(void *old, size_t old_size, size_t align, size_t size) {
    (void)align; /* Never more than 8, and blocks are aligned to that at least. */
    char *larger = (char *)sandhog_alloc(size);
    if (old_size > 0) {
        memcpy(larger, old, old_size < size ? old_size : size);
    }
    return larger;
}

/* The host may pass any pointer with a length of zero. */
static sandhog_slice sandhog_lift_(const char *data, size_t length) {
    return length > 0 ? sandhog_bytes(data, length) : sandhog_text("");
}

static void sandhog_lift_attributes_(sandhog_attribute *attributes, size_t n_attributes) {
    for (size_t i = 0; i < n_attributes; i++) {
        attributes[i].value = sandhog_lift_(attributes[i].value.data, attributes[i].value.length);
    }
}

static void sandhog_lower_result_(sandhog_result result, sandhog_wire_result_ *wire) {
    sandhog_slice reason = sandhog_lossy_(result.reason);
    wire->is_error = result.verdict != SANDHOG_SUCCESS;
    wire->failure.kind = (uint8_t)(result.verdict - SANDHOG_RETRY);
    /* The reason stays where it is: it lives until the host has read it. */
    wire->failure.reason = reason.data == NULL ? sandhog_text("") : reason;
    if (result.verdict == SANDHOG_RETRY_AFTER) {
        wire->failure.delay_seconds = result.delay_seconds;
    }
}

static sandhog_sent sandhog_lift_sent_(const sandhog_wire_sent_ *wire) {
    sandhog_sent sent = {SANDHOG_SENT, sandhog_text("")};
    if (wire->is_error) {
        sent.error = (sandhog_send_error)(SANDHOG_NOT_GRANTED + wire->error.kind);
        sent.reason = sandhog_lift_(wire->error.reason.data, wire->error.reason.length);
    }
    return sent;
}

sandhog_sent sandhog_send(const char *queue, const sandhog_outgoing *message) {
    sandhog_wire_sent_ wire = {0};
    if (!sandhog_texts_are_texts_(queue, message)) {
        return sandhog_not_text_();
    }
    sandhog_import_send_(queue, strlen(queue), message->body.data, message->body.length, message->attributes,
                         message->n_attributes, message->delay_seconds > 0, message->delay_seconds,
                         message->group_id.data != NULL, message->group_id.data, message->group_id.length,
                         message->deduplication_id.data != NULL, message->deduplication_id.data,
                         message->deduplication_id.length, message->priority > 0, message->priority, &wire);
    return sandhog_lift_sent_(&wire);
}

sandhog_sent sandhog_send_many(const char *queue, const sandhog_outgoing *messages, size_t n_messages) {
    sandhog_wire_outgoing_ *lowered = (sandhog_wire_outgoing_ *)sandhog_array_(n_messages, sizeof *lowered);
    for (size_t i = 0; i < n_messages; i++) {
        const sandhog_outgoing *message = &messages[i];
        if (!sandhog_texts_are_texts_(queue, message)) {
            return sandhog_not_text_();
        }
        sandhog_wire_outgoing_ one = {
            .body = message->body,
            .attributes = message->attributes,
            .n_attributes = message->n_attributes,
            .has_delay = message->delay_seconds > 0,
            .delay_seconds = message->delay_seconds,
            .has_group_id = message->group_id.data != NULL,
            .group_id = message->group_id,
            .has_deduplication_id = message->deduplication_id.data != NULL,
            .deduplication_id = message->deduplication_id,
            .has_priority = message->priority > 0,
            .priority = message->priority,
        };
        lowered[i] = one;
    }
    sandhog_wire_sent_ wire = {0};
    sandhog_import_send_many_(queue, strlen(queue), lowered, n_messages, &wire);
    return sandhog_lift_sent_(&wire);
}

void sandhog_log(sandhog_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    sandhog_slice text = sandhog_lossy_(sandhog_vformat_(format, arguments));
    va_end(arguments);
    sandhog_import_log_((int32_t)level, "", 0, text.data, text.length);
}

/* ---- Crashes ---- */

SANDHOG_IMPORT_("sandhog:worker/crash@0.1.0", "report")
extern void sandhog_import_report_(const char *, size_t, const char *, size_t);

SANDHOG_NORETURN static void sandhog_crash_(sandhog_slice reason) {
    reason = sandhog_lossy_(reason);
    sandhog_import_report_(reason.data, reason.length, "", 0);
    __builtin_trap();
}

void sandhog_crash(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    sandhog_slice reason = sandhog_vformat_(format, arguments);
    va_end(arguments);
    sandhog_crash_(reason);
}

/* What a failed assert calls: instead of the C library's, which would bring its output along. */
SANDHOG_NORETURN void __assert_fail(const char *fact, const char *file, int line, const char *function) {
    (void)function;
    sandhog_crash_(sandhog_format("assertion failed: %s at %s:%d", fact, file, line));
}

/* ---- HTTP: wasi:http, whose values have the layouts of the canonical ABI ---- */

#define SANDHOG_HTTP_ "wasi:http/types@0.2.12"
#define SANDHOG_STREAMS_ "wasi:io/streams@0.2.12"

/* The numbers of wasi:http's error codes that are told apart. */
enum {
    SANDHOG_DNS_TIMEOUT_ = 0,
    SANDHOG_DNS_ERROR_ = 1,
    SANDHOG_NOT_FOUND_ = 2,
    SANDHOG_ADDRESS_PROHIBITED_ = 4,
    SANDHOG_REFUSED_ = 6,
    SANDHOG_CONNECTION_TIMEOUT_ = 8,
    SANDHOG_READ_TIMEOUT_ = 9,
    SANDHOG_WRITE_TIMEOUT_ = 10,
    SANDHOG_CONNECTION_LIMIT_ = 11,
    SANDHOG_TLS_PROTOCOL_ = 12,
    SANDHOG_TLS_CERTIFICATE_ = 13,
    SANDHOG_TLS_ALERT_ = 14,
    SANDHOG_DENIED_ = 15,
    SANDHOG_REQUEST_SIZE_ = 17,
    SANDHOG_METHOD_INVALID_ = 18,
    SANDHOG_URI_INVALID_ = 19,
    SANDHOG_URI_TOO_LONG_ = 20,
    SANDHOG_RESPONSE_SIZE_ = 28,
    SANDHOG_RESPONSE_TIMEOUT_ = 33
};

/* An error code; its largest payload has 24 bytes. */
typedef struct {
    uint8_t kind;
    uint64_t payload[3];
} sandhog_wire_code_;

/* result<HANDLE>, or result<HANDLE, header-error>. */
typedef struct {
    uint8_t is_error;
    int32_t handle;
} sandhog_wire_handle_;

/* result<HANDLE, error-code>, result<_, error-code>, and option<error-code>. */
typedef struct {
    uint8_t is_error;
    union {
        int32_t handle;
        sandhog_wire_code_ code;
    } is;
} sandhog_wire_request_;

/* option<result<result<incoming-response, error-code>>> */
typedef struct {
    uint8_t is_there;
    struct {
        uint8_t is_taken;
        sandhog_wire_request_ answer;
    } is;
} sandhog_wire_answer_;

/* result<u64, stream-error> */
typedef struct {
    uint8_t is_error;
    union {
        uint64_t room;
        struct {
            uint8_t is_closed;
            int32_t error;
        } failure;
    } is;
} sandhog_wire_room_;

/* result<_, stream-error>, and result<list<u8>, stream-error>. */
typedef struct {
    uint8_t is_error;
    union {
        sandhog_slice bytes;
        struct {
            uint8_t is_closed;
            int32_t error;
        } failure;
    } is;
} sandhog_wire_piece_;

typedef struct {
    sandhog_pair *pairs;
    size_t n_pairs;
} sandhog_wire_pairs_;

_Static_assert(sizeof(sandhog_wire_code_) == 32, "an error code as the host lays it out");
_Static_assert(sizeof(sandhog_wire_request_) == 40, "a request's result as the host lays it out");
_Static_assert(sizeof(sandhog_wire_answer_) == 56, "an answer as the host lays it out");
_Static_assert(sizeof(sandhog_wire_room_) == 16 && sizeof(sandhog_wire_piece_) == 12, "a stream's results as the host lays them out");

SANDHOG_IMPORT_(SANDHOG_HTTP_, "[static]fields.from-list")
extern void sandhog_import_fields_from_list_(const sandhog_pair *, size_t, sandhog_wire_handle_ *);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]fields.entries")
extern void sandhog_import_fields_entries_(int32_t, sandhog_wire_pairs_ *);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[resource-drop]fields")
extern void sandhog_import_fields_drop_(int32_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[constructor]outgoing-request")
extern int32_t sandhog_import_request_new_(int32_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]outgoing-request.set-method")
extern int32_t sandhog_import_request_set_method_(int32_t, int32_t, const char *, size_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]outgoing-request.set-scheme")
extern int32_t sandhog_import_request_set_scheme_(int32_t, int32_t, int32_t, const char *, size_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]outgoing-request.set-authority")
extern int32_t sandhog_import_request_set_authority_(int32_t, int32_t, const char *, size_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]outgoing-request.set-path-with-query")
extern int32_t sandhog_import_request_set_path_(int32_t, int32_t, const char *, size_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]outgoing-request.body")
extern void sandhog_import_request_body_(int32_t, sandhog_wire_handle_ *);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[resource-drop]outgoing-request")
extern void sandhog_import_request_drop_(int32_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]outgoing-body.write")
extern void sandhog_import_upload_stream_(int32_t, sandhog_wire_handle_ *);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[static]outgoing-body.finish")
extern void sandhog_import_upload_finish_(int32_t, int32_t, int32_t, sandhog_wire_request_ *);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[resource-drop]outgoing-body")
extern void sandhog_import_upload_drop_(int32_t);
SANDHOG_IMPORT_("wasi:http/outgoing-handler@0.2.12", "handle")
extern void sandhog_import_request_(int32_t, int32_t, int32_t, sandhog_wire_request_ *);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]future-incoming-response.get")
extern void sandhog_import_answer_get_(int32_t, sandhog_wire_answer_ *);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]future-incoming-response.subscribe")
extern int32_t sandhog_import_answer_event_(int32_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[resource-drop]future-incoming-response")
extern void sandhog_import_answer_drop_(int32_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]incoming-response.status")
extern int32_t sandhog_import_response_status_(int32_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]incoming-response.headers")
extern int32_t sandhog_import_response_headers_(int32_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]incoming-response.consume")
extern void sandhog_import_response_consume_(int32_t, sandhog_wire_handle_ *);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[resource-drop]incoming-response")
extern void sandhog_import_response_drop_(int32_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[method]incoming-body.stream")
extern void sandhog_import_download_stream_(int32_t, sandhog_wire_handle_ *);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "[resource-drop]incoming-body")
extern void sandhog_import_download_drop_(int32_t);
SANDHOG_IMPORT_(SANDHOG_HTTP_, "http-error-code")
extern void sandhog_import_code_of_(int32_t, sandhog_wire_request_ *);
SANDHOG_IMPORT_("wasi:io/error@0.2.12", "[resource-drop]error")
extern void sandhog_import_error_drop_(int32_t);
SANDHOG_IMPORT_(SANDHOG_STREAMS_, "[method]output-stream.check-write")
extern void sandhog_import_check_write_(int32_t, sandhog_wire_room_ *);
SANDHOG_IMPORT_(SANDHOG_STREAMS_, "[method]output-stream.write")
extern void sandhog_import_write_(int32_t, const char *, size_t, sandhog_wire_piece_ *);
SANDHOG_IMPORT_(SANDHOG_STREAMS_, "[method]output-stream.flush")
extern void sandhog_import_flush_(int32_t, sandhog_wire_piece_ *);
SANDHOG_IMPORT_(SANDHOG_STREAMS_, "[method]output-stream.subscribe")
extern int32_t sandhog_import_output_event_(int32_t);
SANDHOG_IMPORT_(SANDHOG_STREAMS_, "[resource-drop]output-stream")
extern void sandhog_import_output_drop_(int32_t);
SANDHOG_IMPORT_(SANDHOG_STREAMS_, "[method]input-stream.read")
extern void sandhog_import_read_(int32_t, uint64_t, sandhog_wire_piece_ *);
SANDHOG_IMPORT_(SANDHOG_STREAMS_, "[method]input-stream.subscribe")
extern int32_t sandhog_import_input_event_(int32_t);
SANDHOG_IMPORT_(SANDHOG_STREAMS_, "[resource-drop]input-stream")
extern void sandhog_import_input_drop_(int32_t);
SANDHOG_IMPORT_("wasi:io/poll@0.2.12", "poll")
extern void sandhog_import_poll_(const int32_t *, size_t, sandhog_slice *);
SANDHOG_IMPORT_("wasi:io/poll@0.2.12", "[method]pollable.ready")
extern int32_t sandhog_import_event_ready_(int32_t);
SANDHOG_IMPORT_("wasi:io/poll@0.2.12", "[resource-drop]pollable")
extern void sandhog_import_event_drop_(int32_t);
SANDHOG_IMPORT_("wasi:clocks/monotonic-clock@0.2.12", "subscribe-duration")
extern int32_t sandhog_import_timer_(uint64_t);

/* How many requests are under way at a time: as many as the host lets by default. */
#define SANDHOG_CONCURRENT_ 8
/* How much of a body is taken at once, in bytes. */
#define SANDHOG_PIECE_ 65536

/* A request on its way. No handle is 0: that is one that is not there. */
typedef struct {
    const sandhog_request *request;
    sandhog_response *response;
    const char *origin;
    int32_t timer;
    int32_t upload;
    int32_t upload_stream;
    size_t sent;
    int32_t answer;
    int32_t head;
    int32_t download;
    int32_t download_stream;
    /* The body, as far as it is here: memory of malloc. */
    char *body;
    size_t length;
    size_t capacity;
    bool is_done;
} sandhog_exchange_;

/* The origins that have proved to be granted: where one of them is denied, the attempt has asked too often. */
typedef struct sandhog_origin_ {
    struct sandhog_origin_ *next;
    char text[];
} sandhog_origin_;

static sandhog_origin_ *sandhog_origins_;

static bool sandhog_is_granted_(const char *origin) {
    const sandhog_origin_ *known = sandhog_origins_;
    while (known != NULL && strcmp(known->text, origin) != 0) {
        known = known->next;
    }
    return known != NULL;
}

static void sandhog_note_granted_(const char *origin) {
    sandhog_origin_ *known = sandhog_is_granted_(origin) ? NULL : (sandhog_origin_ *)malloc(sizeof *known + strlen(origin) + 1);
    if (known != NULL) {
        strcpy(known->text, origin);
        known->next = sandhog_origins_;
        sandhog_origins_ = known;
    }
}

static sandhog_response sandhog_beyond_(sandhog_http_error error, const char *limit) {
    return sandhog_no_answer_(error, sandhog_format("the attempt may not do more HTTP: limits.%s of the manifest", limit));
}

/* The error that the host tells by this code. */
static sandhog_response sandhog_told_(uint8_t code, const char *origin) {
    sandhog_http_error error = SANDHOG_HTTP_CONNECTION;
    const char *what = "broke off";
    switch (code) {
    case SANDHOG_DENIED_:
        if (!sandhog_is_granted_(origin)) {
            return sandhog_not_granted_(origin);
        }
        return sandhog_beyond_(SANDHOG_HTTP_TOO_MANY, "http-requests");
    case SANDHOG_CONNECTION_LIMIT_: return sandhog_beyond_(SANDHOG_HTTP_TOO_MANY, "http-concurrent");
    case SANDHOG_REQUEST_SIZE_: return sandhog_beyond_(SANDHOG_HTTP_LIMIT, "http-request-bytes");
    case SANDHOG_RESPONSE_SIZE_: return sandhog_beyond_(SANDHOG_HTTP_LIMIT, "http-response-bytes");
    case SANDHOG_ADDRESS_PROHIBITED_:
        error = SANDHOG_HTTP_NOT_GRANTED;
        what = "leads to an address that is not public: the log has what to add to http-addresses in [grant] of the manifest";
        break;
    case SANDHOG_DNS_TIMEOUT_:
    case SANDHOG_CONNECTION_TIMEOUT_:
    case SANDHOG_READ_TIMEOUT_:
    case SANDHOG_WRITE_TIMEOUT_:
    case SANDHOG_RESPONSE_TIMEOUT_:
        error = SANDHOG_HTTP_TIMEOUT;
        what = "has not answered in time";
        break;
    case SANDHOG_DNS_ERROR_:
    case SANDHOG_NOT_FOUND_: what = "was not found"; break;
    case SANDHOG_REFUSED_: what = "refused the connection"; break;
    case SANDHOG_TLS_PROTOCOL_:
    case SANDHOG_TLS_CERTIFICATE_:
    case SANDHOG_TLS_ALERT_: what = "can't be trusted: TLS failed"; break;
    case SANDHOG_METHOD_INVALID_:
    case SANDHOG_URI_INVALID_:
    case SANDHOG_URI_TOO_LONG_:
        error = SANDHOG_HTTP_INVALID;
        what = "can't be asked so: the method or the address is not valid";
        break;
    default: break;
    }
    return sandhog_no_answer_(error, sandhog_format("%s %s", origin, what));
}

/* Lets go of a handle, and of what it stands for. */
static void sandhog_drop_(int32_t *handle, void (*drop)(int32_t)) {
    if (*handle != 0) {
        drop(*handle);
        *handle = 0;
    }
}

/* Ends an exchange, with this answer or error. WASI asks for this order: what was made of something goes before it. */
static void sandhog_end_(sandhog_exchange_ *exchange, sandhog_response response) {
    *exchange->response = response;
    exchange->is_done = true;
    free(exchange->body);
    exchange->body = NULL;
    sandhog_drop_(&exchange->download_stream, sandhog_import_input_drop_);
    sandhog_drop_(&exchange->download, sandhog_import_download_drop_);
    sandhog_drop_(&exchange->head, sandhog_import_response_drop_);
    sandhog_drop_(&exchange->answer, sandhog_import_answer_drop_);
    sandhog_drop_(&exchange->upload_stream, sandhog_import_output_drop_);
    sandhog_drop_(&exchange->upload, sandhog_import_upload_drop_);
    sandhog_drop_(&exchange->timer, sandhog_import_event_drop_);
}

static void sandhog_break_(sandhog_exchange_ *exchange) {
    sandhog_end_(exchange, sandhog_no_answer_(SANDHOG_HTTP_CONNECTION, sandhog_text("the host could not make the request")));
}

static int32_t sandhog_method_(const char *method) {
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    int32_t number = 0;
    while (number < 9 && strcmp(names[number], method) != 0) {
        number++;
    }
    return number;
}

/* Makes a request as the host takes it: a handle, or 0, and then the exchange has ended. */
static int32_t sandhog_lower_request_(sandhog_exchange_ *exchange, const sandhog_address_ *address) {
    const sandhog_request *request = exchange->request;
    const char *method = request->method == NULL ? "GET" : request->method;
    size_t n_headers;
    const sandhog_pair *headers = sandhog_headers_of_(request, method, &n_headers);
    const char *wrong = NULL;
    for (size_t i = 0; i < n_headers; i++) {
        wrong = sandhog_is_utf8(headers[i].name) ? wrong : "header";
    }
    wrong = sandhog_is_utf8(sandhog_text(method)) ? wrong : "method";
    int32_t handle = 0;
    sandhog_wire_handle_ fields = {0};
    if (wrong == NULL) {
        sandhog_import_fields_from_list_(headers, n_headers, &fields);
        wrong = fields.is_error ? "header: the host sets connection, host and the like by itself" : NULL;
    }
    if (wrong == NULL) {
        handle = sandhog_import_request_new_(fields.handle);
        int32_t number = sandhog_method_(method);
        wrong = sandhog_import_request_set_method_(handle, number, method, strlen(method)) ? "method" : wrong;
        wrong = sandhog_import_request_set_scheme_(handle, 1, address->is_secure, "", 0) ? "scheme" : wrong;
        wrong = sandhog_import_request_set_authority_(handle, 1, address->authority.data, address->authority.length) ? "host" : wrong;
        wrong = sandhog_import_request_set_path_(handle, 1, address->path.data, address->path.length) ? "path" : wrong;
    }
    if (wrong != NULL) {
        sandhog_drop_(&handle, sandhog_import_request_drop_);
        sandhog_end_(exchange, sandhog_no_answer_(SANDHOG_HTTP_INVALID,
                                                  sandhog_format("%s can't be asked with this %s", exchange->origin, wrong)));
    }
    return handle;
}

/* Starts an exchange. */
static void sandhog_start_(sandhog_exchange_ *exchange) {
    sandhog_address_ address;
    const char *wrong = sandhog_address_of_(exchange->request->url, &address);
    if (wrong != NULL) {
        sandhog_end_(exchange, sandhog_no_answer_(SANDHOG_HTTP_INVALID, sandhog_text(wrong)));
        return;
    }
    exchange->origin = address.origin.data;
    int32_t request = sandhog_lower_request_(exchange, &address);
    if (request == 0) {
        return;
    }
    if (exchange->request->timeout_ms > 0) {
        exchange->timer = sandhog_import_timer_((uint64_t)exchange->request->timeout_ms * 1000000);
    }
    sandhog_wire_handle_ body = {0};
    sandhog_wire_handle_ stream = {0};
    sandhog_import_request_body_(request, &body);
    exchange->upload = body.is_error ? 0 : body.handle;
    if (exchange->upload != 0) {
        sandhog_import_upload_stream_(exchange->upload, &stream);
        exchange->upload_stream = stream.is_error ? 0 : stream.handle;
    }
    sandhog_wire_request_ started = {0};
    sandhog_import_request_(request, 0, 0, &started);
    if (started.is_error) {
        sandhog_end_(exchange, sandhog_told_(started.is.code.kind, exchange->origin));
    } else {
        exchange->answer = started.is.handle;
    }
}

/* Sends as much of the body as goes at once, and ends it once it is whole. */
static void sandhog_send_body_(sandhog_exchange_ *exchange) {
    sandhog_slice body = exchange->request->body;
    while (exchange->upload_stream != 0 && exchange->sent < body.length) {
        sandhog_wire_room_ room = {0};
        sandhog_wire_piece_ written = {0};
        size_t rest = body.length - exchange->sent;
        sandhog_import_check_write_(exchange->upload_stream, &room);
        int32_t error = room.is_error && !room.is.failure.is_closed ? room.is.failure.error : 0;
        size_t length = room.is.room < rest ? (size_t)room.is.room : rest;
        if (!room.is_error && length == 0) {
            return;
        }
        if (!room.is_error) {
            sandhog_import_write_(exchange->upload_stream, body.data + exchange->sent, length, &written);
            if (!written.is_error) {
                sandhog_import_flush_(exchange->upload_stream, &written);
            }
            error = written.is_error && !written.is.failure.is_closed ? written.is.failure.error : 0;
        }
        if (room.is_error || written.is_error) {
            /* The server takes no more. What it answers says why. The body itself is kept: without it the connection ends. */
            sandhog_drop_(&error, sandhog_import_error_drop_);
            sandhog_drop_(&exchange->upload_stream, sandhog_import_output_drop_);
            return;
        }
        exchange->sent += length;
    }
    if (exchange->upload_stream != 0) {
        sandhog_wire_request_ finished = {0};
        sandhog_drop_(&exchange->upload_stream, sandhog_import_output_drop_);
        sandhog_import_upload_finish_(exchange->upload, 0, 0, &finished);
        exchange->upload = 0;
        if (finished.is_error) {
            sandhog_end_(exchange, sandhog_told_(finished.is.code.kind, exchange->origin));
        }
    }
}

/* Takes the head of the answer, once it is here. */
static void sandhog_receive_head_(sandhog_exchange_ *exchange) {
    sandhog_wire_answer_ answer = {0};
    sandhog_import_answer_get_(exchange->answer, &answer);
    if (!answer.is_there) {
        return;
    }
    if (answer.is.is_taken) {
        sandhog_break_(exchange);
        return;
    }
    if (answer.is.answer.is_error) {
        sandhog_end_(exchange, sandhog_told_(answer.is.answer.is.code.kind, exchange->origin));
        return;
    }
    sandhog_note_granted_(exchange->origin);
    exchange->head = answer.is.answer.is.handle;
    sandhog_response *response = exchange->response;
    response->status = (uint16_t)sandhog_import_response_status_(exchange->head);
    int32_t fields = sandhog_import_response_headers_(exchange->head);
    sandhog_wire_pairs_ headers = {0};
    sandhog_import_fields_entries_(fields, &headers);
    sandhog_import_fields_drop_(fields);
    response->headers = headers.pairs;
    response->n_headers = headers.n_pairs;
    sandhog_wire_handle_ body = {0};
    sandhog_wire_handle_ stream = {0};
    sandhog_import_response_consume_(exchange->head, &body);
    exchange->download = body.is_error ? 0 : body.handle;
    if (exchange->download != 0) {
        sandhog_import_download_stream_(exchange->download, &stream);
        exchange->download_stream = stream.is_error ? 0 : stream.handle;
    }
    if (exchange->download_stream == 0) {
        sandhog_break_(exchange);
    }
}

static void sandhog_append_body_(sandhog_exchange_ *exchange, sandhog_slice piece) {
    if (exchange->length + piece.length > exchange->capacity) {
        exchange->capacity = (exchange->length + piece.length) * 2;
        exchange->body = (char *)realloc(exchange->body, exchange->capacity);
    }
    if (exchange->body == NULL) {
        sandhog_crash_(sandhog_text("there is no memory for the body of an answer"));
    }
    memcpy(exchange->body + exchange->length, piece.data, piece.length);
    exchange->length += piece.length;
    sandhog_free_newest_(piece.data);
}

/* Takes what is here of the answer's body. */
static void sandhog_receive_body_(sandhog_exchange_ *exchange) {
    while (!exchange->is_done) {
        sandhog_wire_piece_ piece = {0};
        sandhog_import_read_(exchange->download_stream, SANDHOG_PIECE_, &piece);
        if (!piece.is_error && piece.is.bytes.length == 0) {
            return;
        }
        if (!piece.is_error) {
            sandhog_append_body_(exchange, piece.is.bytes);
        } else if (piece.is.failure.is_closed) {
            sandhog_response response = *exchange->response;
            response.body = sandhog_copy_(sandhog_bytes(exchange->length > 0 ? exchange->body : "", exchange->length));
            sandhog_end_(exchange, response);
        } else {
            sandhog_wire_request_ code = {0};
            int32_t error = piece.is.failure.error;
            sandhog_import_code_of_(error, &code);
            sandhog_drop_(&error, sandhog_import_error_drop_);
            sandhog_end_(exchange, sandhog_told_(code.is_error ? code.is.code.kind : UINT8_MAX, exchange->origin));
        }
    }
}

/* Goes on as far as there is no need to wait. */
static void sandhog_advance_(sandhog_exchange_ *exchange) {
    if (!exchange->is_done) {
        sandhog_send_body_(exchange);
    }
    if (!exchange->is_done && exchange->head == 0) {
        sandhog_receive_head_(exchange);
    }
    /* The body of the answer is read once the request was sent, or was refused: the server may not read the rest then. */
    if (!exchange->is_done && exchange->head != 0 && (exchange->upload_stream == 0 || exchange->response->status >= 400)) {
        sandhog_drop_(&exchange->upload_stream, sandhog_import_output_drop_);
        sandhog_receive_body_(exchange);
    }
    if (!exchange->is_done && exchange->timer != 0 && sandhog_import_event_ready_(exchange->timer)) {
        sandhog_end_(exchange, sandhog_no_answer_(SANDHOG_HTTP_TIMEOUT,
                                                  sandhog_format("%s has not answered within %lu ms", exchange->origin,
                                                                 (unsigned long)exchange->request->timeout_ms)));
    }
}

/* Waits until one of the exchanges can go on. */
static void sandhog_wait_(sandhog_exchange_ *const *exchanges, size_t n_exchanges) {
    int32_t events[4 * SANDHOG_CONCURRENT_];
    int32_t timers[SANDHOG_CONCURRENT_];
    size_t n_events = 0;
    size_t n_timers = 0;
    for (size_t i = 0; i < n_exchanges; i++) {
        const sandhog_exchange_ *exchange = exchanges[i];
        if (exchange->upload_stream != 0) {
            events[n_events++] = sandhog_import_output_event_(exchange->upload_stream);
        }
        if (exchange->head == 0) {
            events[n_events++] = sandhog_import_answer_event_(exchange->answer);
        } else if (exchange->upload_stream == 0) {
            events[n_events++] = sandhog_import_input_event_(exchange->download_stream);
        }
        if (exchange->timer != 0) {
            timers[n_timers++] = exchange->timer;
        }
    }
    memcpy(events + n_events, timers, n_timers * sizeof *timers);
    sandhog_slice ready;
    sandhog_import_poll_(events, n_events + n_timers, &ready);
    sandhog_free_newest_(ready.data);
    for (size_t i = 0; i < n_events; i++) {
        sandhog_import_event_drop_(events[i]);
    }
}

void sandhog_http_all(const sandhog_request *requests, size_t n_requests, sandhog_response *responses) {
    sandhog_exchange_ *exchanges = (sandhog_exchange_ *)sandhog_array_(n_requests, sizeof *exchanges);
    size_t n_started = 0;
    for (;;) {
        sandhog_exchange_ *under_way[SANDHOG_CONCURRENT_];
        size_t n_under_way = 0;
        for (size_t i = 0; i < n_started; i++) {
            sandhog_advance_(&exchanges[i]);
            if (!exchanges[i].is_done) {
                under_way[n_under_way++] = &exchanges[i];
            }
        }
        if (n_under_way < SANDHOG_CONCURRENT_ && n_started < n_requests) {
            responses[n_started] = sandhog_no_answer_(SANDHOG_ANSWERED, sandhog_text(""));
            exchanges[n_started].request = &requests[n_started];
            exchanges[n_started].response = &responses[n_started];
            sandhog_start_(&exchanges[n_started++]);
        } else if (n_under_way > 0) {
            sandhog_wait_(under_way, n_under_way);
        } else {
            return;
        }
    }
}

/* ---- The key-value store: wasi:keyvalue ---- */

#define SANDHOG_STORE_ "wasi:keyvalue/store@0.2.0-draft2"
#define SANDHOG_ATOMICS_ "wasi:keyvalue/atomics@0.2.0-draft2"
#define SANDHOG_BATCHES_ "wasi:keyvalue/batch@0.2.0-draft2"

/* An error of the store: its kind, and the host's text if the kind is 2. */
typedef struct {
    uint8_t kind;
    sandhog_slice text;
} sandhog_wire_kv_error_;

/* option<list<u8>> */
typedef struct {
    uint8_t is_there;
    sandhog_slice value;
} sandhog_wire_value_;

/* The result of most functions. */
typedef struct {
    uint8_t is_error;
    union {
        sandhog_wire_kv_error_ error;
        int32_t handle;
        uint8_t boolean;
        sandhog_wire_value_ value;
        /* Of get-many: option<tuple<string, list<u8>>> each. */
        struct {
            struct {
                uint8_t is_there;
                sandhog_pair entry;
            } *all;
            size_t n;
        } values;
    } is;
} sandhog_wire_kv_;

typedef struct {
    uint8_t is_error;
    union {
        sandhog_wire_kv_error_ error;
        struct {
            const sandhog_slice *keys;
            size_t n_keys;
            sandhog_wire_value_ cursor;
        } page;
    } is;
} sandhog_wire_page_;

typedef struct {
    uint8_t is_error;
    union {
        sandhog_wire_kv_error_ error;
        int64_t sum;
    } is;
} sandhog_wire_sum_;

typedef struct {
    uint8_t is_error;
    struct {
        uint8_t has_changed;
        union {
            sandhog_wire_kv_error_ error;
            int32_t handle;
        } is;
    } failure;
} sandhog_wire_swap_;

_Static_assert(sizeof(sandhog_wire_kv_) == 16 && sizeof(sandhog_wire_page_) == 24, "a store's results as the host lays them out");
_Static_assert(sizeof(sandhog_wire_sum_) == 24 && sizeof(sandhog_wire_swap_) == 20, "a store's results as the host lays them out");

SANDHOG_IMPORT_(SANDHOG_STORE_, "open")
extern void sandhog_import_kv_open_(const char *, size_t, sandhog_wire_kv_ *);
SANDHOG_IMPORT_(SANDHOG_STORE_, "[method]bucket.get")
extern void sandhog_import_kv_get_(int32_t, const char *, size_t, sandhog_wire_kv_ *);
SANDHOG_IMPORT_(SANDHOG_STORE_, "[method]bucket.set")
extern void sandhog_import_kv_set_(int32_t, const char *, size_t, const char *, size_t, sandhog_wire_kv_ *);
SANDHOG_IMPORT_(SANDHOG_STORE_, "[method]bucket.delete")
extern void sandhog_import_kv_delete_(int32_t, const char *, size_t, sandhog_wire_kv_ *);
SANDHOG_IMPORT_(SANDHOG_STORE_, "[method]bucket.exists")
extern void sandhog_import_kv_exists_(int32_t, const char *, size_t, sandhog_wire_kv_ *);
SANDHOG_IMPORT_(SANDHOG_STORE_, "[method]bucket.list-keys")
extern void sandhog_import_kv_keys_(int32_t, int32_t, const char *, size_t, sandhog_wire_page_ *);
SANDHOG_IMPORT_(SANDHOG_ATOMICS_, "increment")
extern void sandhog_import_kv_increment_(int32_t, const char *, size_t, int64_t, sandhog_wire_sum_ *);
SANDHOG_IMPORT_(SANDHOG_ATOMICS_, "[static]cas.new")
extern void sandhog_import_cas_new_(int32_t, const char *, size_t, sandhog_wire_kv_ *);
SANDHOG_IMPORT_(SANDHOG_ATOMICS_, "[method]cas.current")
extern void sandhog_import_cas_current_(int32_t, sandhog_wire_kv_ *);
SANDHOG_IMPORT_(SANDHOG_ATOMICS_, "[resource-drop]cas")
extern void sandhog_import_cas_drop_(int32_t);
SANDHOG_IMPORT_(SANDHOG_ATOMICS_, "swap")
extern void sandhog_import_cas_swap_(int32_t, const char *, size_t, sandhog_wire_swap_ *);
SANDHOG_IMPORT_(SANDHOG_BATCHES_, "get-many")
extern void sandhog_import_kv_get_many_(int32_t, const sandhog_slice *, size_t, sandhog_wire_kv_ *);
SANDHOG_IMPORT_(SANDHOG_BATCHES_, "set-many")
extern void sandhog_import_kv_set_many_(int32_t, const sandhog_pair *, size_t, sandhog_wire_kv_ *);
SANDHOG_IMPORT_(SANDHOG_BATCHES_, "delete-many")
extern void sandhog_import_kv_delete_many_(int32_t, const sandhog_slice *, size_t, sandhog_wire_kv_ *);

/* A store that was opened. It stays open, so that there is one handle for each name. */
typedef struct sandhog_store_ {
    struct sandhog_store_ *next;
    int32_t handle;
    char name[];
} sandhog_store_;

static sandhog_store_ *sandhog_stores_;

static const char *sandhog_kv_error_(const sandhog_wire_kv_error_ *error) {
    if (error->kind == 1) {
        return "the key-value store is not granted: to grant it, add keyvalue = true to [grant] of the manifest";
    }
    return error->kind == 2 ? sandhog_lift_(error->text.data, error->text.length).data : "there is no such store";
}

static const char *sandhog_kv_done_(const sandhog_wire_kv_ *wire) {
    return wire->is_error ? sandhog_kv_error_(&wire->is.error) : NULL;
}

static sandhog_slice sandhog_lift_value_(const sandhog_wire_value_ *value) {
    return value->is_there ? sandhog_lift_(value->value.data, value->value.length) : sandhog_bytes(NULL, 0);
}

/* Opens a store, and sees to it that the key is text. */
static const char *sandhog_kv_open_(const char *name, const char *key, int32_t *handle) {
    name = name == NULL ? "default" : name;
    if (!sandhog_is_utf8(sandhog_text(name)) || !sandhog_is_utf8(sandhog_text(key))) {
        return SANDHOG_NO_UTF8_KEY_;
    }
    sandhog_store_ *store = sandhog_stores_;
    while (store != NULL && strcmp(store->name, name) != 0) {
        store = store->next;
    }
    if (store == NULL) {
        sandhog_wire_kv_ opened = {0};
        sandhog_import_kv_open_(name, strlen(name), &opened);
        if (opened.is_error) {
            return sandhog_kv_error_(&opened.is.error);
        }
        store = (sandhog_store_ *)malloc(sizeof *store + strlen(name) + 1);
        if (store == NULL) {
            sandhog_crash_(sandhog_text("there is no memory for a store"));
        }
        strcpy(store->name, name);
        store->handle = opened.is.handle;
        store->next = sandhog_stores_;
        sandhog_stores_ = store;
    }
    *handle = store->handle;
    return NULL;
}

const char *sandhog_kv_get(const char *store, const char *key, sandhog_slice *value) {
    int32_t handle;
    sandhog_wire_kv_ got = {0};
    const char *error = sandhog_kv_open_(store, key, &handle);
    if (error == NULL) {
        sandhog_import_kv_get_(handle, key, strlen(key), &got);
        error = sandhog_kv_done_(&got);
    }
    *value = error == NULL ? sandhog_lift_value_(&got.is.value) : sandhog_bytes(NULL, 0);
    return error;
}

const char *sandhog_kv_set(const char *store, const char *key, sandhog_slice value) {
    int32_t handle;
    sandhog_wire_kv_ done = {0};
    const char *error = sandhog_kv_open_(store, key, &handle);
    if (error != NULL) {
        return error;
    }
    sandhog_import_kv_set_(handle, key, strlen(key), value.data, value.length, &done);
    return sandhog_kv_done_(&done);
}

const char *sandhog_kv_delete(const char *store, const char *key) {
    int32_t handle;
    sandhog_wire_kv_ done = {0};
    const char *error = sandhog_kv_open_(store, key, &handle);
    if (error != NULL) {
        return error;
    }
    sandhog_import_kv_delete_(handle, key, strlen(key), &done);
    return sandhog_kv_done_(&done);
}

const char *sandhog_kv_exists(const char *store, const char *key, bool *exists) {
    int32_t handle;
    sandhog_wire_kv_ found = {0};
    const char *error = sandhog_kv_open_(store, key, &handle);
    if (error == NULL) {
        sandhog_import_kv_exists_(handle, key, strlen(key), &found);
        error = sandhog_kv_done_(&found);
    }
    *exists = error == NULL && found.is.boolean;
    return error;
}

const char *sandhog_kv_keys(const char *store, const char *prefix, const sandhog_slice **keys, size_t *n_keys) {
    int32_t handle;
    sandhog_slice *found = NULL;
    sandhog_wire_value_ cursor = {0};
    *n_keys = 0;
    *keys = NULL;
    const char *error = sandhog_kv_open_(store, "", &handle);
    while (error == NULL) {
        sandhog_wire_page_ page = {0};
        sandhog_import_kv_keys_(handle, cursor.is_there, cursor.value.data, cursor.value.length, &page);
        if (page.is_error) {
            error = sandhog_kv_error_(&page.is.error);
            break;
        }
        sandhog_slice *more = (sandhog_slice *)sandhog_array_(*n_keys + page.is.page.n_keys, sizeof *more);
        if (*n_keys > 0) {
            memcpy(more, found, *n_keys * sizeof *more);
        }
        found = more;
        for (size_t i = 0; i < page.is.page.n_keys; i++) {
            if (sandhog_has_prefix_(page.is.page.keys[i], prefix)) {
                found[(*n_keys)++] = page.is.page.keys[i];
            }
        }
        cursor = page.is.page.cursor;
        if (!cursor.is_there) {
            break;
        }
    }
    *keys = found;
    return error;
}

const char *sandhog_kv_increment(const char *store, const char *key, int64_t delta, int64_t *sum) {
    int32_t handle;
    sandhog_wire_sum_ added = {0};
    const char *error = sandhog_kv_open_(store, key, &handle);
    if (error != NULL) {
        return error;
    }
    sandhog_import_kv_increment_(handle, key, strlen(key), delta, &added);
    if (added.is_error) {
        return sandhog_kv_error_(&added.is.error);
    }
    if (sum != NULL) {
        *sum = added.is.sum;
    }
    return NULL;
}

const char *sandhog_kv_compare_and_set(const char *store, const char *key, sandhog_slice expected, sandhog_slice value,
                                       bool *was_set) {
    int32_t handle;
    sandhog_wire_kv_ seen = {0};
    sandhog_wire_kv_ current = {0};
    *was_set = false;
    const char *error = sandhog_kv_open_(store, key, &handle);
    if (error != NULL) {
        return error;
    }
    sandhog_import_cas_new_(handle, key, strlen(key), &seen);
    if (seen.is_error) {
        return sandhog_kv_error_(&seen.is.error);
    }
    sandhog_import_cas_current_(seen.is.handle, &current);
    error = sandhog_kv_done_(&current);
    if (error != NULL || !sandhog_same_(sandhog_lift_value_(&current.is.value), expected)) {
        sandhog_import_cas_drop_(seen.is.handle);
        return error;
    }
    sandhog_wire_swap_ swapped = {0};
    sandhog_import_cas_swap_(seen.is.handle, value.data, value.length, &swapped);
    *was_set = !swapped.is_error;
    if (swapped.is_error && swapped.failure.has_changed) {
        sandhog_import_cas_drop_(swapped.failure.is.handle);
    }
    return swapped.is_error && !swapped.failure.has_changed ? sandhog_kv_error_(&swapped.failure.is.error) : NULL;
}

const char *sandhog_kv_get_many(const char *store, const sandhog_slice *keys, size_t n_keys, sandhog_slice *values) {
    int32_t handle;
    sandhog_wire_kv_ got = {0};
    const char *error = sandhog_kv_open_(store, "", &handle);
    error = error == NULL ? sandhog_check_keys_(keys, n_keys) : error;
    if (error == NULL) {
        sandhog_import_kv_get_many_(handle, keys, n_keys, &got);
        error = sandhog_kv_done_(&got);
    }
    for (size_t i = 0; i < n_keys; i++) {
        bool is_there = error == NULL && i < got.is.values.n && got.is.values.all[i].is_there;
        sandhog_slice value = is_there ? got.is.values.all[i].entry.value : sandhog_bytes(NULL, 0);
        values[i] = is_there ? sandhog_lift_(value.data, value.length) : value;
    }
    return error;
}

const char *sandhog_kv_set_many(const char *store, const sandhog_pair *entries, size_t n_entries) {
    int32_t handle;
    sandhog_wire_kv_ done = {0};
    const char *error = sandhog_kv_open_(store, "", &handle);
    for (size_t i = 0; i < n_entries && error == NULL; i++) {
        error = sandhog_check_keys_(&entries[i].name, 1);
    }
    if (error != NULL) {
        return error;
    }
    sandhog_import_kv_set_many_(handle, entries, n_entries, &done);
    return sandhog_kv_done_(&done);
}

const char *sandhog_kv_delete_many(const char *store, const sandhog_slice *keys, size_t n_keys) {
    int32_t handle;
    sandhog_wire_kv_ done = {0};
    const char *error = sandhog_kv_open_(store, "", &handle);
    error = error == NULL ? sandhog_check_keys_(keys, n_keys) : error;
    if (error != NULL) {
        return error;
    }
    sandhog_import_kv_delete_many_(handle, keys, n_keys, &done);
    return sandhog_kv_done_(&done);
}

/* ---- Configuration: wasi:config ---- */

typedef struct {
    uint8_t is_error;
    union {
        sandhog_wire_kv_error_ error;
        sandhog_wire_value_ value;
        sandhog_wire_pairs_ values;
    } is;
} sandhog_wire_config_;

SANDHOG_IMPORT_("wasi:config/store@0.2.0-rc.1", "get")
extern void sandhog_import_config_get_(const char *, size_t, sandhog_wire_config_ *);
SANDHOG_IMPORT_("wasi:config/store@0.2.0-rc.1", "get-all")
extern void sandhog_import_config_get_all_(sandhog_wire_config_ *);

sandhog_slice sandhog_config(const char *name) {
    sandhog_wire_config_ got = {0};
    if (sandhog_is_utf8(sandhog_text(name))) {
        sandhog_import_config_get_(name, strlen(name), &got);
    }
    if (got.is_error) {
        sandhog_crash_(got.is.error.text);
    }
    return sandhog_lift_value_(&got.is.value);
}

const sandhog_pair *sandhog_config_all(size_t *n_values) {
    sandhog_wire_config_ got = {0};
    sandhog_import_config_get_all_(&got);
    if (got.is_error) {
        sandhog_crash_(got.is.error.text);
    }
    *n_values = got.is.values.n_pairs;
    return got.is.values.pairs;
}

#if defined(SANDHOG_PROGRAM)

/* The host calls nothing but main. */

#elif defined(SANDHOG_BATCH)

typedef struct {
    sandhog_slice id;
    sandhog_slice body;
    sandhog_attribute *attributes;
    size_t n_attributes;
    sandhog_slice queue;
    uint32_t receive_count;
    uint64_t sent_at_ms;
    uint8_t has_group_id;
    sandhog_slice group_id;
} sandhog_wire_message_;

typedef struct {
    sandhog_wire_result_ *results;
    size_t n_results;
} sandhog_wire_results_;

_Static_assert(sizeof(sandhog_wire_message_) == 64 && offsetof(sandhog_wire_message_, sent_at_ms) == 40, "a message as the host lays it out");

SANDHOG_EXPORT_("sandhog:worker/batch-handler@0.1.0#handle-batch")
sandhog_wire_results_ *sandhog_export_handle_batch_(sandhog_wire_message_ *wire, size_t n_messages) {
    sandhog_message *messages = (sandhog_message *)sandhog_array_(n_messages, sizeof *messages);
    sandhog_result *results = (sandhog_result *)sandhog_array_(n_messages, sizeof *results);
    for (size_t i = 0; i < n_messages; i++) {
        sandhog_lift_attributes_(wire[i].attributes, wire[i].n_attributes);
        messages[i].id = wire[i].id;
        messages[i].body = sandhog_lift_(wire[i].body.data, wire[i].body.length);
        messages[i].attributes = wire[i].attributes;
        messages[i].n_attributes = wire[i].n_attributes;
        messages[i].queue = wire[i].queue;
        messages[i].receive_count = wire[i].receive_count;
        messages[i].sent_at_ms = wire[i].sent_at_ms;
        if (wire[i].has_group_id) {
            messages[i].group_id = sandhog_lift_(wire[i].group_id.data, wire[i].group_id.length);
        }
    }
    handle_batch(messages, n_messages, results);
    sandhog_wire_results_ *lowered = (sandhog_wire_results_ *)sandhog_alloc(sizeof *lowered);
    lowered->results = (sandhog_wire_result_ *)sandhog_array_(n_messages, sizeof *lowered->results);
    lowered->n_results = n_messages;
    for (size_t i = 0; i < n_messages; i++) {
        sandhog_lower_result_(results[i], &lowered->results[i]);
    }
    return lowered;
}

SANDHOG_EXPORT_("cabi_post_sandhog:worker/batch-handler@0.1.0#handle-batch")
void sandhog_export_handle_batch_done_(void *lowered) {
    (void)lowered;
    sandhog_free_all_();
}

#else

SANDHOG_EXPORT_("sandhog:worker/handler@0.1.0#handle")
sandhog_wire_result_ *sandhog_export_handle_(const char *id, size_t id_length, const char *body, size_t body_length,
                                             sandhog_attribute *attributes, size_t n_attributes, const char *queue,
                                             size_t queue_length, uint32_t receive_count, uint64_t sent_at_ms,
                                             int32_t has_group_id, const char *group_id, size_t group_id_length) {
    sandhog_lift_attributes_(attributes, n_attributes);
    sandhog_message message = {
        .id = sandhog_lift_(id, id_length),
        .body = sandhog_lift_(body, body_length),
        .attributes = attributes,
        .n_attributes = n_attributes,
        .queue = sandhog_lift_(queue, queue_length),
        .receive_count = receive_count,
        .sent_at_ms = sent_at_ms,
        .group_id = has_group_id ? sandhog_lift_(group_id, group_id_length) : sandhog_text(NULL),
    };
    sandhog_wire_result_ *lowered = (sandhog_wire_result_ *)sandhog_alloc(sizeof *lowered);
    sandhog_lower_result_(handle(&message), lowered);
    return lowered;
}

SANDHOG_EXPORT_("cabi_post_sandhog:worker/handler@0.1.0#handle")
void sandhog_export_handle_done_(void *lowered) {
    (void)lowered;
    sandhog_free_all_();
}

#endif

#else

/* ---- No host: sends and logs are kept for tests ---- */

typedef struct sandhog_kept_send_ {
    struct sandhog_kept_send_ *next;
    sandhog_test_send send;
} sandhog_kept_send_;

typedef struct sandhog_kept_line_ {
    struct sandhog_kept_line_ *next;
    sandhog_test_line line;
} sandhog_kept_line_;

static sandhog_kept_send_ *sandhog_kept_sends_;
static sandhog_kept_line_ *sandhog_kept_lines_;
static sandhog_sent sandhog_refusal_;

static sandhog_slice sandhog_check_id_(const char *what, sandhog_slice id) {
    if (id.data != NULL && (id.length == 0 || id.length > 128)) {
        return sandhog_format("a %s of %zu bytes: use 1 to 128", what, id.length);
    }
    return sandhog_bytes(NULL, 0);
}

static sandhog_slice sandhog_check_attributes_(const sandhog_attribute *attributes, size_t n_attributes) {
    if (n_attributes > 10) {
        return sandhog_format("%zu attributes: a message has at most 10", n_attributes);
    }
    for (size_t i = 0; i < n_attributes; i++) {
        sandhog_slice name = attributes[i].name;
        if (name.length == 0 || name.length > 256) {
            return sandhog_format("an attribute name of %zu bytes: use 1 to 256", name.length);
        }
        for (size_t j = 0; j < i; j++) {
            if (name.length == attributes[j].name.length && memcmp(name.data, attributes[j].name.data, name.length) == 0) {
                return sandhog_format("there are two attributes %.*s", (int)name.length, name.data);
            }
        }
    }
    return sandhog_bytes(NULL, 0);
}

/* What the host would find wrong with a message, or a slice that is not there. */
static sandhog_slice sandhog_check_(const sandhog_outgoing *message) {
    if (message->body.length > 1048576) {
        return sandhog_format("a body of %zu bytes: at most 1048576", message->body.length);
    }
    if (message->delay_seconds > 43200) {
        return sandhog_format("a delay of %lu s: at most 43200 s", (unsigned long)message->delay_seconds);
    }
    if (message->priority > 9) {
        return sandhog_format("priority %u: use 0 to 9", (unsigned)message->priority);
    }
    sandhog_slice wrong = sandhog_check_id_("group id", message->group_id);
    if (wrong.data == NULL) {
        wrong = sandhog_check_id_("deduplication id", message->deduplication_id);
    }
    return wrong.data == NULL ? sandhog_check_attributes_(message->attributes, message->n_attributes) : wrong;
}

static void sandhog_keep_(const char *queue, const sandhog_outgoing *message) {
    sandhog_kept_send_ *kept = (sandhog_kept_send_ *)sandhog_alloc(sizeof *kept);
    sandhog_attribute *attributes = (sandhog_attribute *)sandhog_array_(message->n_attributes, sizeof *attributes);
    for (size_t i = 0; i < message->n_attributes; i++) {
        attributes[i].name = sandhog_copy_(message->attributes[i].name);
        attributes[i].kind = message->attributes[i].kind;
        attributes[i].value = sandhog_copy_(message->attributes[i].value);
    }
    kept->send.queue = sandhog_copy_(sandhog_text(queue)).data;
    kept->send.message = *message;
    kept->send.message.body = sandhog_copy_(message->body.data == NULL ? sandhog_text("") : message->body);
    kept->send.message.attributes = attributes;
    kept->send.message.group_id = sandhog_copy_(message->group_id);
    kept->send.message.deduplication_id = sandhog_copy_(message->deduplication_id);
    sandhog_kept_send_ **last = &sandhog_kept_sends_;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = kept;
}

sandhog_sent sandhog_send_many(const char *queue, const sandhog_outgoing *messages, size_t n_messages) {
    sandhog_sent sent = sandhog_refusal_;
    for (size_t i = 0; i < n_messages && sent.error == SANDHOG_SENT; i++) {
        if (!sandhog_texts_are_texts_(queue, &messages[i])) {
            return sandhog_not_text_();
        }
        sent.reason = sandhog_check_(&messages[i]);
        sent.error = sent.reason.data == NULL ? SANDHOG_SENT : SANDHOG_INVALID;
    }
    for (size_t i = 0; i < n_messages && sent.error == SANDHOG_SENT; i++) {
        sandhog_keep_(queue, &messages[i]);
    }
    return sent;
}

sandhog_sent sandhog_send(const char *queue, const sandhog_outgoing *message) {
    return sandhog_send_many(queue, message, 1);
}

void sandhog_log(sandhog_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    sandhog_kept_line_ *kept = (sandhog_kept_line_ *)sandhog_alloc(sizeof *kept);
    kept->line.level = level;
    kept->line.text = sandhog_lossy_(sandhog_vformat_(format, arguments)).data;
    va_end(arguments);
    sandhog_kept_line_ **last = &sandhog_kept_lines_;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = kept;
}

sandhog_message sandhog_test_message(const char *body) {
    sandhog_message message = {
        .id = sandhog_text("test-message"),
        .body = sandhog_text(body),
        .queue = sandhog_text("test"),
        .receive_count = 1,
        .sent_at_ms = 1767225600000,
    };
    return message;
}

const sandhog_test_send *sandhog_test_sent(size_t index) {
    const sandhog_kept_send_ *kept = sandhog_kept_sends_;
    while (kept != NULL && index-- > 0) {
        kept = kept->next;
    }
    return kept == NULL ? NULL : &kept->send;
}

size_t sandhog_test_n_sent(void) {
    size_t n = 0;
    for (const sandhog_kept_send_ *kept = sandhog_kept_sends_; kept != NULL; kept = kept->next) {
        n++;
    }
    return n;
}

const sandhog_test_line *sandhog_test_logged(size_t index) {
    const sandhog_kept_line_ *kept = sandhog_kept_lines_;
    while (kept != NULL && index-- > 0) {
        kept = kept->next;
    }
    return kept == NULL ? NULL : &kept->line;
}

size_t sandhog_test_n_logged(void) {
    size_t n = 0;
    for (const sandhog_kept_line_ *kept = sandhog_kept_lines_; kept != NULL; kept = kept->next) {
        n++;
    }
    return n;
}

void sandhog_test_refuse_sends(sandhog_send_error error, const char *reason) {
    sandhog_refusal_.error = error;
    sandhog_refusal_.reason = error == SANDHOG_SENT ? sandhog_bytes(NULL, 0) : sandhog_copy_(sandhog_text(reason));
}

/* ---- What the host grants, in tests ---- */

typedef struct sandhog_kept_request_ {
    struct sandhog_kept_request_ *next;
    sandhog_request request;
} sandhog_kept_request_;

typedef struct sandhog_kept_value_ {
    struct sandhog_kept_value_ *next;
    sandhog_slice store;
    sandhog_slice key;
    sandhog_slice value;
} sandhog_kept_value_;

static sandhog_kept_request_ *sandhog_kept_requests_;
static sandhog_response (*sandhog_answer_)(const sandhog_request *request);
static bool sandhog_kv_is_granted_;
/* In the order of their keys' bytes. */
static sandhog_kept_value_ *sandhog_kept_values_;
static bool sandhog_config_is_granted_;
static sandhog_kept_value_ *sandhog_kept_config_;

void sandhog_crash(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

void sandhog_http_all(const sandhog_request *requests, size_t n_requests, sandhog_response *responses) {
    for (size_t i = 0; i < n_requests; i++) {
        sandhog_kept_request_ *kept = (sandhog_kept_request_ *)sandhog_alloc(sizeof *kept);
        kept->request = requests[i];
        kept->request.method = sandhog_copy_(sandhog_text(requests[i].method == NULL ? "GET" : requests[i].method)).data;
        kept->request.url = sandhog_copy_(sandhog_text(requests[i].url)).data;
        kept->request.body = sandhog_copy_(requests[i].body.data == NULL ? sandhog_text("") : requests[i].body);
        sandhog_pair *headers = sandhog_headers_of_(&requests[i], kept->request.method, &kept->request.n_headers);
        for (size_t j = 0; j < kept->request.n_headers; j++) {
            headers[j].name = sandhog_copy_(headers[j].name);
            headers[j].value = sandhog_copy_(headers[j].value);
        }
        kept->request.headers = headers;
        sandhog_kept_request_ **last = &sandhog_kept_requests_;
        while (*last != NULL) {
            last = &(*last)->next;
        }
        *last = kept;
        sandhog_address_ address;
        const char *wrong = sandhog_address_of_(requests[i].url, &address);
        if (wrong != NULL) {
            responses[i] = sandhog_no_answer_(SANDHOG_HTTP_INVALID, sandhog_text(wrong));
        } else {
            responses[i] = sandhog_answer_ == NULL ? sandhog_not_granted_(address.origin.data) : sandhog_answer_(&kept->request);
        }
    }
}

/* Finds a key, or the place where it belongs. */
static sandhog_kept_value_ **sandhog_find_(sandhog_kept_value_ **at, const char *store, sandhog_slice key, bool *is_there) {
    int order = -1;
    while (*at != NULL) {
        size_t shorter = (*at)->key.length < key.length ? (*at)->key.length : key.length;
        order = memcmp((*at)->key.data, key.data, shorter);
        order = order != 0 ? order : ((*at)->key.length > key.length) - ((*at)->key.length < key.length);
        if (order > 0 || (order == 0 && sandhog_equal((*at)->store, store))) {
            break;
        }
        at = &(*at)->next;
    }
    *is_there = *at != NULL && order == 0;
    return at;
}

static void sandhog_put_(sandhog_kept_value_ **all, const char *store, sandhog_slice key, sandhog_slice value) {
    bool is_there;
    sandhog_kept_value_ **at = sandhog_find_(all, store, key, &is_there);
    if (!is_there) {
        sandhog_kept_value_ *kept = (sandhog_kept_value_ *)sandhog_alloc(sizeof *kept);
        kept->next = *at;
        kept->store = sandhog_copy_(sandhog_text(store));
        kept->key = sandhog_copy_(key);
        *at = kept;
    }
    (*at)->value = sandhog_copy_(value.data == NULL ? sandhog_text("") : value);
}

static const char *sandhog_kv_check_(const sandhog_slice *keys, size_t n_keys) {
    if (!sandhog_kv_is_granted_) {
        return "the key-value store is not granted: to grant it, add keyvalue = true to [grant] of the manifest";
    }
    for (size_t i = 0; i < n_keys; i++) {
        if (keys[i].length == 0 || keys[i].length > 1024) {
            return sandhog_format("a key of %zu bytes: use 1 to 1024", keys[i].length).data;
        }
    }
    return sandhog_check_keys_(keys, n_keys);
}

static const char *sandhog_store_of_(const char *name) {
    return name == NULL || *name == '\0' ? "default" : name;
}

const char *sandhog_kv_get_many(const char *store, const sandhog_slice *keys, size_t n_keys, sandhog_slice *values) {
    const char *error = sandhog_kv_check_(keys, n_keys);
    for (size_t i = 0; i < n_keys; i++) {
        bool is_there = false;
        sandhog_kept_value_ **at =
            error == NULL ? sandhog_find_(&sandhog_kept_values_, sandhog_store_of_(store), keys[i], &is_there) : NULL;
        values[i] = is_there ? (*at)->value : sandhog_bytes(NULL, 0);
    }
    return error;
}

const char *sandhog_kv_set_many(const char *store, const sandhog_pair *entries, size_t n_entries) {
    const char *error = NULL;
    for (size_t i = 0; i < n_entries && error == NULL; i++) {
        error = sandhog_kv_check_(&entries[i].name, 1);
        if (error == NULL && entries[i].value.length > 1048576) {
            error = sandhog_format("a value of %zu bytes: at most 1048576", entries[i].value.length).data;
        }
    }
    for (size_t i = 0; i < n_entries && error == NULL; i++) {
        sandhog_put_(&sandhog_kept_values_, sandhog_store_of_(store), entries[i].name, entries[i].value);
    }
    return error;
}

const char *sandhog_kv_delete_many(const char *store, const sandhog_slice *keys, size_t n_keys) {
    const char *error = sandhog_kv_check_(keys, n_keys);
    for (size_t i = 0; i < n_keys && error == NULL; i++) {
        bool is_there;
        sandhog_kept_value_ **at = sandhog_find_(&sandhog_kept_values_, sandhog_store_of_(store), keys[i], &is_there);
        *at = is_there ? (*at)->next : *at;
    }
    return error;
}

const char *sandhog_kv_get(const char *store, const char *key, sandhog_slice *value) {
    sandhog_slice keys[] = {sandhog_text(key)};
    return sandhog_kv_get_many(store, keys, 1, value);
}

const char *sandhog_kv_set(const char *store, const char *key, sandhog_slice value) {
    sandhog_pair entries[] = {{sandhog_text(key), value}};
    return sandhog_kv_set_many(store, entries, 1);
}

const char *sandhog_kv_delete(const char *store, const char *key) {
    sandhog_slice keys[] = {sandhog_text(key)};
    return sandhog_kv_delete_many(store, keys, 1);
}

const char *sandhog_kv_exists(const char *store, const char *key, bool *exists) {
    sandhog_slice value;
    const char *error = sandhog_kv_get(store, key, &value);
    *exists = value.data != NULL;
    return error;
}

const char *sandhog_kv_keys(const char *store, const char *prefix, const sandhog_slice **keys, size_t *n_keys) {
    size_t n = 0;
    for (const sandhog_kept_value_ *kept = sandhog_kept_values_; kept != NULL; kept = kept->next) {
        n++;
    }
    sandhog_slice *found = (sandhog_slice *)sandhog_array_(n, sizeof *found);
    *keys = found;
    *n_keys = 0;
    for (const sandhog_kept_value_ *kept = sandhog_kept_values_; kept != NULL; kept = kept->next) {
        if (sandhog_equal(kept->store, sandhog_store_of_(store)) && sandhog_has_prefix_(kept->key, prefix)) {
            found[(*n_keys)++] = kept->key;
        }
    }
    return sandhog_kv_check_(NULL, 0);
}

const char *sandhog_kv_increment(const char *store, const char *key, int64_t delta, int64_t *sum) {
    sandhog_slice value;
    const char *error = sandhog_kv_get(store, key, &value);
    if (error != NULL) {
        return error;
    }
    int64_t number = 0;
    sandhog_json json = {value};
    if (value.data != NULL && !sandhog_json_integer(json, &number)) {
        return sandhog_format("the value of %s is not a number", key).data;
    }
    if (delta > 0 ? number > INT64_MAX - delta : number < INT64_MIN - delta) {
        return sandhog_format("the value of %s would have more than 64 bits", key).data;
    }
    if (sum != NULL) {
        *sum = number + delta;
    }
    return sandhog_kv_set(store, key, sandhog_format("%lld", (long long)(number + delta)));
}

const char *sandhog_kv_compare_and_set(const char *store, const char *key, sandhog_slice expected, sandhog_slice value,
                                       bool *was_set) {
    sandhog_slice current;
    const char *error = sandhog_kv_get(store, key, &current);
    *was_set = error == NULL && sandhog_same_(current, expected);
    return *was_set ? sandhog_kv_set(store, key, value) : error;
}

static void sandhog_config_check_(void) {
    if (!sandhog_config_is_granted_) {
        sandhog_crash("configuration is not granted: to grant it, add config = { NAME = \"VALUE\" } to [grant] of the manifest");
    }
}

sandhog_slice sandhog_config(const char *name) {
    bool is_there;
    sandhog_config_check_();
    sandhog_kept_value_ **at = sandhog_find_(&sandhog_kept_config_, "", sandhog_text(name), &is_there);
    return is_there ? (*at)->value : sandhog_bytes(NULL, 0);
}

const sandhog_pair *sandhog_config_all(size_t *n_values) {
    size_t n = 0;
    sandhog_config_check_();
    for (const sandhog_kept_value_ *kept = sandhog_kept_config_; kept != NULL; kept = kept->next) {
        n++;
    }
    sandhog_pair *all = (sandhog_pair *)sandhog_array_(n, sizeof *all);
    *n_values = 0;
    for (const sandhog_kept_value_ *kept = sandhog_kept_config_; kept != NULL; kept = kept->next) {
        sandhog_pair pair = {kept->key, kept->value};
        all[(*n_values)++] = pair;
    }
    return all;
}

void sandhog_test_answer(sandhog_response (*answer)(const sandhog_request *request)) {
    sandhog_answer_ = answer;
}

sandhog_response sandhog_test_response(uint16_t status, const char *body) {
    sandhog_response response = sandhog_no_answer_(SANDHOG_ANSWERED, sandhog_text(""));
    response.status = status;
    response.body = sandhog_text(body);
    return response;
}

const sandhog_request *sandhog_test_request(size_t index) {
    const sandhog_kept_request_ *kept = sandhog_kept_requests_;
    while (kept != NULL && index-- > 0) {
        kept = kept->next;
    }
    return kept == NULL ? NULL : &kept->request;
}

size_t sandhog_test_n_requests(void) {
    size_t n = 0;
    for (const sandhog_kept_request_ *kept = sandhog_kept_requests_; kept != NULL; kept = kept->next) {
        n++;
    }
    return n;
}

void sandhog_test_grant_kv(void) {
    sandhog_kv_is_granted_ = true;
}

void sandhog_test_config(const char *name, const char *value) {
    sandhog_config_is_granted_ = true;
    sandhog_put_(&sandhog_kept_config_, "", sandhog_text(name), sandhog_text(value));
}

void sandhog_test_reset(void) {
    sandhog_kept_requests_ = NULL;
    sandhog_answer_ = NULL;
    sandhog_kept_values_ = NULL;
    sandhog_kv_is_granted_ = false;
    sandhog_kept_config_ = NULL;
    sandhog_config_is_granted_ = false;
    sandhog_kept_sends_ = NULL;
    sandhog_kept_lines_ = NULL;
    sandhog_test_refuse_sends(SANDHOG_SENT, NULL);
    sandhog_free_all_();
}

#endif /* __wasm__ */

#ifdef __cplusplus
#pragma GCC diagnostic pop
}
#endif

#endif /* SANDHOG_IMPLEMENTATION */
