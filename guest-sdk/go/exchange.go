package sandhog

import (
	"time"

	"sandhog/internal/host"
	"sandhog/internal/reason"
)

// Received turns a message as the host passes it into one for a handler. It is for the packages worker
// and batch.
func Received(message host.Message) *Message {
	received := &Message{
		ID:           message.ID,
		Body:         message.Body,
		Queue:        message.Queue,
		ReceiveCount: message.ReceiveCount,
		SentAt:       time.UnixMilli(int64(message.SentAtMs)).UTC(),
		GroupID:      message.GroupID,
	}
	for _, attribute := range message.Attributes {
		received.Attributes = append(received.Attributes, Attribute{attribute.Name, Value{attribute.Kind, attribute.Data}})
	}
	return received
}

// Outcome turns what a handler returned into what the host takes. It is for the packages worker and batch.
func Outcome(err error) host.Outcome {
	verdict, delay := VerdictOf(err)
	if verdict == Succeeded {
		return host.Outcome{}
	}
	return host.Outcome{
		Verdict:      uint32(verdict),
		Reason:       reason.Of(err.Error()),
		DelaySeconds: wholeSeconds(delay),
	}
}
