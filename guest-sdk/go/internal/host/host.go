// Package host is the seam between the packages for handlers and what is behind them: the host, or a test.
//
// On the host, the packages for handlers call package abi without an interface between them, but for the log. So the
// linker leaves out what a program does not call, and the program needs no grant for it.
package host

import "errors"

// Kind is the kind of an attribute's value, numbered as in the contract.
type Kind uint8

// The kinds of values.
const (
	Text Kind = iota
	Number
	Binary
)

// Attribute is an attribute as the contract has it.
type Attribute struct {
	Name string
	Kind Kind
	Data string
}

// Message is a delivery as the contract has it.
type Message struct {
	ID           string
	Body         []byte
	Attributes   []Attribute
	Queue        string
	ReceiveCount uint32
	SentAtMs     uint64
	GroupID      string
}

// Outgoing is a message to be sent as the contract has it. What is optional there is absent if zero.
type Outgoing struct {
	Body            []byte
	Attributes      []Attribute
	DelaySeconds    uint32
	GroupID         string
	DeduplicationID string
	Priority        uint8
}

// Outcome is what a handler answered. Verdict is 0 for success, and else one more than the number of the
// failure in the contract.
type Outcome struct {
	Verdict      uint32
	Reason       string
	DelaySeconds uint32
}

// RefusalKind says why a send was refused, numbered as in the contract.
type RefusalKind uint8

// The kinds of refusals.
const (
	NotGranted RefusalKind = iota
	Invalid
	Limit
)

// Refusal is why a send was refused.
type Refusal struct {
	Kind   RefusalKind
	Reason string
}

// Level is a level of the host's log, numbered as in wasi:logging.
type Level uint8

// The levels of the log.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
	Critical
)

// Sender takes what a handler sends. Every text passed to it is UTF-8.
type Sender interface {
	Send(queue string, message Outgoing) *Refusal
	SendMany(queue string, messages []Outgoing) *Refusal
}

// Logger takes what a handler logs. Every text passed to it is UTF-8.
type Logger interface {
	Log(level Level, text string)
}

// What a handler runs on. A test sets it for as long as it runs a handler.
var (
	CurrentSender Sender = none{}
	CurrentLogger Logger = none{}
)

// none stands in for a host where there is none: in a native program that is not running a handler.
type none struct{}

func (none) Send(string, Outgoing) *Refusal       { return noHost() }
func (none) SendMany(string, []Outgoing) *Refusal { return noHost() }
func (none) Log(Level, string)                    {}

const noHostReason = "there is no host: run the handler with sandhogtest.Run"

var errNoHost = errors.New(noHostReason)

func noHost() *Refusal {
	return &Refusal{Invalid, noHostReason}
}
