package sandhog

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"sandhog/internal/host"
)

// Why a message was not accepted for sending: use [errors.Is].
var (
	// ErrNotGranted: the manifest does not grant this queue. Add it: [grant] send = ["thumbnails"].
	ErrNotGranted = errors.New("sending is not granted")
	// ErrInvalid: the message itself is not acceptable; the text says what and why.
	ErrInvalid = errors.New("the message to be sent is not valid")
	// ErrLimit: the attempt has sent as many messages, or as many bytes, as it may.
	ErrLimit = errors.New("the attempt may not send more")
)

// Outgoing is a message to be sent. A field that is left zero has its default.
type Outgoing struct {
	// Body is any bytes, up to 1 MiB.
	Body []byte
	// Attributes are at most 10, with unique names of 1 to 256 bytes.
	Attributes []Attribute
	// Delay hides the message for this long after it was sent: 0 to 12 hours, a fraction of a second
	// rounded up.
	Delay time.Duration
	// GroupID puts the message into a group. Messages of one group are handled one after another, in
	// the order sent.
	GroupID string
	// DeduplicationID drops a second message with the same id within five minutes.
	DeduplicationID string
	// Priority is 0 to 9; a higher one is received first.
	Priority uint8
}

// JSON makes a message with a value's JSON as the body.
func JSON(value any) (Outgoing, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return Outgoing{}, fmt.Errorf("%w: the value has no JSON form: %w", ErrInvalid, err)
	}
	return Outgoing{Body: body}, nil
}

// With returns the message with one more attribute.
func (o Outgoing) With(name string, value Value) Outgoing {
	attributes := make([]Attribute, 0, len(o.Attributes)+1)
	o.Attributes = append(append(attributes, o.Attributes...), Attribute{name, value})
	return o
}

// Send sends one message. It is held back until the handler returns nil, and dropped when it fails.
//
// Its error is [ErrNotGranted], [ErrInvalid] or [ErrLimit]. A handler may return it as it is: see
// [VerdictOf].
func Send(queue string, message Outgoing) error {
	return sent(sender().Send(queue, lower(message)))
}

// SendMany sends messages in their order, all of them or, on an error, none.
func SendMany(queue string, messages []Outgoing) error {
	lowered := make([]host.Outgoing, len(messages))
	for i, message := range messages {
		lowered[i] = lower(message)
	}
	return sent(sender().SendMany(queue, lowered))
}

func sent(refusal *host.Refusal) error {
	if refusal == nil {
		return nil
	}
	switch refusal.Kind {
	case host.NotGranted:
		return fmt.Errorf("%w: %s", ErrNotGranted, refusal.Reason)
	case host.Invalid:
		return fmt.Errorf("%w: %s", ErrInvalid, refusal.Reason)
	default:
		return fmt.Errorf("%w: %s", ErrLimit, refusal.Reason)
	}
}

func lower(message Outgoing) host.Outgoing {
	attributes := make([]host.Attribute, len(message.Attributes))
	for i, attribute := range message.Attributes {
		value := attribute.Value
		if value.kind != host.Binary {
			value.data = strings.ToValidUTF8(value.data, "\uFFFD")
		}
		attributes[i] = host.Attribute{Name: strings.ToValidUTF8(attribute.Name, "\uFFFD"), Kind: value.kind, Data: value.data}
	}
	return host.Outgoing{
		Body:            message.Body,
		Attributes:      attributes,
		DelaySeconds:    wholeSeconds(message.Delay),
		GroupID:         strings.ToValidUTF8(message.GroupID, "\uFFFD"),
		DeduplicationID: strings.ToValidUTF8(message.DeduplicationID, "\uFFFD"),
		Priority:        message.Priority,
	}
}

// wholeSeconds rounds up, so that a short delay does not become none.
func wholeSeconds(delay time.Duration) uint32 {
	if delay <= 0 {
		return 0
	}
	return uint32(min((delay-1)/time.Second+1, math.MaxUint32))
}
