// Package batch makes a function the batch handler of a component, which takes several messages at a time.
// Importing it is what makes the program one: a program imports either this package or package worker.
//
// There is room for 17 MiB of messages: a dozen of the largest size, or the manifest's batch-size of smaller
// ones. A batch that does not fit traps, and is retried.
package batch

import (
	"context"
	"log/slog"

	"sandhog"
	"sandhog/internal/host"
)

// Handler handles a batch of one or more messages, never two of one group. It returns one error, or nil,
// for each message, in the order of the messages; any other number fails every message. What it sends
// belongs to the messages that succeeded, and is dropped when none did.
type Handler func(ctx context.Context, messages []*sandhog.Message) []error

var handler Handler

// Handle makes a function the batch handler of this component. Call it from an init function: main does
// not run. What the program logs with log/slog and log goes into the host's log from then on.
func Handle(handle Handler) {
	handler = handle
	if hosted {
		slog.SetDefault(slog.New(sandhog.LogHandler(nil)))
	}
}

func handle(messages []host.Message) []host.Outcome {
	if handler == nil {
		panic("no handler: call batch.Handle from an init function")
	}
	received := make([]*sandhog.Message, len(messages))
	for i, message := range messages {
		received[i] = sandhog.Received(message)
	}
	var outcomes []host.Outcome
	for _, err := range handler(context.Background(), received) {
		outcomes = append(outcomes, sandhog.Outcome(err))
	}
	return outcomes
}
