//! Totals an order, and sends the total to the queue `totals`.

const sandhog = @import("sandhog/sandhog.zig");
const std = @import("std");

pub const panic = sandhog.panic;

const Order = struct {
    id: std.json.Value,
    items: []const struct { price: f64, quantity: f64 },
};

export fn handle(message: *const sandhog.Message) sandhog.Result {
    const order = message.json(Order) catch |err| return sandhog.reject("the body is no order: {t}", .{err});
    var total: f64 = 0;
    for (order.items) |item| total += item.price * item.quantity;

    const id = std.json.fmt(order.id, .{});
    const items: sandhog.Attribute = .{
        .name = .of("items"),
        .kind = .number,
        .value = .of(sandhog.print("{d}", .{order.items.len})),
    };
    sandhog.send("totals", .{
        .body = .of(sandhog.print("{{\"id\":{f},\"total\":{d}}}", .{ id, total })),
        .attributes = &.{items},
        .n_attributes = 1,
    }) catch |err| return sandhog.failure(err);
    sandhog.log(.info, "order {f}: {d} items, {d} in total", .{ id, order.items.len, total });
    return sandhog.success;
}

fn handled(body: [*:0]const u8) sandhog.Result {
    sandhog.testing.sandhog_test_reset();
    return handle(&sandhog.testing.sandhog_test_message(body));
}

test "an order is totalled" {
    const result = handled("{\"id\": 7, \"items\": [{\"price\": 12.5, \"quantity\": 2}, {\"price\": 3, \"quantity\": 1}]}");
    try std.testing.expectEqual(.success, result.verdict);
    const sent = sandhog.testing.sandhog_test_sent(0).?;
    try std.testing.expectEqualStrings("totals", std.mem.span(sent.queue));
    try std.testing.expectEqualStrings("{\"id\":7,\"total\":28}", sent.message.body.bytes());
}

test "what is no order is rejected" {
    for ([_][*:0]const u8{ "no order", "[]", "{\"id\": 7, \"items\": [{\"price\": 12.5}]}" }) |body| {
        try std.testing.expectEqual(.reject, handled(body).verdict);
        try std.testing.expectEqual(0, sandhog.testing.sandhog_test_n_sent());
    }
}
