// Package worker makes a function the handler of a component. Importing it is what makes the program one:
// a program imports either this package or package batch.
package worker

import (
	"context"
	"log/slog"

	"sandhog"
	"sandhog/internal/host"
)

// Handler handles one message. It is called once for each time that the message is received. The context
// has no deadline: the host ends an attempt that takes too long.
type Handler func(ctx context.Context, message *sandhog.Message) error

var handler Handler

// Handle makes a function the handler of this component. Call it from an init function: main does not run.
// What the program logs with log/slog and log goes into the host's log from then on.
func Handle(handle Handler) {
	handler = handle
	if hosted {
		slog.SetDefault(slog.New(sandhog.LogHandler(nil)))
	}
}

func handle(message host.Message) host.Outcome {
	if handler == nil {
		panic("no handler: call worker.Handle from an init function")
	}
	return sandhog.Outcome(handler(context.Background(), sandhog.Received(message)))
}
