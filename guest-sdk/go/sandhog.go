// Package sandhog is for writing sandhog queue handlers in Go: a function that takes a message and
// returns an error or none.
//
//	package main
//
//	import (
//		"context"
//
//		"sandhog"
//		"sandhog/worker"
//	)
//
//	func init() { worker.Handle(handle) }
//
//	func handle(ctx context.Context, message *sandhog.Message) error {
//		var order Order
//		if err := message.JSON(&order); err != nil {
//			return err // not JSON: a dead letter that says where
//		}
//		if len(order.Items) == 0 {
//			return sandhog.Reject("an order of nothing") // never passes: a dead letter at once
//		}
//		invoice, err := sandhog.JSON(order.invoice())
//		if err != nil {
//			return err
//		}
//		return sandhog.Send("invoices", invoice) // goes out only if the handler returns nil
//	}
//
//	func main() {}
//
// Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o orders.wasm .
//
// That is the whole build: the host turns the file into a component when it loads it. What the handler
// logs with log/slog goes into the host's log, with the message's id.
//
// A handler returns nil for success. [Retry], [RetryAfter] and [Reject] make the three failures; any
// other error is a retry with its text. A panic counts as a retry too: its text is the reason, and its
// stack goes into the host's log.
//
// Importing package sandhog/http makes net/http reach the servers that the manifest grants. Package
// keyvalue keeps what a handler has to remember, and package config reads its configuration.
//
// Package sandhogtest runs a handler natively, in an ordinary test.
package sandhog
