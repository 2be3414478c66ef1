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
 * that also defines SANDHOG_BATCH writes handle_batch instead of handle.
 *
 * Compiled for WebAssembly, the file is a handler. Compiled natively, sends and logs are kept for
 * tests to look at: see the functions sandhog_test_*.
 *
 * Memory: everything that this header returns lives until the handler returns, and is then freed.
 * sandhog_alloc gives a handler such memory for itself. malloc works as well.
 *
 * C11. It needs the C library and nothing else.
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
/** Forgets what was sent and logged, accepts sends, and frees everything that this header has returned. */
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

/* ---- Memory: a list of blocks, freed together when the handler has returned ---- */

typedef struct sandhog_block_ {
    struct sandhog_block_ *next;
    max_align_t start[];
} sandhog_block_;

static sandhog_block_ *sandhog_blocks_;

static sandhog_block_ *sandhog_block_new_(size_t size) {
    /* One byte more, which stays zero: see sandhog_slice. */
    sandhog_block_ *block = size < SIZE_MAX / 2 ? calloc(1, sizeof(sandhog_block_) + size + 1) : NULL;
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
    char *copy = sandhog_alloc(slice.length);
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
    char *copy = sandhog_alloc(text.length);
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
    char *text = sandhog_alloc((size_t)length);
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
    char *text = sandhog_alloc(value.text.length);
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
        char *larger = sandhog_alloc(writer->capacity);
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
    char *larger = sandhog_alloc(size);
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
    sandhog_wire_outgoing_ *lowered = sandhog_array_(n_messages, sizeof *lowered);
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

#ifdef SANDHOG_BATCH

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
    sandhog_message *messages = sandhog_array_(n_messages, sizeof *messages);
    sandhog_result *results = sandhog_array_(n_messages, sizeof *results);
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
    sandhog_wire_results_ *lowered = sandhog_alloc(sizeof *lowered);
    lowered->results = sandhog_array_(n_messages, sizeof *lowered->results);
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
    sandhog_wire_result_ *lowered = sandhog_alloc(sizeof *lowered);
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
    sandhog_kept_send_ *kept = sandhog_alloc(sizeof *kept);
    sandhog_attribute *attributes = sandhog_array_(message->n_attributes, sizeof *attributes);
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
    sandhog_kept_line_ *kept = sandhog_alloc(sizeof *kept);
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

void sandhog_test_reset(void) {
    sandhog_kept_sends_ = NULL;
    sandhog_kept_lines_ = NULL;
    sandhog_test_refuse_sends(SANDHOG_SENT, NULL);
    sandhog_free_all_();
}

#endif /* __wasm__ */

#endif /* SANDHOG_IMPLEMENTATION */
