{{without http}}
//! Totals an order, and sends the total to the queue `totals`.
{{end}}
{{with http}}
//! Totals an order, and sends the total to an API and to the queue `totals`.
{{end}}

const sandhog = @import("sandhog/sandhog.zig");
const std = @import("std");

pub const panic = sandhog.panic;

{{with http without config}}
/// The manifest grants it.
const api = "https://api.example.com";

{{end}}
const Order = struct {
    id: std.json.Value,
    items: []const struct { price: f64, quantity: f64 },
};

export fn handle(message: *const sandhog.Message) sandhog.Result {
    const order = message.json(Order) catch |err| return sandhog.reject("the body is no order: {t}", .{err});
{{with keyvalue}}
    // What is written is kept if the handler succeeds, and dropped if it fails.
    const key = sandhog.printZ("order/{f}", .{std.json.fmt(order.id, .{})});
    const is_new = (sandhog.Store{}).compareAndSet(key, null, "sent") catch |err| return sandhog.failure(err);
    if (!is_new) {
        sandhog.log(.info, "order {f} was sent before", .{std.json.fmt(order.id, .{})});
        return sandhog.success;
    }
{{end}}
    var total: f64 = 0;
    for (order.items) |item| total += item.price * item.quantity;

    const id = std.json.fmt(order.id, .{});
    const items: sandhog.Attribute = .{
        .name = .of("items"),
        .kind = .number,
        .value = .of(sandhog.print("{d}", .{order.items.len})),
    };
{{without http config}}
    sandhog.send("totals", .{
        .body = .of(sandhog.print("{{\"id\":{f},\"total\":{d}}}", .{ id, total })),
{{end}}
{{with config without http}}
    const currency = std.json.fmt(sandhog.config("currency"), .{});
    sandhog.send("totals", .{
        .body = .of(sandhog.print("{{\"id\":{f},\"total\":{d},\"currency\":{f}}}", .{ id, total, currency })),
{{end}}
{{with http}}
    const body: sandhog.Slice = .of(sandhog.print("{{\"id\":{f},\"total\":{d}}}", .{ id, total }));
    const posted = post(body, message.id);
    if (posted.verdict != .success) return posted;
    sandhog.send("totals", .{
        .body = body,
{{end}}
        .attributes = &.{items},
        .n_attributes = 1,
    }) catch |err| return sandhog.failure(err);
    sandhog.log(.info, "order {f}: {d} items, {d} in total", .{ id, order.items.len, total });
    return sandhog.success;
}

{{with http}}
/// Sends a total to the API. It can come twice, from an attempt that failed later: the key tells the API so.
fn post(total: sandhog.Slice, key: sandhog.Slice) sandhog.Result {
    const headers = [_]sandhog.Pair{
        .{ .name = .of("content-type"), .value = .of("application/json") },
        .{ .name = .of("idempotency-key"), .value = key },
{{end}}
{{with http config}}
        .{ .name = .of("authorization"), .value = .of(sandhog.print("Bearer {s}", .{sandhog.config("token") orelse ""})) },
{{end}}
{{with http}}
    };
    const answer = sandhog.http(.{
        .method = "POST",
{{end}}
{{with http without config}}
        .url = api ++ "/totals",
{{end}}
{{with http config}}
        .url = sandhog.printZ("{s}/totals", .{sandhog.config("api") orelse ""}),
{{end}}
{{with http}}
        .headers = &headers,
        .n_headers = headers.len,
        .body = total,
        .timeout_ms = 5000,
    }) catch |err| return sandhog.failure(err);
    if (answer.status < 200 or answer.status > 299) {
        // After as long as the header retry-after says, which a busy API sends with the status 429.
        return sandhog.httpRetry(&answer, "the API answers {d}", .{answer.status});
    }
    return sandhog.success;
}

fn created(_: *const sandhog.Request) callconv(.c) sandhog.Response {
    return sandhog.testing.sandhog_test_response(201, "");
}

fn busy(_: *const sandhog.Request) callconv(.c) sandhog.Response {
    const after = struct {
        const headers = [_]sandhog.Pair{.{ .name = .of("retry-after"), .value = .of("7") }};
    };
    var answer = sandhog.testing.sandhog_test_response(429, "");
    answer.headers = &after.headers;
    answer.n_headers = 1;
    return answer;
}

{{end}}
{{with any}}
const an_order = "{\"id\": 7, \"items\": [{\"price\": 12.5, \"quantity\": 2}]}";

/// Grants what the manifest grants.
fn grant() void {
    sandhog.testing.sandhog_test_reset();
{{end}}
{{with http}}
    sandhog.testing.sandhog_test_answer(created);
{{end}}
{{with keyvalue}}
    sandhog.testing.sandhog_test_grant_kv();
{{end}}
{{with http config}}
    sandhog.testing.sandhog_test_config("api", "https://api.example.com");
    sandhog.testing.sandhog_test_config("token", "secret");
{{end}}
{{with config without http}}
    sandhog.testing.sandhog_test_config("currency", "EUR");
{{end}}
{{with any}}
}

fn handledAgain(body: [*:0]const u8) sandhog.Result {
    return handle(&sandhog.testing.sandhog_test_message(body));
}

{{end}}
fn handled(body: [*:0]const u8) sandhog.Result {
{{without any}}
    sandhog.testing.sandhog_test_reset();
    return handle(&sandhog.testing.sandhog_test_message(body));
{{end}}
{{with any}}
    grant();
    return handledAgain(body);
{{end}}
}

test "an order is totalled" {
    const result = handled("{\"id\": 7, \"items\": [{\"price\": 12.5, \"quantity\": 2}, {\"price\": 3, \"quantity\": 1}]}");
    try std.testing.expectEqual(.success, result.verdict);
    const sent = sandhog.testing.sandhog_test_sent(0).?;
    try std.testing.expectEqualStrings("totals", std.mem.span(sent.queue));
{{without config}}
    try std.testing.expectEqualStrings("{\"id\":7,\"total\":28}", sent.message.body.bytes());
{{end}}
{{with http config}}
    try std.testing.expectEqualStrings("{\"id\":7,\"total\":28}", sent.message.body.bytes());
{{end}}
{{with config without http}}
    const body = "{\"id\":7,\"total\":28,\"currency\":\"EUR\"}";
    try std.testing.expectEqualStrings(body, sent.message.body.bytes());
{{end}}
}

test "what is no order is rejected" {
    for ([_][*:0]const u8{ "no order", "[]", "{\"id\": 7, \"items\": [{\"price\": 12.5}]}" }) |body| {
        try std.testing.expectEqual(.reject, handled(body).verdict);
        try std.testing.expectEqual(0, sandhog.testing.sandhog_test_n_sent());
    }
}
{{with keyvalue}}

test "an order that comes twice is sent once" {
    try std.testing.expectEqual(.success, handled(an_order).verdict);
    try std.testing.expectEqual(.success, handledAgain(an_order).verdict);
    try std.testing.expectEqual(1, sandhog.testing.sandhog_test_n_sent());
}
{{end}}
{{with http}}

test "a total is posted to the API" {
    try std.testing.expectEqual(.success, handled(an_order).verdict);
    const request = sandhog.testing.sandhog_test_request(0).?;
    try std.testing.expectEqualStrings("https://api.example.com/totals", std.mem.span(request.url));
    try std.testing.expectEqualStrings("idempotency-key", request.headers.?[1].name.bytes());
    try std.testing.expectEqualStrings("{\"id\":7,\"total\":25}", request.body.bytes());
}

test "a busy API is asked again when it says" {
    grant();
    sandhog.testing.sandhog_test_answer(busy);
    const result = handledAgain(an_order);
    try std.testing.expectEqual(.retry_after, result.verdict);
    try std.testing.expectEqual(7, result.delay_seconds);
    try std.testing.expectEqual(0, sandhog.testing.sandhog_test_n_sent());
}
{{end}}
{{with http config}}

test "the API gets the token" {
    try std.testing.expectEqual(.success, handled(an_order).verdict);
    const header = sandhog.testing.sandhog_test_request(0).?.headers.?[2];
    try std.testing.expectEqualStrings("authorization", header.name.bytes());
    try std.testing.expectEqualStrings("Bearer secret", header.value.bytes());
}
{{end}}
{{with config without http}}

test "the currency is that of the manifest" {
    grant();
    sandhog.testing.sandhog_test_config("currency", "CHF");
    try std.testing.expectEqual(.success, handledAgain(an_order).verdict);
    const body = sandhog.testing.sandhog_test_sent(0).?.message.body;
    try std.testing.expectEqualStrings("{\"id\":7,\"total\":25,\"currency\":\"CHF\"}", body.bytes());
}
{{end}}
