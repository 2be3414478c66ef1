package sandhog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// Message is one delivery of a message to a handler. Tests make one with sandhogtest.Message.
type Message struct {
	// ID is the id that the queue gave the message when it was sent. It stays the same across
	// retries, so it is the key to use for idempotency.
	ID string
	// Body is any bytes, empty included, up to 1 MiB. Nothing guarantees that it is text.
	Body []byte
	// Attributes are what the sender attached, in the sender's order. Names are unique.
	Attributes []Attribute
	// Queue is the name of the queue that the message was received from.
	Queue string
	// ReceiveCount says how many times the message has been received, this time included: 1 the
	// first time.
	ReceiveCount uint32
	// SentAt is when the message was sent, to the millisecond.
	SentAt time.Time
	// GroupID is the message group, or empty. Messages of one group are handled one after another,
	// in the order sent.
	GroupID string
}

// Attribute returns the value of the attribute of this name, which is case-sensitive, and whether
// there is one.
func (m *Message) Attribute(name string) (Value, bool) {
	for _, attribute := range m.Attributes {
		if attribute.Name == name {
			return attribute.Value, true
		}
	}
	return Value{}, false
}

// JSON reads the body as JSON into what into points to, as [json.Unmarshal] does.
//
// Its error is a [Reject] that says what is wrong and where: the same bytes will not become valid by
// trying again.
func (m *Message) JSON(into any) error {
	if !utf8.Valid(m.Body) {
		return Reject("the body is not the JSON expected: it is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(m.Body))
	if err := decoder.Decode(into); err != nil {
		return m.notJSON(err, decoder.InputOffset())
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Reject("the body is not the JSON expected: something follows the value%s", m.place(decoder.InputOffset()))
	}
	return nil
}

// Text returns the body as text. Its error is a [Reject] if the body is not UTF-8.
func (m *Message) Text() (string, error) {
	for at := 0; at < len(m.Body); {
		r, size := utf8.DecodeRune(m.Body[at:])
		if r == utf8.RuneError && size == 1 {
			return "", Reject("the body is not text: byte %d is not UTF-8", at)
		}
		at += size
	}
	return string(m.Body), nil
}

func (m *Message) notJSON(err error, offset int64) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Reject("the body is not the JSON expected: it ends too early%s", m.place(int64(len(m.Body))))
	case errors.As(err, &syntax):
		offset = syntax.Offset - 1
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	return Reject("the body is not the JSON expected: %w%s", err, m.place(offset))
}

// place names the line and the column of an offset into the body.
func (m *Message) place(offset int64) string {
	before := m.Body[:max(0, min(offset, int64(len(m.Body))))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf(" at line %d column %d", line, column)
}
