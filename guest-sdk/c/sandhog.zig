//! Write sandhog queue handlers in Zig: what `sandhog.h` declares, in Zig's own words.
//!
//!     const sandhog = @import("sandhog/sandhog.zig");
//!
//!     pub const panic = sandhog.panic;
//!
//!     export fn handle(message: *const sandhog.Message) sandhog.Result {
//!         if (message.body.len == 0) return sandhog.reject("an order of nothing", .{});
//!         sandhog.send("invoices", .{ .body = message.body }) catch |err| return sandhog.failure(err);
//!         return sandhog.success;
//!     }
//!
//! `sandhog.c` is compiled with it. What a function here returns lives until the handler returns, and is then freed.

const std = @import("std");

/// Bytes, which are text where the documentation says so. A slice without data is one that is not there.
pub const Slice = extern struct {
    data: ?[*]const u8 = null,
    len: usize = 0,

    pub fn of(text: []const u8) Slice {
        return .{ .data = text.ptr, .len = text.len };
    }

    /// Returns the bytes; null if they are not there.
    pub fn get(slice: Slice) ?[]const u8 {
        return if (slice.data) |data| data[0..slice.len] else null;
    }

    /// Returns the bytes; none if they are not there.
    pub fn bytes(slice: Slice) []const u8 {
        return slice.get() orelse "";
    }
};

/// A header, an entry of the configuration, or a key and its value.
pub const Pair = extern struct { name: Slice, value: Slice };

pub const Attribute = extern struct {
    name: Slice,
    kind: enum(u8) { text, number, binary },
    value: Slice,
};

/// One delivery of a message to a handler.
pub const Message = extern struct {
    /// Stays the same across retries, so it is the key to use for idempotency.
    id: Slice,
    body: Slice,
    attributes: ?[*]const Attribute,
    n_attributes: usize,
    queue: Slice,
    /// How many times the message has been received, this time included.
    receive_count: u32,
    /// In milliseconds since 1970.
    sent_at_ms: u64,
    group_id: Slice,

    pub fn attribute(message: *const Message, name: []const u8) ?*const Attribute {
        const all = if (message.attributes) |all| all[0..message.n_attributes] else return null;
        for (all) |*one| if (std.mem.eql(u8, one.name.bytes(), name)) return one;
        return null;
    }

    /// Reads the body as JSON, in memory that lives until the handler returns.
    pub fn json(message: *const Message, comptime T: type) !T {
        const options: std.json.ParseOptions = .{ .ignore_unknown_fields = true };
        return std.json.parseFromSliceLeaky(T, allocator, message.body.bytes(), options);
    }
};

/// What becomes of a message.
pub const Result = extern struct {
    verdict: enum(c_int) { success, retry, retry_after, reject } = .success,
    reason: Slice = .{},
    delay_seconds: u32 = 0,
};

/// The message is deleted, and what was sent goes out.
pub const success: Result = .{};

/// Something that may pass: the message becomes visible again after a growing delay.
pub fn retry(comptime format: []const u8, values: anytype) Result {
    return .{ .verdict = .retry, .reason = .of(print(format, values)) };
}

/// As `retry`, but after this many seconds, 0 to 43200.
pub fn retryAfter(delay_seconds: u32, comptime format: []const u8, values: anytype) Result {
    return .{ .verdict = .retry_after, .reason = .of(print(format, values)), .delay_seconds = delay_seconds };
}

/// Something that will never pass: the message goes to the dead-letter queue at once.
pub fn reject(comptime format: []const u8, values: anytype) Result {
    return .{ .verdict = .reject, .reason = .of(print(format, values)) };
}

/// Returns formatted text in memory that lives until the handler returns.
pub fn print(comptime format: []const u8, values: anytype) []const u8 {
    return std.fmt.allocPrint(allocator, format, values) catch @panic("there is no memory for a text");
}

/// Returns formatted text with a zero byte behind, as names, keys and addresses have it.
pub fn printZ(comptime format: []const u8, values: anytype) [:0]const u8 {
    return std.fmt.allocPrintSentinel(allocator, format, values, 0) catch @panic("there is no memory for a text");
}

// ---- Sending ----

pub const Outgoing = extern struct {
    body: Slice,
    attributes: ?[*]const Attribute = null,
    n_attributes: usize = 0,
    delay_seconds: u32 = 0,
    group_id: Slice = .{},
    deduplication_id: Slice = .{},
    priority: u8 = 0,
};

pub const SendError = error{ NotGranted, Invalid, Limit };

