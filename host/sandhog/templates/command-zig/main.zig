//! Totals an order: each line of standard input is a price and a quantity, standard output gets the total.

const std = @import("std");

/// The input will never be right: the message becomes a dead letter, with the last line of standard error
/// as the reason.
const bad_input = 65;
/// It may be right later: the message is retried.
const try_later = 75;

/// The largest body of a message.
const order_bytes_max = 1024 * 1024;

pub fn main(init: std.process.Init) !void {
    var in_buffer: [4096]u8 = undefined;
    var in: std.Io.File.Reader = .init(.stdin(), init.io, &in_buffer);
    const order = try in.interface.allocRemaining(init.arena.allocator(), .limited(order_bytes_max + 1));
    if (std.mem.trim(u8, order, " \t\r\n").len == 0) {
        std.debug.print("the order has no items yet\n", .{});
        std.process.exit(try_later);
    }
    var line: usize = 0;
    const sum = total(order, &line) catch {
        std.debug.print("line {d} is not a price and a quantity\n", .{line});
        std.process.exit(bad_input);
    };
    var out_buffer: [64]u8 = undefined;
    var out: std.Io.File.Writer = .init(.stdout(), init.io, &out_buffer);
    try out.interface.print("{d:.2}\n", .{sum});
    try out.interface.flush();
}

/// Adds up the lines of an order. If one is not a price and a quantity, `line` is its number.
fn total(order: []const u8, line: *usize) error{NotAnItem}!f64 {
    var sum: f64 = 0;
    line.* = 0;
    var lines = std.mem.splitScalar(u8, order, '\n');
    while (lines.next()) |text| {
        line.* += 1;
        var words = std.mem.tokenizeAny(u8, text, " \t\r");
        const price = words.next() orelse continue;
        const quantity = words.next() orelse return error.NotAnItem;
        const item = try number(price) * try number(quantity);
        if (words.next() != null or !std.math.isFinite(item)) return error.NotAnItem;
        sum += item;
    }
    return sum;
}

fn number(word: []const u8) error{NotAnItem}!f64 {
    return std.fmt.parseFloat(f64, word) catch error.NotAnItem;
}

test "an order is totalled" {
    var line: usize = 0;
    try std.testing.expectEqual(28.0, try total("12.50 2\n3 1\n", &line));
}

test "a line that is no item is named" {
    for ([_][]const u8{ "12.50 2\nspade\n", "12.50 2\n3\n", "1 1\n1 2 3\n", "1 1\n1 inf\n" }) |order| {
        var line: usize = 0;
        try std.testing.expectError(error.NotAnItem, total(order, &line));
        try std.testing.expectEqual(2, line);
    }
}
