// Does what each body of a batch says: "reject", "retry", or it is sent on.
package main

import (
	"context"

	"sandhog"
	"sandhog/batch"
)

func init() { batch.Handle(handleBatch) }

func main() {}

func handleBatch(ctx context.Context, messages []*sandhog.Message) []error {
	results := make([]error, len(messages))
	for i, message := range messages {
		switch string(message.Body) {
		case "reject":
			results[i] = sandhog.Reject("never")
		case "retry":
			results[i] = sandhog.Retry("later")
		default:
			results[i] = sandhog.Send("out", sandhog.Outgoing{Body: message.Body})
		}
	}
	return results
}