/// Sends a message. It is held back until the handler returns success, and dropped when it fails.
pub fn send(queue: [*:0]const u8, message: Outgoing) SendError!void {
    const sent = sandhog_send(queue, &message);
    last_reason = sent.reason;
    return switch (sent.status) {
        .sent => {},
        .not_granted => error.NotGranted,
        .invalid => error.Invalid,
        .limit => error.Limit,
    };
}

/// Turns an error of a send or of a request into the failure that fits: what may pass, and what an operator can grant while the
/// messages wait, is retried; what would fail again is rejected.
pub fn failure(err: anyerror) Result {
    const reason = last_reason.get() orelse @errorName(err);
    return switch (err) {
        error.Invalid, error.Limit => reject("{s}", .{reason}),
        else => retry("{s}", .{reason}),
    };
}

// ---- HTTP ----

pub const Request = extern struct {
    method: ?[*:0]const u8 = null,
    url: [*:0]const u8,
    headers: ?[*]const Pair = null,
    n_headers: usize = 0,
    body: Slice = .{},
    /// 0: until the attempt's own deadline.
    timeout_ms: u32 = 0,
};

pub const Response = extern struct {
    status_of_call: enum(c_int) { answered, not_granted, invalid, limit, timeout, connection, too_many },
    reason: Slice,
    status: u16,
    headers: ?[*]const Pair,
    n_headers: usize,
    body: Slice,

    /// Returns the first header of this name, in whatever case.
    pub fn header(response: *const Response, name: [*:0]const u8) ?[]const u8 {
        return sandhog_response_header(response, name).get();
    }
};

pub const HttpError = error{ NotGranted, Invalid, Limit, TooMany, Timeout, Connection };

/// Makes a request, and returns the whole answer, of whatever status. Redirects are not followed.
pub fn http(request: Request) HttpError!Response {
    const response = sandhog_http(&request);
    last_reason = response.reason;
    return switch (response.status_of_call) {
        .answered => response,
        .not_granted => error.NotGranted,
        .invalid => error.Invalid,
        .limit => error.Limit,
        .timeout => error.Timeout,
        .connection => error.Connection,
        .too_many => error.TooMany,
    };
}

/// The failure of a message whose server asks for patience: a retry after as many seconds as the answer's `retry-after` says, or
/// after the queue's own growing delay if it does not.
pub fn httpRetry(response: *const Response, comptime format: []const u8, values: anytype) Result {
    const reason = print(format, values);
    return sandhog_http_retry(response, "%.*s", @as(c_int, @intCast(reason.len)), reason.ptr);
}

// ---- The key-value store ----

/// A store, by its name. What an attempt writes is one transaction with the deletion of the message, and is dropped if the
/// handler fails. An error's text becomes the reason by `failure`.
pub const Store = struct {
    name: ?[*:0]const u8 = null,

    pub const Error = error{KeyValue};

    pub fn get(store: Store, key: [*:0]const u8) Error!?[]const u8 {
        var value: Slice = .{};
        try done(sandhog_kv_get(store.name, key, &value));
        return value.get();
    }

    pub fn set(store: Store, key: [*:0]const u8, value: []const u8) Error!void {
        return done(sandhog_kv_set(store.name, key, .of(value)));
    }

    pub fn delete(store: Store, key: [*:0]const u8) Error!void {
        return done(sandhog_kv_delete(store.name, key));
    }

    pub fn exists(store: Store, key: [*:0]const u8) Error!bool {
        var is_there = false;
        try done(sandhog_kv_exists(store.name, key, &is_there));
        return is_there;
    }

    /// Returns the keys that begin with `prefix`, in the order of their bytes; all keys if it is null.
    pub fn keys(store: Store, prefix: ?[*:0]const u8) Error![]const Slice {
        var found: ?[*]const Slice = null;
        var n_found: usize = 0;
        try done(sandhog_kv_keys(store.name, prefix, &found, &n_found));
        return if (found) |all| all[0..n_found] else &.{};
    }

    /// Adds to the number of a key, and returns the sum. Attempts that do so at the same time lose nothing.
    pub fn increment(store: Store, key: [*:0]const u8, delta: i64) Error!i64 {
        var sum: i64 = 0;
        try done(sandhog_kv_increment(store.name, key, delta, &sum));
        return sum;
    }

    /// Gives a key a value if it has the one that is expected; null expects none. Returns whether it did.
    pub fn compareAndSet(store: Store, key: [*:0]const u8, expected: ?[]const u8, value: []const u8) Error!bool {
        var was_set = false;
        const before: Slice = if (expected) |text| .of(text) else .{};
        try done(sandhog_kv_compare_and_set(store.name, key, before, .of(value), &was_set));
        return was_set;
    }

    fn done(wrong: ?[*:0]const u8) Error!void {
        last_reason = if (wrong) |text| .of(std.mem.span(text)) else .{};
        if (wrong != null) return error.KeyValue;
    }
};

// ---- The rest ----

/// Returns a value of the manifest's configuration. Secrets are values like any other: do not log them.
pub fn config(name: [*:0]const u8) ?[]const u8 {
    return sandhog_config(name).get();
}

pub const Level = enum(c_int) { trace, debug, info, warn, err, critical };

/// Writes a line into the host's log.
pub fn log(level: Level, comptime format: []const u8, values: anytype) void {
    const text = print(format, values);
    sandhog_log(level, "%.*s", @as(c_int, @intCast(text.len)), text.ptr);
}

/// For the root of a handler: `pub const panic = sandhog.panic;`. The text of a panic is the reason of the failure.
pub const panic = std.debug.FullPanic(struct {
    fn crash(text: []const u8, _: ?usize) noreturn {
        sandhog_crash("%.*s", @as(c_int, @intCast(text.len)), text.ptr);
    }
}.crash);

/// Memory that lives until the handler returns; nothing needs to be freed.
pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &.{
    .alloc = alloc,
    .resize = std.mem.Allocator.noResize,
    .remap = std.mem.Allocator.noRemap,
    .free = std.mem.Allocator.noFree,
} };

fn alloc(_: *anyopaque, len: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
    if (alignment.toByteUnits() > @alignOf(std.c.max_align_t)) return null;
    return sandhog_alloc(len);
}

/// The text of the last error, for `failure`.
var last_reason: Slice = .{};

const Sent = extern struct { status: enum(c_int) { sent, not_granted, invalid, limit }, reason: Slice };

extern fn sandhog_alloc(size: usize) [*]u8;
extern fn sandhog_send(queue: [*:0]const u8, message: *const Outgoing) Sent;
extern fn sandhog_log(level: Level, format: [*:0]const u8, ...) void;
extern fn sandhog_crash(format: [*:0]const u8, ...) noreturn;
extern fn sandhog_http(request: *const Request) Response;
extern fn sandhog_http_retry(response: *const Response, format: [*:0]const u8, ...) Result;
extern fn sandhog_response_header(response: *const Response, name: [*:0]const u8) Slice;
extern fn sandhog_config(name: [*:0]const u8) Slice;
extern fn sandhog_kv_get(store: ?[*:0]const u8, key: [*:0]const u8, value: *Slice) ?[*:0]const u8;
extern fn sandhog_kv_set(store: ?[*:0]const u8, key: [*:0]const u8, value: Slice) ?[*:0]const u8;
extern fn sandhog_kv_delete(store: ?[*:0]const u8, key: [*:0]const u8) ?[*:0]const u8;
extern fn sandhog_kv_exists(store: ?[*:0]const u8, key: [*:0]const u8, is_there: *bool) ?[*:0]const u8;
extern fn sandhog_kv_keys(store: ?[*:0]const u8, prefix: ?[*:0]const u8, keys: *?[*]const Slice, n: *usize) ?[*:0]const u8;
extern fn sandhog_kv_increment(store: ?[*:0]const u8, key: [*:0]const u8, delta: i64, sum: *i64) ?[*:0]const u8;
extern fn sandhog_kv_compare_and_set(
    store: ?[*:0]const u8,
    key: [*:0]const u8,
    expected: Slice,
    value: Slice,
    was_set: *bool,
) ?[*:0]const u8;

/// The double of the host, in native builds: see `sandhog.h`.
pub const testing = struct {
    pub const Send = extern struct { queue: [*:0]const u8, message: Outgoing };

    pub extern fn sandhog_test_message(body: [*:0]const u8) Message;
    pub extern fn sandhog_test_n_sent() usize;
    pub extern fn sandhog_test_sent(index: usize) ?*const Send;
    pub extern fn sandhog_test_answer(answer: ?*const fn (*const Request) callconv(.c) Response) void;
    pub extern fn sandhog_test_response(status: u16, body: [*:0]const u8) Response;
    pub extern fn sandhog_test_n_requests() usize;
    pub extern fn sandhog_test_request(index: usize) ?*const Request;
    pub extern fn sandhog_test_grant_kv() void;
    pub extern fn sandhog_test_config(name: [*:0]const u8, value: [*:0]const u8) void;
    pub extern fn sandhog_test_reset() void;
};
